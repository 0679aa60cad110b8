//! Readers that resume, and readers that must not go on.

use bytes::{Bytes, BytesMut};

use super::ownership::glance;
use super::{
    Backend, P, append, claim, commit, confirm, counted, every_cursor, log_id, made, read_from, submit,
    until_trouble,
};
use crate::cursor::Cursor;
use crate::fold::Halt;
use crate::log::Log;
use crate::reader::ReadError;
use crate::record::{self, Claim, Header, Kind, Opened};
use crate::writer::Progress;

/// Reads until it must not go on.
async fn halt(log: &Log, cursor: Cursor) -> Halt {
    let error = match log.reader(&[cursor]).await {
        Err(error) => error,
        Ok(mut reader) => loop {
            if let Err(error) = reader.next(1 << 16).await {
                break error;
            }
        },
    };
    match error {
        ReadError::Halt { partition: P, halt } => halt,
        error => panic!("{error}"),
    }
}

fn by(kind: Kind, epoch: u64, seq: u64) -> Header {
    Header { kind, epoch, nonce: 77, seq }
}

fn foreign_claim(epoch: u64) -> Bytes {
    record::encode(by(Kind::Claim, epoch, 0), &Claim { node: "z".into(), address: "z:1".into() })
}

pub(super) async fn every_cursor_resumes_to_the_same_fold(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut number = 0;
    for round in 0..12 {
        let mut a = claim(&log, "a").await;
        let seqs = submit(&mut a, number..number + 9);
        confirm(&mut a, &seqs).await;
        let mut b = claim(&log, "b").await;
        let seqs = submit(&mut b, number + 9..number + 11);
        confirm(&mut b, &seqs).await;
        number += 11;
        // Void of every kind: fenced, of a double with the same epoch, repeated, behind a gap, too late a claim.
        let of_b = |nonce, seq| commit(99).encode_record(b.epoch(), nonce, seq);
        let zombie = commit(98).encode_record(a.epoch(), super::nonce("a"), 12);
        let own = super::nonce("b");
        append(log.raw(), P, [zombie, of_b(77, 4), of_b(own, 2), foreign_claim(1)]).await;
        if round % 2 == 0 {
            b.release().await.unwrap();
        }
        append(log.raw(), P, [commit(97).encode_record(2 * round + 2, own, 7)]).await;
    }
    let (commits, end) = read_from(&log, log.start(P)).await;
    assert_eq!((commits.len(), end.next > 200), (132, true));
    for cursor in every_cursor(&log).await {
        let (tail, reached) = read_from(&log, cursor).await;
        assert_eq!(reached, end);
        let first = commits.partition_point(|record| record.position.offset < cursor.next);
        assert_eq!(tail, commits[first..]);
    }
}

async fn ten_commits(log: &Log) -> Cursor {
    let mut writer = claim(log, "a").await;
    let seqs = submit(&mut writer, 1..=10);
    confirm(&mut writer, &seqs).await;
    read_from(log, log.start(P)).await.1
}

pub(super) async fn another_record_before_the_cursor_halts(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let cursor = ten_commits(&log).await;
    let fingerprint = cursor.fingerprint.unwrap();
    for changed in [
        crate::Fingerprint { crc: fingerprint.crc ^ 1, ..fingerprint },
        crate::Fingerprint { epoch: fingerprint.epoch + 1, ..fingerprint },
        crate::Fingerprint { nonce: fingerprint.nonce ^ 1, ..fingerprint },
        crate::Fingerprint { seq: fingerprint.seq + 1, ..fingerprint },
    ] {
        let cursor = Cursor { fingerprint: Some(changed), ..cursor };
        assert_eq!(halt(&log, cursor).await, Halt::OtherRecord { offset: cursor.next - 1 });
        // An owner does not claim on it either, and leaves nothing behind.
        let end = log.end(P).await.unwrap();
        let claimed =
            crate::PartitionWriter::claim(&log, cursor, super::identity("b"), 0, super::nonce("b"), |_| {})
                .await;
        assert!(matches!(claimed, Err(crate::ClaimError::Read(ReadError::Halt { .. }))));
        assert_eq!(log.end(P).await.unwrap(), end);
    }
}

pub(super) async fn a_cursor_of_another_log_halts(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let cursor = Cursor { log: log_id(9), ..ten_commits(&log).await };
    assert_eq!(halt(&log, cursor).await, Halt::OtherLog { expected: log_id(9), found: log_id(1) });
}

