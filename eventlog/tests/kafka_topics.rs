//! The topic under the Kafka backend: absent, made, changed, deleted and made again.

mod kafka_support;

use std::time::{Duration, Instant};

use kafka_support::{append, brokers, delete, fill, log_with, next, number, options, read, record, topic};
use shopstream_eventlog::kafka::topics::{self, Gravity, Power, Topic};
use shopstream_eventlog::kafka::{KafkaLog, Options};
use shopstream_eventlog::raw::{RawError, RawLog};

#[tokio::test]
async fn a_topic_that_does_not_exist_is_named() {
    let Some(brokers) = brokers() else { return };
    let options = options(&brokers, "absent");
    for _ in 0..2 {
        let Err(error) = KafkaLog::connect(options.clone()).await else { panic!("connected") };
        assert!(matches!(&error, RawError::Refused { detail } if detail.contains(&options.topic)), "{error}");
    }
    let error = topics::check(&options, topic(1)).await.unwrap_err();
    assert!(matches!(error, RawError::Refused { .. }), "asking made it: {error}");
    let nobody = KafkaLog::connect(Options::new("127.0.0.1:1", "x")).await.err();
    assert!(matches!(nobody, Some(RawError::Unavailable { .. })), "{nobody:?}");
}

#[tokio::test]
async fn a_topic_is_made_checked_and_mended() {
    let Some(brokers) = brokers() else { return };
    let options = options(&brokers, "drift");
    let loose = Topic { power: Power::Independent, ..topic(3) };
    assert!(matches!(topics::check(&options, loose).await, Err(RawError::Refused { .. })));
    let applied = topics::apply(&options, loose).await.unwrap();
    assert!(applied.created && applied.altered.is_empty() && applied.left.is_empty(), "{applied:?}");
    assert_eq!(topics::check(&options, loose).await, Ok(vec![]));

    let strict = Topic { power: Power::Shared, ..loose };
    let drift = topics::check(&options, strict).await.unwrap();
    assert_eq!(drift.iter().map(|drift| &*drift.setting).collect::<Vec<_>>(), ["flush.messages"]);
    assert!(drift.iter().all(|drift| drift.gravity == Gravity::Stop));
    let applied = topics::apply(&options, strict).await.unwrap();
    assert_eq!((applied.created, applied.altered, applied.left), (false, drift, vec![]));
    // What was set before is still set.
    assert_eq!(topics::check(&options, loose).await, Ok(vec![]));

    let gravity = |partitions| {
        let options = &options;
        async move {
            let drift = topics::check(options, topic(partitions)).await.unwrap();
            drift.iter().map(|drift| (drift.setting.clone(), drift.gravity)).collect::<Vec<_>>()
        }
    };
    assert_eq!(gravity(4).await, [("partitions".to_owned(), Gravity::Stop)], "too few partitions");
    assert_eq!(gravity(2).await, [("partitions".to_owned(), Gravity::Alarm)], "too many partitions");
    let wide = Topic { replication_factor: 3, min_insync: 2, ..strict };
    let applied = topics::apply(&options, wide).await.unwrap();
    assert_eq!(
        applied.altered.iter().map(|drift| &*drift.setting).collect::<Vec<_>>(),
        ["min.insync.replicas"]
    );
    assert_eq!(applied.left.iter().map(|drift| &*drift.setting).collect::<Vec<_>>(), ["replicas"]);
}

#[tokio::test]
async fn a_topic_made_again_under_a_reader_is_noticed() {
    let Some(brokers) = brokers() else { return };
    let mut options = options(&brokers, "recreated");
    options.watch = Duration::from_millis(500);
    let log = log_with(options.clone(), 2).await;
    fill(&log, 0, 0..20).await;
    let mut shared = log.reader(&[(0, 0)]).await.unwrap();
    let mut own = log.reader(&[(0, 0), (1, 0)]).await.unwrap();
    read(&mut *shared, 20).await;
    read(&mut *own, 20).await;

    delete(&options).await;
    assert!(topics::apply(&options, topic(2)).await.unwrap().created);
    let again = KafkaLog::connect(options.clone()).await.unwrap();
    // Other records, and more of them than were there: every offset that the readers want exists.
    fill(&again, 0, 1_000..1_050).await;
    for reader in [&mut shared, &mut own] {
        let mut records = Vec::new();
        let error = loop {
            // What comes in between may be of the new log; the error must come.
            match next(&mut **reader, &mut records).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        println!("noticed after {} records: {error}", records.len());
        assert!(matches!(error, RawError::Broken { .. } | RawError::Lost { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_topic_deleted_under_a_reader_and_an_appender_ends_them() {
    let Some(brokers) = brokers() else { return };
    let mut options = options(&brokers, "deleted");
    options.watch = Duration::from_millis(500);
    let log = log_with(options.clone(), 1).await;
    fill(&log, 0, 0..5).await;
    let mut appender = log.appender(0).await.unwrap();
    append(&mut *appender, [record(5)]).await;
    let mut reader = log.reader(&[(0, 0)]).await.unwrap();
    assert_eq!(read(&mut *reader, 6).await.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    delete(&options).await;
    let started = Instant::now();
    let error = next(&mut *reader, &mut Vec::new()).await.unwrap_err();
    println!("the reader noticed after {:?}: {error}", started.elapsed());
    assert!(
        matches!(&error, RawError::Broken { partition: 0, detail } if detail.contains("deleted")),
        "{error}"
    );
    let started = Instant::now();
    let report = append(&mut *appender, [record(6)]).await.remove(0);
    println!("the appender noticed after {:?}: {report:?}", started.elapsed());
    assert!(report.is_err());
    assert!(
        matches!(topics::check(&options, topic(1)).await, Err(RawError::Refused { .. })),
        "it was revived"
    );
}
