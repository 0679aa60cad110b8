//! Aggregates that a reader of the log cannot go on with. Each waits, with all its later events, until an operator has
//! it tried again or leaves one event out ([`Wish`]); everything else flows.
//!
//! The journal parks nothing: it keeps payloads as they are and decodes none.
//!
//! An event is also in the way where its rows are what the server refuses.

mod skipped;
mod wish;

use std::fmt;

use rustc_hash::FxHashSet;
use shopstream_domain::text::ACCOUNT;
use shopstream_domain::{StreamId, Timestamp, Version};
use shopstream_eventlog::{CommitRecord, JournalError, Position};
use tokio::sync::watch;
use tokio_postgres::GenericClient;

pub(crate) use self::skipped::LeftOut;
pub use self::skipped::Skipped;
use self::wish::CHANNEL;
pub use self::wish::{ReleaseError, Wish};
pub(crate) use self::wish::{WISHES, free, lock, wished};
use crate::column::{Column, Instant, Unreadable};
use crate::{Database, DatabaseError, Projection, journal};

/// Beyond so many, waiting events are not counted.
pub const WAITING_COUNTED: u32 = 10_000;

/// Who has set an aggregate aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeper {
    /// A view.
    View(Projection),
    /// The runner of the processes.
    Sagas,
}

impl Keeper {
    /// The name in tables and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::View(projection) => projection.name(),
            Self::Sagas => "sagas",
        }
    }

    /// The keeper of that name; `None` also for the journal, which parks nothing.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == Self::Sagas.name() {
            return Some(Self::Sagas);
        }
        Projection::views().find(|projection| projection.name() == name).map(Self::View)
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The event that an aggregate cannot be taken past.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {version} of {stream}, at {position}: {reason}")]
pub struct Obstacle {
    /// Its stream: the aggregate's own, or for a process one of those that it looks at.
    pub stream: StreamId,
    /// Its version.
    pub version: Version,
    /// Where it is.
    pub position: Position,
    /// Why it could not be folded.
    pub reason: String,
}

/// An aggregate that is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// By whom.
    pub keeper: Keeper,
    /// The aggregate.
    pub stream: StreamId,
    /// The first event that waits.
    pub obstacle: Obstacle,
    /// Since when it waits for somebody.
    pub since: Timestamp,
    /// How many events of the obstacle's stream wait, itself among them, as far as the journal has them; at most
    /// [`WAITING_COUNTED`].
    pub waiting: u64,
    /// Whether a wish of an operator is still to be done.
    pub wished: bool,
}

/// What is read of a row of `parked` aliased `p`.
const COLUMNS: &str = "p.projection, p.stream_id, coalesce(p.event_stream_id, p.stream_id), p.from_version, \
     p.partition, p.\"offset\", p.reason, p.parked_at, p.wish IS NOT NULL";

/// Rows of the epoch that answers queries, of all that `p` may be.
const ACTIVE: &str = "FROM parked AS p LEFT JOIN read_model AS m USING (projection) \
     WHERE p.epoch = coalesce(m.active_epoch, 1)";

fn waiting() -> String {
    format!(
        "(SELECT count(*) FROM (SELECT FROM journal AS j WHERE j.stream_id = coalesce(p.event_stream_id, p.stream_id) \
         AND j.version >= p.from_version LIMIT {WAITING_COUNTED}) AS w)"
    )
}

