//! I18: snapshots are only a cache.

use std::collections::HashMap;

use shopstream_command_handlers::testing::check_snapshot;
use shopstream_domain::StreamId;
use shopstream_eventlog::{Commit, Position, Snapshot};

use super::dump::Dump;
use super::log::LogImage;
use super::{Invariant, Verdict};

/// I18: every snapshot says what the log comes to up to its version, forgets no command before it, and names the commit
/// that it ends with. (That one which does not is ignored, the tests of its readers show.)
pub fn snapshots(database: &Dump, log: &LogImage) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I18);
    let mut histories: HashMap<&StreamId, Vec<(Position, &Commit)>> = HashMap::new();
    for (entry, commit) in log.commits() {
        histories.entry(&commit.stream).or_default().push((entry.position, commit));
    }
    for Snapshot { stream, from, position, bytes } in &database.snapshots {
        let history = histories.get(stream).map_or(&[][..], Vec::as_slice);
        let offsets = history.iter().map(|(at, commit)| (at.offset, *commit));
        let checked = check_snapshot(stream, bytes, offsets);
        verdict.check(checked.is_ok(), || checked.err().unwrap_or_default());
        let last = history.iter().find(|(at, _)| at == position).map(|(_, commit)| commit.first_version);
        verdict.check(last == Some(*from), || {
            format!(
                "{stream}: its snapshot ends with version {from} at {position}, where the log has {last:?}"
            )
        });
    }
    verdict
}
