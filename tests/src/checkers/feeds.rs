//! I12: what subscribers were given, over all their disconnects, against the log.

use shopstream_domain::{Partition, Version};
use shopstream_eventlog::{Offset, Position};

use super::log::LogImage;
use super::{Invariant, Verdict};

/// One subscriber to all events of the log.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    /// Its connections, in order.
    pub sessions: Vec<Session>,
}

/// One connection of a subscriber.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// From where it asked, by partition.
    pub from: Vec<Offset>,
    /// What it was given, in order.
    pub heard: Vec<Heard>,
    /// Where it may go on, by partition, as the last message that it has dealt with says.
    pub kept: Vec<Offset>,
}

/// An event that was given to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Where its commit is.
    pub position: Position,
    /// Its place in the commit.
    pub index: usize,
    /// Its stream.
    pub stream: String,
    /// Its version there.
    pub version: Version,
}

/// Every session gives the events of each partition from where it was asked on, each once and in order; all that lie
/// before the place to go on from were given; and the next session goes on there. At rest nothing is left after the last.
pub fn followed(subscriptions: &[Subscription], log: &LogImage, at_rest: bool) -> Verdict {
    let mut verdict = Verdict::new(Invariant::I12);
    for (number, subscription) in subscriptions.iter().enumerate() {
        let name = format!("subscriber {number}");
        for (index, session) in subscription.sessions.iter().enumerate() {
            for partition in 0..log.partitions.len() as Partition {
                session.judge(partition, log, &format!("{name}, session {index}"), &mut verdict);
            }
            if let Some(next) = subscription.sessions.get(index + 1) {
                verdict.check(next.from == session.kept, || format!("{name} did not go on where it was"));
            }
        }
        let Some(last) = subscription.sessions.last().filter(|_| at_rest) else { continue };
        for partition in 0..log.partitions.len() as Partition {
            let left = events(log, partition, at(&last.kept, usize::from(partition))).len();
            verdict.check(left == 0, || {
                format!("{name} has not come to {left} events of partition {partition}")
            });
        }
    }
    verdict
}

impl Session {
    fn judge(&self, partition: Partition, log: &LogImage, name: &str, verdict: &mut Verdict) {
        let place = usize::from(partition);
        let (from, kept) = (at(&self.from, place), at(&self.kept, place));
        let heard: Vec<&Heard> =
            self.heard.iter().filter(|heard| heard.position.partition == partition).collect();
        let expected: Vec<Heard> = events(log, partition, from);
        for (nth, wanted) in expected.iter().enumerate() {
            match heard.get(nth) {
                Some(given) => verdict.check(**given == *wanted, || {
                    format!("{name}: was given {given:?} where {wanted:?} should be")
                }),
                None => {
                    verdict.check(wanted.position.offset >= kept, || {
                        format!("{name}: {wanted:?} was never given, but is behind the place {kept}")
                    });
                    break;
                }
            }
        }
        verdict.check(heard.len() <= expected.len(), || {
            format!(
                "{name}: was given {} events of partition {partition}, of {}",
                heard.len(),
                expected.len()
            )
        });
    }
}

fn at(offsets: &[Offset], partition: usize) -> Offset {
    offsets.get(partition).copied().unwrap_or(0)
}

fn events(log: &LogImage, partition: Partition, from: Offset) -> Vec<Heard> {
    let records = log.partitions[usize::from(partition)].iter();
    let counted = records.filter(|entry| entry.position.offset >= from);
    let commits = counted.filter_map(|entry| Some((entry.position, entry.counted()?)));
    let heard = |(position, commit): (Position, &shopstream_eventlog::Commit)| {
        let (stream, first) = (commit.stream.to_string(), commit.first_version);
        (0..commit.events.len()).map(move |index| Heard {
            position,
            index,
            stream: stream.clone(),
            version: first + index as Version,
        })
    };
    commits.flat_map(heard).collect()
}
