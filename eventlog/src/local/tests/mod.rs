//! The local log against a disk that fails, fills up, loses power and flips bits, and against slow readers.

mod disk;
mod faults;
mod follow;
mod power;
mod sample;
mod torn;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shopstream_domain::Partition;

use self::disk::FakeDisk;
use super::{LocalLog, OpenError, Options};
use crate::raw::{Appender, RawError, RawLog, RawRecord, Report};

const PARTITIONS: Partition = 3;
/// Ten times what the slowest of these takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    // No seal in the middle of a test, unless it asks for one: operations are counted.
    Options {
        segment_bytes: 16 << 10,
        seal_after: Duration::from_secs(3600),
        ..Options::new("/log", PARTITIONS)
    }
}

fn open(disk: &FakeDisk) -> Result<LocalLog, OpenError> {
    LocalLog::open_with(options(), Arc::new(disk.clone()))
}

/// What test record `number` of a partition holds: no zeros, and a length of its own.
fn record(partition: Partition, number: u64) -> Bytes {
    let length = 40 + (number as usize * 37 + usize::from(partition) * 11) % 700;
    let text = format!("{partition}/{number}:");
    text.bytes().cycle().take(length).collect::<Vec<_>>().into()
}

/// Waits for as many reports as were submitted.
async fn reports(appender: &mut dyn Appender, count: usize) -> Vec<Report> {
    let mut reports = Vec::new();
    while reports.len() < count {
        tokio::time::timeout(PATIENCE, appender.reports(&mut reports))
            .await
            .expect("a report for every record");
    }
    assert_eq!(reports.len(), count, "one report for every record");
    reports
}

/// Appends test records of one partition, in one group or few, and waits until they are durable.
async fn append(log: &LocalLog, partition: Partition, numbers: std::ops::Range<u64>) {
    let mut appender = log.appender(partition).await.unwrap();
    for number in numbers.clone() {
        appender.submit(record(partition, number)).unwrap();
    }
    let expected: Vec<Report> = numbers.clone().map(|offset| Ok(Some(offset))).collect();
    assert_eq!(reports(&mut *appender, expected.len()).await, expected);
}

/// Reads every partition from its beginning to its end.
async fn read_all(log: &LocalLog) -> Result<Vec<Vec<Bytes>>, RawError> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let end = log.end(partition).await?;
        let mut reader = log.reader(&[(partition, 0)]).await?;
        let mut records: Vec<RawRecord> = Vec::new();
        while (records.len() as u64) < end {
            reader.next(1000, &mut records).await?;
        }
        for (offset, record) in records.iter().enumerate() {
            assert_eq!((record.partition, record.offset), (partition, offset as u64));
        }
        all.push(records.into_iter().map(|record| record.bytes).collect());
    }
    Ok(all)
}

/// Fails unless each partition holds test records 0, 1, 2 … in order, and answers how many.
fn counts(all: &[Vec<Bytes>]) -> Vec<u64> {
    for (partition, records) in (0..).zip(all) {
        for (number, found) in (0..).zip(records) {
            assert_eq!(*found, record(partition, number), "partition {partition} offset {number}");
        }
    }
    all.iter().map(|records| records.len() as u64).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 16 << 10, ..Options::new(dir.path().join("a/b"), PARTITIONS) };
    for round in 0..5 {
        let log = LocalLog::open(options()).unwrap();
        assert_eq!(counts(&read_all(&log).await.unwrap()), [round * 20; 3]);
        for partition in 0..PARTITIONS {
            append(&log, partition, round * 20..(round + 1) * 20).await;
        }
        assert_eq!(counts(&read_all(&log).await.unwrap()), [(round + 1) * 20; 3]);
    }
    let segments = std::fs::read_dir(dir.path().join("a/b")).unwrap().count();
    assert!(segments > 4, "the test should go over several segments, not {segments}");
}

#[tokio::test]
async fn what_was_submitted_before_the_drop_is_written() {
    let disk = FakeDisk::new();
    let log = open(&disk).unwrap();
    let mut appender = log.appender(1).await.unwrap();
    for number in 0..30 {
        appender.submit(record(1, number)).unwrap();
    }
    drop(log);
    assert!(reports(&mut *appender, 30).await.iter().all(Result::is_ok));
    assert!(matches!(appender.submit(record(1, 30)), Err(RawError::Unavailable { .. })));
    assert_eq!(counts(&read_all(&open(&disk).unwrap()).await.unwrap()), [0, 30, 0]);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let disk = FakeDisk::new();
    drop(open(&disk).unwrap());
    let other = Options { partitions: 7, ..options() };
    let error = LocalLog::open_with(other, Arc::new(disk)).err().unwrap();
    assert!(matches!(error, OpenError::Partitions { found: PARTITIONS, asked: 7, .. }), "{error}");
}

#[tokio::test]
async fn a_second_opening_is_refused_and_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 16 << 10, ..Options::new(dir.path(), 1) };
    let log = LocalLog::open(options()).unwrap();
    match LocalLog::open(options()).err().unwrap() {
        OpenError::Locked { dir: named, holder } => {
            assert_eq!((named.as_path(), holder.0), (dir.path(), Some(std::process::id())));
        }
        other => panic!("{other}"),
    }
    drop(log);
    LocalLog::open(options()).unwrap();
}

#[tokio::test]
async fn limits_are_refused_without_harm() {
    let disk = FakeDisk::new();
    let log = LocalLog::open_with(Options { in_flight_bytes: 1000, ..options() }, Arc::new(disk)).unwrap();
    assert!(matches!(log.appender(PARTITIONS).await.err(), Some(RawError::Refused { .. })));
    assert!(matches!(log.reader(&[(0, 0), (0, 0)]).await.err(), Some(RawError::Refused { .. })));
    let lost = RawError::Lost { partition: 0, wanted: 1, end: 0 };
    assert_eq!(log.reader(&[(0, 1)]).await.err(), Some(lost));
    let mut appender = log.appender(0).await.unwrap();
    assert!(matches!(appender.submit(vec![1; 12_000].into()), Err(RawError::Refused { .. })));
    let (mut sent, mut done, mut full) = (0, Vec::new(), 0);
    while done.len() < 50 {
        match if sent < 50 { appender.submit(record(0, sent)) } else { Err(RawError::Full) } {
            Ok(()) => sent += 1,
            Err(RawError::Full) => {
                full += 1;
                tokio::time::timeout(PATIENCE, appender.reports(&mut done)).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(done, (0..50).map(|offset| Ok(Some(offset))).collect::<Vec<Report>>());
    assert!(full > 10, "the bound was met only {full} times");
}
