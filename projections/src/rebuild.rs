//! Rebuilds a projection from the log.
//!
//! A rebuild fills a new epoch beside the old one, by the same code that keeps the old one current, so that nothing
//! is down meanwhile; then one statement decides which of them answers. The journal is never switched: its copies
//! are only compared.

use shopstream_domain::Partition;
use shopstream_eventlog::{self as eventlog, Cursor, Log, Offset};

use crate::applier::Applier;
use crate::batch::Batch;
use crate::checkpoint::CheckpointError;
use crate::journal::JournalEpoch;
use crate::runner::{Follower, Interruption};
use crate::{Database, DatabaseError, Projection, epoch};

/// Bytes of records per transaction.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

impl Database {
    /// Fills epoch `into` of a projection from the beginning of the log, or from where an earlier call was
    /// interrupted, up to exactly `until`; a partition that `until` does not name is not read. `report` hears how far
    /// it is after every transaction. Not for the epoch that is live.
    ///
    /// # Errors
    /// [`RebuildError`]; what was done so far stays, and the same call goes on with it.
    pub async fn rebuild(
        &self,
        log: &Log,
        projection: Projection,
        into: u32,
        until: &[Cursor],
        mut report: impl FnMut(&[Cursor]) + Send,
    ) -> Result<(), RebuildError> {
        let mut filled = Filled::open(self, log, projection, into).await?;
        let ends: Vec<(Partition, Offset)> =
            until.iter().map(|cursor| (cursor.partition, cursor.next)).collect();
        let mut follower = Follower::between(log.clone(), filled.cursors(), ends);
        while follower.is_behind() {
            let before = follower.cursors().to_vec();
            let read = match follower.next(BATCH_BYTES).await {
                Ok(read) => read,
                Err(Interruption::Away { cause }) => return Err(RebuildError::Away { cause }),
                Err(Interruption::Halted { partition, halt }) => {
                    return Err(RebuildError::Halted { partition, halt });
                }
            };
            filled.apply(self, &before, read).await?;
            report(filled.cursors());
        }
        Ok(filled.save(self).await?)
    }

    /// The epoch of a projection that answers queries.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn active_epoch(&self, projection: Projection) -> Result<u32, DatabaseError> {
        Ok(epoch::active(self).await?[projection.index()])
    }

    /// Lets another epoch of a view answer queries, for whoever opens the read models from now on.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn activate_epoch(&self, projection: Projection, epoch: u32) -> Result<(), DatabaseError> {
        epoch::activate(&**self.client().await?, projection, epoch).await
    }

    /// Drops an epoch's tables, checkpoints and parked aggregates. A live epoch that was dropped is filled again by
    /// the next projector; drop the live journal only while no node runs, for owners forget what it says it has.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn drop_epoch(&self, projection: Projection, epoch: u32) -> Result<(), DatabaseError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        self.allow_scan(&transaction).await?;
        epoch::drop_epoch(&*transaction, projection, epoch).await?;
        Ok(transaction.commit().await?)
    }
}

/// An epoch that is being filled, by the code that keeps the live one current.
enum Filled {
    Journal { table: JournalEpoch, cursors: Vec<Cursor> },
    View(Box<Applier>),
}

impl Filled {
    async fn open(
        database: &Database,
        log: &Log,
        projection: Projection,
        epoch: u32,
    ) -> Result<Self, DatabaseError> {
        if projection == Projection::Journal {
            let table = JournalEpoch::new(epoch);
            return Ok(Self::Journal { table, cursors: table.open(database, log).await? });
        }
        Ok(Self::View(Box::new(Applier::open(database, log, projection, epoch).await?)))
    }

    /// How far it is, in the order of partitions.
    fn cursors(&self) -> &[Cursor] {
        match self {
            Self::Journal { cursors, .. } => cursors,
            Self::View(applier) => applier.cursors(),
        }
    }

    /// Applies what was read from `before` on.
    async fn apply(
        &mut self,
        database: &Database,
        before: &[Cursor],
        read: eventlog::Batch,
    ) -> Result<(), CheckpointError> {
        match self {
            Self::Journal { table, cursors } => {
                table.write(database, before, &read).await?;
                for after in read.cursors {
                    if let Some(cursor) = cursors.get_mut(usize::from(after.partition)) {
                        *cursor = after;
                    }
                }
            }
            Self::View(applier) => {
                applier.apply(database, &[Box::new(Batch::decode(read, before))]).await?;
            }
        }
        Ok(())
    }

    /// Moves the checkpoint to where it is.
    async fn save(&mut self, database: &Database) -> Result<(), CheckpointError> {
        match self {
            // Its checkpoint moves with every write.
            Self::Journal { .. } => Ok(()),
            Self::View(applier) => applier.save(database).await,
        }
    }
}

/// Why a rebuild stopped.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The log does not answer: call again.
    #[error("the log is away: {cause}")]
    Away {
        /// What it said.
        cause: String,
    },
    /// The log contradicts its own history.
    #[error("partition {partition} is halted: {halt}")]
    Halted {
        /// The partition.
        partition: Partition,
        /// What was found.
        halt: shopstream_eventlog::Halt,
    },
    /// The database, or somebody else who fills the same epoch.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl From<DatabaseError> for RebuildError {
    fn from(error: DatabaseError) -> Self {
        Self::Checkpoint(error.into())
    }
}
