//! How far a reader is, said so that it can tell when the log under it is not the log it read before.

use std::fmt;

use serde::{Deserialize, Serialize};
use shopstream_domain::Partition;
use uuid::Uuid;

use crate::fold::Fence;

/// Number of a record in its partition, from 0.
pub type Offset = u64;

/// Identity of a log, drawn when it is made; a topic deleted and made again is another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub Uuid);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a record is: what a command answers, and what a query can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Its partition.
    pub partition: Partition,
    /// Its offset in the partition.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// What the last record read looked like. A reader opens one record early and must find it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The record's own checksum.
    pub crc: u32,
    /// Its epoch.
    pub epoch: u64,
    /// Its nonce.
    pub nonce: u64,
    /// Its sequence number.
    pub seq: u64,
}

/// How far a partition has been read, with the state of the fold there (`rulings.md` 41).
///
/// Always one value: it is stored, compared and swapped as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which log.
    pub log: LogId,
    /// Which partition of it.
    pub partition: Partition,
    /// The offset of the next record to read.
    pub next: Offset,
    /// Who may write at this point.
    pub fence: Fence,
    /// Digest over every record that counted before this point.
    pub digest: u64,
    /// The record at `next - 1`; `None` at the start.
    pub fingerprint: Option<Fingerprint>,
}

impl Cursor {
    /// Before the first record of a partition.
    pub const fn start(log: LogId, partition: Partition) -> Self {
        Self { log, partition, next: 0, fence: Fence::Released { epoch: 0 }, digest: 0, fingerprint: None }
    }
}
