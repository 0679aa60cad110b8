//! The shard: the one task that decides for a partition.
//!
//! It takes the commands that are there, decides each on speculative state in memory, and hands the events to the
//! log without waiting; while they are on their way the next commands gather, so a group forms by itself. A caller
//! is answered when the log counts its commit, and a caller who was refused when everything the refusal was
//! decided on counts. Nothing here locks, and nothing else writes the partition.

mod cache;
mod flights;
mod load;
mod recall;
mod save;
mod snapshot;
mod tail;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use metrics::{counter, gauge, histogram};
use shopstream_domain::model::{Event, State};
use shopstream_domain::requests::NothingChanged;
use shopstream_domain::text::{TextError, TextRule, forbidden_in_json};
use shopstream_domain::{Partition, Refusal, StreamId, Timestamp, Version};
use shopstream_eventlog::writer::{Fenced, SubmitError};
use shopstream_eventlog::{
    ClaimError, Commit, CommitRecord, Cursor, EventData, Halt, Journal, Offset, PartitionWriter, Position,
    Progress, ReadError, schema,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::cache::{Cache, Entry};
use self::flights::{Answer, Flights, Waiter};
use self::load::Loaded;
use self::save::Snapshots;
pub use self::snapshot::{Distrust, Said, read_snapshot};
use self::tail::Tail;
use crate::coordinator::Duty;
use crate::dedup::{Done, DoneAt, RECENT, Seen};
use crate::filter::GrowingFilter;
use crate::{Clock, CommandEnvelope, CommandError, Options, PartitionState, PartitionStatus, Reply};

/// How many commands one turn takes from the queue.
const TURN: usize = 256;
/// How many bytes are on their way to the log at most; a backend may take less.
const IN_FLIGHT_BYTES: usize = 8 << 20;
/// Who asked and in the course of what: names of streams among them, which are long.
const ORIGIN: TextRule = TextRule::line(1_024);

/// So long callers wait for a doubt to end. One that lasts longer may last very long: they are told what it is.
const DOUBT: Duration = Duration::from_secs(2);

/// A command and who waits for it.
pub(crate) struct Job {
    pub(crate) envelope: CommandEnvelope,
    pub(crate) reply: oneshot::Sender<Heard>,
    /// The journal was asked whether it has this command, and has not.
    pub(crate) looked_up: Option<LookedUp>,
}

/// When the journal was asked: under which claim, and at which version of the aggregate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookedUp {
    epoch: u64,
    version: Version,
}

impl LookedUp {
    /// Whether the answer is still worth something: everything that was carried out since is remembered exactly.
    fn holds(self, epoch: u64, version: Version) -> bool {
        self.epoch == epoch && version.saturating_sub(self.version) < RECENT as Version
    }
}

/// What a caller hears.
pub(crate) enum Heard {
    /// What became of the command.
    Answer(Result<Reply, CommandError>),
    /// Nothing: it was not even looked at, for another node owns the partition.
    Back(Box<CommandEnvelope>),
}

impl Job {
    /// It is another node's to carry out. A caller that has gone away needs no answer.
    pub(crate) fn send_back(self) {
        let _ = self.reply.send(Heard::Back(Box::new(self.envelope)));
    }

    /// It is refused. A caller that has gone away needs no answer.
    fn fail(self, error: CommandError) {
        let _ = self.reply.send(Heard::Answer(Err(error)));
    }
}

/// Answers everything that comes with `error`; ends when nobody can send any more.
pub(crate) async fn refuse_all(queue: &mut mpsc::Receiver<Job>, error: &CommandError) {
    while let Some(job) = queue.recv().await {
        job.fail(error.clone());
    }
}

/// Sends back everything that comes; ends when nobody can send any more.
pub(crate) async fn send_all_back(queue: &mut mpsc::Receiver<Job>) {
    while let Some(job) = queue.recv().await {
        job.send_back();
    }
}

/// Why a shard ended. Everybody who waited has been answered.
pub(crate) enum Exit {
    /// In order: everything is confirmed and the partition released.
    Released,
    /// Somebody else owns the partition.
    Fenced(Fenced),
    /// The log contradicts its history.
    Halted(Halt),
    /// Log or journal failed in a way that a new claim may mend.
    Failed(String),
}

