//! Snapshots beside the journal: kept and given back as they are, never looked into.

use bytes::Bytes;
use rustc_hash::FxHashMap;
use shopstream_domain::StreamId;
use shopstream_eventlog::{History, JournalError, Snapshot};

use super::rows::{COLUMNS, Collector};
use super::{PostgresJournal, TABLE, unavailable};
use crate::column::Column;
use crate::{Database, DatabaseError};

/// The table.
pub(crate) const SNAPSHOTS: &str = "snapshot";

/// The snapshots of these streams and the rows that go with them, in one statement and so of one moment.
pub(super) async fn recall(
    journal: &PostgresJournal,
    streams: &[StreamId],
) -> Result<Vec<History>, JournalError> {
    // `OFFSET 0` keeps the planner from joining in another way than by one look into the index per stream. The snapshot
    // comes with the first of its rows, or alone where the journal has none of them.
    let sql = format!(
        "SELECT {COLUMNS}, asked.stream_id AS asked, \
         CASE WHEN j.version IS NULL OR j.version = s.from_version THEN s.data END AS data \
         FROM unnest($1::text[]) AS asked (stream_id) \
         LEFT JOIN {SNAPSHOTS} AS s ON s.stream_id = asked.stream_id \
         LEFT JOIN LATERAL (SELECT * FROM {TABLE} AS k WHERE k.stream_id = asked.stream_id \
         AND k.version >= coalesce(s.from_version, 1) ORDER BY k.version OFFSET 0) AS j ON true \
         ORDER BY asked.stream_id, j.version"
    );
    let names: Vec<&str> = streams.iter().map(StreamId::as_str).collect();
    let rows = journal.ask(&sql, &[&names]).await?;
    let failed = |error: tokio_postgres::Error| unavailable(error.into());
    let (mut collector, mut snapshots) = (Collector::default(), FxHashMap::default());
    for row in &rows {
        if let Some(data) = row.try_get::<_, Option<&[u8]>>("data").map_err(failed)? {
            let name: String = row.try_get("asked").map_err(failed)?;
            snapshots.insert(name, Bytes::copy_from_slice(data));
        }
        if row.try_get::<_, Option<&str>>(0).map_err(failed)?.is_some() {
            collector.push(row)?;
        }
    }
    let mut commits = collector.finish_streams(|stream| snapshots.contains_key(stream.as_str()))?;
    let history = |stream: &StreamId| History {
        snapshot: snapshots.get(stream.as_str()).cloned(),
        commits: commits.remove(stream).unwrap_or_default(),
    };
    Ok(streams.iter().map(history).collect())
}

/// Keeps each in place of the one before. What a crash of the server forgets is made again.
pub(super) async fn save(database: &Database, snapshots: &[Snapshot]) -> Result<(), DatabaseError> {
    fn column<'a, T>(snapshots: &'a [Snapshot], value: impl Fn(&'a Snapshot) -> T) -> Vec<T> {
        snapshots.iter().map(value).collect()
    }
    let sql = format!(
        "INSERT INTO {SNAPSHOTS} (tenant_id, stream_id, from_version, partition, \"offset\", data) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::int8[], $4::int4[], $5::int8[], $6::bytea[]) \
         ON CONFLICT (stream_id) DO UPDATE SET from_version = excluded.from_version, \
         partition = excluded.partition, \"offset\" = excluded.\"offset\", data = excluded.data"
    );
    let mut client = database.client().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit TO off").await?;
    transaction
        .execute(
            &sql,
            &[
                &column(snapshots, |it| it.stream.tenant_str()),
                &column(snapshots, |it| it.stream.as_str()),
                &column(snapshots, |it| it.from.wire()),
                &column(snapshots, |it| it.position.partition.wire()),
                &column(snapshots, |it| it.position.offset.wire()),
                &column(snapshots, |it| it.bytes.as_ref()),
            ],
        )
        .await?;
    Ok(transaction.commit().await?)
}
