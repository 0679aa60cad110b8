//! A topic under a running shop, in the hands of somebody else: deleted, made again, grown, read afresh.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use shopstream_domain::inventory::{StockEvent, StockReceived};
use shopstream_domain::model::Event;
use shopstream_domain::{LocationId, Partition, Quantity, Sku, StreamId, StreamKind, TenantId, Timestamp};
use shopstream_eventlog::kafka::topics::{self, Power};
use shopstream_eventlog::kafka::{KafkaLog, Options};
use shopstream_eventlog::raw::{RawError, RawLog};
use shopstream_eventlog::record::{Claim, Genesis, Header, Kind, encode};
use shopstream_eventlog::{CommandId, Commit, Log, Offset, Position, ReadError, schema};
use shopstream_server::config::LogUrl;
use uuid::Uuid;

/// How many partitions a shop's topic has.
pub const PARTITIONS: Partition = 16;
/// How long anything done to a topic may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic, seen from outside the shop.
pub struct Topic {
    options: Options,
}

impl Topic {
    /// The topic of a log's URL.
    ///
    /// # Panics
    /// It is no URL of a log on Kafka.
    pub fn of(url: &str) -> Self {
        match url.parse() {
            Ok(LogUrl::Kafka { brokers, topic }) => Self { options: Options::new(brokers, topic) },
            other => panic!("{url}: {other:?}"),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.topic
    }

    /// Deletes it and waits until the cluster does not know it any more.
    ///
    /// # Panics
    /// The cluster refuses.
    pub async fn delete(&self) {
        let deleted =
            self.admin().delete_topics(&[self.name()], &AdminOptions::new()).await.expect("an answer");
        deleted.into_iter().for_each(|deleted| drop(deleted.expect("deleted")));
        in_time(async {
            while !matches!(topics::check(&self.options, shape()).await, Err(RawError::Refused { .. })) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.options.brokers).create().expect("a client")
    }

    /// Makes it again, empty.
    ///
    /// # Panics
    /// It is there, or the cluster refuses.
    pub async fn make(&self) {
        let applied = topics::apply(&self.options, shape()).await.expect("a topic");
        assert!(applied.created, "{} was there", self.name());
    }

    /// Gives it this setting, and forgets all others.
    ///
    /// # Panics
    /// The cluster refuses.
    pub async fn set_only(&self, key: &str, value: &str) {
        let alter = AlterConfig::new(ResourceSpecifier::Topic(self.name())).set(key, value);
        let altered = self.admin().alter_configs([&alter], &AdminOptions::new()).await.expect("an answer");
        altered.into_iter().for_each(|altered| drop(altered.expect("altered")));
    }

    /// The end of every partition.
    ///
    /// # Panics
    /// There is no such topic.
    pub async fn ends(&self) -> Vec<Offset> {
        let raw = KafkaLog::connect(self.options.clone()).await.expect("a topic");
        let ends = (0..PARTITIONS).map(|partition| raw.end(partition));
        in_time(try_join_all(ends)).await.expect("ends")
    }

    /// The node that leads a partition now, if any does.
    ///
    /// # Panics
    /// The cluster does not answer.
    pub async fn leader(&self, partition: Partition) -> Option<u8> {
        let (admin, name) = (self.admin(), self.name().to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            admin.inner().fetch_metadata(Some(&name), PATIENCE).expect("an answer")
        });
        let metadata = asked.await.expect("an answer");
        let leads = metadata.topics()[0].partitions().iter().find(|it| it.id() == i32::from(partition));
        u8::try_from(leads.expect("the partition").leader()).ok()
    }

    /// Writes another shop's log into every partition: genesis, a claim, and commits, so many that each partition ends
    /// where `ends` says, or beyond where somebody else writes too.
    ///
    /// # Panics
    /// The cluster refuses.
    pub async fn settle(&self, ends: &[Offset]) {
        let raw = KafkaLog::connect(self.options.clone()).await.expect("a topic");
        let log_id = Bytes::copy_from_slice(Uuid::now_v7().as_bytes());
        let genesis = Genesis { log_id, generation: 1, partitions: PARTITIONS.into(), hash_version: 1 };
        let settled = (0..).zip(ends).map(async |(partition, end)| {
            let mut appender = raw.appender(partition).await?;
            history(&genesis, partition, *end).into_iter().try_for_each(|record| appender.submit(record))?;
            let mut reports = Vec::new();
            while (reports.len() as Offset) < *end {
                appender.reports(&mut reports).await;
            }
            reports.into_iter().collect::<Result<Vec<_>, RawError>>()
        });
        in_time(try_join_all(settled)).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Every commit that counts for somebody who reads the log for the first time, by its place, with its stream. A
    /// partition that contradicts itself is read up to there; a topic that is no log holds nothing that counts.
    ///
    /// # Panics
    /// The cluster does not answer.
    pub async fn counted(&self) -> BTreeMap<(Partition, Offset), String> {
        let mut counted = BTreeMap::new();
        let raw = match KafkaLog::connect(self.options.clone()).await {
            Ok(raw) => raw,
            Err(RawError::Refused { .. }) => return counted,
            Err(error) => panic!("{error}"),
        };
        let Ok(log) = Log::open(Arc::new(raw)).await else { return counted };
        for partition in 0..log.partitions() {
            let end = log.end(partition).await.expect("an end");
            let mut reader = log.reader(&[log.start(partition)]).await.expect("a reader");
            while reader.cursor(partition).is_some_and(|cursor| cursor.next < end) {
                let batch = match in_time(reader.next(1 << 20)).await {
                    Ok(batch) => batch,
                    Err(ReadError::Halt { .. }) => break,
                    Err(error) => panic!("{error}"),
                };
                let place = |position: Position| (position.partition, position.offset);
                let commits = batch.commits.iter();
                counted
                    .extend(commits.map(|record| (place(record.position), record.commit.stream.to_string())));
            }
        }
        counted
    }
}

/// The name of a SKU whose stock is in `partition`.
///
/// # Panics
/// `prefix` cannot begin a SKU.
pub fn sku_in(partition: Partition, prefix: &str) -> String {
    let mut names = (0..).map(|number| format!("{prefix}-{number}"));
    names.find(|sku| stock(sku).partition(PARTITIONS) == partition).expect("a hash reaches every partition")
}

/// The stream of a SKU's stock.
///
/// # Panics
/// It is no SKU.
pub fn stock(sku: &str) -> StreamId {
    let id = format!("{sku}@main");
    StreamId::new(&TenantId::default_tenant(), StreamKind::Stock, &id).expect("a stream")
}

const fn shape() -> topics::Topic {
    topics::Topic { partitions: PARTITIONS, replication_factor: 1, min_insync: 1, power: Power::Independent }
}

/// The records of another shop in one partition: goods of a SKU that nobody else has.
fn history(genesis: &Genesis, partition: Partition, end: Offset) -> Vec<Bytes> {
    let (epoch, nonce, sku) = (1, u64::from(partition) + 1, sku_in(partition, "FOREIGN"));
    let claim = Claim { node: "another".into(), address: "127.0.0.1:1".into() };
    let claim = encode(Header { kind: Kind::Claim, epoch, nonce, seq: 0 }, &claim);
    let commits = (1..).map(|seq| received(&sku, seq).encode_record(epoch, nonce, seq));
    [genesis.encode_record(), claim].into_iter().chain(commits).take(end as usize).collect()
}

fn received(sku: &str, version: u64) -> Commit {
    let event = StockReceived {
        sku: Sku::new(sku).expect("a SKU"),
        location: LocationId::main(),
        quantity: Quantity::new(1).expect("a quantity"),
        reference: None,
    };
    Commit {
        stream: stock(sku),
        first_version: version,
        command_id: CommandId::derive(&[sku, &version.to_string()]),
        body_hash: 1,
        actor: "another".into(),
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        recorded_at: Timestamp::from_micros(1_700_000_000_000_000),
        effective_at: None,
        events: vec![schema::encode(&Event::Stock(StockEvent::Received(event)))],
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("done in time")
}
