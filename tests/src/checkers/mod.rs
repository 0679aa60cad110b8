//! Whether a run kept its promises: pure functions of what the clients saw, what the log holds, what the database holds
//! and what the payment provider was asked. Whatever the run was (a test, a simulation, a day of chaos), the same
//! functions judge it.
//!
//! The invariants are numbered as in the design's list of them. Each checker goes red on a planted fault
//! (`tests/checkers`), and each verdict says how often it was put to the test: a promise that nothing touched has not
//! been kept, it was not tried.
//!
//! Left out, because the system has not got the thing yet: the hash chain of the audit (I14, and the parent hash of I4;
//! the digest that an owner opens with is checked by the fold itself), postings of a ledger and its balance (part of
//! I8), upcasters and recorded states of old events (part of I17: every version is the first).

mod books;
mod commands;
pub mod dump;
pub mod feeds;
pub mod history;
pub mod log;
mod owners;
mod schema;
mod snapshots;
mod views;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

pub use self::books::books;
pub use self::commands::{acknowledged, expected, known, once};
use self::dump::Dump;
use self::history::History;
use self::log::LogImage;
pub use self::owners::{gapless, owned};
pub use self::schema::{Golden, corpus, readable};
pub use self::snapshots::snapshots;
pub use self::views::{placed, replayed, seen};
use crate::Call;

/// How many violations a verdict tells; the others are counted.
const TOLD: usize = 5;

/// Everything that a run leaves behind.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What the clients saw.
    pub history: History,
    /// The log, read from its beginning by the product's reader, and folded.
    pub log: LogImage,
    /// The same records as another reader found them, by partition and offset.
    pub second: Vec<Vec<Bytes>>,
    /// The database.
    pub database: Dump,
    /// The tables that a replay of the log makes up to the same places, as in [`Dump::tables`].
    pub replay: BTreeMap<String, Vec<String>>,
    /// What the payment provider wrote down of every call.
    pub provider: Vec<Call>,
    /// One payload of every version of every event that was ever written.
    pub corpus: Vec<Golden>,
    /// Nothing was left to do when this was gathered: unfinished work is a violation too.
    pub at_rest: bool,
}

/// All verdicts, in the order of their numbers.
pub fn all(evidence: &Evidence) -> Vec<Verdict> {
    let Evidence { history, log, second, database, replay, provider, corpus, at_rest } = evidence;
    let mut verdicts = vec![
        acknowledged(history, log, second),
        known(history, log),
        once(history, log),
        gapless(log),
        owned(history, log),
        expected(history, log),
    ];
    verdicts.extend(books(log, provider, *at_rest));
    verdicts.push(replayed(database, replay));
    verdicts.push(placed(database, log, *at_rest));
    verdicts.push(feeds::followed(&history.subscriptions, log, *at_rest));
    verdicts.push(seen(history, log));
    verdicts.push(readable(log, corpus));
    verdicts.push(snapshots(database, log));
    verdicts
}

/// A promise of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`says` is what each is")]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
    I13,
    I17,
    I18,
}

impl Invariant {
    /// The promise in a sentence.
    pub const fn says(self) -> &'static str {
        match self {
            Self::I1 => "no acknowledged command is lost",
            Self::I2 => "no effect without a command, none of a failed one",
            Self::I3 => "a request has one effect and one answer",
            Self::I4 => "every stream's versions are 1, 2, 3 …",
            Self::I5 => "one writer at a time",
            Self::I6 => "an expected version is met once, and order is time",
            Self::I7 => "stock is conserved",
            Self::I8 => "money is conserved",
            Self::I9 => "checkouts end, and undo in reverse order",
            Self::I10 => "every read model is its replay",
            Self::I11 => "every checkpoint is exact",
            Self::I12 => "subscribers get every event once, in order",
            Self::I13 => "clients read their own writes",
            Self::I17 => "everything ever written is still read",
            Self::I18 => "snapshots are only a cache",
        }
    }
}

/// What a checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of which promise.
    pub invariant: Invariant,
    /// How often it was put to the test.
    pub checked: u64,
    /// How often it was broken.
    pub broken: u64,
    /// The first violations.
    pub told: Vec<String>,
}

impl Verdict {
    fn new(invariant: Invariant) -> Self {
        Self { invariant, checked: 0, broken: 0, told: Vec::new() }
    }

    /// Puts the promise to the test once more.
    fn check(&mut self, holds: bool, detail: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.violation(detail());
        }
    }

    fn violation(&mut self, detail: String) {
        self.broken += 1;
        if self.told.len() < TOLD {
            self.told.push(detail);
        }
    }

    /// Whether the promise was tried and kept.
    pub fn is_green(&self) -> bool {
        self.broken == 0 && self.checked > 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.broken, self.checked) {
            (0, 0) => "UNTRIED",
            (0, _) => "held",
            _ => "BROKEN",
        };
        let invariant = format!("{:?}", self.invariant);
        write!(f, "{invariant:<4} {state:<8} {:<50} {}", self.invariant.says(), self.checked)?;
        self.told.iter().try_for_each(|detail| write!(f, "\n     - {detail}"))
    }
}