/// The state of a shard; the writer is apart, because finding out about doubtful appends consumes it.
pub(crate) struct Shard {
    pub(crate) options: Options,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    status: watch::Sender<PartitionStatus>,
    cache: Cache,
    tail: Tail,
    /// Streams that this owner has seen.
    seen: GrowingFilter,
    /// Streams that the journal had when the partition was claimed; `None` until they are known.
    journaled: Option<GrowingFilter>,
    flights: Flights,
    /// Commands taken from the queue and not yet decided, in order.
    backlog: VecDeque<Job>,
    /// Commands whose aggregate is being loaded; in order, because who is dismissed is answered in order.
    parked: BTreeMap<StreamId, Vec<Job>>,
    to_load: Vec<StreamId>,
    /// What is being loaded beside an aggregate that stays until then: both are needed at once, and where memory is short
    /// each would else go while the other comes.
    kept_for: Vec<(StreamId, StreamId)>,
    loads: FuturesUnordered<BoxFuture<'static, Loaded>>,
    /// Where the journal was when each load began: what the tail must keep for it.
    load_floors: Vec<Offset>,
    /// How far the journal was when it was last heard of.
    journal_next: Offset,
    snapshots: Snapshots,
    /// Answers that append nothing and wait for a barrier.
    unappended: Vec<Waiter>,
    quarantined: HashMap<StreamId, ()>,
}

impl Shard {
    pub(crate) fn new(
        options: Options,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        status: watch::Sender<PartitionStatus>,
    ) -> Self {
        Self {
            cache: Cache::new(options.cache_bytes),
            options,
            journal,
            clock,
            status,
            tail: Tail::default(),
            seen: GrowingFilter::default(),
            journaled: None,
            flights: Flights::default(),
            backlog: VecDeque::new(),
            parked: BTreeMap::new(),
            to_load: Vec::new(),
            kept_for: Vec::new(),
            loads: FuturesUnordered::new(),
            load_floors: Vec::new(),
            journal_next: 0,
            snapshots: Snapshots::default(),
            unappended: Vec::new(),
            quarantined: HashMap::new(),
        }
    }

    /// Everything before `next` was confirmed, by whomever: the journal has it.
    pub(crate) fn begin_behind(&self, next: Offset) {
        self.status.send_modify(|status| status.confirmed = status.confirmed.max(next));
    }

    /// Takes a commit that counts and that the journal may not have: what the claim read.
    pub(crate) fn remember(&mut self, record: CommitRecord) {
        self.seen.insert(record.commit.stream.as_str().as_bytes());
        self.note_confirmed(record.position.offset);
        self.tail.push(Arc::new(record));
    }

    /// The journal has come this far, by partition: what it has is forgotten.
    pub(crate) fn prune_to(&mut self, next: &[Offset]) {
        let partition = usize::from(self.status.borrow().partition);
        self.prune(next.get(partition).copied().unwrap_or(0));
    }

    /// Whether the journal is near enough for more to be taken on.
    pub(crate) fn has_room(&self) -> bool {
        self.tail.bytes() < self.options.tail_bytes
    }

