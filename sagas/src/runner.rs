//! Runs the processes: reads the log for what wakes them, keeps their timers, bounds how many run at once.
//!
//! A process runs until it ends or rests; at rest it is a timer or nothing at all. What comes for a running process
//! is kept until it rests, and then it looks again. Nothing acts while history is replayed: only commits past the
//! saved cursor are read, and the commands of a process that is woken twice are the same commands.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{gauge, histogram};
use rustc_hash::{FxHashMap, FxHashSet};
use shopstream_command_handlers::{Clock, CommandError, Commands, PartitionState};
use shopstream_domain::order::Stage;
use shopstream_domain::{StreamId, Timestamp};
use shopstream_eventlog::{Cursor, Journal, Log, Position, ReadError};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::Settings;
use crate::checkpoint::{Batch, CheckpointError, Checkpoints, Room};
use crate::issue::Issuer;
use crate::known::{Histories, Reached};
use crate::means::Means;
use crate::ports::{PaymentProvider, SagaStore, StoreError, Unfinished};
use crate::process::{Processes, Ran, Rest, Wake};
use crate::route::{Call, route};
use crate::stock::StockFanOut;
use crate::timers::Timers;

/// Between two starts of a runner that failed.
const RESTART: Duration = Duration::from_secs(1);
/// The longest sleep: the machine's clock may be set while it lasts.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What operators see of the processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Taking up what was unfinished.
    Starting,
    /// At work.
    Running,
    /// Something is away; tried again by itself.
    Retrying {
        /// What was seen.
        detail: String,
    },
    /// At an end until an operator acts.
    Halted {
        /// Why.
        detail: String,
    },
    /// Stopped in order.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Retrying { detail } => write!(f, "retrying: {detail}"),
            Self::Halted { detail } => write!(f, "halted: {detail}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// The running processes.
pub struct Sagas {
    stock: StockFanOut,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What the processes are made of.
#[derive(Clone)]
pub struct Parts {
    /// Where facts come from.
    pub log: Log,
    /// Where commands go.
    pub commands: Commands,
    /// History by stream.
    pub journal: Arc<dyn Journal>,
    /// Cursors, and what was unfinished.
    pub store: Arc<dyn SagaStore>,
    /// Who moves money.
    pub provider: Arc<dyn PaymentProvider>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// See [`Settings`].
    pub settings: Settings,
}

impl Parts {
    /// The fan-out over stock items, for callers on a node that does not run the processes: what it begins and does
    /// not end, they do.
    pub fn stock(&self) -> StockFanOut {
        StockFanOut::new(self.means())
    }

    fn means(&self) -> Means {
        let settings = Arc::new(self.settings.clone());
        Means {
            issuer: Issuer {
                commands: self.commands.clone(),
                resend_after: settings.resend_after,
                patience: settings.patience,
            },
            histories: Histories(self.journal.clone()),
            clock: self.clock.clone(),
            settings,
        }
    }
}

impl Sagas {
    /// Starts the processes. Returns at once; [`Sagas::status`] tells the rest.
    pub fn start(parts: Parts) -> Self {
        let processes = Processes::new(parts.means(), parts.provider.clone(), parts.store.clone());
        let stock = processes.stock();
        let processes = Arc::new(processes);
        let (status_in, status) = watch::channel(Status::Starting);
        let stop = CancellationToken::new();
        let task = tokio::spawn(supervise(parts, processes, status_in, stop.clone()));
        Self { stock, status, stop, task }
    }

    /// The fan-out over stock items, for callers outside.
    pub fn stock(&self) -> StockFanOut {
        self.stock.clone()
    }

    /// How they are.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Stops. What was running breaks off where it is, which is safe: the next start takes it up.
    pub async fn stop(self) {
        self.stop.cancel();
        // A panic there was already told by the status; there is nothing more to wait for.
        let _ = self.task.await;
    }
}

/// Runs until it is stopped or halted; what is only away is waited for.
async fn supervise(
    parts: Parts,
    processes: Arc<Processes>,
    status: watch::Sender<Status>,
    stop: CancellationToken,
) {
    loop {
        // In this order, always, here and below: a run of the simulation must be the same again from its seed.
        let ended = tokio::select! {
            biased;
            ended = Runner::run(&parts, &processes, &status) => ended,
            () = stop.cancelled() => break,
        };
        match ended {
            End::Halted(detail) => {
                error!(detail, "the processes are halted: {detail}");
                status.send_replace(Status::Halted { detail });
                stop.cancelled().await;
                break;
            }
            End::Failed(detail) => {
                warn!(detail, "the processes start again: {detail}");
                status.send_replace(Status::Retrying { detail });
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(RESTART) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
    }
    status.send_replace(Status::Stopped);
}

/// Why a runner ended.
enum End {
    Halted(String),
    Failed(String),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Failed(error.to_string()),
            StoreError::Moved { .. } => Self::Halted(error.to_string()),
        }
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Halt { .. } => Self::Halted(error.to_string()),
            ReadError::Raw(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<CheckpointError> for End {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Store(error) => error.into(),
            CheckpointError::Lost | CheckpointError::Stopped => Self::Halted(error.to_string()),
        }
    }
}

/// One run over the log, from the saved cursors.
struct Runner {
    processes: Arc<Processes>,
    /// Every running process, with what came for it meanwhile.
    running: FxHashMap<StreamId, Option<Wake>>,
    tasks: JoinSet<Ran>,
    /// Processes that could not yet write their first record; they keep their place and their receipts.
    paused: FxHashMap<StreamId, Wake>,
    /// When these try again. Apart from the others, for they need no place but their own: if all places are theirs,
    /// nobody else could ever make one free.
    again: Timers,
    /// Called, and waiting for a place.
    called: VecDeque<(StreamId, Wake)>,
    timers: Timers,
    /// How far the log was when this run began: what is there may have been begun by an earlier one.
    old: Reached,
    /// Processes that are parked. They are tried whenever they are woken, which costs a look and takes no step.
    parked: FxHashSet<StreamId>,
}

impl Runner {
    async fn run(parts: &Parts, processes: &Arc<Processes>, status: &watch::Sender<Status>) -> End {
        match Self::run_until_error(parts, processes, status).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn run_until_error(
        parts: &Parts,
        processes: &Arc<Processes>,
        status: &watch::Sender<Status>,
    ) -> Result<std::convert::Infallible, End> {
        let mut runner = Self {
            processes: processes.clone(),
            running: FxHashMap::default(),
            tasks: JoinSet::new(),
            paused: FxHashMap::default(),
            again: Timers::default(),
            called: VecDeque::new(),
            timers: Timers::default(),
            old: Reached::default(),
            parked: FxHashSet::default(),
        };
        let mut wishes = parts.store.wishes();
        // The cursors first: what is unfinished then is known at least up to them.
        let saved = parts.store.cursors().await?;
        let reached = reached(parts, &saved).await?;
        let unfinished = parts.store.unfinished(&reached).await?;
        runner.take_up(unfinished, &reached);
        let mut reader = parts.log.reader(&cursors(&parts.log, &saved)).await?;
        let (checkpoints, checkpointing) = Checkpoints::start(parts.store.clone(), &saved);
        let mut saving = JoinSet::new();
        saving.spawn(checkpointing);
        status.send_replace(Status::Running);
        let mut looks = JoinSet::new();
        let mut looked_again = false;
        loop {
            runner.start_what_fits();
            let nap = runner.nap();
            tokio::select! {
                biased;
                Some(ended) = saving.join_next() => return Err(match ended {
                    Ok(error) => error.into(),
                    Err(error) => End::Halted(error.to_string()),
                }),
                Some(ran) = runner.tasks.join_next() => match ran {
                    Ok(ran) => runner.came_to_rest(ran),
                    // Only a bug of the runner itself ends so; its receipts tell the checkpointer.
                    Err(error) => error!(%error, "a process broke off"),
                },
                woken = processes.woken() => {
                    woken.into_iter().for_each(|stream| runner.call(stream, Wake::default()));
                }
                () = tokio::time::sleep(nap) => {}
                // Beside everything else: a store that hangs must stop nobody.
                Ok(()) = wishes.changed(), if looks.is_empty() => {
                    let store = parts.store.clone();
                    looks.spawn(async move { store.wished().await });
                }
                Some(looked) = looks.join_next() => runner.grant(looked),
                // The room is waited for here, not looked at before: whoever makes room must wake whoever reads. The
                // other condition changes with what is heard and started in this loop, and so never unseen.
                (room, batch) = async {
                    let room = checkpoints.room().await;
                    (room, reader.next(parts.settings.read_bytes).await)
                }, if runner.reads() => {
                    match batch {
                        Ok(batch) => runner.hear(batch, room),
                        // One fresh look; what is found twice is true.
                        Err(ReadError::Halt { .. }) if !looked_again => {
                            looked_again = true;
                            reader = parts.log.reader(&reader.cursors()).await?;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// What was unfinished when the program ended.
    fn take_up(&mut self, unfinished: Unfinished, reached: &[Position]) {
        let Unfinished { checkouts, reservations, payments, returns, parked } = unfinished;
        info!(
            checkouts = checkouts.len(),
            reservations = reservations.len(),
            payments = payments.len(),
            returns = returns.len(),
            parked = parked.len(),
            "taking up what was unfinished"
        );
        let mut seen = Reached::default();
        reached.iter().for_each(|position| seen.see(*position));
        self.old = seen.clone();
        for checkout in checkouts {
            match (checkout.stage, checkout.timer) {
                (Stage::NeedsAttention | Stage::Done | Stage::Cancelled, _) => {}
                (Stage::AwaitingCustomer, Some(timer)) => self.timers.set(checkout.stream, timer.due_at, 0),
                (_, _) => self.call(checkout.stream, Wake { reached: seen.clone(), ..Wake::default() }),
            }
        }
        for reservation in reservations {
            match reservation.held_until {
                Some(until) => self.timers.set(reservation.stream, until, 0),
                None => self.call(reservation.stream, Wake { reached: seen.clone(), ..Wake::default() }),
            }
        }
        self.parked.extend(parked.iter().cloned());
        for stream in payments.into_iter().chain(returns).chain(parked) {
            self.call(stream, Wake { reached: seen.clone(), ..Wake::default() });
        }
    }

    /// Takes what the log says.
    fn hear(&mut self, batch: shopstream_eventlog::Batch, room: Room<'_>) {
        let receipts = Batch::new(batch.cursors);
        for record in batch.commits {
            let position = record.position;
            let wake = || {
                let mut wake = Wake { receipts: receipts.receipt(), ..Wake::default() };
                wake.reached.see(position);
                wake
            };
            let mut begin = None;
            for call in route(&record) {
                match call {
                    // What an earlier run may have begun, perhaps under other names than this program gives, is read first.
                    Call::Begin(stream) if self.old.has(position) => self.call(stream, wake()),
                    Call::Begin(stream) => begin = Some((stream, wake())),
                    Call::Look(stream) => self.call(stream, wake()),
                    Call::At(stream, at) => self.timers.set(stream, at, 0),
                }
            }
            if let Some((stream, wake)) = begin {
                self.call(stream, Wake { begun_by: Some(record), ..wake });
            }
        }
        room.fill(receipts);
    }

    /// Tries parked processes for which that is wished.
    fn grant(&mut self, looked: Result<Result<Vec<StreamId>, StoreError>, JoinError>) {
        match looked {
            Ok(Ok(wished)) => wished.into_iter().for_each(|stream| self.call(stream, Wake::default())),
            // Whoever wishes it says so again when asked; a restart tries all.
            Ok(Err(error)) => warn!(%error, "what is wished for parked processes is not known"),
            Err(error) => error!(%error, "a look for wishes broke off"),
        }
    }

    fn call(&mut self, stream: StreamId, wake: Wake) {
        match self.running.get_mut(&stream) {
            Some(Some(kept)) => kept.add(wake),
            Some(kept @ None) => *kept = Some(wake),
            None => self.called.push_back((stream, wake)),
        }
    }

    /// Starts who is due and who was called, as far as there are places.
    fn start_what_fits(&mut self) {
        let now = self.processes.means.now();
        while let Some(due) = self.again.due(now) {
            self.start_due(due, now);
        }
        while self.has_place() {
            if let Some(due) = self.timers.due(now) {
                self.start_due(due, now);
            } else if let Some((stream, mut wake)) = self.called.pop_front() {
                wake.tries = self.timers.clear(&stream).max(self.again.clear(&stream));
                if let Some(paused) = self.paused.remove(&stream) {
                    wake.add(paused);
                }
                self.start(stream, wake);
            } else {
                break;
            }
        }
        gauge!("shopstream_sagas_in_flight").set(self.running.len() as f64);
    }

    fn start_due(&mut self, (stream, at, tries): (StreamId, Timestamp, u32), now: Timestamp) {
        histogram!("shopstream_saga_timer_lag_seconds").record(now.since(at).micros() as f64 / 1e6);
        let wake = self.paused.remove(&stream).unwrap_or_default();
        self.start(stream, Wake { tries, ..wake });
    }

    fn start(&mut self, stream: StreamId, mut wake: Wake) {
        if let Some(kept) = self.running.get_mut(&stream) {
            // It was called while it was already running.
            kept.get_or_insert_default().add(wake);
            return;
        }
        wake.was_parked = self.parked.contains(&stream);
        self.running.insert(stream.clone(), None);
        self.tasks.spawn(self.processes.clone().run(stream, wake));
    }

    fn came_to_rest(&mut self, ran: Ran) {
        let Ran { stream, mut wake, rest, is_parked } = ran;
        let kept = self.running.remove(&stream).flatten();
        if is_parked {
            self.parked.insert(stream.clone());
        } else {
            self.parked.remove(&stream);
        }
        gauge!("shopstream_sagas_parked").set(self.parked.len() as f64);
        match rest {
            Rest::Ended | Rest::Waiting | Rest::Parked(_) => wake.receipts.confirm(),
            Rest::Until { at, tries } => {
                wake.receipts.confirm();
                self.timers.set(stream.clone(), at, tries);
            }
            Rest::Later { tries } => {
                let at = self.processes.means.look_again_at(tries);
                if wake.receipts.are_owed() {
                    self.again.set(stream.clone(), at, tries);
                    self.paused.insert(stream.clone(), wake);
                } else {
                    self.timers.set(stream.clone(), at, tries);
                }
            }
        }
        if let Some(wake) = kept {
            self.called.push_front((stream, wake));
        }
    }

    /// Whether more may be heard: not while somebody who was called waits for a place.
    fn reads(&self) -> bool {
        self.called.is_empty() && self.has_place()
    }

    fn has_place(&self) -> bool {
        self.running.len() + self.paused.len() < self.processes.means.settings.in_flight_max
    }

    /// How long until somebody is due who has a place.
    fn nap(&mut self) -> Duration {
        let now = self.processes.means.now();
        let timed = if self.has_place() { self.timers.next() } else { None };
        let next = timed.into_iter().chain(self.again.next()).min();
        let nap = next.map_or(i64::MAX, |at| at.since(now).micros());
        Duration::from_micros(u64::try_from(nap).unwrap_or_default()).min(SLEEP_MAX)
    }
}

/// The saved cursors, and the start of partitions that have none.
fn cursors(log: &Log, saved: &[Cursor]) -> Vec<Cursor> {
    let saved_of = |partition| saved.iter().find(|cursor| cursor.partition == partition).copied();
    (0..log.partitions())
        .map(|partition| saved_of(partition).unwrap_or_else(|| log.start(partition)))
        .collect()
}

/// How far the log is known to be: what its owners have confirmed, on whichever node, and what was read before. Of a
/// halted partition nothing is asked: the views stand still there too.
///
/// # Errors
/// An owner does not answer.
async fn reached(parts: &Parts, saved: &[Cursor]) -> Result<Vec<Position>, End> {
    let mut reached = Reached::default();
    for partition in parts.commands.status() {
        if matches!(partition.state, PartitionState::Halted { .. }) {
            continue;
        }
        match parts.commands.confirmed([partition.partition]).await {
            Ok(confirmed) => confirmed.into_iter().for_each(|position| reached.see(position)),
            Err(CommandError::Halted { .. }) => {}
            Err(error) => return Err(End::Failed(error.to_string())),
        }
    }
    for cursor in saved.iter().filter(|cursor| cursor.next > 0) {
        reached.see(Position { partition: cursor.partition, offset: cursor.next - 1 });
    }
    Ok(reached.positions())
}
