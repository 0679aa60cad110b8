//! What a backend does: append bytes to a partition in order, and read them back. It knows nothing of claims,
//! epochs or commits; all of that is decided by what is read.

use async_trait::async_trait;
use bytes::Bytes;
use shopstream_domain::Partition;

use crate::cursor::Offset;

/// A log of `partitions` ordered sequences of opaque records.
#[async_trait]
pub trait RawLog: Send + Sync + 'static {
    /// How many partitions there are; 0 to this are valid.
    fn partitions(&self) -> u16;

    /// A fresh way to append to `partition`. What earlier appenders still have in flight may yet arrive, before or
    /// after what this one appends.
    ///
    /// # Errors
    /// See [`RawError`].
    async fn appender(&self, partition: Partition) -> Result<Box<dyn Appender>, RawError>;

    /// Reads each given partition from its offset on, for ever.
    ///
    /// # Errors
    /// See [`RawError`]; an offset beyond the end may be refused here or at the first read.
    async fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn RawReader>, RawError>;

    /// Where the next record of `partition` would go, as far as this process can see: good for progress bars and
    /// lag, never proof of anything (`rulings.md` 43).
    ///
    /// # Errors
    /// See [`RawError`].
    async fn end(&self, partition: Partition) -> Result<Offset, RawError>;
}

/// Appends to one partition, in the order of the calls. Dropping it never blocks for long and cancels nothing:
/// what was submitted may still arrive.
#[async_trait]
pub trait Appender: Send {
    /// Hands a record over without waiting. What is handed over together may be sent together, so a backend may hold
    /// it until [`Appender::reports`] is awaited.
    ///
    /// # Errors
    /// [`RawError::Full`]: nothing was taken, try again after the next report. Anything else: the record may or
    /// may not arrive, and this appender is of no more use.
    fn submit(&mut self, record: Bytes) -> Result<(), RawError>;

    /// Waits for at least one report and moves all that are there to `reports`, in the order of submission.
    /// Cancel-safe. Waits for ever while nothing is in flight.
    async fn reports(&mut self, reports: &mut Vec<Report>);
}

/// What became of one submitted record. `Ok(None)`: it arrived, nobody knows where. `Err`: nobody knows whether.
pub type Report = Result<Option<Offset>, RawError>;

/// Reads partitions forward.
#[async_trait]
pub trait RawReader: Send {
    /// Waits for at least one record, then moves what is there, up to about `max_bytes`, to `records`; within a
    /// partition in offset order. Only records that are durable by the backend's promise. Cancel-safe.
    ///
    /// Trouble that passes (a broker away, a leader moving) is waited out inside.
    ///
    /// # Errors
    /// [`RawError::Lost`], [`RawError::Broken`] or [`RawError::Damaged`]: what should be there is not. The reader is of
    /// no more use.
    async fn next(&mut self, max_bytes: usize, records: &mut Vec<RawRecord>) -> Result<(), RawError>;
}

/// A record as a backend gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its bytes: [`crate::record::Record::parse`].
    pub bytes: Bytes,
}

/// What can go wrong in a backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// Too much in flight already.
    #[error("too many bytes are in flight")]
    Full,
    /// The backend cannot be reached or does not answer.
    #[error("the log is not available: {detail}")]
    Unavailable {
        /// What it said.
        detail: String,
    },
    /// The disk has no room left. Nothing was written.
    #[error("the disk under {path} is full: free some space, appends go on by themselves")]
    DiskFull {
        /// The folder.
        path: String,
    },
    /// The backend refuses for good, and will refuse again.
    #[error("the log refuses: {detail}")]
    Refused {
        /// What it said.
        detail: String,
    },
    /// An earlier error made the state of the log unknown; only a restart can tell.
    #[error("the log is poisoned by an earlier error: {detail}; restart to recover")]
    Poisoned {
        /// The first error.
        detail: String,
    },
    /// The partition ends before the offset that was asked for.
    #[error("partition {partition} ends at offset {end}, before {wanted}")]
    Lost {
        /// Which partition.
        partition: Partition,
        /// The offset asked for.
        wanted: Offset,
        /// The end found.
        end: Offset,
    },
    /// What was read of the partition, or should be read next, is there no more: somebody deleted it, made it again
    /// or changed it.
    #[error("partition {partition}: {detail}")]
    Broken {
        /// Which partition.
        partition: Partition,
        /// What was found.
        detail: String,
    },
    /// Bytes in the middle of the log are not what was written.
    #[error("the log is damaged at {place}: {detail}")]
    Damaged {
        /// File and byte.
        place: String,
        /// What is wrong.
        detail: String,
    },
}
