//! The journal: every event by stream. An index of the log, never its source.
//!
//! It has a reader and a task of its own, because the write path admits no more commands than the journal can
//! follow, and no view may stall that. Its transactions are synchronous: what it has committed, the owners of the
//! partitions forget.

mod held;
mod rows;
mod snapshots;
mod write;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, pin_mut};
use shopstream_domain::{Partition, StreamId, Version};
use shopstream_eventlog::{
    CommandId, CommitRecord, Cursor, History, Journal, JournalError, Offset, Snapshot,
};
use tokio::sync::watch;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};

use self::rows::{COLUMNS, Collector};
pub(crate) use self::snapshots::SNAPSHOTS;
pub(crate) use self::write::{JournalEpoch, KEY, TABLE};
use crate::column::Column;
use crate::{Database, DatabaseError, Progress, Projection};

/// The journal in Postgres, as the write path reads it. Cheap to clone.
#[derive(Clone)]
pub struct PostgresJournal {
    database: Database,
    progress: Progress,
    load: Arc<str>,
    find: Arc<str>,
}

impl PostgresJournal {
    /// The journal of `database`, whose projector reports to `progress`.
    pub fn new(database: Database, progress: Progress) -> Self {
        Self {
            database,
            progress,
            load: format!(
                "SELECT {COLUMNS} FROM journal AS j WHERE j.stream_id = ANY($1::text[]) \
                 ORDER BY j.stream_id, j.version"
            )
            .into(),
            // By position, which has an index, because the events of a long stream have none by command.
            find: format!(
                "SELECT {COLUMNS} FROM journal AS f JOIN journal AS j \
                 ON j.partition = f.partition AND j.\"offset\" = f.\"offset\" \
                 WHERE f.stream_id = $1 AND f.command_id = $2 AND f.index_in_commit = 0 ORDER BY j.version"
            )
            .into(),
        }
    }
}

impl PostgresJournal {
    /// What `sql` answers, as long as the journal has all that it was ever said to have: the owners of the partitions
    /// have forgotten it since, and would decide on what was before. A failover to a copy that lags takes some of it; it
    /// is written again from the log.
    async fn ask(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, JournalError> {
        // Both before the question: what is found afterwards may have been written while the answer was on its way.
        let session = self.progress.session(Projection::Journal);
        if let Some(partition) = self.progress.broken_promise() {
            let detail = format!(
                "the database has lost a part of partition {partition}, which is being written again"
            );
            return Err(JournalError::Unavailable { detail });
        }
        let answered = self.database.reader().ask(sql, params).await.map_err(unavailable)?;
        if answered.session > session {
            return Err(unavailable(DatabaseError::BegunAgain { projection: Projection::Journal }));
        }
        Ok(answered.rows)
    }
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn load(&self, streams: &[StreamId]) -> Result<Vec<Vec<CommitRecord>>, JournalError> {
        let names: Vec<&str> = streams.iter().map(StreamId::as_str).collect();
        let rows = self.ask(&self.load, &[&names]).await?;
        let mut collector = Collector::default();
        for row in &rows {
            collector.push(row)?;
        }
        let mut found = collector.finish_streams(|_| false)?;
        Ok(streams.iter().map(|stream| found.remove(stream).unwrap_or_default()).collect())
    }

    async fn recall(&self, streams: &[StreamId]) -> Result<Vec<History>, JournalError> {
        snapshots::recall(self, streams).await
    }

    async fn save(&self, snapshots: &[Snapshot]) -> Result<(), JournalError> {
        snapshots::save(&self.database, snapshots).await.map_err(unavailable)
    }

    async fn find(
        &self,
        stream: &StreamId,
        command: CommandId,
    ) -> Result<Option<CommitRecord>, JournalError> {
        let params: [&(dyn ToSql + Sync); 2] = [&stream.as_str(), &command.0];
        let rows = self.ask(&self.find, &params).await?;
        Ok(collect(&rows)?.pop())
    }

    async fn cursor(&self, partition: Partition) -> Result<Option<Cursor>, JournalError> {
        JournalEpoch::LIVE.checkpoint().cursor(&self.database, partition).await.map_err(unavailable)
    }

    async fn streams(
        &self,
        partition: Partition,
        each: &mut (dyn for<'s> FnMut(&'s str) + Send),
    ) -> Result<(), JournalError> {
        let mut client = self.database.client().await.map_err(unavailable)?;
        let failed = |error: tokio_postgres::Error| unavailable(error.into());
        let transaction = client.transaction().await.map_err(failed)?;
        self.database.allow_scan(&transaction).await.map_err(unavailable)?;
        // Row by row: there may be millions, and the driver stops reading while nobody takes them.
        let sql = "SELECT stream_id FROM journal WHERE partition = $1 AND version = 1";
        let rows = transaction.query_raw(sql, [i32::from(partition)]).await.map_err(failed)?;
        pin_mut!(rows);
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed)?;
            each(row.try_get(0).map_err(failed)?);
        }
        Ok(())
    }

    fn progress(&self) -> watch::Receiver<Vec<Offset>> {
        self.progress.watch(Projection::Journal)
    }
}

/// The commits of `partition` at these offsets, in their order.
pub(crate) async fn commits(
    database: &Database,
    partition: Partition,
    offsets: Range<Offset>,
) -> Result<Vec<CommitRecord>, JournalError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} AS j WHERE j.partition = $1 AND j.\"offset\" >= $2 AND j.\"offset\" < $3 \
         ORDER BY j.\"offset\", j.index_in_commit"
    );
    let params: [&(dyn ToSql + Sync); 3] = [&partition.wire(), &offsets.start.wire(), &offsets.end.wire()];
    collect(&database.reader().query(&sql, &params).await.map_err(unavailable)?)
}

/// The rows of a stream's commits, from the one with event `from` on and before `end`, at most so many commits.
pub(crate) async fn stream_rows(
    client: &impl GenericClient,
    stream: &StreamId,
    from: Version,
    end: Offset,
    commits: u32,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    // Whole commits, the first of which may begin before `from`.
    let sql = format!(
        "WITH first AS (SELECT version - index_in_commit AS version FROM {TABLE} \
                        WHERE stream_id = $1 AND version = $2), \
         page AS (SELECT c.\"offset\" FROM {TABLE} AS c, first WHERE c.stream_id = $1 \
                  AND c.version >= first.version AND c.index_in_commit = 0 AND c.\"offset\" < $3 \
                  ORDER BY c.version LIMIT $4) \
         SELECT {COLUMNS} FROM {TABLE} AS j, first WHERE j.stream_id = $1 AND j.version >= first.version \
         AND j.\"offset\" <= (SELECT max(page.\"offset\") FROM page) ORDER BY j.version"
    );
    client.query(&sql, &[&stream.as_str(), &from.wire(), &end.wire(), &i64::from(commits)]).await
}

/// The commits of rows that are ordered by stream and version, or by offset.
pub(crate) fn collect(rows: &[Row]) -> Result<Vec<CommitRecord>, JournalError> {
    let mut collector = Collector::default();
    for row in rows {
        collector.push(row)?;
    }
    Ok(collector.finish())
}

fn unavailable(error: DatabaseError) -> JournalError {
    JournalError::Unavailable { detail: error.to_string() }
}