impl Database {
    /// The parked aggregates of all tenants, or those of one keeper, ordered by the names of keeper and stream, from
    /// behind `after` on, at most `limit`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn parked(
        &self,
        keeper: Option<Keeper>,
        after: Option<(Keeper, &StreamId)>,
        limit: u32,
    ) -> Result<Vec<Parked>, DatabaseError> {
        let sql = format!(
            "SELECT {COLUMNS}, {} {ACTIVE} AND ($1::text IS NULL OR p.projection = $1) \
             AND ($2::text IS NULL OR (p.projection, p.stream_id) > ($2, $3)) \
             ORDER BY p.projection, p.stream_id LIMIT $4",
            waiting()
        );
        let (after_keeper, after_stream) =
            after.map(|(keeper, stream)| (keeper.name(), stream.as_str())).unzip();
        let rows = self
            .reader()
            .query(&sql, &[&keeper.map(Keeper::name), &after_keeper, &after_stream, &i64::from(limit)])
            .await?;
        rows.iter().map(|row| read(row).map_err(unreadable)).collect()
    }

    /// One aggregate, if this keeper has parked it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn parked_one(
        &self,
        keeper: Keeper,
        stream: &StreamId,
    ) -> Result<Option<Parked>, DatabaseError> {
        let sql =
            format!("SELECT {COLUMNS}, {} {ACTIVE} AND p.projection = $1 AND p.stream_id = $2", waiting());
        let rows = self.reader().query(&sql, &[&keeper.name(), &stream.as_str()]).await?;
        rows.first().map(|row| read(row).map_err(unreadable)).transpose()
    }

    /// The commits of a stream, from the one with event `from` on, as the journal has them; at most so many.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn commits_from(
        &self,
        stream: &StreamId,
        from: Version,
        limit: u32,
    ) -> Result<Vec<CommitRecord>, JournalError> {
        let away = |error: DatabaseError| JournalError::Unavailable { detail: error.to_string() };
        let client = self.client().await.map_err(away)?;
        let rows = journal::stream_rows(&**client, stream, from, i64::MAX as u64, limit).await;
        journal::collect(&rows.map_err(|error| away(error.into()))?)
    }

    /// Notes that a process cannot go on because of an event of one of the streams that it looks at. A wish for it is
    /// done by that: it was tried.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn park_process(&self, process: &StreamId, obstacle: &Obstacle) -> Result<(), DatabaseError> {
        insert(&**self.client().await?, Keeper::Sagas, PROCESSES, process, obstacle).await
    }

    /// Changes when a wish is noted, for whomever, and when one may have been missed. Within a tokio runtime.
    pub fn parked_wishes(&self) -> watch::Receiver<u64> {
        self.listen(CHANNEL)
    }

    /// The parked processes for which something is wished.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn wished_processes(&self) -> Result<Vec<StreamId>, DatabaseError> {
        let client = self.client().await?;
        let mut streams: Vec<StreamId> = Vec::new();
        loop {
            let page = wished(&**client, Keeper::Sagas, PROCESSES, streams.last()).await?;
            let last = page.len() < WISHES;
            streams.extend(page);
            if last {
                return Ok(streams);
            }
        }
    }

    /// Notes that a process goes on.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn free_process(&self, process: &StreamId) -> Result<(), DatabaseError> {
        free(&**self.client().await?, Keeper::Sagas, PROCESSES, process).await
    }
}

/// Processes have no epochs.
const PROCESSES: u32 = 1;

fn unreadable(source: Unreadable) -> DatabaseError {
    DatabaseError::Unreadable { table: "parked", source }
}

fn read(row: &tokio_postgres::Row) -> Result<Parked, Unreadable> {
    Ok(Parked {
        keeper: keeper(row, 0)?,
        stream: StreamId::read(row.try_get(1)?)?,
        obstacle: obstacle(row, 2)?,
        since: row.try_get::<_, Instant>(7)?.0,
        wished: row.try_get(8)?,
        waiting: u64::read(row.try_get(9)?)?,
    })
}

fn keeper(row: &tokio_postgres::Row, index: usize) -> Result<Keeper, Unreadable> {
    let name: String = row.try_get(index)?;
    Ok(Keeper::from_name(&name).ok_or_else(|| format!("{name} parks nothing"))?)
}

/// Stream, version, partition, offset and reason.
fn obstacle(row: &tokio_postgres::Row, first: usize) -> Result<Obstacle, Unreadable> {
    Ok(Obstacle {
        stream: StreamId::read(row.try_get(first)?)?,
        version: Version::read(row.try_get(first + 1)?)?,
        position: Position {
            partition: u16::read(row.try_get(first + 2)?)?,
            offset: u64::read(row.try_get(first + 3)?)?,
        },
        reason: row.try_get(first + 4)?,
    })
}

/// The streams that are parked in one epoch of a view.
pub(crate) async fn streams(
    client: &impl GenericClient,
    projection: Projection,
    epoch: u32,
) -> Result<FxHashSet<StreamId>, DatabaseError> {
    let sql = "SELECT stream_id FROM parked WHERE projection = $1 AND epoch = $2";
    let rows = client.query(sql, &[&projection.name(), &(epoch as i32)]).await?;
    rows.iter().map(|row| StreamId::read(row.try_get(0)?).map_err(unreadable)).collect()
}

/// Notes a parked aggregate; one that is parked already waits at `obstacle` from now on, and its wish is done.
pub(crate) async fn insert(
    client: &impl GenericClient,
    keeper: Keeper,
    epoch: u32,
    stream: &StreamId,
    obstacle: &Obstacle,
) -> Result<(), DatabaseError> {
    let event_stream = (obstacle.stream != *stream).then(|| obstacle.stream.as_str());
    client
        .execute(
            "INSERT INTO parked (projection, epoch, tenant_id, stream_id, event_stream_id, from_version, partition, \
             \"offset\", reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (projection, epoch, stream_id) DO UPDATE SET event_stream_id = excluded.event_stream_id, \
             from_version = excluded.from_version, partition = excluded.partition, \"offset\" = excluded.\"offset\", \
             reason = excluded.reason, wish = NULL",
            &[
                &keeper.name(),
                &(epoch as i32),
                &stream.tenant_str(),
                &stream.as_str(),
                &event_stream,
                &obstacle.version.wire(),
                &obstacle.position.partition.wire(),
                &obstacle.position.offset.wire(),
                // It may repeat what could not be kept.
                &ACCOUNT.tidy(&obstacle.reason),
            ],
        )
        .await?;
    Ok(())
}
