//! A run of commits, decoded once for all views.

use shopstream_domain::model::Event;
use shopstream_domain::{Partition, Timestamp, Version};
use shopstream_eventlog::{self as eventlog, CommitRecord, Cursor, EventData, Offset, schema};

use crate::view::Fact;

/// Commits of several partitions, per partition without a gap.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    commits: Vec<CommitRecord>,
    /// In the order of the commits.
    events: Vec<Decoded>,
    /// Where the batch begins, for each partition that it moves.
    from: Vec<(Partition, Offset)>,
    /// Where it ends, for the same.
    to: Vec<Cursor>,
}

/// One event of a batch.
#[derive(Debug)]
struct Decoded {
    commit: usize,
    index: usize,
    event: Result<Event, String>,
}

/// What a view is given to fold.
pub(crate) enum Item<'a> {
    Fact(Fact<'a>),
    /// An event that this program cannot read.
    Undecodable {
        record: &'a CommitRecord,
        index: usize,
        detail: &'a str,
    },
}

impl Batch {
    /// Nothing, at some point of the log: tells a view what it must have before what follows.
    pub(crate) fn empty(at: &[Cursor]) -> Self {
        let from = at.iter().map(|cursor| (cursor.partition, cursor.next)).collect();
        Self { from, ..Self::default() }
    }

    /// Decodes what was read from `before` on, one cursor per partition of it at least.
    pub(crate) fn decode(read: eventlog::Batch, before: &[Cursor]) -> Self {
        let from = read
            .cursors
            .iter()
            .filter_map(|after| before.iter().find(|cursor| cursor.partition == after.partition))
            .map(|cursor| (cursor.partition, cursor.next))
            .collect();
        Self { from, to: read.cursors, ..Self::of(read.commits) }
    }

    /// Decodes these, which move no partition.
    pub(crate) fn of(commits: Vec<CommitRecord>) -> Self {
        let mut events = Vec::with_capacity(commits.len());
        for (commit, record) in commits.iter().enumerate() {
            for (index, data) in record.commit.events.iter().enumerate() {
                events.push(Decoded { commit, index, event: decode(record, data) });
            }
        }
        Self { commits, events, ..Self::default() }
    }

    pub(crate) fn from(&self) -> &[(Partition, Offset)] {
        &self.from
    }

    pub(crate) fn to(&self) -> &[Cursor] {
        &self.to
    }

    /// When the newest commit was recorded.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.commits.iter().map(|record| record.commit.recorded_at).max()
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.events.iter().map(|decoded| {
            let record = &self.commits[decoded.commit];
            match &decoded.event {
                Ok(event) => Item::Fact(Fact::new(record, event, decoded.index)),
                Err(detail) => Item::Undecodable { record, index: decoded.index, detail },
            }
        })
    }
}

impl<'a> Item<'a> {
    pub(crate) fn record(&self) -> &'a CommitRecord {
        match self {
            Self::Fact(fact) => fact.record,
            Self::Undecodable { record, .. } => record,
        }
    }

    pub(crate) fn version(&self) -> Version {
        let index = match self {
            Self::Fact(fact) => fact.index,
            Self::Undecodable { index, .. } => *index,
        };
        self.record().commit.first_version + index as Version
    }
}

/// The event of a record's stream that `data` is stored as, or why it cannot be read.
pub(crate) fn decode(record: &CommitRecord, data: &EventData) -> Result<Event, String> {
    schema::decode(record.commit.stream.kind(), data).map_err(|error| explain(&error))
}

/// An error with its causes.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
