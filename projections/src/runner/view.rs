//! One view at work: it lives on the feed while it keeps up, and reads for itself while it does not.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use shopstream_domain::Partition;
use shopstream_eventlog::{Log, Offset};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use super::backoff::Backoff;
use super::feed::{BATCH_BYTES, Feed, QUEUE, RETRY, Subscription};
use super::follower::{Follower, Interruption};
use super::meter::Meter;
use super::status::{Board, ProjectionState};
use crate::applier::Applier;
use crate::batch::Batch;
use crate::checkpoint::{CheckpointError, is_set_back};
use crate::parked::WISHES;
use crate::{Company, Database, DatabaseError, Progress, Projection};

/// Bytes of records per transaction of a view that catches up: as many as one that keeps up finds at most.
const CATCH_UP_BYTES: usize = QUEUE * BATCH_BYTES;

/// How long a checkpoint that others follow may stay behind its view.
const SAVE_AFTER: Duration = Duration::from_millis(50);

/// How long a view that is to release an aggregate waits for the journal, and how long until it tries again.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(2);
const WISHES_AGAIN: Duration = Duration::from_secs(5);

/// What a view works with.
pub(super) struct View {
    pub(super) projection: Projection,
    pub(super) epoch: u32,
    pub(super) database: Database,
    pub(super) log: Log,
    pub(super) feed: Feed,
    pub(super) board: Board,
    pub(super) progress: Progress,
    pub(super) company: Company,
    pub(super) meter: Meter,
    /// Changes when an operator wishes something for a parked aggregate of any view.
    pub(super) wishes: watch::Receiver<u64>,
}

/// Why a view stopped following.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("a bug: the view panicked, see the lines before")]
    Panicked,
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        Self::Checkpoint(error.into())
    }
}

impl View {
    /// Follows the log for as long as there is a feed, whatever fails meanwhile.
    pub(super) async fn run(self, mut applier: Applier) {
        let mut backoff = Backoff::default();
        loop {
            let followed = AssertUnwindSafe(self.follow(&mut applier, &mut backoff)).catch_unwind().await;
            let trouble = match followed {
                Ok(Ok(())) => return,
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Panicked,
            };
            let cause = trouble.to_string();
            warn!(projection = %self.projection, %cause, "a view waits and tries again from its checkpoint");
            self.meter.failed(self.projection);
            self.board.set(self.projection, ProjectionState::Waiting { cause: cause.clone() });
            if let Trouble::Checkpoint(error) = &trouble
                && let Some(error) = error.database()
            {
                self.database.heard(error);
            }
            let found = self.reopen(&mut backoff).await;
            if matches!(trouble, Trouble::Checkpoint(CheckpointError::Overtaken { .. })) {
                if !is_set_back(applier.saved(), found.saved()) {
                    error!(projection = %self.projection, %cause, "another process projects: this view stops");
                    self.board.set(self.projection, ProjectionState::Superseded { cause });
                    return;
                }
                warn!(projection = %self.projection, %cause, "the database has lost what this view had: it goes back");
            }
            applier = found;
            self.board.set(self.projection, ProjectionState::Running);
        }
    }

    /// Opens the view where its checkpoint is, as soon as the database says where: after an error nobody here knows what
    /// was committed.
    async fn reopen(&self, backoff: &mut Backoff) -> Applier {
        loop {
            backoff.pause().await;
            match Applier::open(&self.database, &self.log, self.projection, self.epoch).await {
                Ok(applier) => return applier,
                Err(error) => {
                    self.database.heard(&error);
                    let cause = error.to_string();
                    self.board.set(self.projection, ProjectionState::Waiting { cause });
                }
            }
        }
    }

    async fn follow(&self, applier: &mut Applier, backoff: &mut Backoff) -> Result<(), Trouble> {
        self.progress.begin(self.projection, applier.session(), applier.next());
        loop {
            let reached = self.feed.position().iter().map(|cursor| (cursor.partition, cursor.next)).collect();
            self.catch_up(applier, reached).await?;
            let Some(subscription) = self.feed.subscribe(self.projection).await else { return Ok(()) };
            backoff.reset();
            self.keep_up(applier, subscription).await?;
        }
    }

