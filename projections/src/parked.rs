//! Aggregates that a view cannot go on with. Each waits, with all its later events, until the program is mended
//! and the view rebuilt; everything else flows.

use deadpool_postgres::Transaction;
use rustc_hash::FxHashSet;
use shopstream_domain::{StreamId, TenantId, Version};
use shopstream_eventlog::Position;

use crate::column::{Column, Unreadable};
use crate::{Database, DatabaseError, Projection};

/// An aggregate that a projection has set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The projection.
    pub projection: Projection,
    /// The aggregate.
    pub stream: StreamId,
    /// The version of the first event that is not in the projection.
    pub from_version: Version,
    /// Where that event is.
    pub position: Position,
    /// Why it could not be folded.
    pub reason: String,
}

impl Database {
    /// The parked aggregates of a tenant in the active epoch of each projection, in no order, at most `limit`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn parked(&self, tenant: &TenantId, limit: u32) -> Result<Vec<Parked>, DatabaseError> {
        let sql = "SELECT p.projection, p.stream_id, p.from_version, p.partition, p.\"offset\", p.reason \
             FROM parked AS p LEFT JOIN read_model AS m USING (projection) \
             WHERE p.tenant_id = $1 AND p.epoch = coalesce(m.active_epoch, 1) LIMIT $2";
        let rows = self.reader().query(sql, &[&tenant.as_str(), &i64::from(limit)]).await?;
        rows.iter().map(|row| read(row).map_err(unreadable)).collect()
    }
}

fn unreadable(source: Unreadable) -> DatabaseError {
    DatabaseError::Unreadable { table: "parked", source }
}

fn read(row: &tokio_postgres::Row) -> Result<Parked, Unreadable> {
    let name: String = row.try_get(0)?;
    Ok(Parked {
        projection: Projection::from_name(&name).ok_or_else(|| format!("{name} is no projection"))?,
        stream: StreamId::read(row.try_get(1)?)?,
        from_version: Version::read(row.try_get(2)?)?,
        position: Position { partition: u16::read(row.try_get(3)?)?, offset: u64::read(row.try_get(4)?)? },
        reason: row.try_get(5)?,
    })
}

/// The streams that are parked in one epoch of a view.
pub(crate) async fn streams(
    transaction: &Transaction<'_>,
    projection: Projection,
    epoch: u32,
) -> Result<FxHashSet<StreamId>, DatabaseError> {
    let sql = "SELECT stream_id FROM parked WHERE projection = $1 AND epoch = $2";
    let rows = transaction.query(sql, &[&projection.name(), &(epoch as i32)]).await?;
    rows.iter().map(|row| StreamId::read(row.try_get(0)?).map_err(unreadable)).collect()
}

/// Notes newly parked streams. There are hardly ever any, so one by one.
pub(crate) async fn insert(
    transaction: &Transaction<'_>,
    projection: Projection,
    epoch: u32,
    parked: &[Parked],
) -> Result<(), DatabaseError> {
    for Parked { stream, from_version, position, reason, .. } in parked {
        transaction
            .execute(
                "INSERT INTO parked (projection, epoch, tenant_id, stream_id, from_version, partition, \"offset\", \
                 reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                &[
                    &projection.name(),
                    &(epoch as i32),
                    &stream.tenant_str(),
                    &stream.as_str(),
                    &from_version.wire(),
                    &position.partition.wire(),
                    &position.offset.wire(),
                    reason,
                ],
            )
            .await?;
    }
    Ok(())
}
