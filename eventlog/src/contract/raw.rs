//! Appending and reading bytes.

use bytes::Bytes;
use futures::FutureExt;

use super::{Backend, P, append, read_raw};
use crate::raw::Report;

fn bytes(text: impl Into<String>) -> Bytes {
    text.into().into()
}

/// Reports name an offset or none.
fn check_offsets(reports: &[Report], first: u64) {
    for (offset, report) in (first..).zip(reports) {
        let reported = report.as_ref().expect("no fault was injected");
        assert!(reported.is_none_or(|reported| reported == offset), "{reported:?} instead of {offset}");
    }
}

pub(super) async fn offsets_follow_from_zero(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    assert_eq!(raw.end(P).await.unwrap(), 0);
    check_offsets(&append(&*raw, P, (0..100).map(|n| bytes(format!("{n}")))).await, 0);
    check_offsets(&append(&*raw, P, (100..110).map(|n| bytes(format!("{n}")))).await, 100);
    assert_eq!(raw.end(P).await.unwrap(), 110);
    for (n, record) in (0..).zip(read_raw(&*raw, P, 0, 110).await) {
        assert_eq!((record.partition, record.offset, record.bytes), (P, n, bytes(format!("{n}"))));
    }
}

pub(super) async fn one_appender_keeps_its_order(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    // Sizes differ, so that batches are cut at odd places.
    let record = |n: usize| bytes(format!("{n}:{}", "x".repeat(n * 37 % 997)));
    check_offsets(&append(&*raw, P, (0..2_000).map(record)).await, 0);
    for (n, read) in read_raw(&*raw, P, 0, 2_000).await.into_iter().enumerate() {
        assert_eq!(read.bytes, record(n));
    }
}

pub(super) async fn two_appenders_share_a_partition(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    let a = append(&*raw, P, (0..300).map(|n| bytes(format!("a{n}"))));
    let b = append(&*raw, P, (0..300).map(|n| bytes(format!("b{n}"))));
    let (a, b) = futures::join!(a, b);
    let read = read_raw(&*raw, P, 0, 600).await;
    for (reports, name) in [(a, 'a'), (b, 'b')] {
        let own: Vec<_> = read.iter().filter(|record| record.bytes.starts_with(&[name as u8])).collect();
        assert_eq!(own.len(), 300);
        for (n, (record, report)) in own.iter().zip(reports).enumerate() {
            assert_eq!(record.bytes, bytes(format!("{name}{n}")));
            assert!(report.unwrap().is_none_or(|offset| offset == record.offset));
        }
    }
}

pub(super) async fn partitions_are_apart(backend: &dyn Backend) {
    let raw = backend.fresh(3).await;
    assert_eq!(raw.partitions(), 3);
    for partition in 0..3 {
        append(&*raw, partition, (0..20 * u32::from(partition)).map(|n| bytes(format!("{partition}/{n}"))))
            .await;
    }
    // One reader over all of them, each from its own place.
    let mut reader = raw.reader(&[(2, 30), (0, 0), (1, 5)]).await.unwrap();
    let mut records = Vec::new();
    while records.len() < 25 {
        reader.next(100, &mut records).await.unwrap();
    }
    for (partition, first, end) in [(0, 0, 0), (1, 5, 20), (2, 30, 40)] {
        let own: Vec<_> = records.iter().filter(|record| record.partition == partition).collect();
        assert_eq!(
            own.iter().map(|record| record.offset).collect::<Vec<_>>(),
            (first..end).collect::<Vec<_>>()
        );
        assert!(own.iter().all(|record| record.bytes == bytes(format!("{partition}/{}", record.offset))));
    }
}

pub(super) async fn a_reader_starts_anywhere(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    append(&*raw, P, (0..30).map(|n| bytes(format!("{n}")))).await;
    for start in 0..30 {
        let records = read_raw(&*raw, P, start, 30 - start as usize).await;
        assert_eq!(records.first().map(|record| record.offset), Some(start));
        assert_eq!(records.last().map(|record| record.bytes.clone()), Some(bytes("29")));
    }
}

pub(super) async fn a_waiting_reader_sees_what_comes(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    let mut reader = raw.reader(&[(P, 0)]).await.unwrap();
    let mut records = Vec::new();
    for n in 0..5 {
        let (read, _) =
            futures::join!(reader.next(100, &mut records), append(&*raw, P, [bytes(format!("{n}"))]));
        read.unwrap();
        assert_eq!(records.len(), n + 1);
    }
}

pub(super) async fn a_dropped_wait_loses_nothing(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    let mut reader = raw.reader(&[(P, 0)]).await.unwrap();
    let mut appender = raw.appender(P).await.unwrap();
    let (mut records, mut reports, mut submitted) = (Vec::new(), Vec::new(), 0);
    while records.len() < 100 || reports.len() < 100 {
        if submitted < 100 {
            appender.submit(bytes(format!("{submitted}"))).unwrap();
            submitted += 1;
        }
        // Polled once and dropped, again and again.
        let _ = reader.next(10, &mut records).now_or_never();
        let _ = appender.reports(&mut reports).now_or_never();
        tokio::task::yield_now().await;
    }
    assert!(records.iter().enumerate().all(|(n, record)| record.bytes == bytes(format!("{n}"))));
    check_offsets(&reports, 0);
}

pub(super) async fn a_dropped_appender_cancels_nothing(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    let mut appender = raw.appender(P).await.unwrap();
    for n in 0..10 {
        appender.submit(bytes(format!("{n}"))).unwrap();
    }
    // It may arrive or not, but what comes after it does come.
    drop(appender);
    append(&*raw, P, [bytes("last")]).await;
    let mut records = read_raw(&*raw, P, 0, 1).await;
    let mut reader = raw.reader(&[(P, records.len() as u64)]).await.unwrap();
    while records.iter().all(|record| record.bytes != bytes("last")) {
        reader.next(100, &mut records).await.unwrap();
    }
}

pub(super) async fn a_log_survives_a_restart(backend: &dyn Backend) {
    let raw = backend.fresh(2).await;
    append(&*raw, 1, (0..50).map(|n| bytes(format!("{n}")))).await;
    drop(raw);
    let raw = backend.reopen().await;
    assert_eq!((raw.partitions(), raw.end(0).await.unwrap(), raw.end(1).await.unwrap()), (2, 0, 50));
    check_offsets(&append(&*raw, 1, [bytes("50")]).await, 50);
    assert!(
        read_raw(&*raw, 1, 0, 51).await.iter().enumerate().all(|(n, r)| r.bytes == bytes(format!("{n}")))
    );
}