    /// Serves the partition until it is lost, halted or `leave` is cancelled. Answers why it ended, and what of the
    /// log must be found again before the next claim.
    pub(crate) async fn run(
        mut self,
        mut writer: PartitionWriter,
        queue: &mut mpsc::Receiver<Job>,
        leave: &CancellationToken,
    ) -> (Exit, Vec<Cursor>) {
        let partition = writer.partition();
        let mut journal_progress = self.journal.progress();
        // What the journal got while the log was read would not be told again, and a full tail takes no command.
        self.prune_to(&journal_progress.borrow_and_update());
        self.loads.push(load::streams(self.journal.clone(), partition));
        self.set_state(PartitionState::Serving, writer.epoch());
        let mut turn = Vec::with_capacity(TURN);
        let ended = loop {
            self.work(&mut writer);
            tokio::select! {
                biased;
                progress = writer.progress() => {
                    if let Some(exit) = self.on_progress(progress, &mut writer, queue).await {
                        break Some(exit);
                    }
                }
                Some(loaded) = self.loads.next(), if !self.loads.is_empty() => self.on_loaded(loaded, partition),
                Ok(()) = journal_progress.changed() => self.prune_to(&journal_progress.borrow_and_update()),
                taken = queue.recv_many(&mut turn, TURN), if self.admits() => {
                    if taken == 0 {
                        break None;
                    }
                    self.backlog.extend(turn.drain(..));
                }
                () = leave.cancelled() => break None,
            }
        };
        let landmarks = writer.landmarks();
        let exit = match ended {
            Some(exit) => exit,
            None => self.step_down(writer, queue).await,
        };
        self.dismiss(&exit, partition);
        gauge!("shopstream_partition_serving", "partition" => partition.to_string()).set(0.0);
        (exit, landmarks)
    }

    /// Whether more commands may come in: not while the journal is too far behind, nor while too many wait.
    fn admits(&self) -> bool {
        self.backlog.is_empty() && self.has_room() && self.parked.len() < self.options.queue
    }

    /// Decides what can be decided.
    fn work(&mut self, writer: &mut PartitionWriter) {
        while writer.in_flight_bytes() < IN_FLIGHT_BYTES {
            let Some(job) = self.backlog.pop_front() else { break };
            if let Err(job) = self.decide(job, writer) {
                self.backlog.push_front(*job);
                break;
            }
        }
        if !self.unappended.is_empty()
            && let Ok(seq) = writer.submit_barrier()
        {
            self.flights.push_barrier(seq, std::mem::take(&mut self.unappended));
        }
        if !self.to_load.is_empty() {
            self.start_load(writer.partition());
        }
        self.keep_snapshots();
        self.kept_for.retain(|(awaited, _)| self.parked.contains_key(awaited));
        self.cache.evict(|stream| self.kept_for.iter().any(|(_, kept)| kept == stream));
    }

    /// Decides one command; gives it back where the log takes no more just now.
    fn decide(&mut self, job: Job, writer: &mut PartitionWriter) -> Result<(), Box<Job>> {
        let stream = &job.envelope.stream;
        if self.quarantined.contains_key(stream) {
            let error = CommandError::Quarantined { stream: stream.clone() };
            return self.answer(job, 0, Answer::Ready(Err(error)));
        }
        if !self.cache.contains(stream) {
            // What is being loaded stays so, even when the journal says meanwhile that it never had the stream: the
            // load would put an older state in place of what was decided since.
            if self.parked.contains_key(stream) || !self.is_new(stream) {
                self.park(job);
                return Ok(());
            }
            self.cache.insert(stream.clone(), Entry::empty(stream.kind()));
        }
        let now = self.clock.now();
        let rivalry = match job.envelope.rival() {
            Some(rival) => self.rivalry(rival, &job.envelope),
            None => Rivalry::Not,
        };
        let stream = &job.envelope.stream;
        let Some(entry) = self.cache.get(stream) else { return Ok(()) };
        match entry.remembered.seen(job.envelope.command_id) {
            Seen::Done(done) => {
                let seq = if let DoneAt::Seq(seq) = done.at { seq } else { entry.last_seq };
                let answer = answer_again(&job.envelope, &done, writer.partition());
                return self.answer(job, seq, answer);
            }
            Seen::Perhaps if !job.looked_up.is_some_and(|it| it.holds(writer.epoch(), entry.version)) => {
                let now = LookedUp { epoch: writer.epoch(), version: entry.version };
                self.look_up(job, now);
                return Ok(());
            }
            Seen::Perhaps | Seen::Never => {}
        }
        match rivalry {
            Rivalry::Not => {}
            Rivalry::Unknown(rival) => {
                self.kept_for.push((rival.clone(), job.envelope.stream.clone()));
                self.park_for(rival, job);
                return Ok(());
            }
            Rivalry::Used { seq, error } => return self.answer(job, seq, Answer::Ready(Err(error))),
        }
        let decided = match Self::decide_on(entry, &job.envelope, now) {
            Ok(decided) => decided,
            Err(Trouble::Refused(error)) => {
                let seq = entry.last_seq;
                return self.answer(job, seq, Answer::Ready(Err(error)));
            }
            Err(Trouble::Panicked) => {
                let stream = job.envelope.stream.clone();
                self.quarantine(&stream, "decide panicked");
                return self.answer(job, 0, Answer::Ready(Err(CommandError::Quarantined { stream })));
            }
        };
        let Some((commit, events)) = decided else {
            let (seq, version) = (entry.last_seq, entry.version);
            let answer = match (seq, entry.last_offset) {
                (0, offset) => {
                    let offset = offset.unwrap_or_else(|| self.status.borrow().confirmed.saturating_sub(1));
                    Answer::Ready(Ok(Reply {
                        version,
                        position: Position { partition: writer.partition(), offset },
                        outcome: None,
                        repeated: false,
                    }))
                }
                _ => Answer::AtCommit { version, outcome: None, repeated: false },
            };
            return self.answer(job, seq, answer);
        };
        match writer.submit(&commit) {
            Err(SubmitError::Full) => Err(Box::new(job)),
            Err(SubmitError::TooLarge { bytes }) => {
                let seq = entry.last_seq;
                self.answer(job, seq, Answer::Ready(Err(CommandError::TooLarge { bytes })))
            }
            Ok(seq) => {
                self.submitted(job, seq, commit, &events);
                Ok(())
            }
        }
    }

