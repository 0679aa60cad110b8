//! Appends commits to the journal.

use futures::pin_mut;
use shopstream_eventlog::CommitRecord;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use crate::column::{Column, RawJson};

const COPY: &str = "COPY journal (tenant_id, stream_id, version, event_type, schema_version, payload, partition, \
     \"offset\", index_in_commit, epoch, command_id, body_hash, actor, correlation_id, causation_id, traceparent, \
     recorded_at, effective_at) FROM STDIN (FORMAT binary)";

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

/// Appends every event of `commits`, and answers how many. There are never conflicts: the checkpoint moves in the
/// same transaction. A duplicate key is a bug, here or in the write path, and fails the transaction.
pub(crate) async fn append(
    transaction: &tokio_postgres::Transaction<'_>,
    commits: &[CommitRecord],
) -> Result<u64, tokio_postgres::Error> {
    if commits.is_empty() {
        return Ok(0);
    }
    let writer = BinaryCopyInWriter::new(transaction.copy_in(COPY).await?, &TYPES);
    pin_mut!(writer);
    for CommitRecord { position, epoch, commit } in commits {
        let (partition, offset, epoch) = (position.partition.wire(), position.offset.wire(), epoch.wire());
        let recorded_at = commit.recorded_at.wire();
        let effective_at = commit.effective_at.wire();
        for (index, event) in commit.events.iter().enumerate() {
            writer
                .as_mut()
                .write(&[
                    &commit.stream.tenant_str(),
                    &commit.stream.as_str(),
                    &(commit.first_version as i64 + index as i64),
                    &event.event_type,
                    &i32::from(event.schema_version),
                    &RawJson(&event.payload),
                    &partition,
                    &offset,
                    &(index as i32),
                    &epoch,
                    &commit.command_id.0,
                    // The same bits: Postgres has no unsigned numbers.
                    &(commit.body_hash as i64),
                    &commit.actor,
                    &commit.correlation_id,
                    &commit.causation_id,
                    &commit.traceparent,
                    &recorded_at,
                    &effective_at,
                ])
                .await?;
        }
    }
    writer.finish().await
}
