//! The writer: one thread for all partitions, the only one that writes to the log.
//!
//! It takes everything that has queued up, writes it as one group, makes it durable with one `fdatasync`, then
//! publishes and reports. While it does that the next group queues up: no timer, no tuning. After the first error
//! of a write or a flush it never touches the disk again, because what a failed flush left behind is unknown, and
//! a second flush that succeeds proves nothing.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};

use super::Shared;
use super::frame::{self, GroupBuffer, SECTOR};
use super::port::PortFile;
use super::queue::{Found, Pending, report};
use super::segment::{HEADER, Header};
use super::spare::{NoSpare, Spares};
use crate::cursor::Offset;
use crate::raw::RawError;

/// The largest group, unless one record alone is larger.
const GROUP_BYTES: usize = 4 << 20;

/// Where the writer stands.
pub(super) struct Position {
    pub(super) file: Box<dyn PortFile>,
    pub(super) segment: u64,
    pub(super) salt: u32,
    pub(super) length: u64,
    /// Where the next group begins.
    pub(super) position: u64,
    /// Its number.
    pub(super) group: u64,
    /// Every partition's next offset.
    pub(super) ends: Vec<Offset>,
}

/// The writer.
pub(super) struct Writer {
    shared: Arc<Shared>,
    at: Position,
    spares: Spares,
    seal_after: Duration,
    sealed: bool,
    /// Taken from the queue and not yet reported.
    pending: VecDeque<Pending>,
    group: GroupBuffer,
    figures: Figures,
}

struct Figures {
    flush_seconds: Histogram,
    group_records: Histogram,
    group_bytes: Histogram,
    bytes: Counter,
    records: Counter,
}

impl Writer {
    /// `at` is behind a seal.
    pub(super) fn new(shared: Arc<Shared>, at: Position, spares: Spares, seal_after: Duration) -> Self {
        let figures = Figures {
            flush_seconds: histogram!("shopstream_log_local_flush_seconds"),
            group_records: histogram!("shopstream_log_local_group_records"),
            group_bytes: histogram!("shopstream_log_local_group_bytes"),
            bytes: counter!("shopstream_log_local_bytes_total"),
            records: counter!("shopstream_log_local_records_total"),
        };
        let (pending, group) = (VecDeque::new(), GroupBuffer::new());
        Self { shared, at, spares, seal_after, sealed: true, pending, group, figures }
    }

    /// The thread: ends when the queue is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            // A panic is an error like another: nobody may wait for ever for a report.
            let worked = catch_unwind(AssertUnwindSafe(|| self.work()));
            let error = match worked {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the log's writer panicked".to_owned(),
            };
            self.shared.poison(&error);
            self.refuse(&RawError::Poisoned { detail: error });
        }
    }

    fn work(&mut self) -> io::Result<()> {
        loop {
            let patience = (!self.sealed && self.shared.poisoned().is_none()).then_some(self.seal_after);
            match self.shared.queue.take(&mut self.pending, patience) {
                Found::Records => self.append()?,
                Found::Nothing => self.seal()?,
                Found::Closed => return self.seal(),
            }
        }
    }

    fn append(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            if let Some(error) = self.shared.poisoned() {
                self.refuse(&error);
                return Ok(());
            }
            self.refuse_broken();
            self.fill();
            if self.group.frames() > 0 {
                self.write()?;
            } else if !self.pending.is_empty() {
                match self.roll() {
                    Ok(()) => {}
                    Err(NoSpare::Full) => {
                        let path = self.shared.store.dir.display().to_string();
                        self.refuse(&RawError::DiskFull { path });
                    }
                    Err(NoSpare::Broken(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Puts as much of what is pending into the group as it and the segment have room for.
    fn fill(&mut self) {
        self.group.clear();
        // The last sector stays free for a seal.
        let room = (self.at.length - self.at.position) as usize - SECTOR;
        for pending in &mut self.pending {
            let length = self.group.len_with(pending.record.len());
            if length > room || (length > GROUP_BYTES && self.group.frames() > 0) {
                break;
            }
            let end = &mut self.at.ends[usize::from(pending.partition)];
            self.group.push(self.at.salt, pending.partition, *end, &pending.record);
            pending.offset = *end;
            *end += 1;
        }
    }

    /// Writes the group, makes it durable, publishes it and reports.
    fn write(&mut self) -> io::Result<()> {
        let records = self.group.frames() as usize;
        let bytes = self.group.finish(self.at.salt, self.at.group);
        self.at.file.write_at(bytes, self.at.position)?;
        let before = Instant::now();
        self.at.file.sync()?;
        self.figures.flush_seconds.record(before.elapsed());
        self.figures.group_records.record(records as f64);
        self.figures.group_bytes.record(bytes.len() as f64);
        self.figures.bytes.increment(bytes.len() as u64);
        self.figures.records.increment(records as u64);
        self.at.position += bytes.len() as u64;
        self.at.group += 1;
        self.sealed = false;
        self.shared.store.index.publish(self.at.position, &self.at.ends);
        report(&mut self.pending, records, |pending| Ok(Some(pending.offset)));
        Ok(())
    }

    /// Goes over to the next segment. Its header is durable before anything follows it.
    fn roll(&mut self) -> Result<(), NoSpare> {
        let number = self.at.segment + 1;
        let (file, length) = self.spares.take(number)?;
        let header = Header {
            number,
            salt: rand::random(),
            length,
            group: self.at.group,
            previous_end: self.at.position,
            ends: self.at.ends.clone(),
        };
        file.write_at(&header.encode(), 0).and_then(|()| file.sync()).map_err(NoSpare::Broken)?;
        self.spares.ask(number + 1);
        self.at.file = file;
        (self.at.segment, self.at.salt, self.at.length) = (number, header.salt, length);
        self.at.position = HEADER as u64;
        self.shared.store.index.begin(&header);
        Ok(())
    }

    /// Proves for the next opening that everything written so far was durable.
    fn seal(&mut self) -> io::Result<()> {
        if !self.sealed && self.shared.poisoned().is_none() {
            let seal = frame::seal(self.at.salt, self.at.group - 1);
            self.at.file.write_at(&seal, self.at.position)?;
            self.at.file.sync()?;
        }
        self.sealed = true;
        Ok(())
    }

    /// Reports `error` for all that is pending.
    fn refuse(&mut self, error: &RawError) {
        let count = self.pending.len();
        report(&mut self.pending, count, |_| Err(error.clone()));
    }

    /// Reports the error of each appender that had one for what it has sent since.
    fn refuse_broken(&mut self) {
        if self.pending.iter().all(|pending| pending.owner.broken().is_none()) {
            return;
        }
        for pending in std::mem::take(&mut self.pending) {
            match pending.owner.broken().cloned() {
                None => self.pending.push_back(pending),
                Some(error) => report(&mut VecDeque::from([pending]), 1, |_| Err(error.clone())),
            }
        }
    }
}
