//! How far each projection is, as this process knows it: because it projects, or because it follows who does.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shopstream_domain::Partition;
use shopstream_eventlog::{Offset, Position};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::{Database, DatabaseError, Projection, epoch};

/// Between two looks at what another process has projected.
const LOOK: Duration = Duration::from_millis(50);
/// The same while somebody waits for it.
const HURRY: Duration = Duration::from_millis(5);
/// The same while the database is away.
const AWAY: Duration = Duration::from_millis(500);

/// The next offset that each projection wants, by partition. Cheap to clone.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    next: [watch::Sender<Vec<Offset>>; Projection::ALL.len()],
    /// Since which session of the server that is known, see [`crate::database::Server`].
    sessions: [AtomicU64; Projection::ALL.len()],
    /// In which epoch's tables it is.
    epochs: [AtomicU32; Projection::ALL.len()],
    /// How far the journal has ever been said to be: so much the owners of the partitions have forgotten.
    promised: Mutex<Vec<Offset>>,
    /// Tells those who wait for a position, in the order in which they came: a watch tells its receivers in a random
    /// one, which no simulation could make again.
    moved: [Notify; Projection::ALL.len()],
    /// How many wait for a projection to come further.
    waiting: watch::Sender<usize>,
}

impl Progress {
    /// Nothing read yet of a log of `partitions` partitions.
    pub fn new(partitions: u16) -> Self {
        let next = Projection::ALL.map(|_| watch::Sender::new(vec![0; partitions.into()]));
        let moved = Projection::ALL.map(|_| Notify::new());
        let (sessions, epochs) = (Default::default(), std::array::from_fn(|_| AtomicU32::new(epoch::FIRST)));
        let promised = Mutex::new(vec![0; partitions.into()]);
        Self(Arc::new(Shared { next, moved, sessions, epochs, promised, waiting: watch::Sender::new(0) }))
    }

    /// Follows one projection.
    pub fn watch(&self, projection: Projection) -> watch::Receiver<Vec<Offset>> {
        self.0.next[projection.index()].subscribe()
    }

    /// The next offset of one partition that a projection wants; 0 where there is no such partition.
    pub fn next(&self, projection: Projection, partition: Partition) -> Offset {
        self.0.next[projection.index()].borrow().get(usize::from(partition)).copied().unwrap_or(0)
    }

    /// Follows the checkpoints of whichever process projects, until dropped; `reachable` tells whether the database
    /// answers. Not while this process projects itself.
    ///
    /// By looking: a notification with every checkpoint would put all commits of the database into one row.
    pub async fn follow(&self, database: &Database, reachable: &AtomicBool) {
        let mut waiting = self.0.waiting.subscribe();
        loop {
            let nap = match self.look(database).await {
                Ok(()) => {
                    reachable.store(true, Ordering::Relaxed);
                    if *waiting.borrow_and_update() > 0 { HURRY } else { LOOK }
                }
                Err(error) => {
                    if reachable.swap(false, Ordering::Relaxed) {
                        warn!(%error, "how far the projections are is not known now");
                    }
                    AWAY
                }
            };
            sleep(HURRY.min(nap)).await;
            tokio::select! {
                () = sleep(nap.saturating_sub(HURRY)) => {}
                _ = waiting.wait_for(|waiting| *waiting > 0), if nap == LOOK => {}
            }
        }
    }

    /// Takes over what the checkpoints of the active epochs say.
    async fn look(&self, database: &Database) -> Result<(), DatabaseError> {
        let sql = "SELECT c.reader, array_agg(c.partition ORDER BY c.partition), \
                   array_agg(c.next_offset ORDER BY c.partition), c.epoch \
                   FROM checkpoint AS c LEFT JOIN read_model AS r ON r.projection = c.reader \
                   WHERE c.epoch = coalesce(r.active_epoch, 1) GROUP BY c.reader, c.epoch";
        let answered = database.reader().ask(sql, &[]).await?;
        for row in answered.rows {
            let (name, partitions, next): (String, Vec<i32>, Vec<i64>) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            // Another reader of the log, or a projection of a newer program.
            let Some(projection) = Projection::from_name(&name) else { continue };
            let known = partitions.into_iter().zip(next);
            let known = known.filter_map(|(partition, next)| {
                Some((Partition::try_from(partition).ok()?, Offset::try_from(next).ok()?))
            });
            self.set_epoch(projection, row.try_get::<_, i32>(3)?.unsigned_abs());
            self.begin(projection, answered.session, known);
        }
        Ok(())
    }

