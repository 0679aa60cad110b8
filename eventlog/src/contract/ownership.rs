//! Claims, commits, and what becomes of both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use shopstream_domain::Partition;

use super::{
    Backend, P, claim, commit, confirm, counted, every_cursor, identity, made, made_on, nonce, number_of,
    read_from, sized_commit, submit, try_claim, until_fenced,
};
use crate::cursor::Offset;
use crate::log::Log;
use crate::raw::{Appender, RawError, RawLog, RawReader};
use crate::record::MAX_RECORD;
use crate::writer::{ClaimError, PartitionWriter, Progress, SubmitError};

/// The owner looks once and does not wait: a backend may send what it took only then ([`Appender::submit`]).
/// Answers what was confirmed by then.
pub(super) fn glance(writer: &mut PartitionWriter) -> Vec<u64> {
    match writer.progress().now_or_never() {
        None => Vec::new(),
        Some(Progress::Confirmed(confirmed)) => confirmed.into_iter().map(|(seq, _)| seq).collect(),
        Some(trouble) => panic!("{trouble:?}"),
    }
}

pub(super) async fn what_an_owner_commits_counts(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    assert_eq!((writer.partition(), writer.epoch()), (P, 1));
    // Genesis, claim and opened come before.
    let seqs = submit(&mut writer, 1..=3);
    assert_eq!(seqs, [2, 3, 4]);
    assert!(writer.in_flight_bytes() > 0);
    assert_eq!(confirm(&mut writer, &seqs).await, [3, 4, 5]);
    assert_eq!(writer.in_flight_bytes(), 0);
    let (commits, cursor) = read_from(&log, log.start(P)).await;
    assert_eq!(cursor.next, 6);
    for (record, number) in commits.iter().zip(1..) {
        assert_eq!((&record.commit, record.epoch, record.position.offset), (&commit(number), 1, number + 2));
    }
    assert_eq!(commits.len(), 3);
}

