//! I4, I5, I10 and I18: versions without a gap, one writer at a time, and a journal and snapshots that are the log.

use std::collections::HashMap;

use shopstream_command_handlers::testing::check_snapshot;
use shopstream_command_handlers::{Distrust, read_snapshot};
use shopstream_eventlog::Position;
use shopstream_eventlog::record::{Kind, Record};

use super::Found;
use crate::evidence::Evidence;

/// I4: the versions of every stream are 1, 2, 3 … in the order of the log.
pub(super) fn gap_free(evidence: &Evidence, found: &mut Found) {
    let mut versions: HashMap<_, u64> = HashMap::new();
    for record in &evidence.counted {
        let (commit, at) = (&record.commit, record.position);
        let version = versions.entry(&commit.stream).or_default();
        found.require(commit.first_version == *version + 1, "I4", || {
            format!("{} at {at}: version {} follows {version}", commit.stream, commit.first_version)
        });
        *version = commit.last_version();
    }
}

/// I5: what the product's readers count is what the claim rule counts.
pub(super) fn one_writer(evidence: &Evidence, found: &mut Found) {
    let (counting, _) = counting(evidence);
    let commits = counting.into_iter().filter(|(_, kind)| *kind == Kind::Commit).map(|(at, _)| at);
    let commits: Vec<Position> = commits.collect();
    let read: Vec<Position> = evidence.counted.iter().map(|record| record.position).collect();
    found.require(commits == read, "I5", || {
        let differs = commits.iter().zip(&read).find(|(ours, theirs)| ours != theirs);
        let (ours, theirs) = (commits.len(), read.len());
        format!("by the rule {ours} commits count, the reader counts {theirs}; first differing: {differs:?}")
    });
}

/// What counts by the claim rule, written down here a second time, and how many claims do.
pub(super) fn counting(evidence: &Evidence) -> (Vec<(Position, Kind)>, usize) {
    let (mut counting, mut claims) = (Vec::new(), 0);
    for (partition, records) in (0..).zip(&evidence.records) {
        // Epoch and nonce of the owner, and the seq that it must write next; none after a release.
        let (mut highest, mut owner) = (0, None);
        for (offset, bytes) in (0..).zip(records) {
            let Ok(record) = Record::parse(bytes) else { continue };
            let header = record.header;
            let counts = match header.kind {
                Kind::Genesis => offset == 0,
                Kind::Claim if header.epoch > highest => {
                    highest = header.epoch;
                    owner = Some((header.epoch, header.nonce, 1));
                    claims += 1;
                    true
                }
                Kind::Claim => false,
                Kind::Opened | Kind::Commit | Kind::Barrier | Kind::Release => {
                    let is_next = owner == Some((header.epoch, header.nonce, header.seq));
                    if is_next {
                        let next = (header.epoch, header.nonce, header.seq + 1);
                        owner = (header.kind != Kind::Release).then_some(next);
                    }
                    is_next
                }
            };
            if counts {
                counting.push((Position { partition, offset }, header.kind));
            }
        }
    }
    (counting, claims)
}

/// I10: the journal that lived through everything is what a fresh reader finds, and its checkpoint is exact.
pub(super) fn journal_is_the_log(evidence: &Evidence, found: &mut Found) {
    if !evidence.at_rest {
        return;
    }
    let mut read: HashMap<_, Vec<_>> = HashMap::new();
    for record in &evidence.counted {
        read.entry(&record.commit.stream).or_default().push(record);
    }
    found.require(read.len() == evidence.journal.len(), "I10", || {
        format!("the journal has {} streams, the log {}", evidence.journal.len(), read.len())
    });
    for (stream, records) in &evidence.journal {
        let same = read.get(stream).is_some_and(|read| read.iter().copied().eq(records));
        found.require(same, "I10", || format!("the journal of {stream} is not what the log says"));
    }
    for checkpoints in &evidence.checkpoints {
        found.require(*checkpoints == evidence.ends, "I10", || {
            format!("the checkpoints {checkpoints:?} are not where the log ends: {:?}", evidence.ends)
        });
    }
}

/// I18: every snapshot that an owner would believe is what the log comes to. Those that were damaged on purpose nobody
/// believes.
pub(super) fn snapshots_are_the_log(evidence: &Evidence, found: &mut Found) {
    let mut histories: HashMap<_, Vec<_>> = HashMap::new();
    for record in &evidence.counted {
        let at = (record.position.offset, &record.commit);
        histories.entry(&record.commit.stream).or_default().push(at);
    }
    for (stream, snapshot) in &evidence.snapshots {
        if matches!(read_snapshot(stream, &snapshot.bytes), Err(Distrust::Checksum)) {
            continue;
        }
        let history = histories.get(stream).into_iter().flatten().copied();
        let checked = check_snapshot(stream, &snapshot.bytes, history);
        found.require(checked.is_ok(), "I18", || checked.clone().err().unwrap_or_default());
    }
}
