//! What a repair of the log needs of the database: the journal by place, and the way back to an earlier place.

use std::ops::Range;

use shopstream_domain::Partition;
use shopstream_eventlog::{CommitRecord, Cursor, JournalError, LogId, Offset, Topology};
use tokio_postgres::types::Json;

use crate::column::{Column, Unreadable};
use crate::journal::{self, SNAPSHOTS, TABLE};
use crate::{Database, DatabaseError, Projection, epoch};

/// What a repair did to one partition, as table `log_repair` keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Repaired {
    /// Where journal and log agree: everything before it stays, everything behind it is read again from the log.
    pub kept: Cursor,
    /// Commits that are nowhere but in the list of the repair.
    pub lost: u64,
    /// Commits that were appended again.
    pub appended: u64,
    /// Commits that could not be, because their stream has another history on the log.
    pub conflicting: u64,
}

impl Database {
    /// The log that this database was filled from; `None`: it is empty.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn filled_from(&self) -> Result<Option<Topology>, DatabaseError> {
        let client = self.client().await?;
        let sql = "SELECT log_id, generation, partitions FROM log_identity";
        let Some(row) = client.query_opt(sql, &[]).await? else { return Ok(None) };
        let unreadable = |source: Unreadable| DatabaseError::Unreadable { table: "log_identity", source };
        let number = |index| row.try_get::<_, i64>(index).map_err(DatabaseError::from);
        Ok(Some(Topology {
            log: LogId(row.try_get(0)?),
            generation: u32::try_from(number(1)?).map_err(|error| unreadable(error.into()))?,
            partitions: u16::read(row.try_get(2)?).map_err(unreadable)?,
        }))
    }

    /// The commits that the journal has of `partition` at these offsets, in their order.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn journal_commits(
        &self,
        partition: Partition,
        offsets: Range<Offset>,
    ) -> Result<Vec<CommitRecord>, JournalError> {
        journal::commits(self, partition, offsets).await
    }

    /// The offset after the last commit that the journal has of `partition`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn journal_end(&self, partition: Partition) -> Result<Offset, DatabaseError> {
        let sql = format!("SELECT coalesce(max(\"offset\") + 1, 0) FROM {TABLE} WHERE partition = $1");
        let end: i64 = self.client().await?.query_one(&sql, &[&partition.wire()]).await?.try_get(0)?;
        Ok(end as Offset)
    }

    /// The highest epoch of an owner that any reader has seen in `partition`: a claim must be above it, or what an owner
    /// of before still has on the way would count.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn highest_epoch(&self, partition: Partition) -> Result<u64, DatabaseError> {
        let client = self.client().await?;
        let sql = "SELECT cursor FROM checkpoint WHERE partition = $1";
        let mut highest = 0;
        for row in client.query(sql, &[&partition.wire()]).await? {
            highest = highest.max(row.try_get::<_, Json<Cursor>>(0)?.0.fence.epoch());
        }
        Ok(highest)
    }

    /// Puts everything that was read from the log back to the places `repaired`, one per partition, and binds the
    /// database to `topology`; all or nothing. The views are dropped: the next projector fills them from the log's
    /// beginning. Only while no node runs.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn roll_back(
        &self,
        topology: Topology,
        way: &str,
        repaired: &[Repaired],
    ) -> Result<(), DatabaseError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        self.allow_scan(&transaction).await?;
        for row in transaction.query("SELECT projection, epoch FROM read_model_epoch", &[]).await? {
            let (name, epoch): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
            if let (Some(projection), Ok(epoch)) = (Projection::from_name(&name), u32::try_from(epoch)) {
                epoch::drop_epoch(&*transaction, projection, epoch).await?;
            }
        }
        transaction.execute("DELETE FROM read_model", &[]).await?;
        // A snapshot of what goes would not be believed; but what nobody can believe nobody need keep.
        let delete = [TABLE, SNAPSHOTS]
            .map(|table| format!("DELETE FROM {table} WHERE partition = $1 AND \"offset\" >= $2"));
        for Repaired { kept, lost, appended, conflicting } in repaired {
            let (partition, next) = (kept.partition.wire(), kept.next.wire());
            for delete in &delete {
                transaction.execute(delete, &[&partition, &next]).await?;
            }
            // The journal and the processes; the views' went with their epochs.
            transaction
                .execute(
                    "UPDATE checkpoint SET next_offset = $2, cursor = $3 WHERE partition = $1 \
                     AND (next_offset > $2 OR cursor ->> 'log' <> $4)",
                    &[&partition, &next, &Json(kept), &topology.log.to_string()],
                )
                .await?;
            transaction
                .execute(
                    "INSERT INTO log_repair (log_id, partition, way, kept_to, lost, appended, conflicting) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    &[
                        &topology.log.0,
                        &partition,
                        &way,
                        &next,
                        &lost.wire(),
                        &appended.wire(),
                        &conflicting.wire(),
                    ],
                )
                .await?;
        }
        transaction
            .execute(
                "UPDATE log_identity SET log_id = $1, generation = $2, partitions = $3",
                &[&topology.log.0, &i64::from(topology.generation), &topology.partitions.wire()],
            )
            .await?;
        Ok(transaction.commit().await?)
    }
}
