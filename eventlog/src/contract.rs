//! What every backend promises, as one list of cases that runs against each.
//!
//! A backend's test makes a [`Backend`] and calls [`run`]. A new case in [`cases`] runs everywhere. Cases that need
//! faults on command run where the backend can inject them.

mod faults;
mod ownership;
mod raw;
mod reading;
mod topology;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use shopstream_domain::{Partition, StreamId, StreamKind, TenantId, Timestamp};
use uuid::Uuid;

use crate::cursor::{Cursor, LogId, Offset};
use crate::fold::Fold;
use crate::log::Log;
use crate::raw::{RawLog, RawRecord, Report};
use crate::record::{CommandId, Commit, CommitRecord, EventData, Record};
use crate::sim::Faults;
use crate::writer::{ClaimError, Identity, PartitionWriter, Progress};

/// How long one case may take.
const CASE_MAX: Duration = Duration::from_secs(180);

/// Makes logs of one kind.
#[async_trait(?Send)]
pub trait Backend {
    /// What it is called in the report.
    fn name(&self) -> &'static str;

    /// A new log without a record.
    async fn fresh(&self, partitions: u16) -> Arc<dyn RawLog>;

    /// The log that [`Backend::fresh`] made last, opened again as after a restart. Every handle on it was dropped.
    async fn reopen(&self) -> Arc<dyn RawLog>;

    /// Bytes in flight after which an appender surely answers `Full`; `None` where there is no such bound.
    fn capacity(&self) -> Option<usize> {
        None
    }

    /// What makes the log that [`Backend::fresh`] made last fail; `None` where that is not possible.
    fn faults(&self) -> Option<Faults> {
        None
    }
}

/// One promise.
pub struct Case {
    /// Says what is promised.
    pub name: &'static str,
    /// Fails by panicking.
    pub run: for<'a> fn(&'a dyn Backend) -> LocalBoxFuture<'a, ()>,
    /// Whether it needs [`Backend::faults`].
    pub needs_faults: bool,
}

/// `[name, …]` to cases of these functions of a module.
macro_rules! cases {
    ($needs_faults:literal, $($module:ident: [$($name:ident),+ $(,)?]),+ $(,)?) => {
        vec![$($(Case {
            name: stringify!($name),
            run: |backend| Box::pin($module::$name(backend)),
            needs_faults: $needs_faults,
        },)+)+]
    };
}

/// Every promise.
pub fn cases() -> Vec<Case> {
    let mut all = cases![false,
        raw: [
            offsets_follow_from_zero,
            one_appender_keeps_its_order,
            two_appenders_share_a_partition,
            partitions_are_apart,
            a_reader_starts_anywhere,
            a_waiting_reader_sees_what_comes,
            a_dropped_wait_loses_nothing,
            a_dropped_appender_cancels_nothing,
            a_log_survives_a_restart,
        ],
        topology: [
            a_log_is_made_and_opened,
            made_again_it_stays_the_same,
            half_made_it_is_completed,
            without_genesis_it_does_not_open,
            partitions_that_disagree_do_not_open,
            fewer_partitions_do_not_open,
            more_partitions_are_ignored,
            another_hash_does_not_open,
        ],
        ownership: [
            what_an_owner_commits_counts,
            progress_is_cancel_safe,
            a_claim_sees_the_same_from_any_cursor,
            a_second_claim_fences_the_first,
            the_fenced_learns_what_counted,
            of_two_claims_with_one_epoch_one_wins,
            a_claim_rises_above_the_epoch_asked_for,
            a_release_lets_the_next_one_in,
            a_barrier_comes_back,
            the_largest_record_is_taken_and_no_larger,
            full_ends_with_progress,
            resolve_without_trouble_loses_nothing,
            ownership_survives_a_restart,
        ],
        reading: [
            every_cursor_resumes_to_the_same_fold,
            another_record_before_the_cursor_halts,
            a_cursor_of_another_log_halts,
            a_cursor_beyond_the_end_halts,
            a_commit_of_an_unclaimed_epoch_halts,
            an_unknown_kind_halts,
            a_damaged_record_halts,
            an_owner_on_another_history_halts,
            a_halt_outranks_a_fence,
        ],
    ];
    all.extend(cases![true,
        faults: [
            a_lost_acknowledgement_is_found_out,
            a_lost_record_never_counts,
            a_hole_is_noticed_without_an_error,
            an_error_puts_later_ones_in_doubt,
            a_copy_counts_once,
            a_copy_reported_at_its_second_place_counts_once,
            records_out_of_order_are_settled,
            a_record_that_lands_behind_a_claim_is_void,
            a_record_that_lands_behind_the_own_claim_is_void,
            ok_without_an_offset_is_decided_by_reading,
            silence_is_doubt,
            a_record_not_at_its_reported_offset_halts,
            a_submission_that_fails_is_in_doubt,
            a_claim_whose_report_fails_is_made_again,
            a_claim_that_arrives_after_its_successor_is_void,
            a_refused_claim_is_an_error,
            a_silent_claim_is_made_again,
            a_claim_fenced_at_once_is_lost,
            a_claim_is_read_before_its_report,
            resolve_meets_a_foreign_claim,
            a_paused_owner_acknowledges_nothing,
            a_truncated_log_halts,
            a_log_made_again_halts,
            a_log_made_again_and_grown_halts,
            a_log_made_again_unnoticed_halts_at_the_next_look,
            release_is_told_when_fenced,
        ],
    ]);
    all
}

