//! What was ever written stays readable: one golden file per event type and schema version.
//!
//! `fixtures/<context>/<EventType>.v<version>.json` holds a payload with every field; a further word before `.json`
//! names another form of it, such as `StockReserved.v1.minimal.json`. A file that has once been committed never
//! changes: another shape is another version.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shopstream_domain::model::{Event, State};
use shopstream_domain::requests::NothingChanged;
use shopstream_domain::{Context, StreamKind};

struct Fixture {
    path: PathBuf,
    event_type: String,
    version: u16,
}

fn folder(context: Context) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(context.name())
}

fn fixtures(context: Context) -> Vec<Fixture> {
    let Ok(entries) = fs::read_dir(folder(context)) else { return vec![] };
    let mut fixtures: Vec<_> = entries.map(|entry| fixture(entry.unwrap().path())).collect();
    fixtures.sort_by(|a, b| a.path.cmp(&b.path));
    fixtures
}

fn fixture(path: PathBuf) -> Fixture {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap().to_owned();
    let mut parts = name.strip_suffix(".json").unwrap_or_else(|| panic!("{name} is no JSON file")).split('.');
    let event_type = parts.next().unwrap().to_owned();
    let version = parts.next().and_then(|part| part.strip_prefix('v')).and_then(|digits| digits.parse().ok());
    Fixture { event_type, version: version.unwrap_or_else(|| panic!("{name} has no version")), path }
}

fn kinds(context: Context) -> impl Iterator<Item = StreamKind> {
    StreamKind::ALL.into_iter().filter(move |kind| kind.context() == context)
}

/// The kind of stream of `context` that holds events of this type, and the version that is written today.
fn home(context: Context, event_type: &str) -> Option<(StreamKind, u16)> {
    if (context, event_type) == (Context::Requests, NothingChanged::TYPE.0) {
        return Some((StreamKind::Request, NothingChanged::TYPE.1));
    }
    kinds(context).find_map(|kind| {
        let (_, version) = Event::types(kind).iter().find(|(name, _)| *name == event_type)?;
        Some((kind, *version))
    })
}

#[test]
fn every_golden_event_reads_back_as_it_was_written() {
    for context in Context::ALL {
        for Fixture { path, event_type, version } in fixtures(context) {
            let name = path.display();
            let (kind, current) =
                home(context, &event_type).unwrap_or_else(|| panic!("{name}: no such event"));
            assert!(version <= current, "{name} is of the future");
            if version < current {
                // Older shapes are lifted by the upcasters of `eventlog`, which reads the same files.
                continue;
            }
            let golden = fs::read(&path).unwrap();
            let event = Event::decode(kind, &event_type, &golden).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            let written: Value = serde_json::from_slice(&event.encode()).unwrap();
            let golden: Value = serde_json::from_slice(&golden).unwrap();
            assert_eq!(written, golden, "{name}");
            assert_eq!((event.event_type(), event.schema_version()), (event_type.as_str(), version));
        }
    }
}

#[test]
fn every_event_version_has_a_golden_file() {
    let mut missing = vec![];
    for context in Context::ALL {
        for (event_type, current) in kinds(context).flat_map(Event::types) {
            let files = (1..=*current).map(|n| folder(context).join(format!("{event_type}.v{n}.json")));
            missing.extend(files.filter(|file| !file.is_file()));
        }
    }
    assert!(missing.is_empty(), "no golden file: {missing:#?}");
}

#[test]
fn every_kind_of_stream_has_the_event_that_changes_nothing() {
    let (name, version) = NothingChanged::TYPE;
    let golden = fs::read(folder(Context::Requests).join(format!("{name}.v{version}.json"))).unwrap();
    for kind in StreamKind::ALL {
        let event = Event::decode(kind, name, &golden).unwrap();
        let mut state = State::empty(kind);
        state.evolve(&event);
        assert_eq!((event, state), (Event::Nothing(NothingChanged {}), State::empty(kind)));
    }
}

#[test]
fn no_two_events_share_a_name() {
    let mut names = BTreeSet::from([NothingChanged::TYPE.0]);
    for (name, _) in StreamKind::ALL.into_iter().flat_map(Event::types) {
        assert!(names.insert(*name), "{name} is the name of two events");
    }
}

#[test]
fn every_context_has_its_folder_and_no_other() {
    let entries = fs::read_dir(folder(Context::Catalog).parent().unwrap()).unwrap();
    let found: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, Context::ALL.map(|context| context.name().to_owned()).into_iter().collect());
}
