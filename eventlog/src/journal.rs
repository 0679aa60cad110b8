//! The journal as the write path sees it: an index of the log by stream, never its source.
//!
//! Aggregates that are not in memory are folded from here plus the owner's tail of commits that the journal has
//! not got yet. A long history need not be read whole each time: the journal keeps a [`Snapshot`] of it, if somebody
//! makes one. `shopstream-projections` implements it over Postgres.

use async_trait::async_trait;
use bytes::Bytes;
use shopstream_domain::{Partition, StreamId, Version};
use tokio::sync::watch;

use crate::cursor::{Cursor, Offset, Position};
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

    /// What each stream is to be folded from, one answer per stream, in the order asked: its snapshot and what is
    /// behind it, or all of it. All of them in one round trip. A journal without snapshots answers whole histories.
    ///
    /// # Errors
    /// See [`JournalError`]. [`JournalError::Damaged`] may be a snapshot's fault: [`Journal::load`] tells.
    async fn recall(&self, streams: &[StreamId]) -> Result<Vec<History>, JournalError> {
        Ok(self.load(streams).await?.into_iter().map(History::whole).collect())
    }

    /// Keeps these snapshots, of different streams, each in place of the one before. A journal without snapshots
    /// forgets them.
    ///
    /// # Errors
    /// See [`JournalError`]. Nothing is lost but time.
    async fn save(&self, _snapshots: &[Snapshot]) -> Result<(), JournalError> {
        Ok(())
    }

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

/// What a stream was folded to, up to a commit that the journal has. A cache, and of no use to anybody but who wrote it:
/// the journal keeps the bytes and knows nothing of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Of which stream.
    pub stream: StreamId,
    /// The first version of the last commit in it. The journal gives that commit back too, to compare.
    pub from: Version,
    /// Where that commit is.
    pub position: Position,
    /// What was folded.
    pub bytes: Bytes,
}

/// What a stream is folded from.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Its snapshot, as it was saved. Nobody has looked yet whether it is right.
    pub snapshot: Option<Bytes>,
    /// Its commits in order of version: all, or from the last one in the snapshot on.
    pub commits: Vec<CommitRecord>,
}

impl History {
    /// All of it, without a snapshot.
    pub fn whole(commits: Vec<CommitRecord>) -> Self {
        Self { snapshot: None, commits }
    }

    /// The snapshot, if there is one, and of `whole` what is to be read with it.
    pub fn behind(snapshot: Option<&Snapshot>, whole: &[CommitRecord]) -> Self {
        let from = snapshot.map_or(1, |snapshot| snapshot.from);
        let commits = whole.iter().filter(|record| record.commit.first_version >= from).cloned().collect();
        Self { snapshot: snapshot.map(|snapshot| snapshot.bytes.clone()), commits }
    }
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
