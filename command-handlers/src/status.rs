//! What operators see of a partition.

use std::fmt;

use shopstream_domain::Partition;
use shopstream_eventlog::Offset;

/// Whether a partition takes commands here, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// The claim is on its way.
    Claiming,
    /// It takes commands.
    Serving,
    /// Finding out what became of appends whose outcome is unknown.
    InDoubt {
        /// What happened.
        cause: String,
    },
    /// Somebody else took it.
    Fenced {
        /// Name and address of the owner.
        by: String,
    },
    /// The log contradicts its history: nothing is served until an operator repairs it.
    Halted {
        /// What was found, and the way out.
        cause: String,
    },
    /// The log or the journal is away; tried again by itself.
    Unavailable {
        /// What it said.
        cause: String,
    },
    /// Stepping down, or stopped in order: what comes is sent to the next owner.
    Released,
    /// Another node should own it: what comes is sent there.
    Elsewhere,
}

impl PartitionState {
    /// Whether commands for the partition are this node's business: carried out, kept until they can be, or refused.
    pub const fn is_here(&self) -> bool {
        match self {
            Self::Claiming
            | Self::Serving
            | Self::InDoubt { .. }
            | Self::Fenced { .. }
            | Self::Halted { .. }
            | Self::Unavailable { .. } => true,
            Self::Released | Self::Elsewhere => false,
        }
    }
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claiming => f.write_str("claiming"),
            Self::Serving => f.write_str("serving"),
            Self::InDoubt { cause } => write!(f, "in doubt: {cause}"),
            Self::Fenced { by } => write!(f, "fenced: {by} owns it"),
            Self::Halted { cause } => write!(f, "halted: {cause}"),
            Self::Unavailable { cause } => write!(f, "not available: {cause}"),
            Self::Released => f.write_str("released"),
            Self::Elsewhere => f.write_str("another node should own it"),
        }
    }
}

/// One partition as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub partition: Partition,
    /// See [`PartitionState`].
    pub state: PartitionState,
    /// The epoch of this node's last claim; 0 before the first.
    pub epoch: u64,
    /// The offset after the last confirmed commit.
    pub confirmed: Offset,
}
