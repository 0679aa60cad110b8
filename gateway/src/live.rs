//! The live feed: one reader per node follows the log, and every stream of every client listens to it.
//!
//! The feed is a ring of the last batches. A listener that falls behind the ring has lost something and is told so;
//! nobody waits for it and nothing is kept for it, so a slow client costs a slow client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shopstream_domain::Partition;
use shopstream_eventlog::writer::Fenced;
use shopstream_eventlog::{CommitRecord, Cursor, Halt, Journal, Log, Offset, ReadError, Reader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::connections::ON;
use crate::failure::{Crowd, Failure};
use crate::follow::unreadable;
use crate::landmarks::Landmarks;
use crate::positions::LogName;
use crate::shares::{SCANS_MAX, refused};

/// How many bytes of records one batch holds at most, about. A stream makes messages of one batch at a time, so this is
/// also what one holds whose client does not read.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;
/// How many batches a listener may be behind.
const RING: usize = 256;
/// How long one waits for its turn.
const SCAN_PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries to read a log or a journal that is away.
const RETRY: Duration = Duration::from_millis(500);

/// What was read together.
#[derive(Debug)]
pub struct Batch {
    /// Commits that count, per partition in offset order.
    pub commits: Vec<CommitRecord>,
    /// The next offset of every partition that moved.
    pub next: Vec<(Partition, Offset)>,
}

/// The live feed of this node. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    shared: Arc<Shared>,
}

/// Hears of every claim that counts.
pub(crate) type OnClaim = Arc<dyn Fn(Partition, Fenced) + Send + Sync>;

struct Shared {
    log: Log,
    name: LogName,
    on_claim: OnClaim,
    landmarks: Landmarks,
    scans: Arc<Semaphore>,
    stop: CancellationToken,
    feed: Mutex<Feed>,
    started: watch::Sender<bool>,
}

/// Batches and the place they lead to change together, under one lock.
struct Feed {
    sender: broadcast::Sender<Arc<Batch>>,
    state: FeedState,
}

#[derive(Clone)]
enum FeedState {
    Starting,
    /// By partition, the offset of the first record that was not sent yet.
    Running(Vec<Offset>),
    Halted(Partition, Halt),
}

/// A reader of the log, and its place among those that there may be.
pub(crate) struct Scan {
    pub(crate) reader: Reader,
    /// Of its address, and of all.
    _places: (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit),
}

/// A place in the feed.
pub(crate) struct Listener {
    pub(crate) feed: broadcast::Receiver<Arc<Batch>>,
    /// By partition, the first offset that this listener will hear.
    pub(crate) from: Vec<Offset>,
}

