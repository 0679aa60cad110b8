//! How far a reader of the log has come, moved in the same transaction as what it wrote.
//!
//! Moving it later would apply an event twice after a crash; moving it earlier would skip one. It is moved by
//! compare-and-swap of the whole cursor, so a reader that somebody else has overtaken cannot commit anything.

use shopstream_domain::Partition;
use shopstream_eventlog::Cursor;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Json;

use crate::DatabaseError;

/// The checkpoints of one reader in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// The reader's name.
    pub reader: &'a str,
    /// Its epoch; readers that have none use 1.
    pub epoch: u32,
}

/// One partition's step.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// Where the checkpoint is.
    pub from: Cursor,
    /// Where it goes.
    pub to: Cursor,
}

impl Checkpoint<'_> {
    /// The cursors, in the order of partitions. A partition without one gets `start`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn load(
        &self,
        client: &impl GenericClient,
        start: impl IntoIterator<Item = Cursor>,
    ) -> Result<Vec<Cursor>, DatabaseError> {
        let start: Vec<Cursor> = start.into_iter().collect();
        let partitions: Vec<i32> = start.iter().map(|cursor| cursor.partition.into()).collect();
        let next: Vec<i64> = start.iter().map(|cursor| cursor.next as i64).collect();
        let cursors: Vec<Json<Cursor>> = start.into_iter().map(Json).collect();
        client
            .execute(
                "INSERT INTO checkpoint (reader, epoch, partition, next_offset, cursor) \
                 SELECT $1, $2, * FROM unnest($3::int4[], $4::int8[], $5::jsonb[]) ON CONFLICT DO NOTHING",
                &[&self.reader, &(self.epoch as i32), &partitions, &next, &cursors],
            )
            .await?;
        let rows = client
            .query(
                "SELECT cursor FROM checkpoint WHERE reader = $1 AND epoch = $2 ORDER BY partition",
                &[&self.reader, &(self.epoch as i32)],
            )
            .await?;
        rows.iter().map(|row| Ok(row.try_get::<_, Json<Cursor>>(0)?.0)).collect()
    }

    /// The cursor of one partition, if there is one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn cursor(
        &self,
        client: &impl GenericClient,
        partition: Partition,
    ) -> Result<Option<Cursor>, DatabaseError> {
        let row = client
            .query_opt(
                "SELECT cursor FROM checkpoint WHERE reader = $1 AND epoch = $2 AND partition = $3",
                &[&self.reader, &(self.epoch as i32), &i32::from(partition)],
            )
            .await?;
        Ok(row.map(|row| row.try_get::<_, Json<Cursor>>(0)).transpose()?.map(|cursor| cursor.0))
    }

    /// Moves the cursors of several partitions, all or none: the caller's transaction must not be committed where
    /// this fails.
    ///
    /// # Errors
    /// [`CheckpointError::Overtaken`] where one of them is not where it should be.
    pub async fn advance(
        &self,
        transaction: &deadpool_postgres::Transaction<'_>,
        steps: &[Advance],
    ) -> Result<(), CheckpointError> {
        let partitions: Vec<i32> = steps.iter().map(|step| step.to.partition.into()).collect();
        let from: Vec<Json<&Cursor>> = steps.iter().map(|step| Json(&step.from)).collect();
        let next: Vec<i64> = steps.iter().map(|step| step.to.next as i64).collect();
        let to: Vec<Json<&Cursor>> = steps.iter().map(|step| Json(&step.to)).collect();
        let statement = transaction
            .prepare_cached(
                "UPDATE checkpoint AS c SET next_offset = n.next_offset, cursor = n.cursor \
                 FROM unnest($3::int4[], $4::jsonb[], $5::int8[], $6::jsonb[]) \
                      AS n(partition, expected, next_offset, cursor) \
                 WHERE c.reader = $1 AND c.epoch = $2 AND c.partition = n.partition AND c.cursor = n.expected",
            )
            .await?;
        let moved = transaction
            .execute(&statement, &[&self.reader, &(self.epoch as i32), &partitions, &from, &next, &to])
            .await?;
        if moved == steps.len() as u64 {
            Ok(())
        } else {
            Err(CheckpointError::Overtaken { reader: self.reader.to_owned(), moved, wanted: steps.len() })
        }
    }
}

/// Why a checkpoint did not move.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Somebody else moved it: another process does this reader's work, and this one must stop.
    #[error("{reader} was overtaken: {moved} of {wanted} checkpoints were where it had left them")]
    Overtaken {
        /// The reader.
        reader: String,
        /// How many were.
        moved: u64,
        /// How many had to be.
        wanted: usize,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<tokio_postgres::Error> for CheckpointError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}
