//! Readers that follow while others write: nothing missing, nothing twice, nothing early.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use shopstream_domain::Partition;

use super::disk::FakeDisk;
use super::{PATIENCE, append, open, options, record};
use crate::cursor::Offset;
use crate::local::tail::End;
use crate::local::{LocalLog, Options};
use crate::raw::{RawError, RawLog, RawRecord};

const MANY: Partition = 16;
const RECORDS: u64 = 3000;

/// Reads `partitions` from the offsets given to `end`, in pieces of all sizes, giving up half of the waits.
async fn follow(log: Arc<LocalLog>, from: Vec<(Partition, Offset)>, end: Offset, pause_every: u64) {
    let mut next: Vec<Option<Offset>> = vec![None; usize::from(MANY)];
    for (partition, offset) in &from {
        next[usize::from(*partition)] = Some(*offset);
    }
    let mut reader = log.reader(&from).await.unwrap();
    let mut turn = 0;
    while next.iter().flatten().any(|next| *next < end) {
        turn += 1;
        let mut records: Vec<RawRecord> = Vec::new();
        let max_bytes = [1, 500, 20_000, 1 << 20][(turn % 4) as usize];
        if turn % 2 == 0 {
            // Given up at once where it has to wait.
            let given = reader.next(max_bytes, &mut records).now_or_never();
            assert_eq!(given.is_some(), !records.is_empty());
            given.unwrap_or(Ok(())).unwrap();
        } else {
            let read = tokio::time::timeout(PATIENCE, reader.next(max_bytes, &mut records));
            read.await.expect("records are there").unwrap();
            assert!(!records.is_empty());
        }
        for found in records {
            let next = next[usize::from(found.partition)].as_mut().expect("a partition that was asked for");
            assert_eq!(found.offset, *next);
            assert_eq!(found.bytes, record(found.partition, found.offset));
            assert!(found.offset < log.end(found.partition).await.unwrap(), "not durable yet");
            *next += 1;
        }
        if pause_every > 0 && turn % pause_every == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn write(log: Arc<LocalLog>, partition: Partition, end: Offset) {
    let mut appender = log.appender(partition).await.unwrap();
    let start = log.end(partition).await.unwrap();
    let (mut sent, mut done) = (start, start);
    while done < end {
        while sent < end && sent < done + 50 {
            appender.submit(record(partition, sent)).unwrap();
            sent += 1;
        }
        let mut reports = Vec::new();
        appender.reports(&mut reports).await;
        for report in reports {
            assert_eq!(report, Ok(Some(done)));
            done += 1;
        }
    }
}

/// All partitions written at once; owners of one, a projector of all, late ones and slow ones read.
async fn all_at_once(follower_bytes: usize) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1 << 20, follower_bytes, ..Options::new(dir.path(), MANY) };
    let log = Arc::new(LocalLog::open(options).unwrap());
    for partition in 0..MANY {
        append(&log, partition, 0..20).await;
    }
    let all = |offset| (0..MANY).map(|partition| (partition, offset)).collect::<Vec<_>>();
    let mut tasks = Vec::new();
    for partition in 0..MANY {
        tasks.push(tokio::spawn(write(log.clone(), partition, RECORDS)));
        tasks.push(tokio::spawn(follow(log.clone(), vec![(partition, 20)], RECORDS, 0)));
    }
    tasks.push(tokio::spawn(follow(log.clone(), all(0), RECORDS, 0)));
    tasks.push(tokio::spawn(follow(log.clone(), all(0), RECORDS, 50)));
    for late in 0..8 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let from = vec![(late, 0), (late + 8, log.end(late + 8).await.unwrap())];
        tasks.push(tokio::spawn(follow(log.clone(), from, RECORDS, 100)));
    }
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.expect("an end").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_every_record_once_in_order() {
    all_at_once(16 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_are_always_too_slow_see_every_record_once_in_order() {
    all_at_once(2000).await;
}

#[tokio::test]
async fn a_follower_that_takes_nothing_is_let_go_at_its_bound() {
    let log = LocalLog::open_with(Options { follower_bytes: 5000, ..options() }, Arc::new(FakeDisk::new()))
        .unwrap();
    let (follower, _) = log.shared.tail.follow(vec![0]).unwrap();
    for number in 0..200 {
        append(&log, 0, number..number + 1).await;
        // A queue that is empty takes one read whole: what a record costs beside its bytes comes on top.
        assert!(follower.waiting_bytes() <= 10_000);
    }
    let mut records = Vec::new();
    let end = loop {
        if let Err(end) = follower.take(1 << 20, &mut records).await {
            break end;
        }
    };
    assert!(matches!(end, End::Slow), "{end:?}");
    assert!((1..200).contains(&records.len()));
    assert!(
        records.iter().enumerate().all(|(offset, found)| found.offset == offset as u64),
        "a run without holes"
    );
}

#[tokio::test]
async fn readers_of_a_closed_log_end() {
    let disk = FakeDisk::new();
    let log = open(&disk).unwrap();
    let mut reader = log.reader(&[(0, 0)]).await.unwrap();
    append(&log, 0, 0..5).await;
    let mut behind = log.reader(&[(0, 0)]).await.unwrap();
    drop(log);
    for reader in [&mut reader, &mut behind] {
        let mut records = Vec::new();
        while records.len() < 5 {
            reader.next(1, &mut records).await.unwrap();
        }
        let end = reader.next(1, &mut records).await;
        assert!(matches!(end, Err(RawError::Unavailable { .. })), "{end:?}");
    }
}

/// Ruling 39: what was flushed and reads back differently is not handed on, and the log takes nothing more.
#[tokio::test]
async fn what_reads_back_wrong_is_not_served() {
    let disk = FakeDisk::new();
    let log = open(&disk).unwrap();
    append(&log, 0, 0..3).await;
    let mut reader = log.reader(&[(0, 0)]).await.unwrap();
    let mut records = Vec::new();
    while records.len() < 3 {
        reader.next(1000, &mut records).await.unwrap();
    }
    disk.lie();
    append(&log, 0, 3..4).await;
    for mut reader in [reader, log.reader(&[(0, 3)]).await.unwrap()] {
        let read = tokio::time::timeout(PATIENCE, reader.next(1000, &mut records)).await.unwrap();
        assert!(matches!(read, Err(RawError::Damaged { .. })), "{read:?}");
    }
    assert_eq!(records.len(), 3);
    // The readers may have seen it before the tail did.
    let poisoned = async {
        while log.appender(0).await.is_ok() {
            tokio::task::yield_now().await;
        }
        log.appender(0).await.err()
    };
    let poisoned = tokio::time::timeout(PATIENCE, poisoned).await.unwrap();
    assert!(matches!(poisoned, Some(RawError::Poisoned { .. })), "{poisoned:?}");
}
