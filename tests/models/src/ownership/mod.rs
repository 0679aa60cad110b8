//! Who owns a partition, and which answers are true (`event-log.md` §2.2–2.4, `rulings.md` 39–44).
//!
//! Some nodes and one partition. Any node may claim at any time, for no lease is asked: a node that is paused is one
//! that takes no step while others do. What is appended is on its way until it arrives, in any order, twice, or never;
//! its report comes or does not. An owner answers when a record was reported *and* its own reader has folded it as
//! counting; in doubt it leaves its producer behind, claims higher and reads to that claim. The log may also lose its
//! end, or be made again empty.
//!
//! Left out: what a command does (its effect is its record), the journal (the fold knows all that was read), `Opened`
//! and barriers, the content of records (their identity is epoch, nonce and seq), repair after a halt.

mod log;
mod node;
mod promises;
mod steps;

use std::collections::BTreeSet;

use stateright::{Model, Property};

pub use self::log::{Body, Fold, Record, Verdict};
pub use self::node::{Node, Owner, Pending, Role};

/// How large the model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Nodes.
    pub nodes: u8,
    /// Different commands; each may be sent any number of times, to any node.
    pub commands: u8,
    /// Claims that are appended in all.
    pub claims: u8,
    /// Commits that are appended in all.
    pub commits: u8,
    /// Records that arrive a second time.
    pub duplicates: u8,
    /// Times that the log loses its end, or all of it.
    pub damages: u8,
    /// Whether owners may release.
    pub releases: bool,
}

impl Bounds {
    /// What is exhausted in seconds.
    pub const SHORT: Self =
        Self { nodes: 2, commands: 2, claims: 3, commits: 2, duplicates: 1, damages: 0, releases: false };
    /// The same where owners release, without duplicates.
    pub const RELEASING: Self = Self { duplicates: 0, releases: true, ..Self::SHORT };
    /// The same on a log that loses its end or is made again.
    pub const DAMAGED: Self = Self { duplicates: 0, damages: 1, ..Self::SHORT };
}

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A node that starts again goes on with the epoch and nonce of its assignment instead of a claim.
    EpochPerAssignment,
    /// A claim does not end what earlier owners may write.
    NoFence,
    /// An owner's record counts whatever its seq.
    NoSeq,
    /// A claim counts whatever its epoch.
    ClaimsNeedNotRise,
    /// A delivery report is answer enough.
    AckOnReport,
    /// A delivery report is answer enough if its offset is the one after the last.
    AckOnContiguousOffsets,
    /// A reader goes on at its offset without looking for the record that it read last.
    NoFingerprint,
    /// An error of the producer is taken to mean that the record will never count.
    DenyOnError,
    /// An owner does not know the commands that counted before its claim.
    NoDedupOnReplay,
}

/// The model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// How large.
    pub bounds: Bounds,
    /// Which rule is left out.
    pub flaw: Option<Flaw>,
}

/// Everything there is at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// What has arrived.
    pub log: Vec<Record>,
    /// What is on its way, in no order.
    pub way: BTreeSet<Record>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What clients were told has happened.
    pub acknowledged: BTreeSet<Record>,
    /// What clients were told will never happen.
    pub denied: BTreeSet<Record>,
    /// What has ever counted, on this log or on the one before.
    pub counted: BTreeSet<Record>,
    /// What the bounds still allow.
    pub left: Bounds,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node appends a claim. Its epoch is above one that counts or counted: it may have looked long ago.
    Claim {
        /// The node.
        node: u8,
        /// The epoch.
        epoch: u8,
    },
    /// A node that does not hear of its claim claims again, higher.
    ClaimAgain {
        /// The node.
        node: u8,
    },
    /// A node reads to its claim, or to one that is not below it.
    ReadToClaim {
        /// The node.
        node: u8,
    },
    /// An owner decides a command and appends.
    Append {
        /// The node.
        node: u8,
        /// The command.
        command: u8,
    },
    /// A record arrives.
    Arrive {
        /// Which.
        record: Record,
        /// Whether its producer hears of it.
        reported: bool,
        /// Whether it arrives again later.
        again: bool,
    },
    /// An owner's reader reads one record.
    Read {
        /// The node.
        node: u8,
    },
    /// An owner waits for an answer no longer: it leaves its producer behind and claims higher.
    Doubt {
        /// The node.
        node: u8,
    },
    /// An owner with nothing in flight gives the partition up.
    Release {
        /// The node.
        node: u8,
    },
    /// A node ends. What it sent is still on its way.
    Crash {
        /// The node.
        node: u8,
    },
    /// A node goes on under its assignment, as only a flaw lets it.
    Restart {
        /// The node.
        node: u8,
    },
    /// The log loses its records from this one on; from 0 on: it is made again.
    Truncate {
        /// The first that is gone.
        end: u8,
    },
}

impl Model for Ownership {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            log: Vec::new(),
            way: BTreeSet::new(),
            nodes: vec![Node::default(); usize::from(self.bounds.nodes)],
            acknowledged: BTreeSet::new(),
            denied: BTreeSet::new(),
            counted: BTreeSet::new(),
            left: self.bounds,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, action)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::of(self.bounds)
    }
}
