//! What a view is: tables, and for each a pure fold from events to rows.
//!
//! A batch is folded in three steps: the rows of all streams that it touches are loaded at once, every event is
//! folded in memory, and what changed is written back at once. So a row is written once per batch however many of
//! its events came, and a fold never waits for anything.

mod derived;
mod entity;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use shopstream_domain::model::Event;
use shopstream_domain::{StreamId, StreamKind, Timestamp, Version};
use shopstream_eventlog::{CommitRecord, Position};

pub(crate) use self::derived::{Derived, DerivedRows};
pub(crate) use self::entity::{Entity, EntityRows, Mark, marked};
use crate::DatabaseError;
use crate::memory::MemoryTable;

/// One event, with where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fact<'a> {
    pub(crate) record: &'a CommitRecord,
    pub(crate) event: &'a Event,
    /// The event's place in its commit.
    pub(crate) index: usize,
    /// The lowest version that its stream may be at before it: one less than its own, or further down where events
    /// between were left out.
    pub(crate) follows: Version,
}

impl<'a> Fact<'a> {
    pub(crate) fn new(record: &'a CommitRecord, event: &'a Event, index: usize) -> Self {
        let version = record.commit.first_version + index as Version;
        Self { record, event, index, follows: version.saturating_sub(1) }
    }

    /// Whether a stream at `known` has everything that came before.
    pub(crate) fn joins(&self, known: Version) -> bool {
        (self.follows..self.version()).contains(&known)
    }

    pub(crate) fn stream(&self) -> &'a StreamId {
        &self.record.commit.stream
    }

    pub(crate) fn version(&self) -> Version {
        self.record.commit.first_version + self.index as Version
    }

    pub(crate) fn position(&self) -> Position {
        self.record.position
    }

    pub(crate) fn recorded_at(&self) -> Timestamp {
        self.record.commit.recorded_at
    }

    /// When it was true in the business.
    pub(crate) fn effective_at(&self) -> Timestamp {
        self.record.commit.effective_at.unwrap_or(self.record.commit.recorded_at)
    }
}

/// An event that a view cannot fold: a bug of the domain's or ours. The aggregate is parked in that view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Poison {
    #[error("version {found} follows version {known}")]
    Gap { known: Version, found: Version },
    #[error("a {event_type} begins no row")]
    NoRow { event_type: &'static str },
    #[error("a {event_type} came a second time")]
    Repeated { event_type: &'static str },
    #[error("{field} overflows")]
    Overflow { field: &'static str },
    #[error("{id:?} is not the id of a {kind}")]
    Id { kind: &'static str, id: String },
    #[error("a {event_type} does not belong to a stream of this kind")]
    Foreign { event_type: &'static str },
    #[error("{detail}")]
    Undecodable { detail: String },
}

impl Poison {
    pub(crate) fn no_row(event: &Event) -> Self {
        Self::NoRow { event_type: event.event_type() }
    }

    pub(crate) fn repeated(event: &Event) -> Self {
        Self::Repeated { event_type: event.event_type() }
    }

    pub(crate) fn foreign(event: &Event) -> Self {
        Self::Foreign { event_type: event.event_type() }
    }
}

/// One table of a view, in the course of one batch: load, fold each fact, save.
#[async_trait]
pub(crate) trait Part: Send {
    /// The kinds of stream it wants to see.
    fn kinds(&self) -> &'static [StreamKind];

    /// The table's name, without its schema.
    fn table(&self) -> &'static str;

    /// The columns of its key, comma-separated.
    fn key(&self) -> String;

    /// Makes the table and its indexes.
    fn create(&self) -> &str;

    /// Loads what the fold of `facts` will look at.
    async fn load(&mut self, transaction: &Transaction<'_>, facts: &[Fact<'_>]) -> Result<(), DatabaseError>;

    /// Folds one fact of a wanted kind. On an error nothing has changed.
    fn fold(&mut self, fact: &Fact<'_>) -> Result<(), Poison>;

    /// Writes what changed since the load, forgets everything, and answers how many rows it were.
    async fn save(&mut self, transaction: &Transaction<'_>) -> Result<u64, DatabaseError>;

    /// Forgets what was loaded and folded: the transaction failed.
    fn forget(&mut self);

    /// The same table, still empty, in memory.
    fn in_memory(&self) -> Box<dyn MemoryTable>;
}
