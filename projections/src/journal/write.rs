//! Writes the journal: the live one, or a copy of it.

use deadpool_postgres::Transaction;
use futures::pin_mut;
use shopstream_eventlog::{Batch, CommitRecord, Cursor, Log};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::held::{hold_json, hold_text};
use crate::checkpoint::{Advance, Checkpoint, CheckpointError};
use crate::column::{Column, RawJson};
use crate::{Database, DatabaseError, Projection, epoch};

/// The journal's table.
pub(crate) const TABLE: &str = "journal";
/// What its rows are found by.
pub(crate) const KEY: &str = "stream_id, version";

const COLUMNS: &str = "(tenant_id, stream_id, version, event_type, schema_version, payload, partition, \
     \"offset\", index_in_commit, epoch, command_id, body_hash, actor, correlation_id, causation_id, traceparent, \
     recorded_at, effective_at)";

const TYPES: [Type; 18] = [
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::TEXT,
    Type::INT4,
    Type::JSON,
    Type::INT4,
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::UUID,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
];

/// One epoch of the journal, with a table and a checkpoint of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalEpoch(u32);

impl JournalEpoch {
    /// The one that the write path reads. Its table is fixed; every other epoch is a copy to compare it with.
    pub(crate) const LIVE: Self = Self(epoch::FIRST);

    pub(crate) const fn new(epoch: u32) -> Self {
        Self(epoch)
    }

    pub(crate) const fn checkpoint(self) -> Checkpoint<'static> {
        Checkpoint { reader: Projection::Journal.name(), epoch: self.0 }
    }

    const fn is_live(self) -> bool {
        self.0 == Self::LIVE.0
    }

    fn table(self) -> String {
        Projection::Journal.table(self.0, TABLE)
    }

    /// Where it is, in the order of partitions; makes a copy's table where there is none.
    pub(crate) async fn open(self, database: &Database, log: &Log) -> Result<Vec<Cursor>, DatabaseError> {
        let start: Vec<Cursor> = (0..log.partitions()).map(|partition| log.start(partition)).collect();
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        if !self.is_live() {
            let table = format!("CREATE TABLE {} (LIKE {TABLE} INCLUDING ALL);\n", self.table());
            epoch::create(&transaction, Projection::Journal, self.0, &table).await?;
        }
        let cursors = self.checkpoint().load_or_start(&transaction, &start).await?;
        transaction.commit().await?;
        Ok(cursors)
    }

    /// Writes what was read from `before` on and moves the checkpoint, both or neither; answers how many rows.
    pub(crate) async fn write(
        self,
        database: &Database,
        before: &[Cursor],
        batch: &Batch,
    ) -> Result<u64, CheckpointError> {
        let steps = steps(before, &batch.cursors);
        if steps.is_empty() {
            return Ok(0);
        }
        match self.try_write(database, &steps, &batch.commits, false).await {
            // Some payload is none that Postgres takes for JSON: found out only then, for a look at each takes time.
            Err(CheckpointError::Database(error)) if error.is_about_data() => {
                self.try_write(database, &steps, &batch.commits, true).await
            }
            written => written,
        }
    }

    async fn try_write(
        self,
        database: &Database,
        steps: &[Advance],
        commits: &[CommitRecord],
        doubt: bool,
    ) -> Result<u64, CheckpointError> {
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        // Whatever the server's default: owners forget what the journal says it has. Nobody forgets for a copy.
        let synchronous = if self.is_live() { "on" } else { "off" };
        transaction.batch_execute(&format!("SET LOCAL synchronous_commit TO {synchronous}")).await?;
        let rows = self.append(&transaction, commits, doubt).await?;
        self.checkpoint().advance(&transaction, steps).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Appends every event of `commits`, and answers how many. There are never conflicts: the checkpoint moves in
    /// the same transaction. A duplicate key is a bug, here or in the write path, and fails the transaction.
    async fn append(
        self,
        transaction: &Transaction<'_>,
        commits: &[CommitRecord],
        doubt: bool,
    ) -> Result<u64, tokio_postgres::Error> {
        if commits.is_empty() {
            return Ok(0);
        }
        let copy = format!("COPY {} {COLUMNS} FROM STDIN (FORMAT binary)", self.table());
        let writer = BinaryCopyInWriter::new(transaction.copy_in(&copy).await?, &TYPES);
        pin_mut!(writer);
        for CommitRecord { position, epoch, commit } in commits {
            let (partition, offset, epoch) =
                (position.partition.wire(), position.offset.wire(), epoch.wire());
            let recorded_at = commit.recorded_at.wire();
            let effective_at = commit.effective_at.wire();
            let [actor, correlation_id, causation_id, traceparent] =
                [&commit.actor, &commit.correlation_id, &commit.causation_id, &commit.traceparent]
                    .map(|text| hold_text(text));
            for (index, event) in commit.events.iter().enumerate() {
                writer
                    .as_mut()
                    .write(&[
                        &commit.stream.tenant_str(),
                        &commit.stream.as_str(),
                        &(commit.first_version as i64 + index as i64),
                        &hold_text(&event.event_type),
                        &i32::from(event.schema_version),
                        &RawJson(&hold_json(&event.payload, doubt)),
                        &partition,
                        &offset,
                        &(index as i32),
                        &epoch,
                        &commit.command_id.0,
                        // The same bits: Postgres has no unsigned numbers.
                        &(commit.body_hash as i64),
                        &actor,
                        &correlation_id,
                        &causation_id,
                        &traceparent,
                        &recorded_at,
                        &effective_at,
                    ])
                    .await?;
            }
        }
        writer.finish().await
    }
}

/// What moves between two places of the log.
fn steps(before: &[Cursor], after: &[Cursor]) -> Vec<Advance> {
    let step = |to: &Cursor| {
        let from = before.iter().find(|cursor| cursor.partition == to.partition)?;
        (to.next > from.next).then_some(Advance { from: *from, to: *to })
    };
    after.iter().filter_map(step).collect()
}
