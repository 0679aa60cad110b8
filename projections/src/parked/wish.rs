//! What an operator wants done with a parked aggregate, from the wish to what came of it.
//!
//! Whoever has parked an aggregate is the only writer of its rows, on whichever node it runs. So a wish is written
//! beside the parked aggregate and its keeper is told; the keeper takes it away in the transaction that does it. Broken
//! off anywhere, the wish is either still there, to be done, or done.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shopstream_domain::{StreamId, Version};
use tokio::time::{Instant, sleep};
use tokio_postgres::GenericClient;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Keeper, Obstacle, Parked, obstacle, unreadable};
use crate::column::{Column, Unreadable};
use crate::{Database, DatabaseError, Projection};

/// Told whenever somebody wishes something.
pub(crate) const CHANNEL: &str = "shopstream_parked";
/// Wishes that are looked up at once.
pub(crate) const WISHES: usize = 100;
/// Between two looks at what came of a wish.
const LOOK: Duration = Duration::from_millis(50);

/// What is to be done with a parked aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Wish {
    /// Everything that waits is folded, in order.
    Retry,
    /// The event at which it is parked is left out for ever; then everything behind it is folded.
    Skip {
        /// The version of that event: an aggregate that is parked elsewhere by then is left as it is.
        version: Version,
        /// Why that may be.
        reason: String,
        /// Who says so.
        by: String,
    },
}

/// A wish as it is kept. The id tells it from the same wish of somebody else.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    id: Uuid,
    #[serde(flatten)]
    wish: Wish,
}