impl Live {
    /// Follows `log` from where the journal is until `stop`, and tells `on_claim` who owns what. Returns at once.
    pub fn start(log: Log, journal: Arc<dyn Journal>, on_claim: OnClaim, stop: CancellationToken) -> Self {
        let landmarks = Landmarks::new((0..log.partitions()).map(|partition| log.start(partition)));
        let (sender, _) = broadcast::channel(RING);
        let feed = Mutex::new(Feed { sender, state: FeedState::Starting });
        let started = watch::Sender::new(false);
        let name = LogName::of(log.topology());
        let live = Self {
            shared: Arc::new(Shared {
                log,
                name,
                on_claim,
                landmarks,
                scans: Arc::new(Semaphore::new(SCANS_MAX)),
                stop,
                feed,
                started,
            }),
        };
        let runner = live.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = runner.stopped() => {}
                () = runner.run(&*journal) => {}
            }
        });
        live
    }

    /// Waits until there is something to listen to: whoever is served after that is never told to wait for it.
    pub(crate) async fn started(&self) {
        // The sender lives in what is held here.
        let _ = self.shared.started.subscribe().wait_for(|started| *started).await;
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// The feed has not begun yet, or the log is halted.
    pub(crate) fn listen(&self) -> Result<Listener, Failure> {
        let feed = self.feed();
        match &feed.state {
            FeedState::Starting => Err(Failure::Away { what: "the live feed" }),
            FeedState::Halted(partition, halt) => {
                Err(Failure::LogHalted { partition: *partition, detail: halt.to_string() })
            }
            FeedState::Running(next) => Ok(Listener { feed: feed.sender.subscribe(), from: next.clone() }),
        }
    }

    /// Why the feed ended.
    pub(crate) fn ended(&self) -> Failure {
        self.listen().err().unwrap_or(Failure::Stopping)
    }

    /// Ends when this node stops.
    pub(crate) async fn stopped(&self) {
        self.shared.stop.cancelled().await;
    }

    /// A reader of one's own from these places on, once it is one's turn.
    ///
    /// # Errors
    /// The log cannot be read, or too many read it for too long.
    pub(crate) async fn scan(&self, from: &[Cursor]) -> Result<Scan, Failure> {
        let on = ON.try_with(Arc::clone).ok();
        let turn = async {
            // One address waits for its own turns, so that the others come to theirs.
            let own = match &on {
                Some(connection) => connection.scan().await,
                None => None,
            };
            (own, self.shared.scans.clone().acquire_owned().await)
        };
        let Ok((own, Ok(place))) = timeout(SCAN_PATIENCE, turn).await else {
            refused("stream", "log_readers");
            return Err(Failure::Crowded(Crowd::LogReaders));
        };
        let reader = self.shared.log.reader(from).await.map_err(unreadable)?;
        Ok(Scan { reader, _places: (own, place) })
    }

    /// Its name in positions.
    pub(crate) fn log_name(&self) -> &LogName {
        &self.shared.name
    }

    /// The first offset of a partition that the feed has not brought; 0 where it has not begun.
    pub(crate) fn next(&self, partition: Partition) -> Offset {
        match &self.feed().state {
            FeedState::Running(next) => next.get(usize::from(partition)).copied().unwrap_or(0),
            FeedState::Starting | FeedState::Halted(..) => 0,
        }
    }

    /// Where readers of this log can begin.
    pub(crate) fn landmarks(&self) -> &Landmarks {
        &self.shared.landmarks
    }

    async fn run(&self, journal: &dyn Journal) {
        let mut cursors = self.first_cursors(journal).await;
        self.feed().state = FeedState::Running(cursors.iter().map(|cursor| cursor.next).collect());
        self.shared.started.send_replace(true);
        let mut looked_again = false;
        loop {
            match self.follow(&mut cursors).await {
                // One fresh look; what is found twice is true (`rulings.md` 40).
                ReadError::Halt { .. } if !looked_again => looked_again = true,
                ReadError::Halt { partition, halt } => {
                    // A stream over all partitions that left one out would be a lie, so all of them end.
                    error!(partition, %halt, "the live feed ends: partition {partition} is halted");
                    return self.halt(partition, halt);
                }
                ReadError::Raw(cause) => {
                    warn!(%cause, "the live feed cannot read the log; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Reads on and publishes, until that fails.
    async fn follow(&self, cursors: &mut [Cursor]) -> ReadError {
        let mut reader = match self.shared.log.reader(cursors).await {
            Ok(reader) => reader,
            Err(error) => return error,
        };
        loop {
            let batch = match reader.next(BATCH_BYTES).await {
                Ok(batch) => batch,
                Err(error) => return error,
            };
            for (partition, by) in batch.claims {
                (self.shared.on_claim)(partition, by);
            }
            for cursor in &batch.cursors {
                self.shared.landmarks.passed(cursor);
                if let Some(known) = cursors.get_mut(usize::from(cursor.partition)) {
                    *known = *cursor;
                }
            }
            let next = batch.cursors.iter().map(|cursor| (cursor.partition, cursor.next)).collect();
            self.publish(Batch { commits: batch.commits, next });
        }
    }

    async fn first_cursors(&self, journal: &dyn Journal) -> Vec<Cursor> {
        let mut cursors = Vec::new();
        for partition in 0..self.shared.log.partitions() {
            let cursor = loop {
                match journal.cursor(partition).await {
                    Ok(cursor) => break cursor.unwrap_or_else(|| self.shared.log.start(partition)),
                    Err(cause) => {
                        warn!(%cause, "the live feed waits for the journal");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            cursors.push(cursor);
        }
        cursors
    }

    fn publish(&self, batch: Batch) {
        let mut feed = self.feed();
        if let FeedState::Running(next) = &mut feed.state {
            for (partition, offset) in &batch.next {
                next[usize::from(*partition)] = *offset;
            }
        }
        // An error only says that nobody listens.
        let _ = feed.sender.send(Arc::new(batch));
    }

    /// Listeners hear the end because their sender goes.
    fn halt(&self, partition: Partition, halt: Halt) {
        let mut feed = self.feed();
        feed.state = FeedState::Halted(partition, halt);
        feed.sender = broadcast::channel(1).0;
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.shared.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