/// Runs every case that `backend` can run, reports each, and fails at the end if any failed.
///
/// # Panics
/// A promise is not kept.
pub async fn run(backend: &dyn Backend) {
    let mut failed = Vec::new();
    let (mut passed, mut left_out) = (0, 0);
    for case in cases() {
        if case.needs_faults && backend.faults().is_none() {
            // Only after a log was made is there something to ask for faults.
            drop(backend.fresh(1).await);
            if backend.faults().is_none() {
                left_out += 1;
                continue;
            }
        }
        let outcome =
            AssertUnwindSafe(tokio::time::timeout(CASE_MAX, (case.run)(backend))).catch_unwind().await;
        match outcome {
            Ok(Ok(())) => {
                passed += 1;
                println!("{}: {} ... ok", backend.name(), case.name);
            }
            Ok(Err(_)) => {
                println!("{}: {} ... NO END within {} s", backend.name(), case.name, CASE_MAX.as_secs());
                failed.push(case.name);
            }
            Err(_) => {
                println!("{}: {} ... FAILED", backend.name(), case.name);
                failed.push(case.name);
            }
        }
    }
    println!("{}: {passed} kept, {} broken, {left_out} need faults on command", backend.name(), failed.len());
    assert!(failed.is_empty(), "{} breaks {failed:?}", backend.name());
}

const P: Partition = 0;

/// A made log of `partitions` partitions.
async fn made(backend: &dyn Backend, partitions: u16) -> Log {
    made_on(backend.fresh(partitions).await).await
}

async fn made_on(raw: Arc<dyn RawLog>) -> Log {
    Log::create(raw, log_id(1), 1).await.unwrap()
}

fn log_id(number: u128) -> LogId {
    LogId(Uuid::from_u128(number))
}

/// A commit that can be told from every other by its number.
fn commit(number: u64) -> Commit {
    sized_commit(number, 0)
}

fn sized_commit(number: u64, padding: usize) -> Commit {
    let id = format!("ord_{number}");
    Commit {
        stream: StreamId::new(&TenantId::default_tenant(), StreamKind::Order, &id).unwrap(),
        first_version: 1,
        command_id: CommandId::derive(&["contract", &id]),
        body_hash: number,
        actor: "contract".into(),
        correlation_id: id,
        causation_id: String::new(),
        traceparent: String::new(),
        recorded_at: Timestamp::from_micros(1_700_000_000_000_000 + number as i64),
        effective_at: None,
        events: vec![EventData {
            event_type: "OrderSubmitted".into(),
            schema_version: 1,
            payload: format!("\"{}\"", "x".repeat(padding)).into(),
        }],
    }
}

fn number_of(record: &CommitRecord) -> u64 {
    record.commit.body_hash
}

fn identity(node: &str) -> Identity {
    Identity { node: node.to_owned(), address: format!("{node}:7000") }
}