pub(super) async fn a_cursor_beyond_the_end_halts(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let cursor = ten_commits(&log).await;
    for beyond in [1, 2, 100] {
        let cursor = Cursor { next: cursor.next + beyond, ..cursor };
        assert!(matches!(halt(&log, cursor).await, Halt::BeyondEnd { .. }));
        let claimed =
            crate::PartitionWriter::claim(&log, cursor, super::identity("b"), 0, super::nonce("b"), |_| {})
                .await;
        assert!(matches!(claimed, Err(crate::ClaimError::Read(ReadError::Halt { .. }))));
    }
    assert_eq!(log.end(P).await.unwrap(), cursor.next);
}

/// The reader and the owner both stop at `records`.
async fn both_halt(backend: &dyn Backend, records: Vec<Bytes>) -> Halt {
    let log = made(backend, 1).await;
    let mut owner = claim(&log, "a").await;
    append(log.raw(), P, records).await;
    let halt = halt(&log, log.start(P)).await;
    match until_trouble(&mut owner).await {
        (_, Progress::Halted(found)) => assert_eq!(found, halt),
        (_, trouble) => panic!("{trouble:?}"),
    }
    // It stays so, and no way leads around it.
    assert!(matches!(owner.progress().await, Progress::Halted(_)));
    assert!(owner.resolve(super::nonce("a again")).await.is_err());
    halt
}

pub(super) async fn a_commit_of_an_unclaimed_epoch_halts(backend: &dyn Backend) {
    let halt = both_halt(backend, vec![commit(1).encode_record(9, 77, 1)]).await;
    assert_eq!(halt, Halt::UnclaimedEpoch { offset: 3, found: 9, known: 1 });
}

pub(super) async fn an_unknown_kind_halts(backend: &dyn Backend) {
    let mut bytes = BytesMut::from(&record::encode(by(Kind::Barrier, 1, 2), &())[..]);
    bytes[3] = 200;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    let halt = both_halt(backend, vec![bytes.freeze()]).await;
    assert!(
        matches!(halt, Halt::Damaged { offset: 3, detail } if detail.contains("unknown record kind 200"))
    );
}

pub(super) async fn a_damaged_record_halts(backend: &dyn Backend) {
    let mut bytes = BytesMut::from(&commit(1).encode_record(1, 77, 1)[..]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(both_halt(backend, vec![bytes.freeze()]).await, Halt::Damaged { offset: 3, .. }));
    assert!(matches!(
        both_halt(backend, vec![Bytes::from_static(b"hello")]).await,
        Halt::Damaged { offset: 3, .. }
    ));
}

pub(super) async fn an_owner_on_another_history_halts(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let before = ten_commits(&log).await;
    let right = Opened::new(before.fence, before.digest);
    let opened = |opened| record::encode(by(Kind::Opened, 2, 1), &opened);
    // The right one first, on a log of its own: nothing halts.
    append(log.raw(), P, [foreign_claim(2), opened(right)]).await;
    assert_eq!(counted(&log).await.len(), 10);
    for wrong in [
        Opened { digest: right.digest ^ 1, ..right },
        Opened { next_seq: right.next_seq - 1, ..right },
        Opened { nonce: right.nonce ^ 1, ..right },
    ] {
        let log = made(backend, 1).await;
        ten_commits(&log).await;
        append(log.raw(), P, [foreign_claim(2), opened(wrong)]).await;
        assert!(matches!(halt(&log, log.start(P)).await, Halt::OtherHistory { epoch: 2, .. }));
    }
}

pub(super) async fn a_halt_outranks_a_fence(backend: &dyn Backend) {
    let log = made(backend, 1).await;
    let mut owner = claim(&log, "a").await;
    // In flight, read and reported; but the log goes on to say that the history was another.
    submit(&mut owner, [1]);
    glance(&mut owner);
    while log.end(P).await.unwrap() < 4 {
        tokio::task::yield_now().await;
    }
    let wrong =
        record::encode(by(Kind::Opened, 2, 1), &Opened { epoch: 1, nonce: 0, next_seq: 0, digest: 1 });
    append(log.raw(), P, [foreign_claim(2), wrong]).await;
    // Backends may give the records one by one; then the fence is told first, which was true when it was told.
    match until_trouble(&mut owner).await.1 {
        Progress::Halted(Halt::OtherHistory { .. }) => {}
        Progress::Fenced { .. } if backend.faults().is_none() => {}
        trouble => panic!("{trouble:?}"),
    }
}