    /// Notes how far a projection is by what the server says in this session: it may be less than was known before.
    pub(crate) fn begin(
        &self,
        projection: Projection,
        session: u64,
        next: impl IntoIterator<Item = (Partition, Offset)>,
    ) {
        self.advance(projection, next);
        self.0.sessions[projection.index()].fetch_max(session, Ordering::AcqRel);
    }

    /// Since which session of the server it is known how far a projection is.
    pub(crate) fn session(&self, projection: Projection) -> u64 {
        self.0.sessions[projection.index()].load(Ordering::Acquire)
    }

    /// Notes in which epoch a projection is.
    pub(crate) fn set_epoch(&self, projection: Projection, epoch: u32) {
        self.0.epochs[projection.index()].store(epoch, Ordering::Release);
    }

    /// The epoch whose tables answer queries.
    pub(crate) fn epoch(&self, projection: Projection) -> u32 {
        self.0.epochs[projection.index()].load(Ordering::Acquire)
    }

    /// The first partition in which the journal has less than it was ever said to have, because the server has lost it.
    pub(crate) fn broken_promise(&self) -> Option<Partition> {
        let promised = self.0.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.0.next[Projection::Journal.index()].borrow();
        let behind = next.iter().zip(promised.iter()).position(|(next, promised)| next < promised)?;
        Partition::try_from(behind).ok()
    }

    fn promise(&self, next: &[Offset]) {
        let mut promised = self.0.promised.lock().unwrap_or_else(PoisonError::into_inner);
        for (promised, next) in promised.iter_mut().zip(next) {
            *promised = (*promised).max(*next);
        }
    }

    /// Notes that a projection's rows now hold everything before these offsets.
    pub fn advance(&self, projection: Projection, next: impl IntoIterator<Item = (Partition, Offset)>) {
        let moved = self.0.next[projection.index()].send_if_modified(|offsets| {
            let mut news = false;
            for (partition, offset) in next {
                if let Some(known) = offsets.get_mut(usize::from(partition)) {
                    news |= std::mem::replace(known, offset) != offset;
                }
            }
            if news && projection == Projection::Journal {
                self.promise(offsets);
            }
            news
        });
        if moved {
            self.0.moved[projection.index()].notify_waiters();
        }
    }

    /// Waits until a projection's rows hold the records at all of these positions.
    ///
    /// # Errors
    /// [`Behind`] at the deadline, with the first position that is missing.
    pub async fn wait_for(
        &self,
        projection: Projection,
        positions: &[Position],
        deadline: Instant,
    ) -> Result<(), Behind> {
        let missing = |offsets: &[Offset]| {
            positions.iter().find_map(|wanted| {
                let next = offsets.get(usize::from(wanted.partition)).copied().unwrap_or(0);
                (next <= wanted.offset).then_some(Behind { projection, wanted: *wanted, next })
            })
        };
        let (next, moved) = (&self.0.next[projection.index()], &self.0.moved[projection.index()]);
        if missing(&next.borrow()).is_none() {
            return Ok(());
        }
        let _waiting = Waiting::begin(&self.0);
        let arrived = async {
            loop {
                let mut news = pin!(moved.notified());
                // From here on nothing is missed: what moves after the look is heard of.
                news.as_mut().enable();
                if missing(&next.borrow()).is_none() {
                    return;
                }
                news.await;
            }
        };
        // At the deadline what is there decides.
        drop(timeout_at(deadline, arrived).await);
        let now_missing = missing(&next.borrow());
        now_missing.map_or(Ok(()), Err)
    }
}

/// Somebody who waits, until it is dropped.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.waiting.send_modify(|waiting| *waiting += 1);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

/// A projection that has not read so far yet: ask again after a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{projection} has read partition {} up to offset {next}, not yet {}", wanted.partition, wanted.offset)]
pub struct Behind {
    /// The projection.
    pub projection: Projection,
    /// The position asked for.
    pub wanted: Position,
    /// The next offset it wants of that partition.
    pub next: Offset,
}
