//! Rebuilds a view from the log, and proves two copies of it equal.
//!
//! A rebuild fills a new epoch beside the old one, by the same code that keeps the old one current, so that nothing
//! is down meanwhile; then one statement decides which of them answers.

use deadpool_postgres::Transaction;
use shopstream_domain::Partition;
use shopstream_eventlog::{Cursor, Log, Offset};
use tokio_postgres::IsolationLevel;

use crate::applier::Applier;
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::runner::{Follower, Interruption};
use crate::{Database, DatabaseError, Projection, epoch, views};

/// Bytes of records per transaction.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// A view's content at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    /// The cursors of that moment, in the order of partitions.
    pub cursors: Vec<Cursor>,
    /// Its tables.
    pub tables: Vec<TableDigest>,
}

/// A table's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    /// The table, without its schema.
    pub table: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// MD5 over the MD5s of its rows as text, in the order of the key. It tells differences, not forgeries.
    pub md5: String,
}

/// The first row, by its text, that two epochs do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The epoch that has it.
    pub epoch: u32,
    /// The row as text.
    pub row: String,
}

impl Database {
    /// Fills epoch `into` of a view from the beginning of the log, or from where an earlier call was interrupted,
    /// up to exactly `until`; a partition that `until` does not name is not read. `report` hears how far it is after
    /// every transaction.
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
        let mut applier = Applier::open(self, log, projection, into).await?;
        let target: Vec<(Partition, Offset)> =
            until.iter().map(|cursor| (cursor.partition, cursor.next)).collect();
        let mut follower = Follower::new(log.clone(), applier.behind(&target).copied().collect());
        while applier.behind(&target).next().is_some() {
            let before = follower.cursors().to_vec();
            let read = match follower.next(BATCH_BYTES).await {
                Ok(read) => read,
                Err(Interruption::Away { cause }) => return Err(RebuildError::Away { cause }),
                Err(Interruption::Halted { partition, halt }) => {
                    return Err(RebuildError::Halted { partition, halt });
                }
            };
            let batch = Batch::decode(read, &before).until(until);
            applier.apply(self, &[Box::new(batch)]).await?;
            report(applier.cursors());
        }
        Ok(applier.save(self).await?)
    }

    /// The epoch of a view that answers queries.
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

    /// Drops an epoch's tables, checkpoints and parked aggregates.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn drop_epoch(&self, projection: Projection, epoch: u32) -> Result<(), DatabaseError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        epoch::drop_epoch(&*transaction, projection, epoch).await?;
        Ok(transaction.commit().await?)
    }

    /// What an epoch of a view holds, with the cursors of the same moment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn digest(&self, projection: Projection, epoch: u32) -> Result<Digest, DatabaseError> {
        let mut client = self.client().await?;
        // One snapshot, so that rows and cursors belong together while the projector goes on.
        let snapshot = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let cursors = Checkpoint { reader: projection.name(), epoch }.read(&*snapshot).await?;
        let schema = projection.schema(epoch);
        let mut tables = Vec::new();
        for (table, key) in keyed_tables(projection) {
            tables.push(digest_of(&snapshot, &schema, table, &key).await?);
        }
        Ok(Digest { cursors, tables })
    }

    /// A row that is in only one of two epochs of a view, if there is one. Compare digests first: this is for
    /// people who want to see what differs.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn first_difference(
        &self,
        projection: Projection,
        epochs: [u32; 2],
    ) -> Result<Option<Difference>, DatabaseError> {
        let client = self.client().await?;
        let [here, there] = epochs;
        for (table, _) in keyed_tables(projection) {
            for (epoch, other) in [(here, there), (there, here)] {
                let sql = format!(
                    "SELECT t::text FROM {}.{table} AS t EXCEPT SELECT t::text FROM {}.{table} AS t \
                     ORDER BY 1 LIMIT 1",
                    projection.schema(epoch),
                    projection.schema(other)
                );
                if let Some(row) = client.query_opt(&sql, &[]).await? {
                    return Ok(Some(Difference { table, epoch, row: row.try_get(0)? }));
                }
            }
        }
        Ok(None)
    }
}

/// The tables of a view, each with the columns of its key.
fn keyed_tables(projection: Projection) -> Vec<(&'static str, String)> {
    views::parts(projection, "").iter().map(|part| (part.table(), part.key())).collect()
}

async fn digest_of(
    snapshot: &Transaction<'_>,
    schema: &str,
    table: &'static str,
    key: &str,
) -> Result<TableDigest, DatabaseError> {
    let sql = format!(
        "SELECT count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY {})), '') FROM {schema}.{table} AS t",
        key
    );
    let row = snapshot.query_one(&sql, &[]).await?;
    Ok(TableDigest { table, rows: row.try_get::<_, i64>(0)?.unsigned_abs(), md5: row.try_get(1)? })
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
