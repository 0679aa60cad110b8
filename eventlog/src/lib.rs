//! The log: what is appended to it counts or does not count by one rule, the same for every reader for ever.
//!
//! A backend ([`raw`]) only appends bytes and reads them back. Everything about who may write lives here, once:
//! the record format ([`record`]), the fold that decides what counts ([`fold`]), the owner's side ([`writer`]) and
//! the reader's side ([`reader`]). See `event-log.md` §2 and `rulings.md` 39–48 of the design for the reasons.

pub mod contract;
pub mod cursor;
pub mod fold;
pub mod journal;
pub mod kafka;
pub mod local;
mod log;
pub mod raw;
pub mod reader;
pub mod record;
pub mod schema;
pub mod sim;
pub mod writer;

pub use cursor::{Cursor, Fingerprint, LogId, Offset, Position};
pub use fold::{Fence, Fold, Halt, Verdict};
pub use journal::{History, Journal, JournalError, Snapshot};
pub use log::{Log, LogError, Topology};
pub use reader::{Batch, ReadError, Reader};
pub use record::{CommandId, Commit, CommitRecord, EventData};
pub use writer::{ClaimError, Identity, PartitionWriter, Progress};
