//! Who should own what: liveness only. Two nodes that both believe to own a partition harm nobody, for the log says
//! which of them counts (`event-log.md` §2.3).

mod leases;
mod rendezvous;
mod statically;
mod terms;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shopstream_domain::Partition;
use shopstream_eventlog::writer::Fenced;
use tokio::sync::watch;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

pub use self::leases::{Lease, LeaseError, LeaseStore, Leases, Member, Timing, View};
pub use self::statically::Static;

/// What exactly one node at a time should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Duty {
    /// Decide the commands of a partition.
    Partition(Partition),
    /// Keep journal and read models.
    Projections,
    /// Drive the processes.
    Sagas,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(partition) => write!(f, "partition/{partition}"),
            Self::Projections => f.write_str("projections"),
            Self::Sagas => f.write_str("sagas"),
        }
    }
}

/// No duty is called so, or none that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a duty")]
pub struct UnknownDuty;

impl FromStr for Duty {
    type Err = UnknownDuty;

    fn from_str(name: &str) -> Result<Self, UnknownDuty> {
        match name {
            "projections" => Ok(Self::Projections),
            "sagas" => Ok(Self::Sagas),
            other => {
                let partition = other.strip_prefix("partition/").and_then(|number| number.parse().ok());
                partition.map(Self::Partition).ok_or(UnknownDuty)
            }
        }
    }
}

/// An owner of a partition, and where it takes commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The epoch of its claim, as far as that is known; what names a higher one is newer.
    pub epoch: u64,
    /// The node's name.
    pub node: String,
    /// Its address.
    pub address: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.node, self.address)
    }
}

impl From<Fenced> for Location {
    fn from(by: Fenced) -> Self {
        Self { epoch: by.epoch, node: by.node, address: by.address }
    }
}

/// The right to take a duty up.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Claims under it need an epoch of at least this; 0 where nobody counts them but the log.
    pub epoch: u64,
    /// Cancelled when somebody else has the duty now: step down.
    pub lost: CancellationToken,
}

/// A lease as everybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSeen {
    /// Who holds it.
    pub holder: Location,
    /// How long it still lasts unless it is renewed.
    pub left: Duration,
}

/// Says what this node should do, and who does the rest. Everything granted is renewed in the background, all at
/// once, until it is released.
#[async_trait]
pub trait Coordinator: Send + Sync + 'static {
    /// Whether other nodes may own partitions of this log.
    fn is_shared(&self) -> bool;

    /// Whether this node should own `partition`, as that changes.
    fn desired(&self, partition: Partition) -> watch::Receiver<bool>;

    /// Waits until this node may take `duty` up. `seen` is the highest epoch that the caller knows to have been
    /// claimed. Cancel-safe: what was granted unheard runs out by itself.
    async fn acquire(&self, duty: Duty, seen: u64) -> Grant;

    /// Gives `duty` back, so that the next may take it up at once.
    async fn release(&self, duty: Duty);

    /// Whether nobody else can have been granted `duty`, by this node's own clock. While it is not so, an answer
    /// from memory may be an old one.
    fn is_live(&self, duty: Duty) -> bool;

    /// Who owns `partition`, or soon will, if that is another node.
    fn locate(&self, partition: Partition) -> Option<Location>;

    /// Changes whenever [`Coordinator::locate`] may answer otherwise than before.
    fn moves(&self) -> watch::Receiver<u64>;

    /// The log or another node says who owns `partition`; what is older than what is known is ignored.
    fn learn(&self, partition: Partition, owner: Location);

    /// The lease of `duty`, if anybody has one.
    fn lease(&self, duty: Duty) -> Option<LeaseSeen>;

    /// From now on this node should own nothing; the others hear of it.
    async fn leave(&self);
}
