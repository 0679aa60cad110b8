//! What a run leaves behind, gathered for the checkers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use shopstream_domain::StreamId;
use shopstream_domain::model::Event;
use shopstream_eventlog::sim::SimLog;
use shopstream_eventlog::{CommitRecord, Cursor, Log, Position, Snapshot, schema};
use xxhash_rust::xxh3::Xxh3Default;

use crate::callers::{Exchange, Ledger};
use crate::database::{Database, Reader};
use crate::history::History;
use crate::provider::Book;

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which: `I1` to `I10` and `I18` as the design numbers them, `HALT`, `TIME` or `FLOOR`.
    pub promise: &'static str,
    /// What was found.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(promise: &'static str, detail: String) -> Self {
        Self { promise, detail }
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.detail)
    }
}

/// Everything that is judged.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What the clients saw.
    pub(crate) history: History,
    /// What the callers of the gateway heard.
    pub(crate) ledger: Ledger,
    /// What the read models could not fold.
    pub(crate) unfolded: Vec<String>,
    /// Every record, by partition and offset.
    pub(crate) records: Vec<Vec<Bytes>>,
    /// What a fresh reader of the product says that counts, by partition in the order of offsets.
    pub(crate) counted: Vec<CommitRecord>,
    /// The events of each, in the same order.
    pub(crate) events: Vec<Vec<Event>>,
    /// The journal that grew with the run.
    pub(crate) journal: BTreeMap<StreamId, Vec<CommitRecord>>,
    /// The snapshots that are left.
    pub(crate) snapshots: BTreeMap<StreamId, Snapshot>,
    /// How often one was given out.
    pub(crate) recalled: u64,
    /// How far the journal and the views say they are.
    pub(crate) checkpoints: [Vec<Cursor>; Reader::FOLLOWERS.len()],
    /// Where a fresh reader came to.
    pub(crate) ends: Vec<Cursor>,
    /// What the provider knows.
    pub(crate) book: Book,
    /// Nothing was left to do.
    pub(crate) at_rest: bool,
    /// Why the log could not be read whole.
    pub(crate) unreadable: Option<String>,
}

impl Evidence {
    pub(crate) async fn gather(
        log: &SimLog,
        history: History,
        ledger: Ledger,
        database: &Database,
        book: Book,
        at_rest: bool,
    ) -> Self {
        use shopstream_eventlog::raw::RawLog as _;
        let faults = log.faults();
        let records: Vec<Vec<Bytes>> =
            (0..log.partitions()).map(|partition| faults.records(partition)).collect();
        let mut evidence = Self {
            history,
            ledger,
            unfolded: database.unfolded(),
            counted: Vec::new(),
            events: Vec::new(),
            // A long one; while things go on it is compared with nothing.
            journal: if at_rest { database.journal() } else { BTreeMap::new() },
            snapshots: database.snapshots(),
            recalled: database.recalled(),
            checkpoints: Reader::FOLLOWERS.map(|reader| database.checkpoints(reader)),
            ends: Vec::new(),
            book,
            at_rest,
            unreadable: None,
            records,
        };
        if let Err(error) = evidence.read(log).await {
            evidence.unreadable = Some(error);
        }
        evidence
    }

    /// Reads the log from its beginning, as everybody does.
    async fn read(&mut self, log: &SimLog) -> Result<(), String> {
        let log = Log::open(Arc::new(log.clone())).await.map_err(|error| error.to_string())?;
        let starts: Vec<Cursor> = (0..log.partitions()).map(|partition| log.start(partition)).collect();
        let ends: Vec<(u16, u64)> =
            (0..).zip(&self.records).map(|(partition, records)| (partition, records.len() as u64)).collect();
        let mut reader = log.reader(&starts).await.map_err(|error| error.to_string())?.until(&ends);
        while ends
            .iter()
            .any(|(partition, end)| reader.cursor(*partition).is_some_and(|cursor| cursor.next < *end))
        {
            let batch = reader.next(1 << 20).await.map_err(|error| error.to_string())?;
            self.counted.extend(batch.commits);
        }
        self.counted.sort_by_key(|record| record.position);
        self.ends = reader.cursors();
        for record in &self.counted {
            let kind = record.commit.stream.kind();
            let decoded = record.commit.events.iter().map(|data| schema::decode(kind, data));
            let events = decoded.collect::<Result<Vec<_>, _>>();
            self.events.push(events.map_err(|error| format!("{}: {error}", record.position))?);
        }
        Ok(())
    }

    /// Every event that counts, with its place and its stream.
    pub(crate) fn events(&self) -> impl Iterator<Item = (Position, &StreamId, &Event)> {
        self.counted.iter().zip(&self.events).flat_map(|(record, events)| {
            events.iter().map(|event| (record.position, &record.commit.stream, event))
        })
    }

    pub(crate) fn digest(&self) -> u64 {
        let mut digest = Xxh3Default::new();
        for bytes in self.records.iter().flatten() {
            digest.update(bytes);
        }
        for snapshot in self.snapshots.values() {
            digest.update(&snapshot.bytes);
        }
        // Not the moments at which calls began and ended: of several that wait for one claim, which goes on first is drawn by
        // the runtime, whose watch wakes its receivers in any order.
        let of_no_moment = |exchange: &Exchange| Exchange { called: 0, returned: 0, ..*exchange };
        let exchanges: Vec<_> = self.ledger.exchanges.iter().map(of_no_moment).collect();
        let told = (&self.history, &self.ledger.operations, exchanges, &self.book);
        digest.update(format!("{told:?}").as_bytes());
        digest.digest()
    }
}
