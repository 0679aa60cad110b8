//! A log in memory, written to without a shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shopstream_domain::model::Event;
use shopstream_domain::{Partition, StreamId, Timestamp, Version};
use shopstream_eventlog::raw::{Appender, RawLog};
use shopstream_eventlog::record::{Claim, Header, Kind, encode};
use shopstream_eventlog::sim::SimLog;
use shopstream_eventlog::{CommandId, Commit, EventData, Log, LogId, Offset, Position, schema};
use tokio::sync::Mutex;
use uuid::Uuid;

const EPOCH: u64 = 1;
const NONCE: u64 = 1;

/// A log and one owner of all its partitions.
pub struct TestLog {
    /// The log.
    pub log: Log,
    /// Its records, for tests that damage them.
    pub sim: SimLog,
    owners: Vec<Mutex<Owner>>,
    commands: AtomicU64,
}

struct Owner {
    appender: Box<dyn Appender>,
    seq: u64,
    next: Offset,
}

impl TestLog {
    /// A log with its genesis and a claim in every partition.
    ///
    /// # Panics
    /// The log in memory fails, which it only does when told.
    pub async fn new(partitions: u16) -> Self {
        let sim = SimLog::new(partitions);
        let raw: Arc<dyn RawLog> = Arc::new(sim.clone());
        let log = Log::create(raw.clone(), LogId(Uuid::new_v4()), 1).await.expect("a log in memory");
        let mut owners = Vec::new();
        for partition in 0..partitions {
            let mut owner = Owner {
                appender: raw.appender(partition).await.expect("an appender in memory"),
                seq: 0,
                next: 1,
            };
            let claim = Claim { node: "test".into(), address: String::new() };
            owner
                .append(encode(Header { kind: Kind::Claim, epoch: EPOCH, nonce: NONCE, seq: 0 }, &claim))
                .await;
            owners.push(Mutex::new(owner));
        }
        Self { log, sim, owners, commands: AtomicU64::new(0) }
    }

    /// Appends events as one commit, and answers where it is.
    ///
    /// # Panics
    /// The log in memory fails.
    pub async fn append(&self, stream: &str, first_version: Version, events: &[Event]) -> Position {
        self.append_raw(stream, first_version, events.iter().map(schema::encode).collect()).await
    }

    /// Appends events as they would be stored, readable or not.
    ///
    /// # Panics
    /// The name is no stream, or the log in memory fails.
    pub async fn append_raw(&self, stream: &str, first_version: Version, events: Vec<EventData>) -> Position {
        let stream: StreamId = stream.parse().expect("the name of a stream");
        let partition: Partition = stream.partition(self.log.partitions());
        // Times differ from commit to commit and are the same in every run.
        let count = self.commands.fetch_add(1, Ordering::Relaxed);
        let commit = Commit {
            stream,
            first_version,
            command_id: CommandId::derive(&["test", &count.to_string()]),
            body_hash: u64::MAX - count,
            actor: "tester".into(),
            correlation_id: "a conversation".into(),
            causation_id: String::new(),
            traceparent: String::new(),
            recorded_at: Timestamp::from_seconds(1_700_000_000 + count as i64),
            effective_at: None,
            events,
        };
        let mut owner = self.owners[usize::from(partition)].lock().await;
        let seq = owner.seq;
        let offset = owner.append(commit.encode_record(EPOCH, NONCE, seq)).await;
        Position { partition, offset }
    }
}

impl Owner {
    async fn append(&mut self, record: bytes::Bytes) -> Offset {
        self.appender.submit(record).expect("the log in memory takes it");
        let mut reports = Vec::new();
        self.appender.reports(&mut reports).await;
        let offset = reports.pop().expect("a report").expect("it arrived").expect("it says where");
        assert_eq!(offset, self.next, "nobody else writes");
        self.next += 1;
        self.seq += 1;
        offset
    }
}