    /// Whether the other stream on which a key can have been used says that it was.
    fn rivalry(&mut self, rival: &StreamId, envelope: &CommandEnvelope) -> Rivalry {
        if self.quarantined.contains_key(rival) {
            let error = CommandError::Quarantined { stream: rival.clone() };
            return Rivalry::Used { seq: 0, error };
        }
        let Some(entry) = self.cache.get(rival) else {
            let is_new = !self.parked.contains_key(rival) && self.is_new(rival);
            return if is_new { Rivalry::Not } else { Rivalry::Unknown(rival.clone()) };
        };
        let used = match &entry.state {
            State::Request(claim) => claim.target().filter(|target| **target != envelope.stream),
            _ => (entry.version > 0).then_some(rival),
        };
        match used {
            Some(stream) => {
                let error = CommandError::RequestReused { stream: stream.clone() };
                Rivalry::Used { seq: entry.last_seq, error }
            }
            None => Rivalry::Not,
        }
    }

    /// The commit that the command makes of the entry, `None` where it changes nothing.
    fn decide_on(
        entry: &Entry,
        envelope: &CommandEnvelope,
        now: Timestamp,
    ) -> Result<Option<(Commit, Vec<Event>)>, Trouble> {
        if let Some(expected) = envelope.expected_version
            && expected != entry.version
        {
            let (stream, actual) = (envelope.stream.clone(), entry.version);
            return Err(Trouble::Refused(CommandError::StaleVersion { stream, expected, actual }));
        }
        // Per stream, time never runs backwards, whatever the machine's clock does.
        let now = now.max(entry.last_recorded_at);
        let decided = catch_unwind(AssertUnwindSafe(|| entry.state.decide(&envelope.command, now)));
        let events = match decided {
            Ok(Ok(events)) if !events.is_empty() => events,
            // A client that asks again, when something has happened since, must not change anything then.
            Ok(Ok(_)) if envelope.is_memorable() => vec![Event::Nothing(NothingChanged {})],
            Ok(Ok(_)) => return Ok(None),
            Ok(Err(refused)) => {
                let taken = taken_for(&entry.state).map(|stream| CommandError::RequestReused { stream });
                return Err(Trouble::Refused(taken.unwrap_or(CommandError::Refused(refused))));
            }
            Err(_) => return Err(Trouble::Panicked),
        };
        let stored: Vec<EventData> = events.iter().map(schema::encode).collect();
        check_texts(envelope, &stored)
            .map_err(|error| Trouble::Refused(CommandError::Refused(error.refused())))?;
        let commit = Commit {
            stream: envelope.stream.clone(),
            first_version: entry.version + 1,
            command_id: envelope.command_id,
            body_hash: envelope.body_hash,
            actor: envelope.origin.actor.as_ref().to_owned(),
            correlation_id: envelope.origin.correlation_id.as_ref().to_owned(),
            causation_id: envelope.origin.causation_id.as_ref().to_owned(),
            traceparent: envelope.origin.traceparent.as_ref().to_owned(),
            recorded_at: now,
            effective_at: envelope.effective_at,
            events: stored,
        };
        Ok(Some((commit, events)))
    }

