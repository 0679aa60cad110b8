//! The rows of views, for whoever has commits that a view may not have yet.

use shopstream_domain::{StreamKind, Version};
use shopstream_eventlog::{CommitRecord, Position};

use crate::Obstacle;
use crate::batch::decode;
use crate::view::{Entity, Fact, Poison};

/// A row that one stream makes: folded from its events by the rules of the view that keeps it.
pub trait StreamRow: Clone + Send + Sync + 'static {
    /// Of which kind the stream is.
    const KIND: StreamKind;

    /// The version of the last event that is in the row.
    fn version(&self) -> Version;

    /// Where that event is.
    fn position(&self) -> Position;

    /// Takes a row past the event at `index` of `record`; a stream begins without a row.
    ///
    /// # Errors
    /// The event cannot be read or folded, or is not the next one. The row is as before.
    fn fold(row: &mut Option<Self>, record: &CommitRecord, index: usize) -> Result<(), Obstacle>;
}

impl<E: Entity + Clone> StreamRow for E {
    const KIND: StreamKind = <E as Entity>::KIND;

    fn version(&self) -> Version {
        Entity::version(self)
    }

    fn position(&self) -> Position {
        Entity::position(self)
    }

    fn fold(row: &mut Option<Self>, record: &CommitRecord, index: usize) -> Result<(), Obstacle> {
        let read = match record.commit.events.get(index) {
            Some(data) => decode(record, data),
            None => Err(format!("the commit has {} events", record.commit.events.len())),
        };
        let folded = match read {
            Ok(event) => Entity::fold(row, &Fact::new(record, &event, index)),
            Err(detail) => Err(Poison::Undecodable { detail }),
        };
        folded.map_err(|poison| Obstacle {
            stream: record.commit.stream.clone(),
            version: record.commit.first_version + index as Version,
            position: record.position,
            reason: poison.to_string(),
        })
    }
}