/// The nonce of a node; different for every name used here.
fn nonce(node: &str) -> u64 {
    node.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

async fn try_claim(log: &Log, node: &str, min_epoch: u64) -> Result<PartitionWriter, ClaimError> {
    PartitionWriter::claim(log, log.start(P), identity(node), min_epoch, nonce(node), |_| {}).await
}

async fn claim(log: &Log, node: &str) -> PartitionWriter {
    try_claim(log, node, 0).await.unwrap()
}

fn submit(writer: &mut PartitionWriter, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers.into_iter().map(|number| writer.submit(&commit(number)).unwrap()).collect()
}

/// Waits until exactly `seqs` are confirmed, in order, and answers their offsets.
async fn confirm(writer: &mut PartitionWriter, seqs: &[u64]) -> Vec<Offset> {
    let mut confirmed = Vec::new();
    while confirmed.len() < seqs.len() {
        match writer.progress().await {
            Progress::Confirmed(more) => confirmed.extend(more),
            trouble => panic!("{trouble:?} after {confirmed:?}, wanted {seqs:?}"),
        }
    }
    assert_eq!(confirmed.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), seqs);
    confirmed.into_iter().map(|(_, offset)| offset).collect()
}

/// The seqs confirmed until trouble, and the trouble.
async fn until_trouble(writer: &mut PartitionWriter) -> (Vec<u64>, Progress) {
    let mut confirmed = Vec::new();
    loop {
        match writer.progress().await {
            Progress::Confirmed(more) => confirmed.extend(more.into_iter().map(|(seq, _)| seq)),
            trouble => return (confirmed, trouble),
        }
    }
}

/// Every confirmed and every rejected seq, where the writer ends fenced by `node`.
async fn until_fenced(writer: &mut PartitionWriter, node: &str) -> (Vec<u64>, Vec<u64>) {
    match until_trouble(writer).await {
        (mut confirmed, Progress::Fenced { by, confirmed: more, rejected }) => {
            assert_eq!(by.node, node);
            confirmed.extend(more.into_iter().map(|(seq, _)| seq));
            (confirmed, rejected)
        }
        (_, trouble) => panic!("{trouble:?}, wanted a claim of {node}"),
    }
}

async fn until_in_doubt(writer: &mut PartitionWriter) -> Vec<u64> {
    match until_trouble(writer).await {
        (confirmed, Progress::InDoubt { .. }) => confirmed,
        (_, trouble) => panic!("{trouble:?}, wanted doubt"),
    }
}

/// Everything from `cursor` to the end, and the cursor there.
async fn read_from(log: &Log, cursor: Cursor) -> (Vec<CommitRecord>, Cursor) {
    let end = log.end(cursor.partition).await.unwrap();
    let mut reader = log.reader(&[cursor]).await.unwrap();
    let mut commits = Vec::new();
    while reader.cursor(cursor.partition).unwrap().next < end {
        commits.extend(reader.next(1 << 16).await.unwrap().commits);
    }
    (commits, *reader.cursor(cursor.partition).unwrap())
}

/// The numbers of all commits that count.
async fn counted(log: &Log) -> Vec<u64> {
    read_from(log, log.start(P)).await.0.iter().map(number_of).collect()
}

/// Appends bytes as they are and waits for their offset.
async fn append(
    raw: &dyn RawLog,
    partition: Partition,
    records: impl IntoIterator<Item = Bytes>,
) -> Vec<Report> {
    let mut appender = raw.appender(partition).await.unwrap();
    let mut count = 0;
    for record in records {
        appender.submit(record).unwrap();
        count += 1;
    }
    let mut reports = Vec::new();
    while reports.len() < count {
        appender.reports(&mut reports).await;
    }
    reports
}

/// The next `count` records from `offset` on.
async fn read_raw(raw: &dyn RawLog, partition: Partition, offset: Offset, count: usize) -> Vec<RawRecord> {
    let mut reader = raw.reader(&[(partition, offset)]).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        reader.next(1 << 16, &mut records).await.unwrap();
    }
    records
}

/// The cursor after every record of the log, and before the first.
async fn every_cursor(log: &Log) -> Vec<Cursor> {
    let end = log.end(P).await.unwrap() as usize;
    let mut fold = Fold::new(log.start(P));
    let mut cursors = vec![*fold.cursor()];
    for record in read_raw(log.raw(), P, 0, end).await {
        fold.step(record.offset, &Record::parse(&record.bytes).unwrap()).unwrap();
        cursors.push(*fold.cursor());
    }
    cursors
}