    /// Moves the state on, ahead of the log, and lets the caller wait for the log.
    fn submitted(&mut self, job: Job, seq: u64, commit: Commit, events: &[Event]) {
        let version = commit.last_version();
        let outcome = outcome(events.last());
        self.seen.insert(commit.stream.as_str().as_bytes());
        let evolved = self.cache.update(&commit.stream, |entry| {
            entry.version = version;
            entry.last_seq = seq;
            entry.last_recorded_at = commit.recorded_at;
            let Commit { command_id, body_hash, .. } = commit;
            entry.remembered.push(Done { command_id, body_hash, version, outcome, at: DoneAt::Seq(seq) });
            catch_unwind(AssertUnwindSafe(|| events.iter().for_each(|event| entry.state.evolve(event))))
                .is_ok()
        });
        if !evolved {
            self.quarantine(&commit.stream, "evolve panicked");
        }
        let answer = Answer::AtCommit { version, outcome, repeated: false };
        self.flights.push_commit(seq, commit, Waiter { reply: job.reply, answer });
    }

    /// Answers once the log counts `seq`, the last append that the answer rests on; 0: at once, or behind a barrier.
    fn answer(&mut self, job: Job, seq: u64, answer: Answer) -> Result<(), Box<Job>> {
        let waiter = Waiter { reply: job.reply, answer };
        if let Some(waiter) = self.flights.join(seq, waiter) {
            // Somebody else may have gone on where this node's time is over; a barrier tells (`event-log.md` §2.3).
            let duty = Duty::Partition(self.status.borrow().partition);
            if self.options.coordinator.is_live(duty) {
                waiter.send_ready();
            } else {
                self.unappended.push(waiter);
            }
        }
        Ok(())
    }

    async fn on_progress(
        &mut self,
        progress: Progress,
        writer: &mut PartitionWriter,
        queue: &mut mpsc::Receiver<Job>,
    ) -> Option<Exit> {
        match progress {
            Progress::Confirmed(confirmed) => {
                self.confirmed(&confirmed, writer.partition(), writer.epoch());
                None
            }
            Progress::InDoubt { cause } => self.resolve(writer, queue, cause.to_string()).await,
            Progress::Failed(error) => self.resolve(writer, queue, error.to_string()).await,
            Progress::Fenced { by, confirmed, rejected } => {
                self.confirmed(&confirmed, writer.partition(), writer.epoch());
                self.rejected(&rejected);
                Some(Exit::Fenced(by))
            }
            Progress::Halted(halt) => Some(Exit::Halted(halt)),
        }
    }

    /// Finds out what became of everything in flight and goes on with a new epoch (`event-log.md` §2.4).
    async fn resolve(
        &mut self,
        writer: &mut PartitionWriter,
        queue: &mut mpsc::Receiver<Job>,
        cause: String,
    ) -> Option<Exit> {
        let (partition, epoch) = (writer.partition(), writer.epoch());
        warn!(partition, epoch, cause, "in doubt: {cause}");
        counter!("shopstream_shard_in_doubt_total").increment(1);
        let lasting = CommandError::Unavailable { partition, detail: cause.clone() };
        self.set_state(PartitionState::InDoubt { cause }, epoch);
        let resolved = {
            let resolving = writer.resolve((self.options.nonces)());
            let backlog = &mut self.backlog;
            let tell = async {
                sleep(DOUBT).await;
                backlog.drain(..).for_each(|job| job.fail(lasting.clone()));
                refuse_all(queue, &lasting).await;
                std::future::pending().await
            };
            tokio::select! {
                biased;
                resolved = resolving => resolved,
                resolved = tell => resolved,
            }
        };
        match resolved {
            Ok(resolved) => {
                self.confirmed(&resolved.confirmed, writer.partition(), epoch);
                self.rejected(&resolved.rejected);
                if let Some(fenced) = resolved.fenced {
                    return Some(Exit::Fenced(fenced));
                }
                if resolved.interrupted {
                    // The aggregates in memory lack what the other owner wrote: the next claim begins from the journal.
                    return Some(Exit::Failed("another node owned the partition for a while".to_owned()));
                }
                self.set_state(PartitionState::Serving, writer.epoch());
                None
            }
            Err(ClaimError::Lost(fenced)) => Some(Exit::Fenced(fenced)),
            Err(ClaimError::Read(ReadError::Halt { halt, .. })) => Some(Exit::Halted(halt)),
            Err(error) => Some(Exit::Failed(error.to_string())),
        }
    }

