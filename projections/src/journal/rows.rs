//! From rows of the journal back to commits.

use bytes::Bytes;
use rustc_hash::FxHashMap;
use shopstream_domain::{StreamId, Version};
use shopstream_eventlog::{CommandId, Commit, CommitRecord, EventData, JournalError, Position};
use tokio_postgres::Row;

use super::held::{give_json, give_text};
use crate::column::{Column, Instant, RawJson, Unreadable};

/// What [`Collector`] reads, of the journal aliased `j`.
pub(super) const COLUMNS: &str = "j.stream_id, j.version, j.index_in_commit, j.event_type, j.schema_version, \
     j.payload, j.partition, j.\"offset\", j.epoch, j.command_id, j.body_hash, j.actor, j.correlation_id, \
     j.causation_id, j.traceparent, j.recorded_at, j.effective_at";

/// Gathers rows, ordered by stream and version, into commits.
#[derive(Default)]
pub(super) struct Collector {
    commits: Vec<CommitRecord>,
}

impl Collector {
    /// Takes the next row.
    pub(super) fn push(&mut self, row: &Row) -> Result<(), JournalError> {
        self.try_push(row).map_err(|error| JournalError::Damaged {
            stream: row.try_get(0).unwrap_or_default(),
            detail: error.to_string(),
        })
    }

    fn try_push(&mut self, row: &Row) -> Result<(), Unreadable> {
        let event = EventData {
            event_type: give_text(row.try_get(3)?),
            schema_version: row.try_get::<_, i32>(4)?.try_into()?,
            payload: Bytes::copy_from_slice(&give_json(row.try_get::<_, RawJson<'_>>(5)?.0)),
        };
        let index: i32 = row.try_get(2)?;
        if index > 0 {
            let commit = &mut self.commits.last_mut().ok_or("it begins in the middle of a commit")?.commit;
            if commit.events.len() as i64 != i64::from(index) {
                return Err(
                    format!("event {index} of a commit follows event {}", commit.events.len() - 1).into()
                );
            }
            commit.events.push(event);
            return Ok(());
        }
        let commit = Commit {
            stream: StreamId::read(row.try_get(0)?)?,
            first_version: Version::read(row.try_get(1)?)?,
            command_id: CommandId(row.try_get(9)?),
            // The same bits: Postgres has no unsigned numbers.
            body_hash: row.try_get::<_, i64>(10)? as u64,
            actor: give_text(row.try_get(11)?),
            correlation_id: give_text(row.try_get(12)?),
            causation_id: give_text(row.try_get(13)?),
            traceparent: give_text(row.try_get(14)?),
            recorded_at: row.try_get::<_, Instant>(15)?.0,
            effective_at: row.try_get::<_, Option<Instant>>(16)?.map(|at| at.0),
            events: vec![event],
        };
        let position =
            Position { partition: u16::read(row.try_get(6)?)?, offset: u64::read(row.try_get(7)?)? };
        self.commits.push(CommitRecord { position, epoch: u64::read(row.try_get(8)?)?, commit });
        Ok(())
    }

    /// The commits.
    pub(super) fn finish(self) -> Vec<CommitRecord> {
        self.commits
    }

    /// The commits of each stream, without a gap, and from its first event on except where it `begins_later`.
    pub(super) fn finish_streams(
        self,
        begins_later: impl Fn(&StreamId) -> bool,
    ) -> Result<FxHashMap<StreamId, Vec<CommitRecord>>, JournalError> {
        let mut streams: FxHashMap<StreamId, Vec<CommitRecord>> = FxHashMap::default();
        for record in self.commits {
            let history = streams.entry(record.commit.stream.clone()).or_default();
            let expected = match history.last() {
                Some(before) => before.commit.last_version() + 1,
                None if begins_later(&record.commit.stream) => record.commit.first_version,
                None => 1,
            };
            if record.commit.first_version != expected {
                return Err(JournalError::Damaged {
                    stream: record.commit.stream.to_string(),
                    detail: format!("version {} is where {expected} should be", record.commit.first_version),
                });
            }
            history.push(record);
        }
        Ok(streams)
    }
}
