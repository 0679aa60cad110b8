//! I10, I11 and I13: what the database holds, and what clients read of it, against the log.

use std::collections::BTreeMap;

use shopstream_domain::{Timestamp, Version};
use shopstream_eventlog::{Commit, Cursor, Position};

use super::dump::{Dump, JournalRow};
use super::history::{History, QueryCall};
use super::log::{Entry, LogImage};
use super::{Invariant, Verdict};

/// The one reader that is not a read model.
const JOURNAL: &str = "journal";

/// I10: every table holds the very rows that a replay of the log makes: up to the cursors of its reader, or, at rest, to
/// the end of the log.
pub fn replayed(database: &Dump, replay: &BTreeMap<String, Vec<String>>) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I10);
    let names = |tables: &BTreeMap<String, Vec<String>>| tables.keys().cloned().collect::<Vec<_>>();
    let (ours, theirs) = (names(&database.tables), names(replay));
    verdict.check(ours == theirs, || format!("the tables are {ours:?}, in the replay {theirs:?}"));
    for (table, rows) in &database.tables {
        let Some(replayed) = replay.get(table) else { continue };
        let first = rows.iter().zip(replayed).find(|(row, again)| row != again);
        verdict.check(rows == replayed, || {
            let rows = (rows.len(), replayed.len());
            format!("{table}: {} rows, {} in the replay; the first that differ: {first:?}", rows.0, rows.1)
        });
        verdict.checked += rows.len() as u64;
    }
    verdict
}

/// I11: every checkpoint is the fold of the log at that place, and the journal has exactly the events before its own; at
/// rest that is all of them. (A read model's checkpoint moves with its rows, so it may rest before records that are
/// nothing to it.)
pub fn placed(database: &Dump, log: &LogImage, at_rest: bool) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I11);
    for (reader, cursors) in &database.cursors {
        for cursor in cursors {
            let Cursor { partition, next, .. } = *cursor;
            let folded = log.cursor(partition, next);
            verdict.check(folded == Some(*cursor), || {
                format!("{reader} is at {cursor:?}, where the log has {folded:?}")
            });
        }
    }
    let journal = database.cursors.get(JOURNAL).map_or(&[][..], Vec::as_slice);
    let mut expected: Vec<JournalRow> =
        log.commits().filter(|(entry, _)| is_before(entry.position, journal)).flat_map(rows).collect();
    expected.sort_by(|a, b| (&a.stream, a.version).cmp(&(&b.stream, b.version)));
    let (found, wanted) = (database.journal.len(), expected.len());
    verdict.check(found == wanted, || format!("the journal has {found} events, the log {wanted}"));
    let events = || log.commits().map(|(_, commit)| commit.events.len()).sum::<usize>();
    verdict
        .check(!at_rest || wanted == events(), || format!("the journal is {wanted} of {} events", events()));
    for (row, wanted) in database.journal.iter().zip(&expected) {
        verdict.check(row == wanted, || format!("the journal has {row:?}, the log {wanted:?}"));
    }
    verdict
}

fn is_before(position: Position, cursors: &[Cursor]) -> bool {
    cursors.iter().any(|cursor| cursor.partition == position.partition && position.offset < cursor.next)
}

/// The rows that a commit makes in the journal.
fn rows<'a>((entry, commit): (&'a Entry, &'a Commit)) -> impl Iterator<Item = JournalRow> + 'a {
    let origin =
        [&commit.actor, &commit.correlation_id, &commit.causation_id, &commit.traceparent].map(String::clone);
    (0..).zip(&commit.events).map(move |(index, event)| JournalRow {
        tenant: commit.stream.tenant_str().to_owned(),
        stream: commit.stream.to_string(),
        version: commit.first_version as i64 + i64::from(index),
        event_type: event.event_type.clone(),
        schema_version: event.schema_version.into(),
        payload: String::from_utf8_lossy(&event.payload).into_owned(),
        position: entry.position,
        index_in_commit: index,
        epoch: entry.record.header.epoch as i64,
        command_id: commit.command_id.0,
        body_hash: commit.body_hash,
        origin: origin.clone(),
        recorded_at: commit.recorded_at.micros(),
        effective_at: commit.effective_at.map(Timestamp::micros),
    })
}

/// I13: an answer that was to reflect a position shows nothing older, and nothing that never was.
pub fn seen(history: &History, log: &LogImage) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I13);
    let mut versions: BTreeMap<&str, Vec<(Position, Version)>> = BTreeMap::new();
    for (entry, commit) in log.commits() {
        versions.entry(commit.stream.as_str()).or_default().push((entry.position, commit.last_version()));
    }
    for query in &history.queries {
        let Some(shown) = query.outcome.answer() else { continue };
        let of_stream = versions.get(query.stream.as_str()).map_or(&[][..], Vec::as_slice);
        let least = least(query, of_stream);
        verdict.check(*shown >= least, || {
            format!("{}: version {shown} was shown, {least} is at {:?}", query.stream, query.min_position)
        });
        let last = of_stream.last().map_or(0, |(_, version)| *version);
        verdict.check(*shown <= last, || {
            format!("{}: version {shown} was shown, the last is {last}", query.stream)
        });
    }
    verdict
}

/// The version that the positions of a question oblige to.
fn least(query: &QueryCall, versions: &[(Position, Version)]) -> Version {
    let reached = |at: &Position| {
        query.min_position.iter().any(|wanted| wanted.partition == at.partition && at.offset <= wanted.offset)
    };
    versions.iter().filter(|(at, _)| reached(at)).map(|(_, version)| *version).max().unwrap_or(0)
}