    /// These count: their callers are answered, their commits join the tail.
    fn confirmed(&mut self, confirmed: &[(u64, Offset)], partition: Partition, epoch: u64) {
        histogram!("shopstream_shard_group_size").record(confirmed.len() as f64);
        // Before anybody is answered: whoever asks how far the partition is finds what it was told.
        if let Some(&(_, offset)) = confirmed.last() {
            self.note_confirmed(offset);
        }
        for &(seq, offset) in confirmed {
            let Some(flight) = self.flights.take(seq) else { continue };
            let position = Position { partition, offset };
            if let Some(commit) = flight.commit {
                if self.cache.confirmed(&commit.stream, seq, offset, self.options.snapshot_every) {
                    self.snapshots.want(commit.stream.clone(), offset);
                }
                self.tail.push(Arc::new(CommitRecord { position, epoch, commit }));
            }
            for waiter in flight.waiters {
                waiter.send(position);
            }
        }
    }

    /// These never count: what was decided on them is forgotten, and their callers may try again.
    fn rejected(&mut self, rejected: &[u64]) {
        counter!("shopstream_shard_rejected_total").increment(rejected.len() as u64);
        for &seq in rejected {
            let Some(flight) = self.flights.take(seq) else { continue };
            if let Some(commit) = flight.commit {
                self.cache.remove(&commit.stream);
            }
            for waiter in flight.waiters {
                waiter.fail(CommandError::NotApplied);
            }
        }
    }

    /// Takes no more commands, waits until everything in flight is known, answers it, and gives the partition up.
    /// What was not begun goes back to its callers at once: the next owner is for it.
    async fn step_down(&mut self, mut writer: PartitionWriter, queue: &mut mpsc::Receiver<Job>) -> Exit {
        let epoch = writer.epoch();
        self.set_state(PartitionState::Released, epoch);
        self.send_back_waiting();
        while !self.flights.is_empty() {
            let progress = tokio::select! {
                biased;
                progress = writer.progress() => progress,
                Some(job) = queue.recv() => {
                    job.send_back();
                    continue;
                }
            };
            if let Some(exit) = self.on_progress(progress, &mut writer, queue).await {
                return exit;
            }
            // A resolved doubt says that it serves again; it does not.
            self.set_state(PartitionState::Released, epoch);
        }
        match writer.release().await {
            Ok(_) => Exit::Released,
            Err(Progress::Fenced { by, .. }) => Exit::Fenced(by),
            Err(Progress::Halted(halt)) => Exit::Halted(halt),
            Err(Progress::InDoubt { cause }) => Exit::Failed(cause.to_string()),
            Err(Progress::Failed(error)) => Exit::Failed(error.to_string()),
            Err(Progress::Confirmed(_)) => Exit::Released,
        }
    }

    /// Commands that wait for a turn, for their aggregate or for the journal's word.
    fn send_back_waiting(&mut self) {
        let parked = std::mem::take(&mut self.parked).into_values().flatten();
        parked.chain(std::mem::take(&mut self.backlog)).for_each(Job::send_back);
        self.to_load.clear();
    }

