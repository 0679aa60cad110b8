//! What an owner makes of a log that loses, repeats, delays and lies. Only where faults come on command.

use std::pin::pin;

use bytes::Bytes;
use futures::poll;

use super::{
    Backend, P, append, claim, commit, confirm, counted, identity, log_id, made, nonce, read_from, submit,
    try_claim, until_fenced, until_in_doubt, until_trouble,
};
use crate::fold::Halt;
use crate::log::Log;
use crate::raw::RawError;
use crate::reader::ReadError;
use crate::record::{self, Claim, Genesis, Header, Kind};
use crate::sim::{Fate, Faults};
use crate::writer::{ClaimError, InDoubt, PartitionWriter, Progress, Resolved};

fn away() -> RawError {
    RawError::Unavailable { detail: "test".into() }
}

fn refused() -> RawError {
    RawError::Refused { detail: "test".into() }
}

async fn owned(backend: &dyn Backend) -> (Log, Faults, PartitionWriter) {
    let log = made(backend, 1).await;
    let faults = backend.faults().unwrap();
    let writer = claim(&log, "a").await;
    (log, faults, writer)
}

/// Waits for doubt, resolves it, checks what was found, and that the writer goes on under a higher epoch.
async fn doubt(writer: &mut PartitionWriter, confirmed: &[u64], rejected: &[u64]) {
    let mut found = until_in_doubt(writer).await;
    // Asked again it says the same, and does not take a later report for an earlier record.
    assert!(until_in_doubt(writer).await.is_empty());
    let before = writer.epoch();
    let resolved = writer.resolve(nonce("a again")).await.unwrap();
    found.extend(resolved.confirmed.iter().map(|(seq, _)| *seq));
    assert_eq!((found.as_slice(), resolved.rejected.as_slice()), (confirmed, rejected));
    assert_eq!((resolved.fenced, writer.epoch() > before), (None, true));
    let seqs = submit(writer, [1_000]);
    confirm(writer, &seqs).await;
}

pub(super) async fn a_lost_acknowledgement_is_found_out(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.lose_ack(P);
    submit(&mut writer, 1..=2);
    doubt(&mut writer, &[2, 3], &[]).await;
    assert_eq!(counted(&log).await, [1, 2, 1_000]);
}

pub(super) async fn a_lost_record_never_counts(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    submit(&mut writer, [1]);
    faults.lose(P);
    submit(&mut writer, 2..=4);
    doubt(&mut writer, &[2], &[3, 4, 5]).await;
    assert_eq!(counted(&log).await, [1, 1_000]);
}

pub(super) async fn a_hole_is_noticed_without_an_error(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.next(P, [Fate::Pretend(None)]);
    submit(&mut writer, 1..=2);
    let (confirmed, trouble) = until_trouble(&mut writer).await;
    assert!(confirmed.is_empty());
    assert!(matches!(trouble, Progress::InDoubt { cause: InDoubt::Hole { seq: 3 } }));
    doubt(&mut writer, &[], &[2, 3]).await;
    assert_eq!(counted(&log).await, [1_000]);
}

pub(super) async fn an_error_puts_later_ones_in_doubt(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.next(P, [Fate::Arrive, Fate::LoseAck(away()), Fate::Arrive]);
    submit(&mut writer, 1..=3);
    // The third is reported Ok and read, but behind an error.
    submit(&mut writer, [4]);
    doubt(&mut writer, &[2, 3, 4, 5], &[]).await;
    assert_eq!(counted(&log).await, [1, 2, 3, 4, 1_000]);
}

pub(super) async fn a_copy_counts_once(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.duplicate(P);
    let seqs = submit(&mut writer, 1..=3);
    assert_eq!(confirm(&mut writer, &seqs).await, [3, 5, 6]);
    assert_eq!(counted(&log).await, [1, 2, 3]);
}

pub(super) async fn a_copy_reported_at_its_second_place_counts_once(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.next(P, [Fate::DuplicateLate]);
    let seqs = submit(&mut writer, 1..=3);
    assert_eq!(confirm(&mut writer, &seqs).await, [3, 5, 6]);
    assert_eq!(counted(&log).await, [1, 2, 3]);
}

pub(super) async fn records_out_of_order_are_settled(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.hold(P);
    submit(&mut writer, 1..=3);
    faults.release(P);
    // Two and three came first and are void; one came last and counts.
    doubt(&mut writer, &[2], &[3, 4]).await;
    assert_eq!(counted(&log).await, [1, 1_000]);
}

