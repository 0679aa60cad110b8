//! The life of a log that the faults break into: opened, appended to in groups, closed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shopstream_eventlog::local::port::Port;
use shopstream_eventlog::local::{LocalLog, Options};
use shopstream_eventlog::raw::{Appender, RawError, RawLog};
use tokio::time::timeout;

use crate::book::{Finding, Message};
use crate::{payload, reading};

/// How many times each partition gets a group of records.
const ROUNDS: u64 = 12;
/// How many records that are.
const GROUP: u64 = 10;
/// How long a report may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A log on a full disk tries again by itself after a tenth of a second; how often it is asked, and how many times.
const FULL_RETRY: Duration = Duration::from_millis(20);
const FULL_TRIES: u64 = 100;

/// What became of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It did not open.
    Refused,
    /// It took no more after an error.
    Poisoned,
    /// It refused some records for want of room, and went on.
    WasFull,
    /// It refused records for want of room long after there was room again.
    StayedFull,
    /// It was closed in order, and took everything.
    Closed,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "not opened",
            Self::Poisoned => "poisoned",
            Self::WasFull => "full for a while",
            Self::StayedFull => "full for ever",
            Self::Closed => "closed in order",
        })
    }
}

/// The script; it knows which records it has sent.
pub(super) struct Script {
    seed: u64,
    next_author: u32,
    /// What was sent and what was acknowledged.
    pub(super) told: Vec<Message>,
}

struct Author {
    name: u32,
    appender: Box<dyn Appender>,
    sent: u64,
    acknowledged: u64,
}

impl Script {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, next_author: 0, told: Vec::new() }
    }

    /// One life of the log. What is wrong with it as long as it is open goes to `findings`.
    pub(super) async fn run(
        &mut self,
        options: &Options,
        port: Arc<dyn Port>,
        findings: &mut Vec<Finding>,
    ) -> Ending {
        let Ok(log) = LocalLog::open_with(options.clone(), port) else { return Ending::Refused };
        let mut authors: BTreeMap<u16, Author> = BTreeMap::new();
        let (mut rounds, mut full) = (0, 0);
        while rounds < ROUNDS && full < FULL_TRIES {
            for partition in 0..reading::PARTITIONS {
                if let Entry::Vacant(place) = authors.entry(partition) {
                    let Ok(appender) = log.appender(partition).await else { continue };
                    place.insert(self.author(partition, appender));
                }
            }
            let mut errors = Vec::new();
            for (partition, author) in &mut authors {
                errors.extend(self.send(author).map(|error| (*partition, error)));
            }
            for (partition, author) in &mut authors {
                errors.extend(self.hear(author, findings).await.map(|error| (*partition, error)));
            }
            for (partition, error) in &errors {
                let refused = authors.remove(partition).is_none_or(|author| refuses(author, self.seed));
                if !refused {
                    findings.push(("poison", format!("an appender took a record after: {error}")));
                }
            }
            if errors.iter().any(|(_, error)| matches!(error, RawError::Poisoned { .. })) {
                self.check_poisoned(&log, authors, findings).await;
                return Ending::Poisoned;
            }
            if errors.is_empty() {
                rounds += 1;
            } else {
                full += 1;
                tokio::time::sleep(FULL_RETRY).await;
            }
        }
        match full {
            0 => Ending::Closed,
            FULL_TRIES.. => Ending::StayedFull,
            _ => Ending::WasFull,
        }
    }

    /// Authors are numbered so that each belongs to its partition.
    fn author(&mut self, partition: u16, appender: Box<dyn Appender>) -> Author {
        let name = self.next_author + u32::from(partition);
        self.next_author += u32::from(reading::PARTITIONS);
        Author { name, appender, sent: 0, acknowledged: 0 }
    }

    /// Sends a group; answers why it was not taken.
    fn send(&mut self, author: &mut Author) -> Option<RawError> {
        let below = author.sent + GROUP;
        self.told.push(Message::Sent { author: author.name, below });
        while author.sent < below {
            if let Err(error) = author.appender.submit(payload::record(self.seed, author.name, author.sent)) {
                return Some(error);
            }
            author.sent += 1;
        }
        None
    }

    /// Waits for what was sent; answers the first error.
    async fn hear(&mut self, author: &mut Author, findings: &mut Vec<Finding>) -> Option<RawError> {
        let mut reports = Vec::new();
        let wanted = (author.sent - author.acknowledged) as usize;
        while reports.len() < wanted {
            if timeout(PATIENCE, author.appender.reports(&mut reports)).await.is_err() {
                findings.push(("recovery", "a record was never reported on".to_owned()));
                return Some(RawError::Unavailable { detail: "no report".to_owned() });
            }
        }
        let mut failed = None;
        for report in reports {
            match report {
                Ok(offset) => {
                    if failed.is_some() {
                        findings.push(("I4", "acknowledged behind a record that was not".to_owned()));
                    }
                    let Author { name, acknowledged: number, .. } = *author;
                    self.told.push(Message::Acknowledged { author: name, number, offset });
                    author.acknowledged += 1;
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed
    }

    /// A poisoned log takes nothing, from nobody.
    async fn check_poisoned(
        &self,
        log: &LocalLog,
        authors: BTreeMap<u16, Author>,
        findings: &mut Vec<Finding>,
    ) {
        for author in authors.into_values() {
            if !refuses(author, self.seed) {
                findings.push(("poison", "another appender still takes records".to_owned()));
            }
        }
        for partition in 0..log.partitions() {
            if !matches!(log.appender(partition).await, Err(RawError::Poisoned { .. })) {
                findings.push(("poison", format!("a new appender of partition {partition} is given out")));
            }
        }
    }
}

fn refuses(mut author: Author, seed: u64) -> bool {
    author.appender.submit(payload::record(seed, author.name, author.sent)).is_err()
}
