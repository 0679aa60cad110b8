//! I1, I2, I3 and I6: what was acknowledged happened, once, and nothing else did.

use std::collections::HashMap;

use shopstream_domain::{StreamId, Timestamp, Version};
use shopstream_eventlog::{CommandId, CommitRecord};

use super::Found;
use crate::evidence::Evidence;
use crate::history::Asked;
use crate::world::CLIENT;

type Commits<'a> = HashMap<(&'a StreamId, CommandId), Vec<&'a CommitRecord>>;

fn by_command(evidence: &Evidence) -> Commits<'_> {
    let mut commits: Commits<'_> = HashMap::new();
    for record in &evidence.counted {
        commits.entry((&record.commit.stream, record.commit.command_id)).or_default().push(record);
    }
    commits
}

/// I1 and I3: what was answered with an effect is on the log, as it was answered, and every command is there once.
pub(super) fn acknowledged_once(evidence: &Evidence, found: &mut Found) {
    let commits = by_command(evidence);
    for ((stream, id), records) in &commits {
        let times = records.len();
        found.require(times == 1, "I3", || format!("command {id} of {stream} took effect {times} times"));
    }
    for asked in &evidence.history.asked {
        let on_log = commits.get(&(&asked.stream, asked.command_id));
        for (_, reply) in asked.effects() {
            let is_there = on_log.into_iter().flatten().any(|record| {
                let commit = &record.commit;
                record.position == reply.position
                    && commit.last_version() == reply.version
                    && commit.body_hash == asked.body_hash
                    && commit.events.last().map(|event| event.event_type.as_str()) == reply.outcome
            });
            found.require(is_there, "I1", || {
                let (stream, id) = (&asked.stream, asked.command_id);
                format!("command {id} of {stream} was answered {reply:?}; on the log: {on_log:?}")
            });
        }
    }
}

/// I2: whatever a client's command did was asked for, and not said to have failed.
pub(super) fn no_effect_without_command(evidence: &Evidence, found: &mut Found) {
    let mut asked: HashMap<(&StreamId, CommandId), Vec<&Asked>> = HashMap::new();
    for wanted in &evidence.history.asked {
        asked.entry((&wanted.stream, wanted.command_id)).or_default().push(wanted);
    }
    for record in evidence.counted.iter().filter(|record| record.commit.actor == CLIENT) {
        let commit = &record.commit;
        let of_command = asked.get(&(&commit.stream, commit.command_id)).into_iter().flatten();
        let mut same = of_command.filter(|asked| asked.body_hash == commit.body_hash).peekable();
        let (id, stream, at) = (commit.command_id, &commit.stream, record.position);
        found.require(same.peek().is_some(), "I2", || format!("nobody asked for {id} of {stream} at {at}"));
        // At the end nobody is waiting any more, so every attempt is known.
        found.require(!evidence.at_rest || same.any(|asked| asked.may_be_done()), "I2", || {
            format!("{id} of {stream} failed every time, and yet it is at {at}")
        });
    }
}

/// I3: whoever asks again hears the same.
pub(super) fn one_answer(evidence: &Evidence, found: &mut Found) {
    for asked in &evidence.history.asked {
        let answer = |(_, reply): (_, &shopstream_command_handlers::Reply)| {
            (reply.version, reply.position, reply.outcome)
        };
        let mut answers = asked.effects().map(answer);
        let first = answers.next();
        for other in answers {
            found.require(Some(other) == first, "I3", || {
                format!("{} of {}: {first:?}, then {other:?}", asked.command_id, asked.stream)
            });
        }
    }
}

/// I6: an expected version was met.
pub(super) fn expected_versions(evidence: &Evidence, found: &mut Found) {
    let commits = by_command(evidence);
    for asked in &evidence.history.asked {
        let (Some(expected), Some(_)) = (asked.expected_version, asked.effects().next()) else { continue };
        for record in commits.get(&(&asked.stream, asked.command_id)).into_iter().flatten() {
            let commit = &record.commit;
            found.require(commit.first_version == expected + 1, "I6", || {
                let (first, stream) = (commit.first_version, &commit.stream);
                format!("{stream}: version {first} was written where {expected} was expected")
            });
        }
    }
}

/// I6: what was answered before another thing was asked for comes before it on the stream; and time on a stream does
/// not run backwards.
pub(super) fn time_and_order(evidence: &Evidence, found: &mut Found) {
    let mut calls: HashMap<&StreamId, Vec<(Timestamp, Timestamp, Version)>> = HashMap::new();
    for asked in &evidence.history.asked {
        for (attempt, reply) in asked.effects().filter(|(_, reply)| !reply.repeated) {
            let call = (attempt.called, attempt.returned, reply.version);
            calls.entry(&asked.stream).or_default().push(call);
        }
    }
    for (stream, mut calls) in calls {
        calls.sort_unstable();
        let mut returns = calls.clone();
        returns.sort_unstable_by_key(|(_, returned, _)| *returned);
        let (mut before, mut highest) = (returns.iter().peekable(), 0);
        for (called, _, version) in calls {
            while let Some((_, _, earlier)) = before.next_if(|(_, returned, _)| *returned < called) {
                highest = highest.max(*earlier);
            }
            found.require(version > highest, "I6", || {
                format!("{stream}: version {version} was asked for after {highest} had been answered")
            });
        }
    }
    let mut times: HashMap<&StreamId, Timestamp> = HashMap::new();
    for record in &evidence.counted {
        let (commit, at) = (&record.commit, record.position);
        let last = times.insert(&commit.stream, commit.recorded_at).unwrap_or_default();
        found.require(last <= commit.recorded_at, "TIME", || {
            format!("{} at {at}: time runs backwards", commit.stream)
        });
    }
}
