//! What a projection holds, in few words: two copies of it are proved equal, or shown to differ, by Postgres itself,
//! whatever their size.

use deadpool_postgres::{Object, Transaction};
use shopstream_eventlog::Cursor;
use tokio_postgres::IsolationLevel;

use crate::checkpoint::Checkpoint;
use crate::{Database, DatabaseError, Projection, journal, views};

/// A projection's content at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    /// Its checkpoint at that moment, in the order of partitions.
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
    /// Two sums over two hashes of 64 bits of each row as text. A row holds its key, so the order says nothing, and
    /// without one nothing is sorted or gathered. It tells differences, not forgeries; nothing stores it.
    pub sums: [String; 2],
}

/// The first row in the order of the key that is not the same in two epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The row as text in the one epoch and in the other; `None` where it is missing.
    pub rows: [Option<String>; 2],
}

impl Database {
    /// What an epoch of a projection holds, with the checkpoint of the same moment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn digest(&self, projection: Projection, epoch: u32) -> Result<Digest, DatabaseError> {
        let mut client = self.client().await?;
        let snapshot = snapshot(&mut client).await?;
        self.allow_scan(&snapshot).await?;
        let cursors = Checkpoint { reader: projection.name(), epoch }.read(&*snapshot).await?;
        let mut tables = Vec::new();
        for (table, _) in keyed_tables(projection) {
            tables.push(digest_of(&snapshot, projection, epoch, table).await?);
        }
        Ok(Digest { cursors, tables })
    }

    /// The first row that differs between two epochs of a projection as they are now, if one does. Compare digests
    /// first: this is for people who want to see what differs.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn first_difference(
        &self,
        projection: Projection,
        [one, other]: [u32; 2],
    ) -> Result<Option<Difference>, DatabaseError> {
        let mut client = self.client().await?;
        let snapshot = snapshot(&mut client).await?;
        self.allow_scan(&snapshot).await?;
        for (table, key) in keyed_tables(projection) {
            let (one, other) = (projection.table(one, table), projection.table(other, table));
            // Both have an index on the key, so that they can be walked side by side.
            let sql = format!(
                "SELECT a::text, b::text FROM {one} AS a FULL JOIN {other} AS b USING ({key}) \
                 WHERE a::text IS DISTINCT FROM b::text ORDER BY {key} LIMIT 1"
            );
            if let Some(row) = snapshot.query_opt(&sql, &[]).await? {
                return Ok(Some(Difference { table, rows: [row.try_get(0)?, row.try_get(1)?] }));
            }
        }
        Ok(None)
    }
}

/// One moment for several statements, so that rows and cursors belong together while the projector goes on.
async fn snapshot(client: &mut Object) -> Result<Transaction<'_>, tokio_postgres::Error> {
    client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await
}

/// The tables of a projection, each with the columns of its key.
fn keyed_tables(projection: Projection) -> Vec<(&'static str, String)> {
    if projection == Projection::Journal {
        return vec![(journal::TABLE, journal::KEY.to_owned())];
    }
    views::parts(projection, "").iter().map(|part| (part.table(), part.key())).collect()
}

async fn digest_of(
    snapshot: &Transaction<'_>,
    projection: Projection,
    epoch: u32,
    table: &'static str,
) -> Result<TableDigest, DatabaseError> {
    let sql = format!(
        "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text, \
         coalesce(sum(hashtextextended(t::text, 1)), 0)::text FROM {} AS t",
        projection.table(epoch, table)
    );
    let row = snapshot.query_one(&sql, &[]).await?;
    let rows = row.try_get::<_, i64>(0)?.unsigned_abs();
    Ok(TableDigest { table, rows, sums: [row.try_get(1)?, row.try_get(2)?] })
}
