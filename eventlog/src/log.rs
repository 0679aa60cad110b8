//! A log with its identity checked: the door to readers and writers.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use shopstream_domain::Partition;
use tracing::warn;

use crate::cursor::{Cursor, LogId, Offset};
use crate::raw::{RawError, RawLog};
use crate::reader::{ReadError, Reader};
use crate::record::{Body, Genesis, Record, RecordError};

/// The version of [`shopstream_domain::partition_of`] that this program computes.
const HASH_VERSION: u32 = 1;

/// What the genesis records say about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Its identity.
    pub log: LogId,
    /// Which generation of the shop's log it is.
    pub generation: u32,
    /// The number of partitions.
    pub partitions: u16,
}

/// A log whose genesis was checked. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    raw: Arc<dyn RawLog>,
    topology: Topology,
}

impl Log {
    /// Opens a log that exists.
    ///
    /// # Errors
    /// [`LogError::NoGenesis`] where none was made, and every disagreement between partitions and program.
    pub async fn open(raw: Arc<dyn RawLog>) -> Result<Self, LogError> {
        if raw.partitions() == 0 {
            return Err(LogError::NoGenesis { partition: 0 });
        }
        let genesis = read_genesis(&*raw, 0).await?;
        let log = genesis.log().ok_or(LogError::Disagree { partition: 0 })?;
        let found = u32::from(raw.partitions());
        if found < genesis.partitions {
            return Err(LogError::Partitions { expected: genesis.partitions, found });
        }
        if found > genesis.partitions {
            // An accident that cannot be undone (`rulings.md` 46): the first N are the log.
            warn!(
                "the log was made with {} partitions and now has {found}: the others are ignored",
                genesis.partitions
            );
        }
        if genesis.hash_version != HASH_VERSION {
            return Err(LogError::HashVersion { found: genesis.hash_version });
        }
        // Not more than `found`, which is a u16.
        let partitions = genesis.partitions as u16;
        let others = (1..partitions).map(async |partition| match read_genesis(&*raw, partition).await? {
            found if found == genesis => Ok(()),
            _ => Err(LogError::Disagree { partition }),
        });
        try_join_all(others).await?;
        Ok(Self { raw, topology: Topology { log, generation: genesis.generation, partitions } })
    }

    /// Makes a log: writes a genesis to every partition that has no record yet, then opens it. Safe to repeat
    /// after a crash in between, and for two processes at once, with the same `log` or another: the first genesis
    /// of partition 0 stays, and partitions still without one get what that one says.
    ///
    /// # Errors
    /// See [`Log::open`].
    pub async fn create(raw: Arc<dyn RawLog>, log: LogId, generation: u32) -> Result<Self, LogError> {
        let mut genesis = Genesis {
            log_id: Bytes::copy_from_slice(log.0.as_bytes()),
            generation,
            partitions: raw.partitions().into(),
            hash_version: HASH_VERSION,
        };
        write_genesis(&*raw, 0, &genesis).await?;
        genesis = read_genesis(&*raw, 0).await?;
        let partitions = raw.partitions().min(genesis.partitions.try_into().unwrap_or(u16::MAX));
        try_join_all((1..partitions).map(|partition| write_genesis(&*raw, partition, &genesis))).await?;
        Self::open(raw).await
    }

    /// What the genesis says.
    pub const fn topology(&self) -> Topology {
        self.topology
    }

    /// The number of partitions.
    pub const fn partitions(&self) -> u16 {
        self.topology.partitions
    }

    /// The cursor before the first record of `partition`.
    pub const fn start(&self, partition: Partition) -> Cursor {
        Cursor::start(self.topology.log, partition)
    }

    /// A reader that goes on from `cursors`, at most one per partition, after it has found each cursor's
    /// fingerprint again.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn reader(&self, cursors: &[Cursor]) -> Result<Reader, ReadError> {
        Reader::open(&*self.raw, self.topology.log, cursors).await
    }

    /// Looks whether the log still has the record before `cursor`.
    ///
    /// # Errors
    /// See [`ReadError`]: [`ReadError::Halt`] where it has not.
    pub async fn find(&self, cursor: &Cursor) -> Result<(), ReadError> {
        let mut reader = self.reader(&[*cursor]).await?;
        while reader.is_unproven(cursor.partition) {
            reader.next(1).await?;
        }
        Ok(())
    }

    /// See [`RawLog::end`]: a hint, never proof.
    ///
    /// # Errors
    /// See [`RawError`].
    pub async fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        self.raw.end(partition).await
    }

    pub(crate) fn raw(&self) -> &dyn RawLog {
        &*self.raw
    }
}

/// Writes the genesis to a partition that has no record yet.
async fn write_genesis(raw: &dyn RawLog, partition: Partition, genesis: &Genesis) -> Result<(), LogError> {
    if raw.end(partition).await? > 0 {
        return Ok(());
    }
    let mut appender = raw.appender(partition).await?;
    appender.submit(genesis.encode_record())?;
    let mut reports = Vec::new();
    appender.reports(&mut reports).await;
    reports.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(())
}

async fn read_genesis(raw: &dyn RawLog, partition: Partition) -> Result<Genesis, LogError> {
    if raw.end(partition).await? == 0 {
        return Err(LogError::NoGenesis { partition });
    }
    let mut reader = raw.reader(&[(partition, 0)]).await?;
    let mut records = Vec::new();
    reader.next(1, &mut records).await?;
    match records.first().map(|record| Record::parse(&record.bytes)).transpose()? {
        Some(Record { body: Body::Genesis(genesis), .. }) => Ok(genesis),
        _ => Err(LogError::NoGenesis { partition }),
    }
}

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A partition does not begin with a genesis.
    #[error(
        "partition {partition} has no genesis record: make the log with `shopstream topics apply`, or name the right one"
    )]
    NoGenesis {
        /// Which.
        partition: Partition,
    },
    /// Two partitions belong to different logs.
    #[error("partition {partition} belongs to another log than partition 0: it was deleted and made again")]
    Disagree {
        /// The one that differs.
        partition: Partition,
    },
    /// Fewer partitions than the log was made with.
    #[error(
        "the log was made with {expected} partitions and now has {found}: streams would not be found where they were written"
    )]
    Partitions {
        /// N of the genesis.
        expected: u32,
        /// What is there.
        found: u32,
    },
    /// The log spreads roots by a function this program does not have.
    #[error(
        "the log uses partition hash {found}, this program knows only {HASH_VERSION}: run a newer program"
    )]
    HashVersion {
        /// What the genesis says.
        found: u32,
    },
    /// The first record is damaged.
    #[error("the genesis record does not parse")]
    Record(#[from] RecordError),
    /// The backend failed.
    #[error(transparent)]
    Raw(#[from] RawError),
}
