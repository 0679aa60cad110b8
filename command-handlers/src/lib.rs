//! A command to an appended commit, once, even if asked twice.
//!
//! [`Commands`] takes a [`CommandEnvelope`] to the shard that owns its stream's partition, here or on another node.
//! The shard decides on state in memory, appends, and answers when the log is known to count it (`architecture.md`
//! §3). Which partitions a node should own its [`Coordinator`](coordinator::Coordinator) says.

mod clock;
mod command;
mod commands;
pub mod coordinator;
mod dedup;
mod filter;
mod owner;
mod peers;
mod shard;
mod status;
#[cfg(feature = "testing")]
pub mod testing;

pub use clock::{Clock, SystemClock};
pub use command::{CommandEnvelope, CommandError, Key, Origin, Reply, Request, body_hash};
pub use commands::Commands;
pub use coordinator::Location;
pub use owner::{Options, SNAPSHOT_EVERY, Shards};
pub use peers::{NoPeers, Peers, Silent};
pub use shard::{Distrust, Said, read_snapshot};
pub use status::{PartitionState, PartitionStatus};