/// Why it is not known that a wish was done.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is nothing to do.
    #[error("{keeper} has not parked {stream}")]
    NotParked {
        /// Who was asked.
        keeper: Keeper,
        /// About what.
        stream: StreamId,
    },
    /// Another event is in the way than the one to be skipped.
    #[error("{} is parked at version {}, not {asked}", parked.stream, parked.obstacle.version)]
    Elsewhere {
        /// The version that was to be skipped.
        asked: Version,
        /// Where it is parked.
        parked: Box<Parked>,
    },
    /// Somebody else has wished something else meanwhile.
    #[error("another wish for {stream} has taken the place of this one")]
    Replaced {
        /// The aggregate.
        stream: StreamId,
    },
    /// The keeper has not come to it yet. The wish stays.
    #[error("{keeper} has not come to it yet")]
    Waits {
        /// Who will do it.
        keeper: Keeper,
    },
    /// The database does not answer; the wish may have been noted.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Database {
    /// Wishes something for an aggregate and waits until its keeper has done it. `None`: the aggregate is released,
    /// everything that waited is folded. Else where it is parked now, and why. Asked again, a skip that was done is not
    /// done twice.
    ///
    /// # Errors
    /// See [`ReleaseError`].
    pub async fn release(
        &self,
        keeper: Keeper,
        stream: &StreamId,
        wish: Wish,
        deadline: Instant,
    ) -> Result<Option<Parked>, ReleaseError> {
        let noted = Noted { id: Uuid::new_v4(), wish };
        if !self.note(keeper, stream, &noted).await? {
            return match noted.wish {
                Wish::Retry => Err(ReleaseError::NotParked { keeper, stream: stream.clone() }),
                Wish::Skip { version, .. } => self.after_skip(keeper, stream, version).await,
            };
        }
        loop {
            match self.noted(keeper, stream).await? {
                Some(id) if id == noted.id => {}
                Some(_) => return Err(ReleaseError::Replaced { stream: stream.clone() }),
                None => break,
            }
            if Instant::now() >= deadline {
                return Err(ReleaseError::Waits { keeper });
            }
            sleep(LOOK).await;
        }
        match noted.wish {
            Wish::Retry => Ok(self.parked_one(keeper, stream).await?),
            Wish::Skip { version, .. } => self.after_skip(keeper, stream, version).await,
        }
    }

    /// Writes a wish down and tells the keeper; `false`: there is nothing that it would be about.
    async fn note(&self, keeper: Keeper, stream: &StreamId, noted: &Noted) -> Result<bool, DatabaseError> {
        let version = match &noted.wish {
            Wish::Retry => None,
            Wish::Skip { version, .. } => Some(version.wire()),
        };
        let sql = format!(
            "WITH noted AS (UPDATE parked SET wish = $3 WHERE projection = $1 AND stream_id = $2 \
             AND epoch = coalesce((SELECT active_epoch FROM read_model WHERE projection = $1), 1) \
             AND ($4::int8 IS NULL OR from_version = $4) RETURNING 1) \
             SELECT pg_notify('{CHANNEL}', '') FROM noted"
        );
        let client = self.client().await?;
        let told = client.query(&sql, &[&keeper.name(), &stream.as_str(), &Json(noted), &version]).await?;
        Ok(!told.is_empty())
    }

    /// The wish that waits for an aggregate.
    async fn noted(&self, keeper: Keeper, stream: &StreamId) -> Result<Option<Uuid>, DatabaseError> {
        let sql = "SELECT (wish ->> 'id')::uuid FROM parked WHERE projection = $1 AND stream_id = $2 \
             AND epoch = coalesce((SELECT active_epoch FROM read_model WHERE projection = $1), 1)";
        let rows = self.reader().query(sql, &[&keeper.name(), &stream.as_str()]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// What a skip has come to, by what is written.
    async fn after_skip(
        &self,
        keeper: Keeper,
        stream: &StreamId,
        version: Version,
    ) -> Result<Option<Parked>, ReleaseError> {
        let parked = self.parked_one(keeper, stream).await?;
        if self.is_skipped(keeper, stream, version).await? {
            return Ok(parked);
        }
        Err(match parked {
            Some(parked) => ReleaseError::Elsewhere { asked: version, parked: Box::new(parked) },
            None => ReleaseError::NotParked { keeper, stream: stream.clone() },
        })
    }
}

/// The parked aggregates of a keeper for which there is something to do, behind `after` in the order of their names; at most
/// [`WISHES`]. Also those that wait at an event that was skipped: another epoch of the view did that.
pub(crate) async fn wished(
    client: &impl GenericClient,
    keeper: Keeper,
    epoch: u32,
    after: Option<&StreamId>,
) -> Result<Vec<StreamId>, DatabaseError> {
    let sql = "SELECT p.stream_id FROM parked AS p WHERE p.projection = $1 AND p.epoch = $2 \
         AND (p.wish IS NOT NULL OR EXISTS (SELECT FROM skipped AS s WHERE s.projection = p.projection \
         AND s.stream_id = p.stream_id AND s.version = p.from_version)) \
         AND ($3::text IS NULL OR p.stream_id > $3) ORDER BY p.stream_id LIMIT $4";
    let after = after.map(StreamId::as_str);
    let rows = client.query(sql, &[&keeper.name(), &(epoch as i32), &after, &(WISHES as i64)]).await?;
    rows.iter().map(|row| StreamId::read(row.try_get(0)?).map_err(unreadable)).collect()
}

/// Takes hold of a parked aggregate until the end of the transaction; `None`: it is not parked any more.
pub(crate) async fn lock(
    client: &impl GenericClient,
    projection: Projection,
    epoch: u32,
    stream: &StreamId,
) -> Result<Option<(Obstacle, Option<Wish>)>, DatabaseError> {
    let sql = "SELECT stream_id, from_version, partition, \"offset\", reason, wish FROM parked \
         WHERE projection = $1 AND epoch = $2 AND stream_id = $3 FOR UPDATE";
    let row = client.query_opt(sql, &[&projection.name(), &(epoch as i32), &stream.as_str()]).await?;
    let read = |row: tokio_postgres::Row| -> Result<_, Unreadable> {
        let wish = row.try_get::<_, Option<Json<Noted>>>(5)?.map(|noted| noted.0.wish);
        Ok((obstacle(&row, 0)?, wish))
    };
    row.map(|row| read(row).map_err(unreadable)).transpose()
}

/// Notes that an aggregate is parked no more.
pub(crate) async fn free(
    client: &impl GenericClient,
    keeper: Keeper,
    epoch: u32,
    stream: &StreamId,
) -> Result<(), DatabaseError> {
    let sql = "DELETE FROM parked WHERE projection = $1 AND epoch = $2 AND stream_id = $3";
    client.execute(sql, &[&keeper.name(), &(epoch as i32), &stream.as_str()]).await?;
    Ok(())
}
