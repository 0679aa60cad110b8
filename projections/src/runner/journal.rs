//! The journal at work. It has a reader of its own, so that no view can stall it.

use std::convert::Infallible;

use shopstream_eventlog::{Batch, Cursor, Log};
use tokio::time::sleep;
use tracing::{error, warn};

use super::backoff::Backoff;
use super::feed::RETRY;
use super::follower::{Follower, Interruption};
use super::meter::Meter;
use super::pace::Pace;
use super::status::{Board, ProjectionState};
use crate::checkpoint::{CheckpointError, is_set_back};
use crate::journal::JournalEpoch;
use crate::{Database, DatabaseError, Progress, Projection};

/// Bytes of records per transaction.
const BATCH_BYTES: usize = 1024 * 1024;

/// What the journal works with.
pub(super) struct JournalWriter {
    pub(super) database: Database,
    pub(super) log: Log,
    pub(super) board: Board,
    pub(super) progress: Progress,
    pub(super) meter: Meter,
}

impl JournalWriter {
    /// Where the journal is, in the order of partitions, by what the server says now.
    pub(super) async fn open(
        database: &Database,
        log: &Log,
        progress: &Progress,
    ) -> Result<Vec<Cursor>, DatabaseError> {
        // Before anything is read: what is lost after that is a loss in a later session.
        let session = database.server().session();
        let cursors = JournalEpoch::LIVE.open(database, log).await?;
        let next = cursors.iter().map(|cursor| (cursor.partition, cursor.next));
        progress.begin(Projection::Journal, session, next);
        Ok(cursors)
    }

    /// Follows the log for ever, unless another process does.
    pub(super) async fn run(self, mut cursors: Vec<Cursor>) {
        let mut backoff = Backoff::default();
        loop {
            let Err(error) = self.follow(&mut cursors, &mut backoff).await;
            let cause = error.to_string();
            let mut overtaken = false;
            match &error {
                CheckpointError::Overtaken { .. } => overtaken = true,
                CheckpointError::Database(error) if error.is_transient() => {
                    warn!(%cause, "the journal waits and tries again from its checkpoint");
                }
                // A duplicate key, say: it will not pass, and the write path will stop at the journal's bound.
                CheckpointError::Database(_) | CheckpointError::Panicked => {
                    error!(%cause, "the journal cannot go on: a bug");
                }
            }
            if let CheckpointError::Database(error) = &error {
                self.database.heard(error);
            }
            self.meter.failed(Projection::Journal);
            self.board.set(Projection::Journal, ProjectionState::Waiting { cause: cause.clone() });
            let found = self.reopen(&mut backoff).await;
            if overtaken && !is_set_back(&cursors, &found) {
                error!(%cause, "another process writes the journal: this one stops");
                self.board.set(Projection::Journal, ProjectionState::Superseded { cause });
                return;
            }
            if overtaken {
                warn!(%cause, "the database has lost a part of the journal: it is written again from the log");
            }
            self.board.set(Projection::Journal, ProjectionState::Running);
            cursors = found;
        }
    }

    /// Asks the database where the journal is, until it answers: a transaction may have been committed before its
    /// answer was lost.
    async fn reopen(&self, backoff: &mut Backoff) -> Vec<Cursor> {
        loop {
            backoff.pause().await;
            match Self::open(&self.database, &self.log, &self.progress).await {
                Ok(cursors) => return cursors,
                Err(error) => warn!(%error, "the journal still waits"),
            }
        }
    }

    /// Follows the log from `cursors` on, which go with what is written.
    async fn follow(
        &self,
        cursors: &mut [Cursor],
        backoff: &mut Backoff,
    ) -> Result<Infallible, CheckpointError> {
        let mut follower = Follower::new(self.log.clone(), cursors.to_vec());
        let mut pace = Pace::default();
        let begun = self.progress.session(Projection::Journal);
        loop {
            pace.turn().await;
            let before = follower.cursors().to_vec();
            let read = tokio::select! {
                read = follower.next(BATCH_BYTES) => read,
                // Also while there is nothing to write.
                () = self.database.server().session_after(begun) => {
                    return Err(DatabaseError::BegunAgain { projection: Projection::Journal }.into());
                }
            };
            match read {
                Ok(batch) => {
                    self.write(&before, &batch).await?;
                    for after in &batch.cursors {
                        if let Some(cursor) = cursors.iter_mut().find(|it| it.partition == after.partition) {
                            *cursor = *after;
                        }
                    }
                    backoff.reset();
                }
                Err(Interruption::Away { cause }) => {
                    warn!(%cause, "the log is away: the journal waits");
                    self.board.set(Projection::Journal, ProjectionState::Waiting { cause });
                    sleep(RETRY).await;
                }
                Err(Interruption::Halted { partition, halt }) => {
                    error!(partition, %halt, "the log contradicts its history: the journal leaves the partition out");
                    self.board.set(Projection::Journal, ProjectionState::Halted { partition, cause: halt });
                }
            }
        }
    }

    /// Writes one batch and tells who waits for it.
    async fn write(&self, before: &[Cursor], batch: &Batch) -> Result<(), CheckpointError> {
        let rows = JournalEpoch::LIVE.write(&self.database, before, batch).await?;
        let next = batch.cursors.iter().map(|cursor| (cursor.partition, cursor.next));
        self.progress.advance(Projection::Journal, next);
        self.board.set(Projection::Journal, ProjectionState::Running);
        let newest = batch.commits.iter().map(|record| record.commit.recorded_at).max();
        self.meter.applied(Projection::Journal, rows, rows, newest);
        Ok(())
    }
}
