//! I4 and I5: the order within streams, and who wrote it. Judged from the records themselves, beside the fold, so that
//! a fault of the fold does not hide itself.

use std::collections::{HashMap, HashSet};

use shopstream_domain::Version;
use shopstream_eventlog::Verdict as Counted;
use shopstream_eventlog::record::Kind;

use super::history::History;
use super::log::{Entry, LogImage};
use super::{Invariant, Verdict};

/// I4: the events of every stream are numbered 1, 2, 3 and so on, in one partition, the one that is the stream's.
pub fn gapless(log: &LogImage) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I4);
    let mut versions: HashMap<&str, Version> = HashMap::new();
    let partitions = log.partitions.len() as u16;
    for (entry, commit) in log.commits() {
        let (position, stream) = (entry.position, &commit.stream);
        let last = versions.entry(stream.as_str()).or_default();
        verdict.check(commit.first_version == *last + 1, || {
            format!("{position} {stream}: version {} follows {last}", commit.first_version)
        });
        verdict.check(!commit.events.is_empty(), || format!("{position} {stream}: a commit of no event"));
        verdict.check(stream.partition(partitions) == position.partition, || {
            format!("{position} {stream}: belongs to partition {}", stream.partition(partitions))
        });
        *last = commit.last_version();
    }
    for records in &log.partitions {
        for (offset, entry) in (0..).zip(records) {
            let position = entry.position;
            verdict.check(position.offset == offset, || {
                format!("{position} is record {offset} of its partition")
            });
        }
    }
    verdict
}

/// I5: along each partition the epochs of what counts never fall, each claim has an epoch of its own above all before
/// it, an owner's records are 1, 2, 3 and so on, each version of a stream is written once; and whoever was fenced has
/// acknowledged nothing that does not count.
pub fn owned(history: &History, log: &LogImage) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I5);
    for records in &log.partitions {
        one_owner_at_a_time(records, &mut verdict);
    }
    let mut written = HashSet::new();
    for (entry, commit) in log.commits() {
        for version in commit.first_version..=commit.last_version() {
            let (position, stream) = (entry.position, &commit.stream);
            verdict.check(written.insert((stream.as_str(), version)), || {
                format!("{position} {stream}: version {version} is written a second time")
            });
        }
    }
    for call in &history.commands {
        let Some(answer) = call.outcome.answer() else { continue };
        let void = log.at(answer.position).is_some_and(|entry| entry.verdict != Counted::Counts);
        verdict.check(!void, || {
            format!("{} {}: acknowledged at {}, which is void", call.stream, call.request_id, answer.position)
        });
    }
    verdict
}

fn one_owner_at_a_time(records: &[Entry], verdict: &mut Verdict) {
    // Epoch and nonce of the last claim that counts, and its owner's next number.
    let mut owner: Option<(u64, u64, u64)> = None;
    for entry in records.iter().filter(|entry| entry.verdict == Counted::Counts) {
        let (position, header) = (entry.position, entry.record.header);
        match header.kind {
            Kind::Genesis => {}
            Kind::Claim => {
                let known = owner.map_or(0, |(epoch, ..)| epoch);
                verdict.check(header.epoch > known, || {
                    format!("{position}: a claim of epoch {} counts after epoch {known}", header.epoch)
                });
                owner = Some((header.epoch, header.nonce, 1));
            }
            Kind::Opened | Kind::Commit | Kind::Barrier | Kind::Release => {
                let wanted = Some((header.epoch, header.nonce, header.seq));
                verdict.check(wanted == owner, || {
                    format!(
                        "{position}: epoch {} number {} counts, but {owner:?} owns",
                        header.epoch, header.seq
                    )
                });
                owner = Some((header.epoch, header.nonce, header.seq + 1));
            }
        }
    }
}
