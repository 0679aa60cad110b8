//! I17: everything that was ever written can still be read.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use shopstream_domain::StreamKind;
use shopstream_domain::model::Event;
use shopstream_domain::requests::NothingChanged;
use shopstream_eventlog::{EventData, schema};

use super::log::LogImage;
use super::{Invariant, Verdict};

/// A payload as it was once written.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Its file.
    pub name: String,
    /// What it is.
    pub event: EventData,
}

/// The files of `domain/fixtures`: one or more of every event version that ever left the building.
///
/// # Panics
/// They are not there, or one is not named `Event.v1.json`.
pub fn corpus() -> Vec<Golden> {
    let mut corpus = Vec::new();
    let folder = crate::repository().join("domain/fixtures");
    let read = |path: &std::path::Path| {
        std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    for context in read(&folder) {
        for file in read(&context.expect("an entry").path()) {
            let path = file.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            let mut parts = name.split('.');
            let (event_type, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let event = EventData {
                event_type: event_type.to_owned(),
                schema_version: version.trim_start_matches('v').parse().expect("a version in the name"),
                payload: Bytes::from(std::fs::read(&path).expect("a file")),
            };
            corpus.push(Golden { name, event });
        }
    }
    corpus
}

/// Every event of the log and of the corpus decodes; one of today's version says, written again, the same; and no event
/// is on the log whose version the corpus lacks.
pub fn readable(log: &LogImage, corpus: &[Golden]) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I17);
    let mut known = BTreeSet::new();
    for Golden { name, event } in corpus {
        known.insert((event.event_type.clone(), event.schema_version));
        match home(&event.event_type) {
            Some(kind) => judge(kind, event, || name.clone(), &mut verdict),
            None => verdict.check(false, || format!("{name}: no stream has such events")),
        }
    }
    for (entry, commit) in log.commits() {
        for event in &commit.events {
            let place = || format!("{} {} in {}", entry.position, event.event_type, commit.stream);
            judge(commit.stream.kind(), event, place, &mut verdict);
            verdict.check(known.contains(&(event.event_type.clone(), event.schema_version)), || {
                format!("{}: the corpus has no version {} of it", place(), event.schema_version)
            });
        }
    }
    verdict
}

fn judge(kind: StreamKind, data: &EventData, place: impl Fn() -> String, verdict: &mut Verdict) {
    match schema::decode(kind, data) {
        Ok(event) if event.schema_version() == data.schema_version => {
            let json = |payload: &[u8]| serde_json::from_slice::<Value>(payload).ok();
            verdict.check(json(&event.encode()) == json(&data.payload), || {
                format!("{}: reads as something else than it says", place())
            });
        }
        Ok(_) => verdict.check(true, String::new),
        Err(error) => verdict.check(false, || format!("{}: {error}", place())),
    }
}

/// The kind of stream that has events of this name.
fn home(event_type: &str) -> Option<StreamKind> {
    if event_type == NothingChanged::TYPE.0 {
        // Any has.
        return Some(StreamKind::Request);
    }
    StreamKind::ALL.into_iter().find(|kind| Event::types(*kind).iter().any(|(name, _)| *name == event_type))
}
