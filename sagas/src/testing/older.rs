//! The journal as an older program reads it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use shopstream_command_handlers::testing::MemoryJournal;
use shopstream_domain::{Partition, StreamId};
use shopstream_eventlog::{CommandId, CommitRecord, Cursor, Journal, JournalError, Offset};
use tokio::sync::watch;

/// A shape that no program knows.
const NEWER: u16 = 9_999;

/// The last event of each of these streams is of a shape that the program does not know, until it is mended.
#[derive(Clone, Default)]
pub struct Unreadable(Arc<Mutex<BTreeSet<StreamId>>>);

impl Unreadable {
    /// The program cannot read the last event of `stream`.
    pub fn add(&self, stream: StreamId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream);
    }

    /// The program is mended.
    pub fn mend(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn garble(&self, stream: &StreamId, history: &mut [CommitRecord]) {
        let unreadable = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(stream);
        let last = history.last_mut().and_then(|record| record.commit.events.last_mut());
        if let (true, Some(event)) = (unreadable, last) {
            event.schema_version = NEWER;
        }
    }
}

/// The journal of a shop, with what its program cannot read.
pub(super) struct OlderJournal {
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) unreadable: Unreadable,
}

#[async_trait]
impl Journal for OlderJournal {
    async fn load(&self, streams: &[StreamId]) -> Result<Vec<Vec<CommitRecord>>, JournalError> {
        let mut histories = self.journal.load(streams).await?;
        for (stream, history) in streams.iter().zip(&mut histories) {
            self.unreadable.garble(stream, history);
        }
        Ok(histories)
    }

    async fn find(
        &self,
        stream: &StreamId,
        command: CommandId,
    ) -> Result<Option<CommitRecord>, JournalError> {
        self.journal.find(stream, command).await
    }

    async fn cursor(&self, partition: Partition) -> Result<Option<Cursor>, JournalError> {
        self.journal.cursor(partition).await
    }

    async fn streams(
        &self,
        partition: Partition,
        each: &mut (dyn for<'s> FnMut(&'s str) + Send),
    ) -> Result<(), JournalError> {
        self.journal.streams(partition, each).await
    }

    fn progress(&self) -> watch::Receiver<Vec<Offset>> {
        self.journal.progress()
    }
}
