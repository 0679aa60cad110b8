//! Runs all projections of a log.

mod backoff;
mod feed;
mod follower;
mod journal;
mod meter;
mod pace;
mod renew;
mod status;
mod view;

use std::sync::Arc;

use shopstream_domain::Timestamp;
use shopstream_eventlog::{Cursor, Log};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::feed::Feed;
pub(crate) use self::follower::{Follower, Interruption};
use self::journal::JournalWriter;
use self::meter::Meter;
pub use self::meter::Now;
use self::status::Board;
pub use self::status::{ProjectionState, ProjectionStatus};
use self::view::View;
use crate::{Database, DatabaseError, Progress, Projection};

/// The running projections. Dropping it stops them wherever they are, which loses nothing: what was not committed
/// is read again.
pub struct Projector {
    tasks: JoinSet<()>,
    board: Board,
    progress: Progress,
}

impl Projector {
    /// Brings the tables up to date and starts the journal and every view, each where its checkpoint is. `now` is
    /// only for figures.
    ///
    /// # Errors
    /// The database does not answer, belongs to another log, or holds tables of another shape.
    pub async fn start(
        log: Log,
        database: Database,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, DatabaseError> {
        let progress = Progress::new(log.partitions());
        Self::start_telling(log, database, progress, Company::Alone, now).await
    }

    /// As [`Projector::start`], and tells `progress`. In company, other processes learn from the checkpoints how far
    /// the views are, so these are never long behind them.
    ///
    /// # Errors
    /// See [`Projector::start`].
    pub async fn start_telling(
        log: Log,
        database: Database,
        progress: Progress,
        company: Company,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, DatabaseError> {
        database.prepare(log.topology()).await?;
        let board = Board::new();
        let meter = Meter::new(Arc::new(now));
        let mut tasks = JoinSet::new();

        let cursors = JournalWriter::open(&database, &log, &progress).await?;
        let journal = JournalWriter {
            database: database.clone(),
            log: log.clone(),
            board: board.clone(),
            progress: progress.clone(),
            meter: meter.clone(),
        };
        tasks.spawn(journal.run(cursors));

        let mut appliers = Vec::new();
        for projection in Projection::views() {
            let (epoch, applier) = renew::open(&database, &log, projection).await?;
            progress.set_epoch(projection, epoch);
            progress.begin(projection, applier.session(), applier.next());
            appliers.push((projection, epoch, applier));
        }
        let furthest = furthest(appliers.iter().map(|(_, _, applier)| applier.cursors()));
        let (feed, source) = Feed::new(Follower::new(log.clone(), furthest), board.clone());
        let wishes = database.parked_wishes();
        tasks.spawn(source);
        for (projection, epoch, applier) in appliers {
            let view = View {
                projection,
                epoch,
                database: database.clone(),
                log: log.clone(),
                feed: feed.clone(),
                board: board.clone(),
                progress: progress.clone(),
                company,
                meter: meter.clone(),
                wishes: wishes.clone(),
            };
            tasks.spawn(view.run(applier));
        }
        tasks.spawn(meter.watch_lag(log, progress.clone()));
        Ok(Self { tasks, board, progress })
    }

    /// How far each projection is.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// What each projection is doing, in the order of [`Projection::ALL`].
    pub fn status(&self) -> Vec<ProjectionStatus> {
        self.board.status(&self.progress)
    }

    /// Follows what one projection is doing.
    pub fn watch(&self, projection: Projection) -> watch::Receiver<ProjectionState> {
        self.board.watch(projection)
    }

    /// Stops all projections and waits until they are gone.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Whether other processes follow what this one projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// None do.
    Alone,
    /// They do, by the checkpoints.
    Followed,
}

/// Per partition the furthest of several readers. The feed begins there: who is behind reads up to it alone, which
/// after a crash is next to nothing.
fn furthest<'a>(readers: impl Iterator<Item = &'a [Cursor]>) -> Vec<Cursor> {
    let mut furthest: Vec<Cursor> = Vec::new();
    for cursor in readers.flatten() {
        match furthest.iter_mut().find(|known| known.partition == cursor.partition) {
            Some(known) if known.next < cursor.next => *known = *cursor,
            Some(_) => {}
            None => furthest.push(*cursor),
        }
    }
    furthest
}
