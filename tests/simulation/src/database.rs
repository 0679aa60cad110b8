//! The database, simulated at its ports: the journal, the views that the processes ask, and checkpoints that are moved
//! by compare-and-swap together with what was written. The SQL of the real one cannot run here.
//!
//! A transaction happens whole or not at all. Its answer may be lost either way; then nobody knows which.

mod follower;
mod ports;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustc_hash::FxHashMap;
use shopstream_domain::model::State;
use shopstream_domain::{Partition, StreamId, Version};
use shopstream_eventlog::{Batch, CommitRecord, Cursor, Offset, Snapshot};
use shopstream_projections::{MemoryViews, Projection};
use tokio::sync::watch;

pub(crate) use self::follower::{follow, tell};
use self::views::Views;

/// Clones are the same database.
#[derive(Clone)]
pub(crate) struct Database(Arc<Mutex<Kept>>);

/// Who reads the log and writes down how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reader {
    Journal,
    /// What the processes ask, and most read models.
    Views,
    /// The read model of checkouts.
    Checkouts,
    /// The read model of payments.
    Payments,
    Sagas,
}

impl Reader {
    /// Those that follow the log by themselves.
    pub(crate) const FOLLOWERS: [Self; 4] = [Self::Journal, Self::Views, Self::Checkouts, Self::Payments];

    /// Who folds this projection.
    pub(crate) const fn of(projection: Projection) -> Self {
        match projection {
            Projection::Journal => Self::Journal,
            Projection::SagaBoard => Self::Checkouts,
            Projection::PaymentView => Self::Payments,
            Projection::ProductView
            | Projection::StockLevel
            | Projection::ReservationView
            | Projection::OrderDetail
            | Projection::OrdersByUser
            | Projection::OrderTimeline
            | Projection::ReturnView => Self::Views,
        }
    }
}

struct Kept {
    random: StdRng,
    away: bool,
    /// How often a transaction fails, and how often one that succeeded seems to have failed.
    trouble: f64,
    stalled: BTreeMap<Reader, bool>,
    checkpoints: BTreeMap<(Reader, Partition), Cursor>,
    journal: FxHashMap<StreamId, Vec<CommitRecord>>,
    /// In the order in which the journal got them.
    streams: Vec<Vec<StreamId>>,
    snapshots: BTreeMap<StreamId, Snapshot>,
    /// How often one was given out.
    recalled: u64,
    views: Views,
    /// By who folds them: each is of a moment of its own, as those of the real ones are.
    read_models: BTreeMap<Reader, MemoryViews>,
    /// What a read model could not fold.
    unfolded: Vec<String>,
    /// Processes that could not read an event.
    parked: BTreeSet<StreamId>,
    progress: BTreeMap<Reader, Board>,
}

/// How far a reader is, told to everybody who waits, in the order in which they asked.
struct Board {
    next: Vec<Offset>,
    waiting: Vec<watch::Sender<Vec<Offset>>>,
}

/// Why a transaction has no answer, or no effect.
pub(crate) enum Trouble {
    Unavailable,
    /// A checkpoint is not where it should be.
    Overtaken {
        partition: Partition,
    },
}