pub(super) async fn a_record_that_lands_behind_a_claim_is_void(backend: &dyn Backend) {
    let (log, faults, mut a) = owned(backend).await;
    submit(&mut a, [1]);
    faults.hold(P);
    submit(&mut a, [2]);
    let mut b = claim(&log, "b").await;
    faults.release(P);
    let seqs = submit(&mut b, [3]);
    confirm(&mut b, &seqs).await;
    assert_eq!(until_fenced(&mut a, "b").await, (vec![2], vec![3]));
    assert_eq!(counted(&log).await, [1, 3]);
}

pub(super) async fn a_record_that_lands_behind_the_own_claim_is_void(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.next(P, [Fate::Strand(away())]);
    submit(&mut writer, [1]);
    doubt(&mut writer, &[], &[2]).await;
    faults.release(P);
    let seqs = submit(&mut writer, [2]);
    confirm(&mut writer, &seqs).await;
    assert_eq!(counted(&log).await, [1_000, 2]);
}

pub(super) async fn ok_without_an_offset_is_decided_by_reading(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    faults.next(P, [Fate::NoOffset, Fate::Arrive, Fate::NoOffset]);
    let seqs = submit(&mut writer, 1..=3);
    assert_eq!(confirm(&mut writer, &seqs).await, [3, 4, 5]);
    assert_eq!(counted(&log).await, [1, 2, 3]);
}

pub(super) async fn silence_is_doubt(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    for fate in [Fate::Vanish, Fate::Pretend(None)] {
        faults.next(P, [fate]);
        submit(&mut writer, [1]);
        let (_, trouble) = until_trouble(&mut writer).await;
        assert!(matches!(trouble, Progress::InDoubt { cause: InDoubt::Silent { .. } }), "{trouble:?}");
        let resolved = writer.resolve(nonce("a again")).await.unwrap();
        assert_eq!((resolved.confirmed.len(), resolved.rejected), (0, vec![2]));
    }
    assert!(counted(&log).await.is_empty());
}

pub(super) async fn a_record_not_at_its_reported_offset_halts(backend: &dyn Backend) {
    let (_, faults, mut writer) = owned(backend).await;
    faults.next(P, [Fate::Pretend(Some(1))]);
    submit(&mut writer, [1]);
    // Another owner's record shows that the log was read beyond that place.
    let (confirmed, trouble) = until_trouble(&mut writer).await;
    assert!(confirmed.is_empty());
    assert!(matches!(trouble, Progress::Halted(Halt::OtherRecord { offset: 1 })), "{trouble:?}");
    assert!(writer.resolve(nonce("a again")).await.is_err());

    // Reported where another claim stands: whatever was acknowledged there is gone.
    let (log, faults, mut writer) = owned(backend).await;
    faults.next(P, [Fate::Pretend(Some(3))]);
    submit(&mut writer, [1]);
    claim(&log, "b").await;
    let (_, trouble) = until_trouble(&mut writer).await;
    assert!(matches!(trouble, Progress::Halted(Halt::OtherRecord { offset: 3 })), "{trouble:?}");
}

pub(super) async fn a_submission_that_fails_is_in_doubt(backend: &dyn Backend) {
    for arrives in [false, true] {
        let (log, faults, mut writer) = owned(backend).await;
        faults.next(P, [Fate::Refuse { error: away(), arrives }]);
        submit(&mut writer, 1..=2);
        let (counts, void): (&[u64], &[u64]) = if arrives { (&[2, 3], &[]) } else { (&[], &[2, 3]) };
        doubt(&mut writer, counts, void).await;
        assert_eq!(counted(&log).await.len(), counts.len() + 1);
    }
}

pub(super) async fn a_claim_whose_report_fails_is_made_again(backend: &dyn Backend) {
    for fate in [Fate::LoseAck(away()), Fate::Lose(away()), Fate::Refuse { error: away(), arrives: true }] {
        let log = made(backend, 1).await;
        let faults = backend.faults().unwrap();
        // The claim, and on the second try what follows it.
        faults.next(P, [fate.clone(), Fate::Arrive, fate]);
        let mut writer = claim(&log, "a").await;
        assert_eq!(writer.epoch(), 3);
        let seqs = submit(&mut writer, [1]);
        confirm(&mut writer, &seqs).await;
        assert_eq!(counted(&log).await, [1]);
    }
}

pub(super) async fn a_claim_that_arrives_after_its_successor_is_void(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let faults = backend.faults().unwrap();
    faults.next(P, [Fate::Strand(away())]);
    let mut writer = claim(&log, "a").await;
    let mut seqs = submit(&mut writer, [1]);
    faults.release(P);
    seqs.extend(submit(&mut writer, [2]));
    confirm(&mut writer, &seqs).await;
    assert_eq!(counted(&log).await, [1, 2]);
}