pub(super) async fn progress_is_cancel_safe(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    let (mut next, mut confirmed) = (1, Vec::new());
    while confirmed.len() < 100 {
        if next <= 100 {
            submit(&mut writer, [next]);
            next += 1;
        }
        match writer.progress().now_or_never() {
            Some(Progress::Confirmed(more)) => confirmed.extend(more),
            Some(trouble) => panic!("{trouble:?}"),
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(confirmed, (1..=100).map(|n| (n + 1, n + 2)).collect::<Vec<_>>());
}

pub(super) async fn a_claim_sees_the_same_from_any_cursor(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    let seqs = submit(&mut writer, 1..=8);
    confirm(&mut writer, &seqs).await;
    drop(writer);
    for cursor in every_cursor(&log).await {
        let mut seen = Vec::new();
        let writer =
            PartitionWriter::claim(&log, cursor, identity("b"), 0, nonce("b") ^ cursor.next, |record| {
                assert_eq!(record.position.offset, number_of(&record) + 2);
                seen.push(number_of(&record));
            });
        drop(writer.await.unwrap());
        assert_eq!(seen, (1..=8).filter(|n| n + 2 >= cursor.next).collect::<Vec<_>>());
    }
}

pub(super) async fn a_second_claim_fences_the_first(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut a = claim(&log, "a").await;
    let seqs = submit(&mut a, [1]);
    confirm(&mut a, &seqs).await;
    let mut b = claim(&log, "b").await;
    assert_eq!(b.epoch(), 2);
    // The zombie goes on, before and after the successor's first commit.
    let zombie = submit(&mut a, [101, 102]);
    let seqs = submit(&mut b, [2, 3]);
    confirm(&mut b, &seqs).await;
    assert_eq!(until_fenced(&mut a, "b").await, (vec![], zombie));
    let zombie = submit(&mut a, [103]);
    assert_eq!(until_fenced(&mut a, "b").await, (vec![], zombie));
    assert_eq!(counted(&log).await, [1, 2, 3]);
}

pub(super) async fn the_fenced_learns_what_counted(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut a = claim(&log, "a").await;
    let before = submit(&mut a, 1..=3);
    let mut seen = glance(&mut a);
    while log.end(P).await.unwrap() < 6 {
        tokio::task::yield_now().await;
    }
    let b = claim(&log, "b").await;
    let after = submit(&mut a, 4..=5);
    // It looked no more, and still learns everything, once.
    let (confirmed, rejected) = until_fenced(&mut a, "b").await;
    seen.extend(confirmed);
    assert_eq!((seen, rejected), (before, after));
    assert_eq!(until_fenced(&mut a, "b").await, (vec![], vec![]));
    assert_eq!(counted(&log).await, [1, 2, 3]);
    drop(b);
}

/// A log that looks empty once its genesis was checked: who claims here chooses its epoch without having read.
struct Unread {
    raw: Arc<dyn RawLog>,
    empty: AtomicBool,
}

#[async_trait]
impl RawLog for Unread {
    fn partitions(&self) -> u16 {
        self.raw.partitions()
    }

    async fn appender(&self, partition: Partition) -> Result<Box<dyn Appender>, RawError> {
        self.raw.appender(partition).await
    }

    async fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn RawReader>, RawError> {
        self.raw.reader(from).await
    }

    async fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        if self.empty.load(Ordering::Relaxed) { Ok(0) } else { self.raw.end(partition).await }
    }
}

pub(super) async fn of_two_claims_with_one_epoch_one_wins(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    let log = made_on(Arc::clone(&raw)).await;
    let unread = Arc::new(Unread { raw, empty: AtomicBool::new(false) });
    let blind = Log::open(Arc::<Unread>::clone(&unread)).await.unwrap();
    unread.empty.store(true, Ordering::Relaxed);
    let mut a = try_claim(&log, "a", 5).await.unwrap();
    match try_claim(&blind, "b", 5).await {
        Err(ClaimError::Lost(by)) => assert_eq!((by.epoch, by.node.as_str()), (6, "a")),
        Err(error) => panic!("{error}"),
        Ok(writer) => panic!("claimed with epoch {}", writer.epoch()),
    }
    let seqs = submit(&mut a, [1]);
    confirm(&mut a, &seqs).await;
    assert_eq!(counted(&log).await, [1]);
    // The later epoch wins, though its owner is as blind.
    let mut c = try_claim(&blind, "c", 6).await.unwrap();
    assert_eq!((c.epoch(), until_fenced(&mut a, "c").await), (7, (vec![], vec![])));
    let seqs = submit(&mut c, [2]);
    confirm(&mut c, &seqs).await;
    assert_eq!(counted(&log).await, [1, 2]);
}

pub(super) async fn a_claim_rises_above_the_epoch_asked_for(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    assert_eq!(try_claim(&log, "a", 41).await.unwrap().epoch(), 42);
    // A lease table that was set back does not lower it.
    assert_eq!(try_claim(&log, "b", 3).await.unwrap().epoch(), 43);
}

pub(super) async fn a_release_lets_the_next_one_in(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut a = claim(&log, "a").await;
    submit(&mut a, 1..=2);
    assert_eq!(a.release().await.unwrap(), [(2, 3), (3, 4)]);
    let (_, cursor) = read_from(&log, log.start(P)).await;
    assert_eq!(cursor.fence, crate::Fence::Released { epoch: 1 });
    let mut b = claim(&log, "b").await;
    assert_eq!(b.epoch(), 2);
    let seqs = submit(&mut b, [3]);
    confirm(&mut b, &seqs).await;
    assert_eq!(counted(&log).await, [1, 2, 3]);
}

pub(super) async fn a_barrier_comes_back(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    let mut seqs = submit(&mut writer, [1]);
    seqs.push(writer.submit_barrier().unwrap());
    seqs.extend(submit(&mut writer, [2]));
    confirm(&mut writer, &seqs).await;
    assert_eq!(counted(&log).await, [1, 2]);
}

pub(super) async fn the_largest_record_is_taken_and_no_larger(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    let overhead = MAX_RECORD - sized_commit(1, MAX_RECORD / 2).encode_record(0, 0, 0).len();
    let padding = MAX_RECORD / 2 + overhead;
    let largest = sized_commit(1, padding);
    assert_eq!(largest.encode_record(0, 0, 0).len(), MAX_RECORD);
    let error = writer.submit(&sized_commit(2, padding + 1)).unwrap_err();
    assert_eq!(error, SubmitError::TooLarge { bytes: MAX_RECORD + 1 });
    // Several, so that a batch of them is larger than any one message may be.
    let seqs: Vec<_> = (0..3).map(|_| writer.submit(&largest).unwrap()).collect();
    confirm(&mut writer, &seqs).await;
    let (commits, _) = read_from(&log, log.start(P)).await;
    assert!(commits.len() == 3 && commits.iter().all(|record| record.commit == largest));
}

pub(super) async fn full_ends_with_progress(backend: &dyn Backend) {
    let Some(capacity) = backend.capacity() else { return };
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    let (mut seqs, mut confirmed) = (Vec::new(), Vec::new());
    let mut full = 0;
    while full < 3 {
        match writer.submit(&sized_commit(1, 100_000)) {
            Ok(seq) => seqs.push(seq),
            Err(SubmitError::Full) => {
                full += 1;
                match writer.progress().await {
                    Progress::Confirmed(more) => confirmed.extend(more),
                    trouble => panic!("{trouble:?}"),
                }
            }
            Err(error) => panic!("{error}"),
        }
        // What is in flight drains whenever this thread has to wait for the machine: now and then it is filled at once.
        assert!(seqs.len() < 50 * (capacity / 100_000 + 1), "never full");
    }
    let rest = seqs.split_off(confirmed.len());
    confirm(&mut writer, &rest).await;
    assert_eq!(counted(&log).await.len(), confirmed.len() + rest.len());
}

pub(super) async fn resolve_without_trouble_loses_nothing(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    let seqs = submit(&mut writer, 1..=50);
    let resolved = writer.resolve(nonce("a again")).await.unwrap();
    assert_eq!(resolved.fenced, None);
    // A fresh appender may overtake the old one, so some may be void; but each is said to be one or the other.
    let confirmed: Vec<_> = resolved.confirmed.iter().map(|(seq, _)| *seq).collect();
    assert_eq!([confirmed.clone(), resolved.rejected].concat(), seqs);
    assert_eq!(writer.epoch(), 2);
    let more = submit(&mut writer, [51]);
    confirm(&mut writer, &more).await;
    let expected: Vec<_> = confirmed.iter().map(|seq| seq - 1).chain([51]).collect();
    assert_eq!(counted(&log).await, expected);
}

pub(super) async fn ownership_survives_a_restart(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut writer = claim(&log, "a").await;
    let seqs = submit(&mut writer, 1..=3);
    confirm(&mut writer, &seqs).await;
    let (_, cursor) = read_from(&log, log.start(P)).await;
    drop((writer, log));
    let log = Log::open(backend.reopen().await).await.unwrap();
    let mut seen = 0;
    let mut writer = PartitionWriter::claim(&log, cursor, identity("a"), 0, nonce("a again"), |_| seen += 1)
        .await
        .unwrap();
    assert_eq!((seen, writer.epoch()), (0, 2));
    let seqs = submit(&mut writer, [4]);
    confirm(&mut writer, &seqs).await;
    assert_eq!(counted(&log).await, [1, 2, 3, 4]);
}