    /// Applies what the feed brings until it ends the subscription; between batches does what operators wish.
    async fn keep_up(&self, applier: &mut Applier, mut subscription: Subscription) -> Result<(), Trouble> {
        let mut batches = Vec::with_capacity(QUEUE);
        // When the checkpoint must be saved, if it is behind and somebody follows it.
        let mut due = self.save_due(applier, None);
        let mut wishes = self.wishes.clone();
        let begun = applier.session();
        // What was wished before anybody listened here, or was broken off.
        let mut wished_at = Some(Instant::now());
        loop {
            tokio::select! {
                received = subscription.recv_many(&mut batches, QUEUE) => {
                    if received == 0 {
                        return Ok(());
                    }
                    // Only the first of a subscription can begin further on: the feed went on after the catch-up.
                    if !applier.joins(&batches[0]) {
                        self.catch_up(applier, batches[0].from().to_vec()).await?;
                    }
                    self.apply(applier, &batches).await?;
                    batches.clear();
                    due = self.save_due(applier, due);
                    if due.is_some_and(|due| due <= Instant::now()) {
                        applier.save(&self.database).await?;
                        due = None;
                    }
                }
                () = at(due) => {
                    applier.save(&self.database).await?;
                    due = None;
                }
                // Also while there is nothing to do: the database may have lost what this view believes to have done.
                () = self.database.server().session_after(begun) => {
                    return Err(DatabaseError::BegunAgain { projection: self.projection }.into());
                }
                Ok(()) = wishes.changed() => wished_at = Some(Instant::now()),
                () = at(wished_at) => {
                    let done = self.do_wishes(applier).await?;
                    wished_at = (!done).then(|| Instant::now() + WISHES_AGAIN);
                }
            }
        }
    }

    /// Does what operators wish for aggregates that are parked here; `false`: the journal, which has their events, is
    /// too far behind.
    async fn do_wishes(&self, applier: &mut Applier) -> Result<bool, Trouble> {
        let mut after = None;
        loop {
            let mut streams = applier.wished(&self.database, after.as_ref()).await?;
            for stream in &streams {
                let needs = applier.needs(stream);
                let deadline = Instant::now() + JOURNAL_PATIENCE;
                if self.progress.wait_for(Projection::Journal, needs.as_slice(), deadline).await.is_err() {
                    return Ok(false);
                }
                applier.release(&self.database, stream).await?;
            }
            self.meter.parked(self.projection, applier.parked());
            if streams.len() < WISHES {
                return Ok(true);
            }
            after = streams.pop();
        }
    }

    fn save_due(&self, applier: &Applier, due: Option<Instant>) -> Option<Instant> {
        let behind = self.company == Company::Followed && !applier.is_saved();
        behind.then(|| due.unwrap_or_else(|| Instant::now() + SAVE_AFTER))
    }

    /// Reads for itself until it is at `target`, or further.
    async fn catch_up(
        &self,
        applier: &mut Applier,
        mut target: Vec<(Partition, Offset)>,
    ) -> Result<(), Trouble> {
        let is_behind =
            |applier: &Applier, target: &[(Partition, Offset)]| applier.behind(target).next().is_some();
        if !is_behind(applier, &target) {
            return Ok(());
        }
        let mut follower = Follower::new(self.log.clone(), applier.behind(&target).copied().collect());
        while is_behind(applier, &target) {
            let before = follower.cursors().to_vec();
            match follower.next(CATCH_UP_BYTES).await {
                Ok(read) => self.apply(applier, &[Arc::new(Batch::decode(read, &before))]).await?,
                Err(Interruption::Away { cause }) => {
                    self.board.set(self.projection, ProjectionState::Waiting { cause });
                    sleep(RETRY).await;
                }
                Err(Interruption::Halted { partition, halt }) => {
                    error!(partition, %halt, projection = %self.projection, "a view leaves a partition out");
                    self.board.set(self.projection, ProjectionState::Halted { partition, cause: halt });
                    target.retain(|(halted, _)| *halted != partition);
                }
            }
        }
        Ok(())
    }

    async fn apply(&self, applier: &mut Applier, batches: &[Arc<Batch>]) -> Result<(), Trouble> {
        let applied = applier.apply(&self.database, batches).await?;
        self.progress.advance(self.projection, applier.next());
        self.board.set(self.projection, ProjectionState::Running);
        let newest = batches.iter().filter_map(|batch| batch.newest()).max();
        self.meter.applied(self.projection, applied.rows, applied.events, newest);
        self.meter.parked(self.projection, applier.parked());
        Ok(())
    }
}

/// Waits for a time, if there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
