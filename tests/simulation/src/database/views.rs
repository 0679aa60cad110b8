//! What the read models would show: every stream's state, and which of them have unfinished work.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use shopstream_domain::model::State;
use shopstream_domain::{StreamId, Version};
use shopstream_eventlog::{CommitRecord, schema};
use shopstream_sagas::ports::Unfinished;
use shopstream_sagas::testing::note_unfinished;
use tracing::debug;

#[derive(Default)]
pub(super) struct Views {
    states: FxHashMap<StreamId, (State, Version)>,
    open: BTreeSet<StreamId>,
}

impl Views {
    pub(super) fn fold(&mut self, record: &CommitRecord) {
        let stream = &record.commit.stream;
        debug!(%stream, at = %record.position, "{}", told(record));
        let empty = || (State::empty(stream.kind()), 0);
        let (state, version) = self.states.entry(stream.clone()).or_insert_with(empty);
        for data in &record.commit.events {
            // What does not decode is for the checkers, who read the log themselves.
            if let Ok(event) = schema::decode(stream.kind(), data) {
                state.evolve(&event);
            }
        }
        *version = record.commit.last_version();
        let mut unfinished = Unfinished::default();
        note_unfinished(stream, state, &mut unfinished);
        if unfinished == Unfinished::default() {
            self.open.remove(stream);
        } else {
            self.open.insert(stream.clone());
        }
    }

    pub(super) fn of(&self, stream: &StreamId) -> Option<(&State, Version)> {
        self.states.get(stream).map(|(state, version)| (state, *version))
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &StreamId> {
        self.open.iter()
    }

    pub(super) fn unfinished(&self) -> Unfinished {
        let mut unfinished = Unfinished::default();
        for stream in &self.open {
            if let Some((state, _)) = self.of(stream) {
                note_unfinished(stream, state, &mut unfinished);
            }
        }
        unfinished
    }
}

/// A commit for people.
fn told(record: &CommitRecord) -> String {
    let events = record.commit.events.iter();
    let told =
        events.map(|event| format!("{} {}", event.event_type, String::from_utf8_lossy(&event.payload)));
    format!("{}: {}", record.commit.actor, told.collect::<Vec<_>>().join(", "))
}
