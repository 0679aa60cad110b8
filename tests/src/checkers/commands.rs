//! I1, I2, I3 and I6: what the clients were told against what the log holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use shopstream_domain::Version;
use shopstream_eventlog::CommandId;

use super::history::{Answer, CommandCall, History, Outcome};
use super::log::LogImage;
use super::{Invariant, Verdict};

/// How the actors of the system's own processes begin.
const PROCESSES: [&str; 2] = ["process:", "effect:"];

/// I1: every command that was answered is on the log where the answer says, as it was meant; and whoever reads the log
/// finds the same.
pub fn acknowledged(history: &History, log: &LogImage, second: &[Vec<Bytes>]) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I1);
    for (call, answer) in answered(history) {
        let name = name(call);
        let found = log.at(answer.position).and_then(|entry| entry.counted());
        let Some(commit) = found.filter(|commit| commit.stream.as_str() == call.stream) else {
            verdict.check(false, || format!("{name}: nothing of its stream counts at {}", answer.position));
            continue;
        };
        let same = (commit.command_id, commit.body_hash, commit.last_version())
            == (call.command_id, call.meant, answer.version);
        verdict.check(same, || format!("{name}: another commit stands at {}", answer.position));
    }
    for (partition, (ours, theirs)) in log.partitions.iter().zip(second).enumerate() {
        let same = ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.bytes == *b);
        verdict.check(same, || format!("two readers of partition {partition} differ"));
    }
    verdict.check(log.partitions.len() == second.len(), || "two readers see other partitions".to_owned());
    verdict
}

/// I2: what counts was asked for, by a client that was not told that it failed, or by a process that was caused to.
pub fn known(history: &History, log: &LogImage) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I2);
    let mut possible: HashSet<CommandId> = HashSet::new();
    let mut failed: HashSet<CommandId> = HashSet::new();
    for call in &history.commands {
        let ids = call.further.iter().chain([&call.command_id]);
        if call.outcome.may_be_done() { possible.extend(ids) } else { failed.extend(ids) }
    }
    let events: HashSet<String> = log
        .commits()
        .flat_map(|(_, commit)| {
            (commit.first_version..=commit.last_version())
                .map(|version| format!("{}@{version}", commit.stream))
        })
        .collect();
    for (entry, commit) in log.commits() {
        let (position, id) = (entry.position, commit.command_id);
        if commit.actor == history.actor {
            let why =
                if failed.contains(&id) { "the client was told that it failed" } else { "nobody sent it" };
            verdict.check(possible.contains(&id), || format!("{position} {}: {why}", commit.stream));
        } else {
            let process = PROCESSES.iter().any(|prefix| commit.actor.starts_with(prefix));
            verdict.check(process, || {
                format!("{position} {}: by the stranger {:?}", commit.stream, commit.actor)
            });
            let caused = commit.causation_id.is_empty() || events.contains(&commit.causation_id);
            verdict.check(caused, || {
                format!("{position} {}: caused by {}, which never was", commit.stream, commit.causation_id)
            });
        }
    }
    verdict
}

/// I3: a request, sent however often, was carried out at most once, answers the same every time, and is refused where it
/// says something else than before.
pub fn once(history: &History, log: &LogImage) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I3);
    let by_command = log.by_command();
    for ((stream, id), places) in &by_command {
        verdict.check(places.len() == 1, || {
            format!("{stream}: command {id} was carried out {} times", places.len())
        });
    }
    let mut requests: BTreeMap<(&str, &str), Vec<&CommandCall>> = BTreeMap::new();
    for call in &history.commands {
        requests.entry((&call.stream, &call.request_id)).or_default().push(call);
    }
    for calls in requests.values().filter(|calls| calls.len() > 1) {
        let mut answers = calls.iter().filter_map(|call| Some((call, call.outcome.answer()?)));
        let Some((first, answer)) = answers.next() else { continue };
        for (call, again) in answers {
            verdict
                .check(again.body == answer.body, || format!("{}: two answers to one request", name(call)));
            verdict.check(call.meant == first.meant, || {
                format!("{}: another wish under the same request id was answered", name(call))
            });
        }
        if let Some([(_, commit)]) =
            by_command.get(&(first.stream.as_str(), first.command_id)).map(Vec::as_slice)
        {
            verdict.check(commit.body_hash == first.meant, || {
                format!("{}: the log has another wish under this request id", name(first))
            });
        }
    }
    verdict
}

/// I6: of the commands that expected one version of a stream, at most one was carried out, and on that version; and no
/// command that began after another had been answered comes before it. The log itself names the one order in which the
/// commands of a stream took effect, so that it is linearizable can be seen at once and need not be searched for.
pub fn expected(history: &History, log: &LogImage) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I6);
    let by_command = log.by_command();
    let mut takers: HashMap<(&str, Version), HashSet<CommandId>> = HashMap::new();
    let mut done: BTreeMap<&str, HashMap<CommandId, Done>> = BTreeMap::new();
    for call in &history.commands {
        let place = by_command.get(&(call.stream.as_str(), call.command_id));
        let Some((_, commit)) = place.and_then(|places| places.first()) else { continue };
        if let (Some(version), Outcome::Ok(_)) = (call.expected_version, &call.outcome) {
            verdict.check(commit.first_version == version + 1, || {
                format!("{}: expected {version}, took effect on {}", name(call), commit.first_version - 1)
            });
            takers.entry((&call.stream, version)).or_default().insert(call.command_id);
        }
        let done = done.entry(&call.stream).or_default().entry(call.command_id).or_insert(Done {
            version: commit.first_version,
            began: u64::MAX,
            ended: u64::MAX,
        });
        // It took effect after its first attempt began and before the first good answer.
        done.began = done.began.min(call.span.called);
        if call.outcome.answer().is_some() {
            done.ended = done.ended.min(call.span.returned);
        }
    }
    for ((stream, version), ids) in takers {
        verdict.check(ids.len() == 1, || format!("{stream}: {} commands took version {version}", ids.len()));
    }
    for (stream, done) in done {
        let mut done: Vec<_> = done.into_values().collect();
        done.sort_by_key(|done| done.version);
        // The latest beginning of all that come before: who ended before that is too late.
        let mut latest = (0, 0);
        for Done { version, began, ended } in done {
            verdict.check(ended >= latest.1, || {
                format!("{stream}: version {version} was answered before version {} was asked for", latest.0)
            });
            if began > latest.1 {
                latest = (version, began);
            }
        }
    }
    verdict
}

/// A command that took effect.
struct Done {
    version: Version,
    began: u64,
    ended: u64,
}

fn answered(history: &History) -> impl Iterator<Item = (&CommandCall, &Answer)> {
    history.commands.iter().filter_map(|call| Some((call, call.outcome.answer()?)))
}

fn name(call: &CommandCall) -> String {
    format!("{} {}", call.stream, call.request_id)
}
