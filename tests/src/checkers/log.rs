//! The log as a whole: every record, what the one fold of `eventlog` says of it, and where it leads to.

use std::collections::HashMap;

use bytes::Bytes;
use shopstream_domain::Partition;
use shopstream_eventlog::record::{Body, Record, RecordError};
use shopstream_eventlog::{CommandId, Commit, Cursor, Fold, Halt, LogId, Offset, Position, Verdict};

/// Everything that is on a log.
#[derive(Clone, Debug)]
pub struct LogImage {
    /// Which log.
    pub log: LogId,
    /// Its records, by partition and offset.
    pub partitions: Vec<Vec<Entry>>,
}

/// One record.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where.
    pub position: Position,
    /// As it is on the log.
    pub bytes: Bytes,
    /// As it reads.
    pub record: Record,
    /// Whether it counts.
    pub verdict: Verdict,
    /// What it says, where it is a commit.
    pub commit: Option<Commit>,
    /// The fold behind it.
    pub after: Cursor,
}

/// Why records are no log.
#[derive(Debug, thiserror::Error)]
pub enum NoImage {
    /// A record that is damaged or not ours.
    #[error("partition {partition} offset {offset}")]
    Record {
        /// In which partition.
        partition: Partition,
        /// Where.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
    /// The history contradicts itself.
    #[error("partition {partition} halts")]
    Halt {
        /// Which.
        partition: Partition,
        /// Why.
        source: Halt,
    },
    /// There is no genesis to tell which log it is.
    #[error("the log has no genesis")]
    NoGenesis,
}

impl LogImage {
    /// Folds the records of each partition.
    ///
    /// # Errors
    /// See [`NoImage`].
    pub fn fold(raw: &[Vec<Bytes>]) -> Result<Self, NoImage> {
        let log = raw.first().and_then(|records| genesis(records.first()?)).ok_or(NoImage::NoGenesis)?;
        let partitions = (0..).zip(raw).map(|(partition, records)| fold(log, partition, records));
        Ok(Self { log, partitions: partitions.collect::<Result<_, _>>()? })
    }

    /// Every record, partition by partition.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.partitions.iter().flatten()
    }

    /// Every commit that counts, partition by partition.
    pub fn commits(&self) -> impl Iterator<Item = (&Entry, &Commit)> {
        self.entries().filter_map(|entry| Some((entry, entry.counted()?)))
    }

    /// The record at a place.
    pub fn at(&self, position: Position) -> Option<&Entry> {
        let records = self.partitions.get(usize::from(position.partition))?;
        let found = records.binary_search_by_key(&position.offset, |entry| entry.position.offset);
        found.ok().map(|index| &records[index])
    }

    /// Where the commits of each command are: mostly one.
    pub fn by_command(&self) -> HashMap<(&str, CommandId), Vec<(&Entry, &Commit)>> {
        let mut places: HashMap<_, Vec<_>> = HashMap::new();
        for (entry, commit) in self.commits() {
            places.entry((commit.stream.as_str(), commit.command_id)).or_default().push((entry, commit));
        }
        places
    }

    /// The fold behind the last record of each partition.
    pub fn ends(&self) -> Vec<Cursor> {
        let start = |partition| Cursor::start(self.log, partition);
        let end = |(partition, records): (Partition, &Vec<Entry>)| {
            records.last().map_or_else(|| start(partition), |entry| entry.after)
        };
        (0..).zip(&self.partitions).map(end).collect()
    }

    /// The fold before the record at `next`; `None` beyond the end.
    pub fn cursor(&self, partition: Partition, next: Offset) -> Option<Cursor> {
        let Some(before) = next.checked_sub(1) else { return Some(Cursor::start(self.log, partition)) };
        self.at(Position { partition, offset: before }).map(|entry| entry.after)
    }
}

impl Entry {
    /// Its commit, if it is one that counts.
    pub fn counted(&self) -> Option<&Commit> {
        self.commit.as_ref().filter(|_| self.verdict == Verdict::Counts)
    }
}

fn genesis(first: &Bytes) -> Option<LogId> {
    match Record::parse(first).ok()?.body {
        Body::Genesis(genesis) => genesis.log(),
        Body::Claim(_) | Body::Opened(_) | Body::Commit(_) | Body::Empty => None,
    }
}

fn fold(log: LogId, partition: Partition, records: &[Bytes]) -> Result<Vec<Entry>, NoImage> {
    let mut fold = Fold::new(Cursor::start(log, partition));
    let entry = |(offset, bytes): (Offset, &Bytes)| {
        let damaged = |source| NoImage::Record { partition, offset, source };
        let record = Record::parse(bytes).map_err(damaged)?;
        let commit = match &record.body {
            Body::Commit(body) => Some(Commit::decode(body.clone()).map_err(damaged)?),
            Body::Genesis(_) | Body::Claim(_) | Body::Opened(_) | Body::Empty => None,
        };
        let verdict = fold.step(offset, &record).map_err(|source| NoImage::Halt { partition, source })?;
        let (position, after) = (Position { partition, offset }, *fold.cursor());
        Ok(Entry { position, bytes: bytes.clone(), record, verdict, commit, after })
    };
    (0..).zip(records).map(entry).collect()
}
