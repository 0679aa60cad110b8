//! A small log made byte by byte, and what an opening serves of a disk.

use std::path::Path;
use std::sync::Arc;

use super::disk::FakeDisk;
use super::{PARTITIONS, options, record};
use crate::local::frame::{self, GroupBuffer, Mark};
use crate::local::index::{Index, Point};
use crate::local::recover::recover;
use crate::local::scan::Scan;
use crate::local::segment::HEADER;
use crate::local::{OpenError, Store};

/// The first segment's file.
pub(super) const ONE: &str = "0000000000000001.seg";

/// A segment of a few groups, and where each begins.
pub(super) struct Sample {
    pub(super) bytes: Vec<u8>,
    pub(super) groups: Vec<usize>,
    /// Behind the last group.
    pub(super) end: usize,
    pub(super) salt: u32,
}

impl Sample {
    /// Groups of several sectors in two partitions, with or without a seal behind them.
    pub(super) fn new(sealed: bool) -> Self {
        let disk = FakeDisk::new();
        let mut at = recover(&disk, Path::new("/log"), PARTITIONS, options().segment_bytes).unwrap().at;
        let mut group = GroupBuffer::new();
        for (partition, numbers) in [(1, 0..1), (2, 0..1), (1, 1..4), (2, 1..4), (1, 4..9), (2, 4..9)] {
            group.clear();
            for number in numbers {
                group.push(at.salt, partition, number, &record(partition, number));
            }
            let bytes = group.finish(at.salt, at.group);
            at.file.write_at(bytes, at.position).unwrap();
            at.position += bytes.len() as u64;
            at.group += 1;
        }
        at.file.write_at(&frame::seal(at.salt, at.group - 1), at.position).unwrap();
        let mut sample = Self::of(disk.bytes(ONE));
        assert_eq!((sample.groups.len(), sample.end as u64), (6, at.position));
        if !sealed {
            sample.bytes[sample.end..].fill(0);
        }
        sample
    }

    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let salt = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let (mut groups, mut end) = (Vec::new(), HEADER);
        while let Some(Mark::Group(group)) = frame::mark(&bytes[end..], salt) {
            groups.push(end);
            end += group.len();
        }
        Self { bytes, groups, end, salt }
    }

    /// How many records of each partition groups that end at or before `byte` hold.
    pub(super) fn counts_before(&self, byte: usize) -> Vec<u64> {
        let mut ends = vec![0; usize::from(PARTITIONS)];
        for (at, end) in self.groups.iter().zip(self.groups.iter().skip(1).chain([&self.end])) {
            if *end <= byte {
                let Some(Mark::Group(group)) = frame::mark(&self.bytes[*at..], self.salt) else { panic!() };
                frame::check(&self.bytes[*at..*end], &group, self.salt, &mut ends, &mut Vec::new()).unwrap();
            }
        }
        ends
    }
}

/// Opens and scans everything. The inner error is a reader's.
pub(super) fn served(disk: &FakeDisk) -> Result<Result<Vec<u64>, String>, OpenError> {
    let dir = Path::new("/log");
    let recovered = recover(disk, dir, PARTITIONS, options().segment_bytes)?;
    let last = disk.bytes(&format!("{:016}.seg", recovered.at.segment));
    let behind = &last[recovered.at.position as usize..];
    let seal = frame::mark(behind, recovered.at.salt);
    assert_eq!(seal, Some(Mark::Seal { through: recovered.at.group - 1 }));
    assert!(
        behind.iter().skip(frame::seal_length()).all(|byte| *byte == 0),
        "something is left behind the end"
    );
    let index = Index::new(&recovered.headers, recovered.at.position, &recovered.at.ends);
    let limit = index.durable();
    let first: Point = index.locate(&[(0, 0)]);
    let store = Arc::new(Store { port: Arc::new(disk.clone()), dir: dir.to_owned(), index });
    let mut scan = Scan::new(store, &first);
    let mut next = vec![0; usize::from(PARTITIONS)];
    while scan.place() < limit {
        let read = scan.read(limit, 3000, |partition, offset, bytes| {
            assert_eq!(next[usize::from(partition)], offset);
            assert_eq!(*bytes, *record(partition, offset), "served wrong bytes");
            next[usize::from(partition)] += 1;
        });
        if let Err(error) = read {
            return Ok(Err(error.to_string()));
        }
    }
    assert_eq!(next, recovered.at.ends);
    Ok(Ok(next))
}