pub(super) async fn a_refused_claim_is_an_error(backend: &dyn Backend) {
    for fate in [Fate::Lose(refused()), Fate::Refuse { error: refused(), arrives: false }] {
        let log = made(backend, 1).await;
        backend.faults().unwrap().next(P, [fate]);
        assert!(matches!(try_claim(&log, "a", 0).await, Err(ClaimError::Raw(RawError::Refused { .. }))));
    }
}

pub(super) async fn a_silent_claim_is_made_again(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    backend.faults().unwrap().vanish(P);
    assert_eq!(claim(&log, "a").await.epoch(), 2);
}

pub(super) async fn a_claim_fenced_at_once_is_lost(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let faults = backend.faults().unwrap();
    faults.hold(P);
    let mut claiming = pin!(try_claim(&log, "a", 0));
    assert!(poll!(&mut claiming).is_pending());
    // Its claim counts, and is read in one go with the one that ends it.
    faults.release(P);
    let header = Header { kind: Kind::Claim, epoch: 9, nonce: 9, seq: 0 };
    append(log.raw(), P, [record::encode(header, &Claim { node: "z".into(), address: String::new() })]).await;
    assert!(matches!(claiming.await, Err(ClaimError::Lost(by)) if by.epoch == 9));
}

pub(super) async fn a_claim_is_read_before_its_report(backend: &dyn Backend) {
    for (of_opened, epoch) in [(Fate::Arrive, 1), (Fate::LoseAck(away()), 2)] {
        let log = made(backend, 1).await;
        let faults = backend.faults().unwrap();
        faults.next(P, [Fate::ReportLate, of_opened]);
        let mut claiming = pin!(try_claim(&log, "a", 0));
        // Read back, and already opening; the first report to come is the claim's and says nothing of the next.
        assert!(poll!(&mut claiming).is_pending());
        assert_eq!(faults.records(P).len(), 3);
        faults.release(P);
        let mut writer = claiming.await.unwrap();
        assert_eq!(writer.epoch(), epoch);
        let seqs = submit(&mut writer, 1..=2);
        confirm(&mut writer, &seqs).await;
    }
}

pub(super) async fn resolve_meets_a_foreign_claim(backend: &dyn Backend) {
    let (log, faults, mut a) = owned(backend).await;
    faults.next(P, [Fate::Arrive, Fate::LoseAck(away()), Fate::Strand(away())]);
    submit(&mut a, 1..=3);
    let mut found = until_in_doubt(&mut a).await;
    // The other one's epoch is higher than the one chosen here.
    let b = try_claim(&log, "b", 50).await.unwrap();
    faults.hold(P);
    let Resolved { confirmed, rejected, fenced, .. } = a.resolve(nonce("a again")).await.unwrap();
    found.extend(confirmed.iter().map(|(seq, _)| *seq));
    assert_eq!((found, rejected), (vec![2, 3], vec![4]));
    assert_eq!(fenced.map(|by| by.epoch), Some(b.epoch()));
    faults.release(P);
    assert!(matches!(a.progress().await, Progress::Fenced { .. }));
    assert_eq!(counted(&log).await, [1, 2]);
}

pub(super) async fn a_paused_owner_acknowledges_nothing(backend: &dyn Backend) {
    let (log, faults, mut a) = owned(backend).await;
    submit(&mut a, [1]);
    faults.pause(P);
    submit(&mut a, [2]);
    let mut b = claim(&log, "b").await;
    let seqs = submit(&mut b, [3]);
    confirm(&mut b, &seqs).await;
    // Read as counting, though its report never came.
    assert_eq!(until_fenced(&mut a, "b").await, (vec![2], vec![3]));
    faults.resume(P);
    assert_eq!(until_fenced(&mut a, "b").await, (vec![], vec![]));
    assert_eq!(counted(&log).await, [1, 3]);
}

pub(super) async fn a_truncated_log_halts(backend: &dyn Backend) {
    for lost in [1, 3] {
        let (log, faults, mut writer) = owned(backend).await;
        let seqs = submit(&mut writer, 1..=5);
        confirm(&mut writer, &seqs).await;
        let (_, cursor) = read_from(&log, log.start(P)).await;
        faults.truncate(P, cursor.next - lost);
        assert!(matches!(until_trouble(&mut writer).await.1, Progress::Halted(Halt::BeyondEnd { .. })));
        let reopened = log.reader(&[cursor]).await.map(|_| ());
        assert!(matches!(reopened, Err(ReadError::Halt { halt: Halt::BeyondEnd { .. }, .. })));
        let claimed = PartitionWriter::claim(&log, cursor, identity("b"), 0, nonce("b"), |_| {}).await;
        assert!(matches!(claimed, Err(ClaimError::Read(ReadError::Halt { .. }))));
    }
}

