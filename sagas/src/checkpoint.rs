//! How far the runner has read, saved only when everything up to there is safe elsewhere.
//!
//! A batch of the log hands out a [`Receipt`] for every process that it wakes. A process confirms when its first
//! record counts, for from then on its own stream brings it back after a crash; only then may the cursor pass.
//!
//! One process that is long about it, as where the provider does not answer, holds up the cursor and nothing else: batches
//! behind it are taken on, and neighbours in which everybody has confirmed become one. What is left apart is as much at
//! most as there are processes that have not confirmed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shopstream_domain::Partition;
use shopstream_eventlog::Cursor;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tracing::warn;

use crate::ports::{CursorMove, SagaStore, StoreError};

/// Batches read and not yet passed.
const BATCHES: usize = 64;
/// Parts of what was read that somebody has not confirmed. Only where one process is woken again and again while it is at
/// work are there more of them than processes.
const PARTS_MAX: usize = 4_096;
/// Between two tries to save.
const RETRY: Duration = Duration::from_secs(1);

/// A process ended without saying that it is safe: the cursor stays.
struct Lost;

/// Owed by a process that was woken.
#[derive(Debug)]
pub(crate) struct Receipt(Option<mpsc::Sender<Lost>>);

impl Receipt {
    fn confirm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(batch) = self.0.take() {
            // Full: somebody else has said it.
            let _ = batch.try_send(Lost);
        }
    }
}

/// The receipts of one waking.
#[derive(Debug, Default)]
pub(crate) struct Receipts(Vec<Receipt>);

impl Receipts {
    /// What was woken is safe: it is on a stream that brings it back.
    pub(crate) fn confirm(&mut self) {
        self.0.drain(..).for_each(|mut receipt| receipt.confirm());
    }

    /// Whether somebody still waits.
    pub(crate) fn are_owed(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn add(&mut self, other: Self) {
        // Taken out, for `Receipts` owes what it drops.
        self.0.extend(other.0);
    }
}

/// Hands out receipts for one batch.
pub(crate) struct Batch {
    lost: mpsc::Sender<Lost>,
    done: mpsc::Receiver<Lost>,
    cursors: Vec<Cursor>,
}

impl Batch {
    pub(crate) fn new(cursors: Vec<Cursor>) -> Self {
        let (lost, done) = mpsc::channel(1);
        Self { lost, done, cursors }
    }

    pub(crate) fn receipt(&self) -> Receipts {
        Receipts(vec![Receipt(Some(self.lost.clone()))])
    }
}

/// What a batch leaves with the checkpointer.
type Handed = (mpsc::Receiver<Lost>, Vec<Cursor>);

/// The way to the checkpointer.
pub(crate) struct Checkpoints(mpsc::Sender<Handed>);

/// A place for one batch. Whoever reads must have it first, so no batch can be read that could not be handed over.
pub(crate) struct Room<'a>(mpsc::Permit<'a, Handed>);

impl Checkpoints {
    /// Starts to save. The other half ends with why it could not go on.
    pub(crate) fn start(
        store: Arc<dyn SagaStore>,
        saved: &[Cursor],
    ) -> (Self, impl Future<Output = CheckpointError> + Send + 'static) {
        let (queue_in, queue) = mpsc::channel(BATCHES);
        let saved = saved.iter().map(|cursor| (cursor.partition, *cursor)).collect();
        (Self(queue_in), Checkpointer { store, saved }.run(queue))
    }

    /// Waits until one more batch may be read. The runner waits for this beside everything else, never instead of it: it
    /// is the one who brings processes on until they confirm. Never, where the checkpointer has ended: it says why.
    pub(crate) async fn room(&self) -> Room<'_> {
        match self.0.reserve().await {
            Ok(permit) => Room(permit),
            Err(_ended) => std::future::pending().await,
        }
    }
}

impl Room<'_> {
    /// The batch was handed out.
    pub(crate) fn fill(self, batch: Batch) {
        let Batch { lost, done, cursors } = batch;
        drop(lost);
        self.0.send((done, cursors));
    }
}

/// Why nothing is saved any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// A process broke off: a bug, for they all end by saying how.
    #[error("a process broke off; it is taken up again at the next start")]
    Lost,
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runner has stopped.
    #[error("stopped")]
    Stopped,
}

/// Batches that were read, in order, whose cursors are not saved.
#[derive(Default)]
struct Passed(VecDeque<Part>);

