//! Events that an operator has had left out of a projection, for ever: in every epoch, so that a replay comes to the
//! same rows.

use rustc_hash::FxHashMap;
use shopstream_domain::text::{ACCOUNT, LABEL};
use shopstream_domain::{StreamId, Timestamp, Version};
use shopstream_eventlog::CommandId;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::{Keeper, Obstacle, keeper, obstacle};
use crate::batch::Item;
use crate::column::{Column, Instant, Unreadable};
use crate::{Database, DatabaseError, Projection};

/// An event that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Of what.
    pub keeper: Keeper,
    /// The event, and why it could not be folded.
    pub obstacle: Obstacle,
    /// Why that may be.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Database {
    /// The events left out of all projections, or of one, ordered by the names of projection and stream and by version,
    /// from behind `after` on, at most `limit`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn skipped(
        &self,
        keeper: Option<Keeper>,
        after: Option<(Keeper, &StreamId, Version)>,
        limit: u32,
    ) -> Result<Vec<Skipped>, DatabaseError> {
        let sql = "SELECT projection, stream_id, version, partition, \"offset\", obstacle, reason, skipped_by, skipped_at \
             FROM skipped WHERE ($1::text IS NULL OR projection = $1) \
             AND ($2::text IS NULL OR (projection, stream_id, version) > ($2, $3, $4)) \
             ORDER BY projection, stream_id, version LIMIT $5";
        let name = keeper.map(Keeper::name);
        let after_name = after.map(|(keeper, ..)| keeper.name());
        let after_stream = after.map(|(_, stream, _)| stream.as_str());
        let after_version = after.map(|(.., version)| version.wire());
        let rows = self
            .reader()
            .query(sql, &[&name, &after_name, &after_stream, &after_version, &i64::from(limit)])
            .await?;
        rows.iter().map(|row| read(row).map_err(unreadable)).collect()
    }

    pub(super) async fn is_skipped(
        &self,
        keeper: Keeper,
        stream: &StreamId,
        version: Version,
    ) -> Result<bool, DatabaseError> {
        let sql = "SELECT 1 FROM skipped WHERE projection = $1 AND stream_id = $2 AND version = $3 LIMIT 1";
        let rows = self.reader().query(sql, &[&keeper.name(), &stream.as_str(), &version.wire()]).await?;
        Ok(!rows.is_empty())
    }
}

fn unreadable(source: Unreadable) -> DatabaseError {
    DatabaseError::Unreadable { table: "skipped", source }
}

fn read(row: &tokio_postgres::Row) -> Result<Skipped, Unreadable> {
    Ok(Skipped {
        keeper: keeper(row, 0)?,
        obstacle: obstacle(row, 1)?,
        reason: row.try_get(6)?,
        by: row.try_get(7)?,
        at: row.try_get::<_, Instant>(8)?.0,
    })
}

/// What one view leaves out. Hardly ever anything.
#[derive(Debug, Default)]
pub(crate) struct LeftOut(FxHashMap<StreamId, Vec<(Version, CommandId)>>);

impl LeftOut {
    /// What has been left out of a view so far.
    pub(crate) async fn load(
        client: &impl GenericClient,
        projection: Projection,
    ) -> Result<Self, DatabaseError> {
        let sql = "SELECT stream_id, version, command_id FROM skipped WHERE projection = $1";
        let mut left_out = Self::default();
        for row in client.query(sql, &[&projection.name()]).await? {
            let stream = StreamId::read(row.try_get(0)?).map_err(unreadable)?;
            let version = Version::read(row.try_get(1)?).map_err(unreadable)?;
            left_out.0.entry(stream).or_default().push((version, CommandId(row.try_get(2)?)));
        }
        Ok(left_out)
    }

    /// Notes for ever that the event at which a view's aggregate is parked is left out; `false`: the journal has no such
    /// event.
    pub(crate) async fn add(
        &mut self,
        client: &impl GenericClient,
        projection: Projection,
        obstacle: &Obstacle,
        (reason, by): (&str, &str),
    ) -> Result<bool, DatabaseError> {
        let sql = "INSERT INTO skipped (projection, tenant_id, stream_id, version, command_id, partition, \"offset\", \
             obstacle, reason, skipped_by) \
             SELECT $1, j.tenant_id, j.stream_id, j.version, j.command_id, j.partition, j.\"offset\", $4, $5, $6 \
             FROM journal AS j WHERE j.stream_id = $2 AND j.version = $3 \
             ON CONFLICT (projection, stream_id, version, command_id) DO UPDATE SET obstacle = skipped.obstacle \
             RETURNING command_id";
        let Obstacle { stream, version, reason: why, .. } = obstacle;
        let row = client
            .query_opt(
                sql,
                &[
                    &projection.name(),
                    &stream.as_str(),
                    &version.wire(),
                    why,
                    &ACCOUNT.tidy(reason),
                    &LABEL.tidy(by),
                ],
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let command: Uuid = row.try_get(0)?;
        self.0.entry(stream.clone()).or_default().push((*version, CommandId(command)));
        Ok(true)
    }

    /// Whether an event is left out.
    pub(crate) fn has(&self, item: &Item<'_>) -> bool {
        let commit = &item.record().commit;
        let event = (item.version(), commit.command_id);
        self.0.get(&commit.stream).is_some_and(|left_out| left_out.contains(&event))
    }

    /// The event as it follows those that are not left out.
    pub(crate) fn close_gap<'a>(&self, item: Item<'a>) -> Item<'a> {
        let Some(left_out) = self.0.get(&item.record().commit.stream) else { return item };
        match item {
            Item::Fact(mut fact) => {
                while left_out.iter().any(|(version, _)| *version == fact.follows) {
                    fact.follows -= 1;
                }
                Item::Fact(fact)
            }
            undecodable @ Item::Undecodable { .. } => undecodable,
        }
    }
}
