//! One fetch and one decode for all views that keep up.
//!
//! Every batch goes to all subscribers, and the slowest of them sets the pace, since they share two cores and one
//! Postgres anyway. But nobody waits for one that is stuck: its subscription ends, and it reads for itself until it
//! has caught up ([`super::view`]).

use std::sync::Arc;
use std::time::Duration;

use shopstream_eventlog::Cursor;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::follower::{Follower, Interruption};
use super::pace::Pace;
use super::status::{Board, ProjectionState};
use crate::Projection;
use crate::batch::Batch;

/// Bytes of records per batch.
pub(super) const BATCH_BYTES: usize = 512 * 1024;
/// Batches that wait for one view; it takes all of them into one transaction.
pub(super) const QUEUE: usize = 4;
/// How long the others wait for one view.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at a log that is away.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// A view's end of the feed. It ends when the view was too slow.
pub(super) type Subscription = mpsc::Receiver<Arc<Batch>>;

/// The way to the feed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Feed {
    subscribe: mpsc::Sender<(Projection, mpsc::Sender<Arc<Batch>>)>,
    position: watch::Receiver<Vec<Cursor>>,
}

impl Feed {
    /// A feed that begins at the follower's cursors, and the future that is it.
    pub(super) fn new(follower: Follower, board: Board) -> (Self, impl Future<Output = ()>) {
        let (subscribe, subscribers) = mpsc::channel(Projection::ALL.len());
        let (position, reached) = watch::channel(follower.cursors().to_vec());
        let source = Source { follower, board, subscribers, views: Vec::new(), position };
        (Self { subscribe, position: reached }, source.run())
    }

    /// Everything from some point on, which the first batch names. `None`: the feed has ended.
    pub(super) async fn subscribe(&self, projection: Projection) -> Option<Subscription> {
        let (batches, subscription) = mpsc::channel(QUEUE);
        self.subscribe.send((projection, batches)).await.ok()?;
        Some(subscription)
    }

    /// How far the feed is.
    pub(super) fn position(&self) -> Vec<Cursor> {
        self.position.borrow().clone()
    }
}

/// The feed's own side.
struct Source {
    follower: Follower,
    board: Board,
    subscribers: mpsc::Receiver<(Projection, mpsc::Sender<Arc<Batch>>)>,
    views: Vec<(Projection, mpsc::Sender<Arc<Batch>>)>,
    position: watch::Sender<Vec<Cursor>>,
}

impl Source {
    async fn run(mut self) {
        let mut pace = Pace::default();
        loop {
            let before = self.follower.cursors().to_vec();
            let next = async {
                pace.turn().await;
                self.follower.next(BATCH_BYTES).await
            };
            // Without subscribers it would only run away from views that catch up.
            let read = tokio::select! {
                subscriber = self.subscribers.recv() => {
                    let Some(subscriber) = subscriber else { return };
                    self.admit(subscriber);
                    continue;
                }
                read = next, if !self.views.is_empty() => read,
            };
            match read {
                Ok(read) => self.hand_out(Batch::decode(read, &before)).await,
                Err(interruption) => self.report(interruption).await,
            }
        }
    }

    /// Begins a subscription by saying where it begins, because the next batch may be long in coming.
    fn admit(&mut self, (projection, view): (Projection, mpsc::Sender<Arc<Batch>>)) {
        // Its queue is new and has room; if it has left meanwhile, the next batch will notice.
        if view.try_send(Arc::new(Batch::empty(self.follower.cursors()))).is_ok() {
            self.views.push((projection, view));
        }
    }

    async fn hand_out(&mut self, batch: Batch) {
        let batch = Arc::new(batch);
        let mut kept = Vec::with_capacity(self.views.len());
        for (projection, view) in self.views.drain(..) {
            match timeout(PATIENCE, view.send(batch.clone())).await {
                Ok(Ok(())) => kept.push((projection, view)),
                // It has left by itself.
                Ok(Err(_)) => {}
                Err(_) => warn!(%projection, "a view is stuck: the others go on, it will catch up by itself"),
            }
        }
        self.views = kept;
        self.position.send_replace(self.follower.cursors().to_vec());
    }

    async fn report(&mut self, interruption: Interruption) {
        match interruption {
            Interruption::Away { cause } => {
                warn!(%cause, "the log is away: all views wait");
                for (projection, _) in &self.views {
                    self.board.set(*projection, ProjectionState::Waiting { cause: cause.clone() });
                }
                sleep(RETRY).await;
            }
            Interruption::Halted { partition, halt } => {
                error!(partition, %halt, "the log contradicts its history: no view reads this partition any more");
                for projection in Projection::views() {
                    self.board.set(projection, ProjectionState::Halted { partition, cause: halt.clone() });
                }
            }
        }
    }
}
