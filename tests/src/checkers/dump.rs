//! What the database holds, as text: the tables of every read model, the journal, and how far each reader is.

use std::collections::BTreeMap;

use anyhow::Context as _;
use shopstream_eventlog::{Cursor, Position, Snapshot};
use tokio_postgres::types::Json;
use tokio_postgres::{IsolationLevel, NoTls, Row, Transaction};
use uuid::Uuid;

/// The rows of one epoch of every read model, all of one moment.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// The rows of each table, `read_model.table`, as text and in the order of that text.
    pub tables: BTreeMap<String, Vec<String>>,
    /// The cursors of each reader, by partition.
    pub cursors: BTreeMap<String, Vec<Cursor>>,
    /// The journal, by stream and version.
    pub journal: Vec<JournalRow>,
    /// The snapshots beside it, by stream.
    pub snapshots: Vec<Snapshot>,
}

/// One event as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the columns")]
pub struct JournalRow {
    pub tenant: String,
    pub stream: String,
    pub version: i64,
    pub event_type: String,
    pub schema_version: i32,
    pub payload: String,
    pub position: Position,
    pub index_in_commit: i32,
    pub epoch: i64,
    pub command_id: Uuid,
    pub body_hash: u64,
    pub origin: [String; 4],
    pub recorded_at: i64,
    pub effective_at: Option<i64>,
}

const JOURNAL: &str = "SELECT tenant_id, stream_id, version, event_type, schema_version, payload::text, partition, \
     \"offset\", index_in_commit, epoch, command_id, body_hash, actor, correlation_id, causation_id, traceparent, \
     (extract(epoch FROM recorded_at) * 1000000)::int8, (extract(epoch FROM effective_at) * 1000000)::int8 \
     FROM journal ORDER BY stream_id, version";

const SNAPSHOTS: &str =
    "SELECT stream_id, from_version, partition, \"offset\", data FROM snapshot ORDER BY stream_id";

impl Dump {
    /// Reads the database at `url`, and of the read models this epoch.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(url: &str, epoch: u32) -> anyhow::Result<Self> {
        let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driver = tokio::spawn(connection);
        let snapshot = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start();
        let snapshot = snapshot.await?;
        let dump = Self {
            tables: tables(&snapshot, epoch).await?,
            cursors: cursors(&snapshot, epoch).await?,
            journal: snapshot.query(JOURNAL, &[]).await?.iter().map(journal_row).collect::<Result<_, _>>()?,
            snapshots: snapshot
                .query(SNAPSHOTS, &[])
                .await?
                .iter()
                .map(snapshot_row)
                .collect::<Result<_, _>>()?,
        };
        snapshot.commit().await?;
        drop(client);
        driver.await??;
        Ok(dump)
    }
}

async fn tables(snapshot: &Transaction<'_>, epoch: u32) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let suffix = format!("_e{epoch}");
    let names = "SELECT schemaname, tablename FROM pg_tables WHERE right(schemaname, length($1)) = $1";
    let mut tables = BTreeMap::new();
    for name in snapshot.query(names, &[&suffix]).await? {
        let (schema, table): (String, String) = (name.try_get(0)?, name.try_get(1)?);
        let rows =
            format!("SELECT t::text FROM \"{schema}\".\"{table}\" AS t ORDER BY t::text COLLATE \"C\"");
        let rows = snapshot.query(&rows, &[]).await?;
        let rows = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let model = schema.strip_suffix(&suffix).context("a schema of this epoch")?;
        tables.insert(format!("{model}.{table}"), rows);
    }
    Ok(tables)
}

/// The journal has one epoch only, the first.
async fn cursors(snapshot: &Transaction<'_>, epoch: u32) -> anyhow::Result<BTreeMap<String, Vec<Cursor>>> {
    let sql = "SELECT reader, cursor FROM checkpoint WHERE epoch = $1 OR reader = 'journal' ORDER BY reader, partition";
    let mut cursors: BTreeMap<String, Vec<Cursor>> = BTreeMap::new();
    for row in snapshot.query(sql, &[&(epoch as i32)]).await? {
        cursors.entry(row.try_get(0)?).or_default().push(row.try_get::<_, Json<Cursor>>(1)?.0);
    }
    Ok(cursors)
}

fn journal_row(row: &Row) -> anyhow::Result<JournalRow> {
    let partition: i32 = row.try_get(6)?;
    let offset: i64 = row.try_get(7)?;
    Ok(JournalRow {
        tenant: row.try_get(0)?,
        stream: row.try_get(1)?,
        version: row.try_get(2)?,
        event_type: row.try_get(3)?,
        schema_version: row.try_get(4)?,
        payload: row.try_get(5)?,
        position: Position { partition: partition.try_into()?, offset: offset.try_into()? },
        index_in_commit: row.try_get(8)?,
        epoch: row.try_get(9)?,
        command_id: row.try_get(10)?,
        // The same bits: Postgres has no unsigned numbers.
        body_hash: row.try_get::<_, i64>(11)? as u64,
        origin: [row.try_get(12)?, row.try_get(13)?, row.try_get(14)?, row.try_get(15)?],
        recorded_at: row.try_get(16)?,
        effective_at: row.try_get(17)?,
    })
}

fn snapshot_row(row: &Row) -> anyhow::Result<Snapshot> {
    let (from, partition, offset): (i64, i32, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok(Snapshot {
        stream: row.try_get::<_, &str>(0)?.parse()?,
        from: from.try_into()?,
        position: Position { partition: partition.try_into()?, offset: offset.try_into()? },
        bytes: row.try_get::<_, Vec<u8>>(4)?.into(),
    })
}