/// Some batches that follow each other, and where they lead.
struct Part {
    /// `None`: everybody has confirmed.
    done: Option<mpsc::Receiver<Lost>>,
    cursors: BTreeMap<Partition, Cursor>,
}

impl Part {
    /// Whether everybody has confirmed, as far as is known at once.
    fn is_safe(&mut self) -> Result<bool, Lost> {
        match self.done.as_mut().map(mpsc::Receiver::try_recv) {
            Some(Ok(lost)) => return Err(lost),
            Some(Err(TryRecvError::Empty)) => return Ok(false),
            Some(Err(TryRecvError::Disconnected)) | None => self.done = None,
        }
        Ok(true)
    }
}

impl Passed {
    fn has_room(&self) -> bool {
        self.0.len() < PARTS_MAX
    }

    fn take(&mut self, batches: impl Iterator<Item = Handed>) {
        self.0.extend(batches.map(|(done, cursors)| Part {
            done: Some(done),
            cursors: cursors.into_iter().map(|cursor| (cursor.partition, cursor)).collect(),
        }));
    }

    /// Waits until everybody of the first batch has confirmed; for ever where there is none. Cancel-safe.
    async fn first(&mut self) -> Result<(), Lost> {
        match self.0.front_mut().and_then(|first| first.done.as_mut()) {
            Some(done) => done.recv().await.map_or(Ok(()), Err),
            None => std::future::pending().await,
        }
    }

    /// Takes out how far everybody has confirmed, and makes one of what follows each other behind that.
    fn reached(&mut self) -> Result<BTreeMap<Partition, Cursor>, Lost> {
        let mut reached = BTreeMap::new();
        let mut kept: VecDeque<Part> = VecDeque::new();
        for mut part in self.0.drain(..) {
            match (part.is_safe()?, kept.back_mut()) {
                (true, None) => reached.extend(part.cursors),
                (true, Some(before)) if before.done.is_none() => before.cursors.extend(part.cursors),
                (true | false, _) => kept.push_back(part),
            }
        }
        self.0 = kept;
        Ok(reached)
    }
}

struct Checkpointer {
    store: Arc<dyn SagaStore>,
    saved: BTreeMap<Partition, Cursor>,
}

impl Checkpointer {
    async fn run(mut self, mut queue: mpsc::Receiver<Handed>) -> CheckpointError {
        let mut passed = Passed::default();
        let mut batches = Vec::with_capacity(BATCHES);
        loop {
            tokio::select! {
                biased;
                first = passed.first() => match first {
                    Ok(()) => {}
                    Err(Lost) => return CheckpointError::Lost,
                },
                taken = queue.recv_many(&mut batches, BATCHES), if passed.has_room() => {
                    if taken == 0 {
                        return CheckpointError::Stopped;
                    }
                    passed.take(batches.drain(..));
                }
            }
            let reached = match passed.reached() {
                Ok(reached) => reached,
                Err(Lost) => return CheckpointError::Lost,
            };
            if reached.is_empty() {
                continue;
            }
            if let Err(error) = self.save(reached).await {
                return error.into();
            }
        }
    }

    async fn save(&mut self, reached: BTreeMap<Partition, Cursor>) -> Result<(), StoreError> {
        let from = |partition| self.saved.get(partition).copied();
        let moves: Vec<CursorMove> =
            reached.iter().map(|(partition, to)| CursorMove { from: from(partition), to: *to }).collect();
        let mut in_doubt = false;
        loop {
            match self.store.save(&moves).await {
                Ok(()) => break,
                // The answer to the first try may have been lost on its way, but not the first try.
                Err(StoreError::Moved { .. }) if in_doubt && self.is_saved(&moves).await? => break,
                Err(error @ StoreError::Moved { .. }) => return Err(error),
                Err(error @ StoreError::Unavailable { .. }) => {
                    in_doubt = true;
                    warn!(%error, "the cursors of the processes are not saved; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        self.saved.extend(reached);
        Ok(())
    }

    /// Whether the store is where these moves lead. Nobody else has got there: a runner that came in between would have
    /// moved on from where this one was.
    async fn is_saved(&self, moves: &[CursorMove]) -> Result<bool, StoreError> {
        loop {
            match self.store.cursors().await {
                Ok(cursors) => return Ok(moves.iter().all(|step| cursors.contains(&step.to))),
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(RETRY).await,
                Err(error @ StoreError::Moved { .. }) => return Err(error),
            }
        }
    }
}
