//! Ownership on one node: claims every partition, keeps a shard on each, and says what became of it.
//!
//! This is the `Static` coordinator: the node owns everything. A node that is fenced never claims again
//! (`rulings.md` 18): two of them on one topic would otherwise fence each other for ever.

use std::sync::Arc;
use std::time::Duration;

use shopstream_domain::Partition;
use shopstream_eventlog::writer::{Fenced, Identity};
use shopstream_eventlog::{ClaimError, Cursor, Halt, Journal, Log, PartitionWriter, ReadError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::commands::ShardHandle;
use crate::shard::{Exit, Job, Shard};
use crate::{Clock, CommandError, Commands, PartitionState, PartitionStatus};

/// Between two tries to claim while log or journal are away.
const RETRY: Duration = Duration::from_millis(500);

/// The bounds of a shard, and what is injected into it.
#[derive(Clone)]
pub struct Options {
    /// How many commands wait for one partition before more are refused.
    pub queue: usize,
    /// Bytes of aggregates kept in memory, per partition.
    pub cache_bytes: usize,
    /// Bytes of commits that the journal has not got yet, per partition; beyond it no commands are admitted.
    pub tail_bytes: usize,
    /// Answers that append nothing wait for a barrier: where another node may have taken the partition unnoticed.
    pub barrier_before_answers: bool,
    /// Draws the nonces of claims.
    pub nonces: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// The shards of this node, running.
pub struct Shards {
    commands: Commands,
    tasks: TaskTracker,
    #[cfg(feature = "testing")]
    running: Vec<tokio::task::AbortHandle>,
    stop: CancellationToken,
}

impl Shards {
    /// Starts a shard for every partition of `log`. Returns at once; [`Shards::ready`] waits for the claims.
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
                stop: stop.clone(),
            };
            let _task = tasks.spawn(owner.run(queue));
            #[cfg(feature = "testing")]
            running.push(_task.abort_handle());
            handles.push(ShardHandle { queue: queue_in, status });
        }
        tasks.close();
        Self {
            commands: Commands::new(handles),
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

    /// Waits until no partition is being claimed any more; answers those that do not serve.
    pub async fn ready(&self) -> Vec<PartitionStatus> {
        let mut idle = Vec::new();
        for mut status in self.commands.statuses() {
            // The sender lives as long as its owner task; a task that is gone serves nothing.
            let settled = status.wait_for(|status| status.state != PartitionState::Claiming).await;
            match settled.map(|status| status.clone()) {
                Ok(status) if status.state == PartitionState::Serving => {}
                Ok(status) => idle.push(status),
                Err(_) => {}
            }
        }
        idle
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

/// Owns one partition, or says why not.
struct Owner {
    partition: Partition,
    log: Log,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    identity: Identity,
    options: Options,
    status: watch::Sender<PartitionStatus>,
    stop: CancellationToken,
}

impl Owner {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let (mut halts, mut read) = (0, None);
        loop {
            // In this order, always, here and below: a run of the simulation must be the same again from its seed.
            let claimed = tokio::select! {
                biased;
                claimed = self.claim(read.as_ref()) => claimed,
                () = self.stop.cancelled() => return,
            };
            let exit = match claimed {
                Ok((shard, writer)) => {
                    info!(
                        partition = self.partition,
                        epoch = writer.epoch(),
                        "claimed partition {}",
                        self.partition
                    );
                    let (exit, reached) = shard.run(writer, &mut queue, &self.stop).await;
                    read = reached.or(read);
                    exit
                }
                Err(ClaimError::Lost(fenced)) => Exit::Fenced(fenced),
                Err(ClaimError::Read(ReadError::Halt { halt, .. })) => Exit::Halted(halt),
                Err(error) => Exit::Failed(error.to_string()),
            };
            match exit {
                Exit::Released => return,
                Exit::Fenced(by) => return self.idle_fenced(&by, &mut queue).await,
                Exit::Halted(halt) => {
                    // One fresh look; what is found twice is true (`rulings.md` 40).
                    halts += 1;
                    if halts > 1 {
                        error!(partition = self.partition, %halt, "halted; see `shopstream log status`");
                        return self.idle_halted(&halt, &mut queue).await;
                    }
                    warn!(partition = self.partition, %halt, "the log contradicts its history; looking again");
                }
                Exit::Failed(cause) => {
                    warn!(
                        partition = self.partition,
                        cause, "not serving partition {}: {cause}", self.partition
                    );
                    self.set(PartitionState::Unavailable { cause: cause.clone() });
                    let partition = self.partition;
                    let away = CommandError::Unavailable { partition, detail: cause };
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(RETRY) => {}
                        () = refuse_all(&mut queue, &away) => return,
                        () = self.stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Claims from where the journal is, so that the shard's tail begins there; but not before what this owner has
    /// `read` is found again. The journal may not have got so far, and would not miss what is gone behind it.
    async fn claim(&self, read: Option<&Cursor>) -> Result<(Shard, PartitionWriter), ClaimError> {
        if let Some(read) = read {
            self.log.find(read).await?;
        }
        let cursor = match self.journal.cursor(self.partition).await {
            Ok(cursor) => cursor.unwrap_or_else(|| self.log.start(self.partition)),
            Err(error) => {
                let detail = error.to_string();
                return Err(ClaimError::Raw(shopstream_eventlog::raw::RawError::Unavailable { detail }));
            }
        };
        let mut shard =
            Shard::new(self.options.clone(), self.journal.clone(), self.clock.clone(), self.status.clone());
        let nonce = (self.options.nonces)();
        let claim = PartitionWriter::claim(&self.log, cursor, self.identity.clone(), 0, nonce, |record| {
            shard.remember(record);
        });
        let writer = claim.await?;
        Ok((shard, writer))
    }

    async fn idle_fenced(&self, by: &Fenced, queue: &mut mpsc::Receiver<Job>) {
        let owner = format!("{} at {}", by.node, by.address);
        warn!(
            partition = self.partition,
            epoch = by.epoch,
            owner,
            "fenced: {owner} owns partition {}",
            self.partition
        );
        self.set(PartitionState::Fenced { by: owner.clone() });
        let error = CommandError::NotOwner { partition: self.partition, owner: Some(owner) };
        self.idle(&error, queue).await;
    }

    async fn idle_halted(&self, halt: &Halt, queue: &mut mpsc::Receiver<Job>) {
        self.set(PartitionState::Halted { cause: format!("{halt}; {}", Halt::WAY_OUT) });
        let error = CommandError::Halted { partition: self.partition, detail: halt.to_string() };
        self.idle(&error, queue).await;
    }

    /// Answers every command with `error` until the node stops.
    async fn idle(&self, error: &CommandError, queue: &mut mpsc::Receiver<Job>) {
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

/// Answers everything that comes with `error`; ends when nobody can send any more.
async fn refuse_all(queue: &mut mpsc::Receiver<Job>, error: &CommandError) {
    while let Some(job) = queue.recv().await {
        // A caller that has gone away needs no answer.
        let _ = job.reply.send(Err(error.clone()));
    }
}