fn other_genesis(log: u128) -> Bytes {
    let log_id = Bytes::copy_from_slice(log_id(log).0.as_bytes());
    Genesis { log_id, generation: 1, partitions: 1, hash_version: 1 }.encode_record()
}

pub(super) async fn a_log_made_again_halts(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    let (_, cursor) = read_from(&log, log.start(P)).await;
    submit(&mut writer, [1]);
    faults.recreate(P, [other_genesis(2)]);
    // The reader only says that it cannot go on; the next one, opened at the cursor, sees why.
    assert!(matches!(until_trouble(&mut writer).await.1, Progress::Failed(_)));
    let resolved = writer.resolve(nonce("a again")).await.map(|_| ());
    assert!(matches!(resolved, Err(ClaimError::Read(ReadError::Halt { .. }))), "{resolved:?}");
    assert!(matches!(writer.progress().await, Progress::Failed(_)));
    assert!(matches!(log.reader(&[cursor]).await, Err(ReadError::Halt { .. })));
    assert_eq!(
        faults.records(P).len(),
        1,
        "nothing was appended to a log that is not the one that was claimed"
    );
    // From the start it is another log.
    let mut reader = log.reader(&[log.start(P)]).await.unwrap();
    let read = reader.next(1_000).await.map(|_| ());
    assert!(matches!(read, Err(ReadError::Halt { halt: Halt::OtherLog { .. }, .. })), "{read:?}");
}

pub(super) async fn a_log_made_again_and_grown_halts(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    let (_, cursor) = read_from(&log, log.start(P)).await;
    let void = (1..=20).map(|seq| commit(seq).encode_record(0, 0, seq));
    faults.recreate(P, [other_genesis(2)].into_iter().chain(void));
    assert!(matches!(until_trouble(&mut writer).await.1, Progress::Failed(_)));
    let resolved = writer.resolve(nonce("a again")).await.map(|_| ());
    assert!(matches!(resolved, Err(ClaimError::Read(ReadError::Halt { .. }))), "{resolved:?}");
    assert_eq!(
        faults.records(P).len(),
        21,
        "nothing was appended to a log that is not the one that was claimed"
    );
    assert!(matches!(log.find(&cursor).await, Err(ReadError::Halt { halt: Halt::OtherRecord { .. }, .. })));
    let mut reader = log.reader(&[cursor]).await.unwrap();
    let read = reader.next(1_000).await.map(|_| ());
    assert!(matches!(read, Err(ReadError::Halt { halt: Halt::OtherRecord { .. }, .. })), "{read:?}");
}

/// A backend that cannot tell at once: the owner reads on in the other log, which even shows it its own records.
pub(super) async fn a_log_made_again_unnoticed_halts_at_the_next_look(backend: &dyn Backend) {
    let (log, faults, mut writer) = owned(backend).await;
    let records = faults.records(P).len() as u64;
    let void = (1..records).map(|seq| commit(seq).encode_record(0, 0, seq));
    faults.swap(P, [other_genesis(2)].into_iter().chain(void));
    let seqs = submit(&mut writer, [1]);
    confirm(&mut writer, &seqs).await;
    faults.shake(P);
    assert!(matches!(until_trouble(&mut writer).await.1, Progress::Failed(_)));
    let landmarks = writer.landmarks();
    let resolved = writer.resolve(nonce("a again")).await.map(|_| ());
    assert!(matches!(resolved, Err(ClaimError::Read(ReadError::Halt { .. }))), "{resolved:?}");
    assert!(log.find(&landmarks[1]).await.is_ok(), "what was read last is there");
    let opened = log.find(&landmarks[0]).await;
    assert!(matches!(opened, Err(ReadError::Halt { halt: Halt::OtherRecord { .. }, .. })), "{opened:?}");
}

pub(super) async fn release_is_told_when_fenced(backend: &dyn Backend) {
    let (log, faults, mut a) = owned(backend).await;
    faults.next(P, [Fate::Arrive, Fate::NoOffset, Fate::Hold, Fate::Hold]);
    submit(&mut a, 1..=3);
    let mut releasing = pin!(a.release());
    assert!(poll!(&mut releasing).is_pending());
    claim(&log, "b").await;
    match releasing.await {
        Err(Progress::Fenced { confirmed, rejected, .. }) => {
            assert_eq!((confirmed, rejected), (vec![(2, 3), (3, 4)], vec![4]));
        }
        other => panic!("{other:?}"),
    }
    faults.release(P);
    assert_eq!(counted(&log).await, [1, 2]);
}
