//! The journal as the write path sees it: an index of the log by stream, never its source.
//!
//! Aggregates that are not in memory are folded from here plus the owner's tail of commits that the journal has
//! not got yet. `shopstream-projections` implements it over Postgres.

use async_trait::async_trait;
use shopstream_domain::{Partition, StreamId};
use tokio::sync::watch;

use crate::cursor::{Cursor, Offset};
use crate::record::{CommandId, CommitRecord};

/// History by stream.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// The commits of each stream that the journal has, in order of version; one answer per stream, in the order
    /// asked. All of them in one round trip.
    ///
    /// # Errors
    /// See [`JournalError`].
    async fn load(&self, streams: &[StreamId]) -> Result<Vec<Vec<CommitRecord>>, JournalError>;

    /// The commit that this command made on this stream, if the journal has it.
    ///
    /// # Errors
    /// See [`JournalError`].
    async fn find(&self, stream: &StreamId, command: CommandId)
    -> Result<Option<CommitRecord>, JournalError>;

    /// How far the journal is in `partition`: where an owner begins to read.
    ///
    /// # Errors
    /// See [`JournalError`].
    async fn cursor(&self, partition: Partition) -> Result<Option<Cursor>, JournalError>;

    /// Every stream of `partition` that the journal has, in no order, each once, in chunks.
    ///
    /// # Errors
    /// See [`JournalError`].
    async fn streams(
        &self,
        partition: Partition,
        each: &mut (dyn for<'s> FnMut(&'s str) + Send),
    ) -> Result<(), JournalError>;

    /// The next offset the journal wants, by partition; changes whenever it has committed more.
    fn progress(&self) -> watch::Receiver<Vec<Offset>>;
}

/// Why the journal did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It cannot be reached.
    #[error("the journal is not available: {detail}")]
    Unavailable {
        /// What the database said.
        detail: String,
    },
    /// What it holds cannot be.
    #[error("the journal of {stream} is damaged: {detail}")]
    Damaged {
        /// The stream.
        stream: String,
        /// What is wrong.
        detail: String,
    },
}
