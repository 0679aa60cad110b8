//! A real broker, and what is done to it.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::time::Duration;

use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use shopstream_eventlog::kafka::topics::{self, Power, Topic};
use shopstream_eventlog::kafka::{KafkaLog, Options};
use shopstream_eventlog::raw::{Appender, RawError, RawLog, RawReader, RawRecord, Report};

/// How long anything in these tests may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The bootstrap servers; `None`, after a loud line, where Kafka is to be left out.
pub fn brokers() -> Option<String> {
    shopstream_test_servers::kafka::brokers().map(str::to_owned)
}

/// A topic as the tests make them.
pub const fn topic(partitions: u16) -> Topic {
    Topic { partitions, replication_factor: 1, min_insync: 1, power: Power::Independent }
}

/// Options for a new name.
pub fn options(brokers: &str, name: &str) -> Options {
    Options::new(brokers, format!("shopstream.test.{name}.{}", uuid::Uuid::new_v4().simple()))
}

/// A log on a new topic.
pub async fn log(brokers: &str, name: &str, partitions: u16) -> KafkaLog {
    log_with(options(brokers, name), partitions).await
}

/// A log on a new topic with these options.
pub async fn log_with(options: Options, partitions: u16) -> KafkaLog {
    let applied = topics::apply(&options, topic(partitions)).await.unwrap();
    assert!(applied.created && applied.left.is_empty(), "{applied:?}");
    KafkaLog::connect(options).await.unwrap()
}

/// Deletes a topic and waits until nobody knows it.
pub async fn delete(options: &Options) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    admin.delete_topics(&[&options.topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let gone = async {
        while !matches!(topics::check(options, topic(1)).await, Err(RawError::Refused { .. })) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

/// The record with this number.
pub fn record(number: u64) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(300, b'x');
    bytes.into()
}

/// The number of a record.
pub fn number(record: &RawRecord) -> u64 {
    u64::from_le_bytes(*record.bytes.first_chunk().unwrap())
}

/// Appends these and waits for all reports, which it answers in their order.
pub async fn append(appender: &mut dyn Appender, records: impl IntoIterator<Item = Bytes>) -> Vec<Report> {
    let (mut reports, mut submitted) = (Vec::new(), 0);
    for record in records {
        loop {
            match appender.submit(record.clone()) {
                Ok(()) => break,
                Err(RawError::Full) => appender.reports(&mut reports).await,
                Err(error) => panic!("{error}"),
            }
        }
        submitted += 1;
    }
    while reports.len() < submitted {
        tokio::time::timeout(PATIENCE, appender.reports(&mut reports)).await.expect("no report came");
    }
    reports
}

/// Appends records numbered so to a partition through an appender of their own.
pub async fn fill(log: &KafkaLog, partition: u16, numbers: std::ops::Range<u64>) {
    let mut appender = log.appender(partition).await.unwrap();
    for report in append(&mut *appender, numbers.map(record)).await {
        report.unwrap();
    }
}

/// Reads `count` records.
pub async fn read(reader: &mut dyn RawReader, count: usize) -> Vec<RawRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        next(reader, &mut records).await.unwrap();
    }
    records
}

/// Reads what comes next, within patience.
pub async fn next(reader: &mut dyn RawReader, records: &mut Vec<RawRecord>) -> Result<(), RawError> {
    tokio::time::timeout(PATIENCE, reader.next(1 << 20, records)).await.expect("nothing came")
}

/// Checks that these are the records numbered `first`, `first + 1` … of one partition, at these offsets.
pub fn assert_dense(records: &[RawRecord], first: u64) {
    for (expected, record) in (first..).zip(records) {
        assert_eq!((record.offset, number(record)), (expected, expected));
    }
}
