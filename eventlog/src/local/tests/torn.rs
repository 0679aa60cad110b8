//! Every cut and every flipped bit of a small log.

use std::sync::Arc;
use std::time::Duration;

use super::disk::FakeDisk;
use super::sample::{ONE, Sample, served};
use super::{PATIENCE, append, counts, open, options, read_all};
use crate::local::frame::{self, Mark, SECTOR};
use crate::local::segment::HEADER;
use crate::local::{LocalLog, OpenError, Options};
use crate::raw::RawLog;

const TWO: &str = "0000000000000002.seg";

/// What opening `files` gives: how many records of each partition, read back and compared, or the refusal.
fn outcome(files: &[(&str, &[u8])]) -> Result<Vec<u64>, String> {
    let disk = FakeDisk::new();
    for (name, bytes) in files {
        disk.put(name, bytes.to_vec());
    }
    let before = disk.bytes(ONE);
    match served(&disk) {
        Err(error @ OpenError::Damaged { .. }) => {
            assert_eq!(disk.bytes(ONE), before, "a refused file is not changed");
            Err(error.to_string())
        }
        Err(other) => panic!("{other}"),
        Ok(first) => {
            // What was cut is gone for good, and what was served stays.
            disk.restart_after_power_cut(0);
            assert_eq!(served(&disk).unwrap(), first);
            first
        }
    }
}

#[test]
fn every_cut_of_the_last_group_gives_what_was_before_it() {
    for sealed in [false, true] {
        let sample = Sample::new(sealed);
        let used = sample.bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for cut in HEADER..sample.bytes.len() {
            let mut bytes = sample.bytes.clone();
            bytes[cut..].fill(0);
            // The last byte of a group that is not zero is its end; behind it only padding is cut.
            let whole = sample.groups.iter().skip(1).chain([&sample.end]).rev();
            let intact = whole.copied().find(|end| bytes[..*end] == sample.bytes[..*end]).unwrap_or(HEADER);
            assert_eq!(outcome(&[(ONE, &bytes)]), Ok(sample.counts_before(intact)), "cut at {cut} of {used}");
        }
    }
}

#[test]
fn a_shortened_file_is_refused() {
    let sample = Sample::new(true);
    for length in 0..sample.bytes.len() {
        assert!(outcome(&[(ONE, &sample.bytes[..length])]).is_err(), "length {length}");
    }
}

#[test]
fn every_subset_of_the_last_groups_sectors_is_cut_or_whole() {
    let sample = Sample::new(false);
    let last = *sample.groups.last().unwrap();
    let old_seal = frame::seal(sample.salt, sample.groups.len() as u64 - 1);
    let sectors = (sample.end - last) / SECTOR;
    assert!((3..10).contains(&sectors), "{sectors}");
    for old in [&[0; SECTOR], &old_seal] {
        for arrived in 0..1 << sectors {
            let mut bytes = sample.bytes.clone();
            for sector in (0..sectors).filter(|sector| arrived >> sector & 1 == 0) {
                let at = last + sector * SECTOR;
                bytes[at..at + SECTOR].copy_from_slice(if sector == 0 { old } else { &[0; SECTOR] });
            }
            let all = arrived == (1 << sectors) - 1;
            let expected = sample.counts_before(if all { sample.end } else { last });
            assert_eq!(outcome(&[(ONE, &bytes)]), Ok(expected), "arrived {arrived:b}");
        }
    }
}