    /// Answers everybody who still waits: the shard is ending.
    fn dismiss(&mut self, exit: &Exit, partition: Partition) {
        let error = match exit {
            Exit::Released => CommandError::NotOwner { partition, owner: None },
            Exit::Fenced(by) => CommandError::NotOwner { partition, owner: Some(by.clone().into()) },
            Exit::Halted(halt) => CommandError::Halted { partition, detail: halt.to_string() },
            Exit::Failed(detail) => CommandError::Unavailable {
                partition,
                detail: format!("{detail}; the outcome is not known, ask again with the same request id"),
            },
        };
        for flight in self.flights.drain() {
            flight.waiters.into_iter().for_each(|waiter| waiter.fail(error.clone()));
        }
        std::mem::take(&mut self.unappended).into_iter().for_each(|waiter| waiter.fail(error.clone()));
        if matches!(exit, Exit::Released | Exit::Fenced(_)) {
            return self.send_back_waiting();
        }
        let parked = std::mem::take(&mut self.parked).into_values().flatten();
        parked.chain(std::mem::take(&mut self.backlog)).for_each(|job| job.fail(error.clone()));
    }

    fn quarantine(&mut self, stream: &StreamId, what: &str) {
        error!(stream = %stream, what, "quarantined: this aggregate takes no commands until the bug is mended");
        counter!("shopstream_shard_quarantined_total").increment(1);
        self.cache.remove(stream);
        self.quarantined.insert(stream.clone(), ());
    }

    fn set_state(&self, state: PartitionState, epoch: u64) {
        let serving = if state == PartitionState::Serving { 1.0 } else { 0.0 };
        gauge!("shopstream_partition_serving", "partition" => self.status.borrow().partition.to_string())
            .set(serving);
        self.status.send_modify(|status| (status.state, status.epoch) = (state, epoch));
    }

    fn note_confirmed(&self, offset: Offset) {
        self.status.send_modify(|status| status.confirmed = offset + 1);
    }
}

/// Why a command makes no commit.
enum Trouble {
    Refused(CommandError),
    Panicked,
}

/// What the stream on which a key can have been used as well says.
enum Rivalry {
    /// It was not used there.
    Not,
    /// That stream has to be loaded first.
    Unknown(StreamId),
    /// It was, or nobody can tell; it is said when `seq` counts.
    Used { seq: u64, error: CommandError },
}

/// What a key stands for: why a claim of it is refused.
fn taken_for(state: &State) -> Option<StreamId> {
    if let State::Request(claim) = state { claim.target().cloned() } else { None }
}

/// What the last event of a command says to whoever gave it.
fn outcome(last: Option<&Event>) -> Option<&'static str> {
    last.filter(|event| !matches!(event, Event::Nothing(_))).map(Event::event_type)
}

/// The answer to a command that was carried out before.
fn answer_again(envelope: &CommandEnvelope, done: &Done, partition: Partition) -> Answer {
    if !envelope.is_meant_by(done.body_hash) {
        return Answer::Ready(Err(CommandError::RequestReused { stream: envelope.stream.clone() }));
    }
    let Done { version, outcome, .. } = *done;
    match done.at {
        DoneAt::Seq(_) => Answer::AtCommit { version, outcome, repeated: true },
        DoneAt::Offset(offset) => Answer::Ready(Ok(Reply {
            version,
            position: Position { partition, offset },
            outcome,
            repeated: true,
        })),
    }
}

/// The last gate before the log, whoever gave the command: no text in a commit is one that a reader of the log cannot hold
/// or show. The aggregates have refused such texts by their fields already.
fn check_texts(envelope: &CommandEnvelope, events: &[EventData]) -> Result<(), TextError> {
    let origin = &envelope.origin;
    for (field, text) in [
        ("actor", &origin.actor),
        ("correlation_id", &origin.correlation_id),
        ("causation_id", &origin.causation_id),
        ("traceparent", &origin.traceparent),
    ] {
        ORIGIN.check(field, text)?;
    }
    match events.iter().find_map(|event| forbidden_in_json(&event.payload)) {
        Some(character) => Err(TextError::Forbidden { field: "command".to_owned(), character, at: 0 }),
        None => Ok(()),
    }
}