impl Database {
    pub(crate) fn new(seed: u64, partitions: u16) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            random: StdRng::seed_from_u64(seed),
            away: false,
            trouble: 0.0,
            stalled: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            journal: FxHashMap::default(),
            streams: vec![Vec::new(); usize::from(partitions)],
            snapshots: BTreeMap::new(),
            recalled: 0,
            views: Views::default(),
            read_models: BTreeMap::new(),
            unfolded: Vec::new(),
            parked: BTreeSet::new(),
            progress: Reader::FOLLOWERS.map(|reader| (reader, Board::new(partitions))).into(),
        })))
    }

    /// Whether it answers at all.
    pub(crate) fn set_away(&self, away: bool) {
        self.kept().away = away;
    }

    /// How often a transaction goes wrong, between 0 and 1.
    pub(crate) fn set_trouble(&self, trouble: f64) {
        self.kept().trouble = trouble;
    }

    /// Lets a reader fall behind.
    pub(crate) fn stall(&self, reader: Reader, stalled: bool) {
        self.kept().stalled.insert(reader, stalled);
    }

    pub(crate) fn heal(&self) {
        let mut kept = self.kept();
        kept.away = false;
        kept.trouble = 0.0;
        kept.stalled.clear();
    }

    /// What the views show of a stream.
    pub(crate) fn shown<T>(&self, stream: &StreamId, look: impl FnOnce(&State, Version) -> T) -> Option<T> {
        self.kept().views.of(stream).map(|(state, version)| look(state, version))
    }

    /// Every stream with unfinished work, as the views show it.
    pub(crate) fn open(&self) -> Vec<StreamId> {
        self.kept().views.open().cloned().collect()
    }

    /// How far a reader is.
    pub(crate) fn checkpoints(&self, reader: Reader) -> Vec<Cursor> {
        self.kept().checkpoints_of(reader)
    }

    /// The whole journal, by stream.
    pub(crate) fn journal(&self) -> BTreeMap<StreamId, Vec<CommitRecord>> {
        self.kept().journal.iter().map(|(stream, records)| (stream.clone(), records.clone())).collect()
    }

    /// Every snapshot, sound or not.
    pub(crate) fn snapshots(&self) -> BTreeMap<StreamId, Snapshot> {
        self.kept().snapshots.clone()
    }

    /// How often a snapshot was given out.
    pub(crate) fn recalled(&self) -> u64 {
        self.kept().recalled
    }

    /// What the read models could not fold.
    pub(crate) fn unfolded(&self) -> Vec<String> {
        self.kept().unfolded.clone()
    }

    /// All snapshots are gone.
    pub(crate) fn lose_snapshots(&self) {
        self.kept().snapshots.clear();
    }

    /// Some snapshots are not what they were: a wrong bit, another stream's bytes, another place on the journal.
    pub(crate) fn damage_snapshots(&self) {
        let mut kept = self.kept();
        let Kept { random, snapshots, .. } = &mut *kept;
        let mut other = None;
        for snapshot in snapshots.values_mut() {
            let old = snapshot.bytes.clone();
            match random.random_range(0..6) {
                0 if !old.is_empty() => {
                    let mut bytes = old.to_vec();
                    let at = random.random_range(0..bytes.len());
                    bytes[at] ^= 1 << random.random_range(0..8);
                    snapshot.bytes = bytes.into();
                }
                1 => snapshot.bytes = other.unwrap_or_default(),
                2 => snapshot.from = random.random_range(1..=snapshot.from + 2),
                _ => {}
            }
            other = Some(old);
        }
    }

    fn is_stalled(&self, reader: Reader) -> bool {
        self.kept().stalled.get(&reader).copied().unwrap_or(false)
    }

    /// How long a reader takes for a batch, if it takes any time: each view is of a moment of its own.
    fn dawdles(&self, reader: Reader) -> Option<Duration> {
        let random = &mut self.kept().random;
        let takes_time = reader != Reader::Journal && random.random_bool(0.1);
        takes_time.then(|| Duration::from_millis(random.random_range(1..1_000)))
    }

    /// Writes what `batch` says for `reader`, if every checkpoint still is where `from` says.
    fn write(&self, reader: Reader, from: &[Cursor], batch: &Batch) -> Result<(), Trouble> {
        let moves: Vec<_> = batch
            .cursors
            .iter()
            .map(|to| (from.iter().find(|from| from.partition == to.partition).copied(), *to))
            .collect();
        let mut kept = self.kept();
        kept.transaction(reader, &moves, |kept| {
            for record in &batch.commits {
                match reader {
                    Reader::Journal => kept.keep(record),
                    Reader::Views | Reader::Checkouts | Reader::Payments => kept.show(reader, record),
                    Reader::Sagas => {}
                }
            }
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn answers(&mut self) -> Result<(), Trouble> {
        let trouble = self.trouble;
        if self.away || self.random.random_bool(trouble) { Err(Trouble::Unavailable) } else { Ok(()) }
    }

    fn checkpoints_of(&self, reader: Reader) -> Vec<Cursor> {
        let all = (reader, Partition::MIN)..=(reader, Partition::MAX);
        self.checkpoints.range(all).map(|(_, cursor)| *cursor).collect()
    }

    fn transaction(
        &mut self,
        reader: Reader,
        moves: &[(Option<Cursor>, Cursor)],
        write: impl FnOnce(&mut Self),
    ) -> Result<(), Trouble> {
        self.answers()?;
        for (from, to) in moves {
            if self.checkpoints.get(&(reader, to.partition)) != from.as_ref() {
                return Err(Trouble::Overtaken { partition: to.partition });
            }
        }
        write(self);
        self.checkpoints.extend(moves.iter().map(|(_, to)| ((reader, to.partition), *to)));
        if let Some(board) = self.progress.get_mut(&reader) {
            board.advance(moves);
        }
        // It is done; whether anybody hears of it is another matter.
        self.answers()
    }

    fn show(&mut self, reader: Reader, record: &CommitRecord) {
        if reader == Reader::Views {
            self.views.fold(record);
        }
        if let Err(cause) = self.read_models.entry(reader).or_default().fold(record) {
            self.unfolded.push(cause);
        }
    }

    /// A channel that tells how far a reader is.
    fn subscribe(&mut self, reader: Reader) -> watch::Receiver<Vec<Offset>> {
        self.progress.get_mut(&reader).map_or_else(|| watch::channel(Vec::new()).1, Board::subscribe)
    }

    fn keep(&mut self, record: &CommitRecord) {
        let stream = &record.commit.stream;
        let history = self.journal.entry(stream.clone()).or_default();
        if history.is_empty() {
            self.streams[usize::from(record.position.partition)].push(stream.clone());
        }
        history.push(record.clone());
    }
}

impl Board {
    fn new(partitions: u16) -> Self {
        Self { next: vec![0; usize::from(partitions)], waiting: Vec::new() }
    }

    fn advance(&mut self, moves: &[(Option<Cursor>, Cursor)]) {
        for (_, to) in moves {
            self.next[usize::from(to.partition)] = to.next;
        }
        self.waiting.retain(|listener| !listener.is_closed());
        for listener in &self.waiting {
            listener.send_replace(self.next.clone());
        }
    }

    /// A channel of its own for everybody: one for all would wake them in a random order.
    fn subscribe(&mut self) -> watch::Receiver<Vec<Offset>> {
        let (listener, progress) = watch::channel(self.next.clone());
        self.waiting.push(listener);
        progress
    }
}
