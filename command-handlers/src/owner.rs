//! Ownership on one node: claims the partitions that the coordinator wants here, keeps a shard on each, gives back
//! what should be elsewhere, and says what became of it.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use shopstream_domain::Partition;
use shopstream_eventlog::raw::RawError;
use shopstream_eventlog::writer::{Fenced, Identity, Standby};
use shopstream_eventlog::{ClaimError, Cursor, Halt, Journal, Log, PartitionWriter, ReadError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::commands::ShardHandle;
use crate::coordinator::{Coordinator, Duty, Grant};
use crate::shard::{Exit, Job, Shard, refuse_all, send_all_back};
use crate::{Clock, CommandError, Commands, Location, PartitionState, PartitionStatus, Peers};

/// Between two tries to claim while log or journal are away.
const RETRY: Duration = Duration::from_millis(500);
/// So long an owner goes on after it should give a partition to another node, which gets ready meanwhile: it opens a
/// reader, reads what the journal lacks, and a new producer of Kafka needs 600 ms (`event-log.md` §5).
const HEAD_START: Duration = Duration::from_millis(900);

/// After how many events a stream gets a snapshot, unless somebody says otherwise (`rulings.md` 20).
pub const SNAPSHOT_EVERY: u64 = 500;

/// The bounds of a shard, and what is injected into it.
#[derive(Clone)]
pub struct Options {
    /// How many commands wait for one partition before more are refused.
    pub queue: usize,
    /// Bytes of aggregates kept in memory, per partition.
    pub cache_bytes: usize,
    /// Bytes of commits that the journal has not got yet, per partition; beyond it no commands are admitted.
    pub tail_bytes: usize,
    /// After how many events a stream gets a snapshot, and another one: what a cold load reads besides, at most. More, in
    /// proportion, where the snapshot is heavy.
    pub snapshot_every: u64,
    /// Says what this node should own.
    pub coordinator: Arc<dyn Coordinator>,
    /// The way to the nodes that own the rest.
    pub peers: Arc<dyn Peers>,
    /// Draws the nonces of claims.
    pub nonces: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// The shards of this node, running.
pub struct Shards {
    commands: Commands,
    coordinator: Arc<dyn Coordinator>,
    tasks: TaskTracker,
    #[cfg(feature = "testing")]
    running: Vec<tokio::task::AbortHandle>,
    stop: CancellationToken,
}

impl Shards {
    /// Starts to own what the coordinator wants here of `log`. Returns at once; [`Shards::ready`] waits for the claims.
    pub fn start(
        log: &Log,
        journal: &Arc<dyn Journal>,
        clock: &Arc<dyn Clock>,
        identity: &Identity,
        options: &Options,
    ) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut handles = Vec::new();
        #[cfg(feature = "testing")]
        let mut running = Vec::new();
        for partition in 0..log.partitions() {
            let (queue_in, queue) = mpsc::channel(options.queue);
            let start =
                PartitionStatus { partition, state: PartitionState::Claiming, epoch: 0, confirmed: 0 };
            let (status_in, status) = watch::channel(start);
            let owner = Owner {
                partition,
                log: log.clone(),
                journal: journal.clone(),
                clock: clock.clone(),
                identity: identity.clone(),
                options: options.clone(),
                status: status_in,
                desired: options.coordinator.desired(partition),
                stop: stop.clone(),
            };
            let _task = tasks.spawn(owner.run(queue));
            #[cfg(feature = "testing")]
            running.push(_task.abort_handle());
            handles.push(ShardHandle { queue: queue_in, status });
        }
        tasks.close();
        let coordinator = options.coordinator.clone();
        let commands = Commands::new(handles, coordinator.clone(), options.peers.clone());
        Self {
            commands,
            coordinator,
            tasks,
            #[cfg(feature = "testing")]
            running,
            stop,
        }
    }

    /// The way to send commands.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// Waits until what is wanted here is no longer being claimed, and what is not has been given up; answers those
    /// that should be served here and are not.
    pub async fn ready(&self) -> Vec<PartitionStatus> {
        let mut idle = Vec::new();
        for mut status in self.commands.statuses() {
            let mut desired = self.coordinator.desired(status.borrow().partition);
            loop {
                let wanted = *desired.borrow_and_update();
                let now = status.borrow_and_update().clone();
                match now.state {
                    PartitionState::Claiming => {}
                    PartitionState::Released | PartitionState::Elsewhere => {
                        if !wanted {
                            break;
                        }
                    }
                    PartitionState::Serving => break,
                    PartitionState::InDoubt { .. }
                    | PartitionState::Fenced { .. }
                    | PartitionState::Halted { .. }
                    | PartitionState::Unavailable { .. } => {
                        idle.push(now);
                        break;
                    }
                }
                // A task that is gone serves nothing, and a coordinator that is gone wants nothing more.
                tokio::select! {
                    biased;
                    Ok(()) = status.changed() => {}
                    Ok(()) = desired.changed() => {}
                    else => break,
                }
            }
        }
        idle
    }

    /// Gives every partition to the other nodes, as far as there are any, and waits until it is done. What arrives
    /// meanwhile is sent to the new owners.
    pub async fn hand_over(&self) {
        if !self.coordinator.is_shared() {
            return;
        }
        self.coordinator.leave().await;
        for mut status in self.commands.statuses() {
            // A task that is gone owns nothing.
            drop(status.wait_for(|status| !status.state.is_here()).await);
        }
    }

    /// Stops in order: takes no more commands, waits until what is in flight counts, releases every partition.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Breaks every shard off wherever it is, as a killed process would: nobody is answered, nothing is released, and
    /// what is on its way to the log may yet arrive.
    #[cfg(feature = "testing")]
    pub async fn crash(self) {
        self.running.iter().for_each(tokio::task::AbortHandle::abort);
        self.tasks.wait().await;
    }
}

/// Owns one partition while it should, and says where it is otherwise.
struct Owner {
    partition: Partition,
    log: Log,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    identity: Identity,
    options: Options,
    status: watch::Sender<PartitionStatus>,
    desired: watch::Receiver<bool>,
    stop: CancellationToken,
}

/// What follows when a partition is served no more.
enum Next {
    /// It may be wanted here again.
    Again,
    /// Never again in this process.
    Never(CommandError),
    /// The node stops.
    Stop,
}

/// What an owner remembers of its earlier claims.
#[derive(Default)]
struct Past {
    /// How often the log contradicted its history.
    halts: u32,
    /// What it knew of the log, to be found again before it claims once more.
    landmarks: Vec<Cursor>,
    /// Whether another node's claim ended the last one: that node serves until this one may claim again, and where the
    /// leases are out of reach that may be long.
    fenced: bool,
}

/// Ready to claim: a shard with what the journal lacks, and the reader that filled it.
struct Ready {
    shard: Shard,
    standby: Standby,
}

impl Owner {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let duty = Duty::Partition(self.partition);
        let mut past = Past::default();
        loop {
            if !*self.desired.borrow() && !self.wait_until_desired(&mut queue).await {
                return;
            }
            self.set(if past.fenced { PartitionState::Elsewhere } else { PartitionState::Claiming });
            let acquired = tokio::select! {
                biased;
                (grant, ready) = self.acquire(duty, &past) => Some((grant, ready)),
                () = self.unwanted() => None,
                () = self.stop.cancelled() => None,
                // A queue that nobody can fill any more is that of a node that stops.
                () = send_all_back(&mut queue), if past.fenced => None,
            };
            past.fenced = false;
            let next = match acquired {
                Some((grant, ready)) => {
                    self.set(PartitionState::Claiming);
                    self.serve_under(&grant, ready, &mut queue, &mut past).await
                }
                None => self.after(),
            };
            self.options.coordinator.release(duty).await;
            match next {
                Next::Again => {}
                Next::Never(error) => return self.refuse_until_stopped(&error, &mut queue).await,
                Next::Stop => return,
            }
        }
    }

    /// Sends back what comes until the partition should be owned here; `false` when the node stops.
    async fn wait_until_desired(&self, queue: &mut mpsc::Receiver<Job>) -> bool {
        self.set(PartitionState::Elsewhere);
        let mut desired = self.desired.clone();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                wanted = desired.wait_for(|desired| *desired) => return wanted.is_ok(),
                job = queue.recv() => match job {
                    Some(job) => job.send_back(),
                    None => return false,
                },
            }
        }
    }

    /// Waits for the right to claim, and meanwhile gets ready to.
    async fn acquire(&self, duty: Duty, past: &Past) -> (Grant, Result<Ready, ClaimError>) {
        let mut acquire = self.options.coordinator.acquire(duty, self.status.borrow().epoch);
        let mut granted = None;
        let mut stand_by = std::pin::pin!(self.stand_by(past));
        let mut ready = loop {
            tokio::select! {
                biased;
                grant = &mut acquire, if granted.is_none() => granted = Some(grant),
                ready = &mut stand_by => break ready,
            }
        };
        let grant = match (granted, &mut ready) {
            (Some(grant), _) => grant,
            (None, Err(_)) => acquire.await,
            (None, Ok(standing)) => {
                let ended = tokio::select! {
                    biased;
                    grant = &mut acquire => Ok(grant),
                    error = standing.follow(&*self.journal) => Err(error),
                };
                match ended {
                    Ok(grant) => grant,
                    Err(error) => {
                        ready = Err(error.into());
                        acquire.await
                    }
                }
            }
        };
        (grant, ready)
    }

    /// Ends when the partition should be owned elsewhere.
    async fn unwanted(&self) {
        let mut desired = self.desired.clone();
        if desired.wait_for(|desired| !*desired).await.is_err() {
            std::future::pending().await
        }
    }

    /// Ends when the partition must be given up: the node stops, or another one should own it or does.
    async fn leave(&self, grant: &Grant) {
        tokio::select! {
            biased;
            () = self.unwanted_for_good() => {}
            () = grant.lost.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Ends when the partition should be owned elsewhere, and whoever is next had time to get ready.
    async fn unwanted_for_good(&self) {
        loop {
            self.unwanted().await;
            tokio::time::sleep(HEAD_START).await;
            if !*self.desired.borrow() {
                return;
            }
        }
    }

    fn after(&self) -> Next {
        if self.stop.is_cancelled() { Next::Stop } else { Next::Again }
    }

    /// Claims and serves for as long as the grant lasts; what is `ready` spares the first claim some reading.
    async fn serve_under(
        &self,
        grant: &Grant,
        ready: Result<Ready, ClaimError>,
        queue: &mut mpsc::Receiver<Job>,
        past: &mut Past,
    ) -> Next {
        let mut ready = Some(ready);
        loop {
            // In this order, always, here and below: a run of the simulation must be the same again from its seed.
            let claimed = tokio::select! {
                biased;
                claimed = self.claim(ready.take(), grant.epoch.saturating_sub(1), past) => claimed,
                () = self.leave(grant) => return self.after(),
            };
            let exit = match claimed {
                Ok((shard, writer)) => {
                    self.note_claim(&writer);
                    let exit;
                    (exit, past.landmarks) = self.run_shard(shard, writer, queue, grant).await;
                    exit
                }
                Err(ClaimError::Lost(fenced)) => Exit::Fenced(fenced),
                Err(ClaimError::Read(ReadError::Halt { halt, .. })) => Exit::Halted(halt),
                Err(error) => Exit::Failed(error.to_string()),
            };
            match exit {
                Exit::Released => return self.after(),
                Exit::Fenced(by) => {
                    past.fenced = true;
                    return self.fenced(by);
                }
                Exit::Halted(halt) => {
                    // One fresh look; what is found twice is true (`rulings.md` 40).
                    past.halts += 1;
                    if past.halts > 1 {
                        error!(partition = self.partition, %halt, "halted; see `shopstream log status`");
                        return self.stay_halted(&halt, grant, queue).await;
                    }
                    warn!(partition = self.partition, %halt, "the log contradicts its history; looking again");
                }
                Exit::Failed(cause) => {
                    let partition = self.partition;
                    warn!(partition, cause, "not serving partition {partition}: {cause}");
                    self.set(PartitionState::Unavailable { cause: cause.clone() });
                    let away = CommandError::Unavailable { partition, detail: cause };
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(RETRY) => {}
                        () = refuse_all(queue, &away) => return Next::Stop,
                        () = self.leave(grant) => return self.after(),
                    }
                }
            }
        }
    }

    /// Reads from where the journal is, so that the shard's tail begins there; but not before what this owner knew is
    /// found again. The journal may not have got so far, and would not miss what is gone behind it.
    async fn stand_by(&self, past: &Past) -> Result<Ready, ClaimError> {
        for landmark in &past.landmarks {
            self.log.find(landmark).await?;
        }
        let cursor = match self.journal.cursor(self.partition).await {
            Ok(cursor) => cursor.unwrap_or_else(|| self.log.start(self.partition)),
            Err(error) => return Err(ClaimError::Raw(RawError::Unavailable { detail: error.to_string() })),
        };
        let mut shard =
            Shard::new(self.options.clone(), self.journal.clone(), self.clock.clone(), self.status.clone());
        // What the journal has nobody reads here again, and it was confirmed all the same.
        shard.begin_behind(cursor.next);
        let standby = Standby::open(&self.log, cursor, |record| shard.remember(record)).await?;
        Ok(Ready { shard, standby })
    }

    async fn claim(
        &self,
        ready: Option<Result<Ready, ClaimError>>,
        min_epoch: u64,
        past: &Past,
    ) -> Result<(Shard, PartitionWriter), ClaimError> {
        let Ready { mut shard, standby } = match ready {
            Some(ready) => ready?,
            None => self.stand_by(past).await?,
        };
        let (identity, nonce) = (self.identity.clone(), (self.options.nonces)());
        let writer = standby.claim(identity, min_epoch, nonce, |record| shard.remember(record)).await?;
        Ok((shard, writer))
    }

    fn note_claim(&self, writer: &PartitionWriter) {
        let (partition, epoch) = (self.partition, writer.epoch());
        info!(partition, epoch, "claimed partition {partition}");
        counter!("shopstream_partition_claims_total").increment(1);
        let Identity { node, address } = self.identity.clone();
        self.options.coordinator.learn(partition, Location { epoch, node, address });
    }

    /// Keeps the shard until it ends, or until the partition must be given up. Answers why, and what of the log must be
    /// found again before the next claim.
    async fn run_shard(
        &self,
        shard: Shard,
        writer: PartitionWriter,
        queue: &mut mpsc::Receiver<Job>,
        grant: &Grant,
    ) -> (Exit, Vec<Cursor>) {
        let leave = CancellationToken::new();
        let tell = async {
            self.leave(grant).await;
            leave.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            ended = shard.run(writer, queue, &leave) => ended,
            ended = tell => ended,
        }
    }

    /// Another node's claim counts.
    fn fenced(&self, by: Fenced) -> Next {
        let (partition, epoch) = (self.partition, by.epoch);
        let owner = Location::from(by);
        warn!(partition, epoch, %owner, "fenced: {owner} owns partition {partition}");
        if self.options.coordinator.is_shared() {
            self.set(PartitionState::Elsewhere);
            self.options.coordinator.learn(partition, owner);
            return self.after();
        }
        self.set(PartitionState::Fenced { by: owner.to_string() });
        Next::Never(CommandError::NotOwner { partition, owner: Some(owner) })
    }

    /// Refuses everything until the partition is wanted elsewhere: whoever comes next looks for himself.
    async fn stay_halted(&self, halt: &Halt, grant: &Grant, queue: &mut mpsc::Receiver<Job>) -> Next {
        self.set(PartitionState::Halted { cause: format!("{halt}; {}", Halt::WAY_OUT) });
        let error = CommandError::Halted { partition: self.partition, detail: halt.to_string() };
        tokio::select! {
            biased;
            () = refuse_all(queue, &error) => Next::Stop,
            () = self.leave(grant) => self.after(),
        }
    }

    /// Answers every command with `error` until the node stops.
    async fn refuse_until_stopped(&self, error: &CommandError, queue: &mut mpsc::Receiver<Job>) {
        tokio::select! {
            biased;
            () = refuse_all(queue, error) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn set(&self, state: PartitionState) {
        self.status.send_modify(|status| status.state = state);
    }
}

impl Ready {
    /// Reads on for as long as that is possible, no further ahead of the journal than an owner may be.
    async fn follow(&mut self, journal: &dyn Journal) -> ReadError {
        let Self { shard, standby } = self;
        if let Err(error) = standby.warm_up().await {
            debug!(%error, "not warm yet");
        }
        let mut progress = journal.progress();
        // What the journal got meanwhile would not be told again.
        shard.prune_to(&progress.borrow_and_update());
        loop {
            let read = tokio::select! {
                biased;
                Ok(()) = progress.changed() => {
                    shard.prune_to(&progress.borrow_and_update());
                    continue;
                }
                read = standby.read_on(|record| shard.remember(record)), if shard.has_room() => read,
            };
            if let Err(error) = read {
                return error;
            }
        }
    }
}
