//! Reads groups from the files, in order, checked. The live tail and every reader that catches up are scans.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use shopstream_domain::Partition;

use super::Store;
use super::frame::{self, Frame, Mark, SECTOR};
use super::index::{Extent, Place, Point};
use super::port::PortFile;
use super::segment;
use crate::cursor::Offset;
use crate::raw::{RawError, RawRecord};

/// A scan, standing before a group.
pub(super) struct Scan {
    store: Arc<Store>,
    place: Place,
    group: u64,
    ends: Vec<Offset>,
    file: Option<(u64, Box<dyn PortFile>)>,
    buffer: Vec<u8>,
    frames: Vec<Frame>,
}

impl Scan {
    pub(super) fn new(store: Arc<Store>, from: &Point) -> Self {
        Self {
            store,
            place: from.place,
            group: from.group,
            ends: from.ends.to_vec(),
            file: None,
            buffer: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Before which group the scan stands.
    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// Reads on towards `limit`, at most about `budget` bytes, but at least one group where there is one, and gives
    /// each record to `each`. A group is checked whole before any of it is given. `limit` must be durable.
    pub(super) fn read(
        &mut self,
        limit: Place,
        budget: usize,
        mut each: impl FnMut(Partition, Offset, &[u8]),
    ) -> Result<(), RawError> {
        let Some(extent) = self.enter(limit)? else { return Ok(()) };
        let end = if limit.segment == self.place.segment { limit.position } else { extent.end };
        let left = end.saturating_sub(self.place.position) as usize;
        let mut filled = self.fill(0..left.min(budget.next_multiple_of(SECTOR)))?;
        let mut at = 0;
        while at < filled {
            let Some(Mark::Group(group)) =
                frame::mark(&self.buffer[at..filled.min(at + SECTOR)], extent.salt)
            else {
                return Err(self.damaged(at, "no group begins here"));
            };
            if group.number != self.group {
                return Err(self.damaged(at, "another group should begin here"));
            }
            if at + group.len() > left {
                return Err(self.damaged(at, "the group is longer than the log"));
            }
            if at + group.len() > filled {
                if at > 0 {
                    break;
                }
                filled = self.fill(filled..group.len())?;
            }
            let bytes = &self.buffer[at..at + group.len()];
            frame::check(bytes, &group, extent.salt, &mut self.ends, &mut self.frames)
                .map_err(|bad| self.damaged(at + bad.at, bad.why))?;
            for frame in &self.frames {
                each(frame.partition, frame.offset, &bytes[frame.start..frame.end]);
            }
            at += group.len();
            self.group += 1;
        }
        self.place.position += at as u64;
        self.store.index.note(self.place, self.group, &self.ends);
        Ok(())
    }

    /// Opens the file to read from, going over to the next segment where this one is used up.
    fn enter(&mut self, limit: Place) -> Result<Option<Extent>, RawError> {
        let mut extent = self.extent()?;
        while self.place.position >= extent.end && self.place.segment < limit.segment {
            let next = self.store.index.beginning(self.place.segment + 1);
            let next = next.ok_or_else(|| self.damaged(0, "the segment after it is unknown"))?;
            if next.group != self.group || *next.ends != *self.ends {
                return Err(self.damaged(0, "the next segment does not go on where this one ends"));
            }
            self.place = next.place;
            extent = self.extent()?;
        }
        if self.place >= limit {
            return Ok(None);
        }
        if self.file.as_ref().is_none_or(|(number, _)| *number != self.place.segment) {
            let file =
                self.store.port.open(&self.path()).map_err(|error| self.damaged(0, &error.to_string()))?;
            self.file = Some((self.place.segment, file));
        }
        Ok(Some(extent))
    }

    fn extent(&self) -> Result<Extent, RawError> {
        let extent = self.store.index.extent(self.place.segment);
        extent.ok_or_else(|| self.damaged(0, "the segment is unknown"))
    }

    /// Reads `range`, counted from the place, into the buffer; answers how much the buffer then holds.
    fn fill(&mut self, range: Range<usize>) -> Result<usize, RawError> {
        if self.buffer.len() < range.end {
            self.buffer.resize(range.end, 0);
        }
        let from = self.place.position + range.start as u64;
        let read = match &self.file {
            Some((_, file)) => file.read_exact_at(&mut self.buffer[range.clone()], from),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        read.map_err(|error| self.damaged(range.start, &format!("cannot be read: {error}")))?;
        Ok(range.end)
    }

    fn path(&self) -> std::path::PathBuf {
        segment::path(&self.store.dir, self.place.segment)
    }

    fn damaged(&self, at: usize, detail: &str) -> RawError {
        damaged(&self.path(), self.place.position + at as u64, detail)
    }
}

/// Says where the log is damaged.
pub(super) fn damaged(file: &Path, byte: u64, detail: &str) -> RawError {
    RawError::Damaged { place: format!("{} byte {byte}", file.display()), detail: detail.to_owned() }
}

/// Records of one partition, copied next to each other, so that who keeps one of them keeps little else.
#[derive(Default)]
pub(super) struct Bucket {
    bytes: Vec<u8>,
    records: Vec<(Offset, usize)>,
}

impl Bucket {
    pub(super) fn push(&mut self, offset: Offset, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.records.push((offset, record.len()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the records out.
    pub(super) fn take(&mut self, partition: Partition) -> impl Iterator<Item = RawRecord> {
        let mut bytes = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        self.records.drain(..).map(move |(offset, length)| RawRecord {
            partition,
            offset,
            bytes: bytes.split_to(length),
        })
    }
}