#[test]
fn missing_sectors_before_the_last_group_are_refused() {
    for sealed in [false, true] {
        let sample = Sample::new(sealed);
        let proven = if sealed { sample.end } else { *sample.groups.last().unwrap() };
        for sector in (HEADER..proven).step_by(SECTOR) {
            let mut bytes = sample.bytes.clone();
            bytes[sector..sector + SECTOR].fill(0);
            assert!(outcome(&[(ONE, &bytes)]).is_err(), "sector at {sector}");
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    for sealed in [false, true] {
        let sample = Sample::new(sealed);
        let all = sample.counts_before(sample.end);
        for bit in 0..sample.bytes.len() * 8 {
            let mut bytes = sample.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = outcome(&[(ONE, &bytes)]);
            // Unsealed, the first sector behind the end could be the damaged start of a group: refused too.
            let start = sample.end + frame::START..sample.end + SECTOR;
            if bit / 8 < sample.end || (!sealed && start.contains(&(bit / 8))) {
                assert!(found.is_err(), "bit {bit} of {}: {found:?}", sample.end * 8);
            } else {
                assert_eq!(found, Ok(all.clone()), "bit {bit}");
            }
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_of_a_closed_segment_is_found_by_the_reader() {
    let disk = FakeDisk::new();
    let log = open(&disk).unwrap();
    append(&log, 0, 0..40).await;
    drop(log);
    let (one, two) = (Sample::of(disk.bytes(ONE)), disk.bytes(TWO));
    assert_eq!(outcome(&[(ONE, &one.bytes), (TWO, &two)]), Ok(vec![40, 0, 0]));
    let last = Sample::of(two.clone());
    assert!(matches!(frame::mark(&two[last.end..], last.salt), Some(Mark::Seal { .. })), "closing seals");
    for bit in 0..one.bytes.len() * 8 {
        let mut bytes = one.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let found = outcome(&[(ONE, &bytes), (TWO, &two)]);
        assert_eq!(found.is_err(), bit / 8 < one.end, "bit {bit} of {}: {found:?}", one.end * 8);
    }
    let mut bytes = two;
    bytes[100] ^= 1;
    assert!(outcome(&[(ONE, &one.bytes), (TWO, &bytes)]).is_err());
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let disk = FakeDisk::new();
    let log = open(&disk).unwrap();
    append(&log, 0, 0..100).await;
    drop(log);
    let (one, three) = (disk.bytes(ONE), disk.bytes("0000000000000003.seg"));
    let error = outcome(&[(ONE, &one), ("0000000000000003.seg", &three)]).unwrap_err();
    assert!(error.contains("0000000000000002.seg"), "{error}");
}

#[tokio::test]
async fn an_idle_log_is_sealed() {
    let disk = FakeDisk::new();
    let options = Options { seal_after: Duration::from_millis(5), ..options() };
    let log = LocalLog::open_with(options, Arc::new(disk.clone())).unwrap();
    append(&log, 0, 0..4).await;
    let sealed = async {
        loop {
            let sample = Sample::of(disk.bytes(ONE));
            let groups = sample.groups.len() as u64;
            if frame::mark(&sample.bytes[sample.end..], sample.salt) == Some(Mark::Seal { through: groups }) {
                break sample;
            }
            tokio::task::yield_now().await;
        }
    };
    let sample = tokio::time::timeout(PATIENCE, sealed).await.unwrap();
    // What could be torn without the seal is damage with it.
    let mut bytes = sample.bytes.clone();
    let last = *sample.groups.last().unwrap();
    bytes[last..last + SECTOR].fill(0);
    assert!(outcome(&[(ONE, &bytes)]).is_err());
    bytes[sample.end..].fill(0);
    assert_eq!(outcome(&[(ONE, &bytes)]), Ok(sample.counts_before(last)));
    append(&log, 0, 4..9).await;
    assert_eq!(counts(&read_all(&log).await.unwrap()), [9, 0, 0]);
}

#[tokio::test]
async fn a_record_that_holds_groups_is_only_a_record() {
    let disk = FakeDisk::new();
    let log = open(&disk).unwrap();
    append(&log, 0, 0..2).await;
    drop(log);
    let log = open(&disk).unwrap();
    // Another log's bytes, in the middle of a sector and at its beginning.
    let other = Sample::new(true);
    let mut appender = log.appender(1).await.unwrap();
    let start = 2 * SECTOR - 48;
    let forged =
        [&vec![7; start][..], &other.bytes[other.groups[2]..other.end], &vec![7; 3 * SECTOR]].concat();
    appender.submit(forged.clone().into()).unwrap();
    assert_eq!(super::reports(&mut *appender, 1).await, [Ok(Some(0))]);
    drop(log);
    let mut bytes = disk.bytes(ONE);
    let sample = Sample::of(bytes.clone());
    let last = *sample.groups.last().unwrap();
    assert_eq!(&bytes[last + 2 * SECTOR..last + 2 * SECTOR + 20], &forged[start..start + 20]);
    // Torn, its first sector missing: what it holds must not pass for a later group.
    bytes[sample.end..].fill(0);
    bytes[last..last + SECTOR].fill(0);
    assert_eq!(outcome(&[(ONE, &bytes)]), Ok(vec![2, 0, 0]));
    assert_eq!(counts(&read_all(&open(&FakeDisk::new()).unwrap()).await.unwrap()), [0, 0, 0]);
}
