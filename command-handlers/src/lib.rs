//! A command to an appended commit, once, even if asked twice.
//!
//! [`Commands`] takes a [`CommandEnvelope`] to the shard that owns its stream's partition. The shard decides on
//! state in memory, appends, and answers when the log is known to count it (`architecture.md` §3).

mod clock;
mod command;
mod commands;
mod dedup;
mod filter;
mod owner;
mod shard;
mod status;
#[cfg(feature = "testing")]
pub mod testing;

pub use clock::{Clock, SystemClock};
pub use command::{CommandEnvelope, CommandError, Origin, Reply, body_hash};
pub use commands::Commands;
pub use owner::{Options, Shards};
pub use status::{PartitionState, PartitionStatus};
