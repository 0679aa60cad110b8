//! The door of the write path: takes each command to the shard that owns its partition, here or on another node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join, join_all, select_all};
use metrics::counter;
use shopstream_domain::Partition;
use shopstream_eventlog::{Offset, Position};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::coordinator::{Coordinator, Duty};
use crate::shard::{Heard, Job};
use crate::{CommandEnvelope, CommandError, Location, PartitionState, PartitionStatus, Peers, Reply, Silent};

/// How long an owner is looked for where the caller names no deadline: a lease and a claim take less.
const PATIENCE: Duration = Duration::from_secs(6);
/// The wait for news of an owner after the first try in vain; each further one is that much longer.
const PAUSE: Duration = Duration::from_millis(20);
/// But none is longer than this: not all that may change is told.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Takes commands. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    shared: Arc<Shared>,
    deadline: Option<Instant>,
}

struct Shared {
    shards: Vec<ShardHandle>,
    coordinator: Arc<dyn Coordinator>,
    peers: Arc<dyn Peers>,
}

/// The way to one shard.
pub(crate) struct ShardHandle {
    pub(crate) queue: mpsc::Sender<Job>,
    pub(crate) status: watch::Receiver<PartitionStatus>,
}

type Answer = Result<Reply, CommandError>;

/// A command in its queue, or what is known of it at once.
type Put = Result<oneshot::Receiver<Heard>, Heard>;

impl Commands {
    pub(crate) fn new(
        shards: Vec<ShardHandle>,
        coordinator: Arc<dyn Coordinator>,
        peers: Arc<dyn Peers>,
    ) -> Self {
        Self { shared: Arc::new(Shared { shards, coordinator, peers }), deadline: None }
    }

    /// The same door for a caller who waits no longer than until `deadline`: the other nodes are told.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self { shared: self.shared.clone(), deadline: Some(deadline) }
    }

    /// Carries out a command, and answers when the log counts it. Dropping the future cancels nothing.
    ///
    /// A command for another node's partition is sent there, and sent again to whoever owns the partition next
    /// should it move meanwhile or its owner be silent, until the caller's deadline: its id keeps it from being carried
    /// out twice.
    ///
    /// # Errors
    /// See [`CommandError`]. [`CommandError::Overloaded`] at once where the partition's queue is full.
    pub async fn submit(&self, envelope: CommandEnvelope) -> Answer {
        let partition = self.partition_of(&envelope);
        match heard(partition, self.enqueue(partition, envelope)).await {
            Heard::Answer(answer) => answer,
            Heard::Back(envelope) => Box::pin(self.send_to_owner(partition, *envelope)).await,
        }
    }

    /// Carries out many commands side by side and answers each in its place. Commands of one partition are decided
    /// in order and share its appends; only those that met a change of owner may be decided later than their
    /// neighbours. Waits where a queue is full instead of refusing: for callers that bound themselves, such as sagas
    /// and bulk streams.
    pub async fn submit_all(&self, envelopes: Vec<CommandEnvelope>) -> Vec<Answer> {
        let count = envelopes.len();
        let mut here = Vec::with_capacity(count);
        let mut elsewhere: BTreeMap<Partition, Vec<(usize, CommandEnvelope)>> = BTreeMap::new();
        for (index, envelope) in envelopes.into_iter().enumerate() {
            let partition = self.partition_of(&envelope);
            if !self.is_here(partition) {
                elsewhere.entry(partition).or_default().push((index, envelope));
                continue;
            }
            let (job, answer) = job(envelope);
            let sent = self.shared.shards[usize::from(partition)].queue.send(job).await;
            let put = sent.map(|()| answer).map_err(|_| Heard::Answer(Err(closed(partition))));
            here.push(async move {
                let answer = match heard(partition, put).await {
                    Heard::Answer(answer) => answer,
                    Heard::Back(back) => Box::pin(self.send_to_owner(partition, *back)).await,
                };
                (index, answer)
            });
        }
        let elsewhere = elsewhere.into_iter().map(|(partition, group)| self.send_group(partition, group));
        let (here, elsewhere) = join(join_all(here), join_all(elsewhere)).await;
        let mut answers: Vec<_> = here.into_iter().chain(elsewhere.into_iter().flatten()).collect();
        answers.sort_unstable_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Carries out what another node sent here, each in its place, and sends nothing on.
    pub async fn carry_out(&self, envelopes: Vec<CommandEnvelope>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let partition = self.partition_of(&envelope);
            // In order: each is in its queue before the next one is looked at.
            let put = self.enqueue(partition, envelope);
            answers.push(async move {
                match heard(partition, put).await {
                    // The shard has ended, as it does where the node stops: whoever is next knows what came of it.
                    Heard::Answer(Err(CommandError::Unavailable { .. })) if self.has_ended(partition) => {
                        Err(self.not_owner(partition))
                    }
                    Heard::Answer(answer) => answer,
                    Heard::Back(_) => Err(self.not_owner(partition)),
                }
            });
        }
        join_all(answers).await
    }

    /// The last confirmed position of each of `partitions` that has one, wherever it is owned: whatever anybody was
    /// answered before this call is at or before it. Waits while a claim is under way.
    ///
    /// # Errors
    /// An owner is not known or does not answer.
    pub async fn confirmed(
        &self,
        partitions: impl IntoIterator<Item = Partition>,
    ) -> Result<Vec<Position>, CommandError> {
        let each = partitions.into_iter().map(|partition| self.confirmed_wherever(partition));
        let found: Result<Vec<_>, _> = join_all(each).await.into_iter().collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// As [`Commands::confirmed`], of one partition that this node owns.
    ///
    /// # Errors
    /// [`CommandError::NotOwner`]; [`CommandError::Unavailable`] where this node's lease has run out, for then
    /// somebody else may have gone on.
    pub async fn confirmed_here(&self, partition: Partition) -> Result<Option<Position>, CommandError> {
        let mut status = self.shared.shards[usize::from(partition)].status.clone();
        let settled = status.wait_for(|status| status.state != PartitionState::Claiming).await;
        let status = settled.map(|status| status.clone()).map_err(|_| closed(partition))?;
        let coordinator = &self.shared.coordinator;
        if coordinator.is_shared() {
            if !status.state.is_here() {
                return Err(self.not_owner(partition));
            }
            if let PartitionState::Halted { cause } = status.state {
                return Err(CommandError::Halted { partition, detail: cause });
            }
            if !coordinator.is_live(Duty::Partition(partition)) {
                let detail = "this node's lease has run out, another may own the partition".to_owned();
                return Err(CommandError::Unavailable { partition, detail });
            }
        }
        Ok(status.confirmed.checked_sub(1).map(|offset| Position { partition, offset }))
    }

    /// The first offset of a partition behind everything that this node wrote or found there when it claimed it. Others may
    /// have written more.
    pub fn written_here(&self, partition: Partition) -> Offset {
        self.shared.shards.get(usize::from(partition)).map_or(0, |shard| shard.status.borrow().confirmed)
    }

    /// Every partition as this node sees it, in order.
    pub fn status(&self) -> Vec<PartitionStatus> {
        self.shared.shards.iter().map(|shard| shard.status.borrow().clone()).collect()
    }

    /// Who owns what, as far as this node knows.
    pub fn coordinator(&self) -> &dyn Coordinator {
        &*self.shared.coordinator
    }

    /// Waits until somebody else has taken a partition from this node for good; for ever where nobody does.
    pub async fn fenced(&self) -> PartitionStatus {
        let taken = self.statuses().map(|mut status| {
            Box::pin(async move {
                let fenced = |status: &PartitionStatus| matches!(status.state, PartitionState::Fenced { .. });
                let found = status.wait_for(fenced).await.map(|status| status.clone());
                match found {
                    Ok(status) => status,
                    // The shard has ended in another way.
                    Err(_) => std::future::pending().await,
                }
            })
        });
        select_all(taken).await.0
    }

    pub(crate) fn statuses(&self) -> impl Iterator<Item = watch::Receiver<PartitionStatus>> {
        self.shared.shards.iter().map(|shard| shard.status.clone())
    }

    /// The number of partitions.
    pub fn partitions(&self) -> u16 {
        self.shared.shards.len() as u16
    }

    fn partition_of(&self, envelope: &CommandEnvelope) -> Partition {
        envelope.stream.partition(self.partitions())
    }

    /// Whether commands for the partition are for this node. Not while it gets ready to follow an owner that goes on.
    fn is_here(&self, partition: Partition) -> bool {
        let (is_here, is_claiming) = {
            let status = self.shared.shards[usize::from(partition)].status.borrow();
            (status.state.is_here(), status.state == PartitionState::Claiming)
        };
        if is_claiming { self.shared.coordinator.locate(partition).is_none() } else { is_here }
    }

    fn is_claiming(&self, partition: Partition) -> bool {
        self.shared.shards[usize::from(partition)].status.borrow().state == PartitionState::Claiming
    }

    fn has_ended(&self, partition: Partition) -> bool {
        self.shared.shards[usize::from(partition)].queue.is_closed()
    }

    /// Puts a command into its shard's queue without waiting for room.
    fn enqueue(&self, partition: Partition, envelope: CommandEnvelope) -> Put {
        if !self.is_here(partition) {
            return Err(Heard::Back(Box::new(envelope)));
        }
        self.put(partition, envelope)
    }

    /// The same, also where this node has yet to claim the partition.
    fn put(&self, partition: Partition, envelope: CommandEnvelope) -> Put {
        let (job, answer) = job(envelope);
        match self.shared.shards[usize::from(partition)].queue.try_send(job) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(Heard::Answer(Err(CommandError::Overloaded { partition }))),
            Err(TrySendError::Closed(_)) => Err(Heard::Answer(Err(closed(partition)))),
        }
    }

    /// Commands of one partition that another node owns.
    async fn send_group(
        &self,
        partition: Partition,
        group: Vec<(usize, CommandEnvelope)>,
    ) -> Vec<(usize, Answer)> {
        let (indexes, envelopes): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let owner = self.shared.coordinator.locate(partition);
        let asked = match &owner {
            Some(owner) => self.ask(owner, partition, &envelopes).await.and_then(Result::ok),
            None => None,
        };
        let mut asked = asked.into_iter().flatten();
        let answers = envelopes.into_iter().map(|envelope| {
            let answer = asked.next();
            async move {
                match answer {
                    Some(Err(CommandError::NotOwner { owner, .. })) => {
                        self.learn(partition, owner.as_ref());
                        Box::pin(self.send_to_owner(partition, envelope)).await
                    }
                    Some(Err(CommandError::Unavailable { .. })) if self.is_claiming(partition) => {
                        Box::pin(self.send_to_owner(partition, envelope)).await
                    }
                    Some(answer) => answer,
                    None => Box::pin(self.send_to_owner(partition, envelope)).await,
                }
            }
        });
        indexes.into_iter().zip(join_all(answers).await).collect()
    }

    /// Looks for the owner of a command that this node may not carry out, for as long as the caller waits.
    async fn send_to_owner(&self, partition: Partition, mut envelope: CommandEnvelope) -> Answer {
        let coordinator = &self.shared.coordinator;
        if !coordinator.is_shared() {
            return Err(self.not_owner(partition));
        }
        let (mut moves, mut search) = (coordinator.moves(), Search::until(self.deadline));
        let mut silent = None;
        loop {
            moves.borrow_and_update();
            if let Some(owner) = coordinator.locate(partition) {
                match self.ask(&owner, partition, std::slice::from_ref(&envelope)).await {
                    // It moved while it was asked.
                    None if !self.is_here(partition) && search.has_hops() => continue,
                    None => {}
                    // It is gone or going: the next one will be heard of.
                    Some(Err(silence)) => silent = Some(silence),
                    Some(Ok(mut answers)) => match answers.pop() {
                        Some(Err(CommandError::NotOwner { owner: Some(next), .. })) if next != owner => {
                            self.learn(partition, Some(&next));
                            // What is news here is worth a try at once, where it leads away.
                            if search.has_hops()
                                && coordinator
                                    .locate(partition)
                                    .is_some_and(|known| known.address != owner.address)
                            {
                                continue;
                            }
                        }
                        Some(Err(CommandError::NotOwner { .. })) => {}
                        Some(Err(CommandError::Unavailable { .. })) if self.is_claiming(partition) => {}
                        Some(answer) => return answer,
                        None => return Err(self.not_owner(partition)),
                    },
                }
            }
            // Also where its owner is gone and this node comes next.
            let put = if silent.is_some() && self.is_claiming(partition) {
                self.put(partition, envelope)
            } else {
                self.enqueue(partition, envelope)
            };
            match heard(partition, put).await {
                Heard::Answer(answer) => return answer,
                Heard::Back(back) => envelope = *back,
            }
            // Nothing came: it is tried again all the same.
            if !search.goes_on_after(moves.changed()).await {
                break;
            }
        }
        counter!("shopstream_commands_without_owner_total").increment(1);
        Err(match silent {
            Some(silent) => unheard(partition, &silent),
            None => self.not_owner(partition),
        })
    }

    /// Asks the owner; `None` where the partition moved away from it before it answered.
    async fn ask(
        &self,
        owner: &Location,
        partition: Partition,
        envelopes: &[CommandEnvelope],
    ) -> Option<Result<Vec<Answer>, Silent>> {
        counter!("shopstream_commands_forwarded_total").increment(envelopes.len() as u64);
        tokio::select! {
            biased;
            answers = self.shared.peers.carry_out(owner, partition, envelopes, self.deadline) => Some(answers),
            () = self.moved_from(owner, partition) => None,
        }
    }

    /// Ends when somebody other than `owner` is known to own the partition.
    async fn moved_from(&self, owner: &Location, partition: Partition) {
        let coordinator = &self.shared.coordinator;
        let mut moves = coordinator.moves();
        let mut status = self.shared.shards[usize::from(partition)].status.clone();
        loop {
            moves.borrow_and_update();
            status.borrow_and_update();
            let known = coordinator.locate(partition);
            if self.is_here(partition) || known.is_some_and(|known| known.address != owner.address) {
                return;
            }
            tokio::select! {
                biased;
                Ok(()) = moves.changed() => {}
                // What was claimed here is served here a moment later, and that is no news to the coordinator.
                Ok(()) = status.changed() => {}
                else => return std::future::pending().await,
            }
        }
    }

    async fn confirmed_wherever(&self, partition: Partition) -> Result<Option<Position>, CommandError> {
        let coordinator = &self.shared.coordinator;
        let (mut moves, mut search) = (coordinator.moves(), Search::until(self.deadline));
        let mut silent = None;
        loop {
            moves.borrow_and_update();
            if self.is_here(partition) || !coordinator.is_shared() {
                match self.confirmed_here(partition).await {
                    // It has just been given away.
                    Err(CommandError::NotOwner { .. }) if coordinator.is_shared() => {}
                    found => return found,
                }
            }
            if let Some(owner) = coordinator.locate(partition) {
                let asked = tokio::select! {
                    biased;
                    asked = self.shared.peers.confirmed(&owner, partition, self.deadline) => Some(asked),
                    () = self.moved_from(&owner, partition) => None,
                };
                match asked {
                    None if search.has_hops() => continue,
                    None => {}
                    Some(Ok(Err(CommandError::NotOwner { owner, .. }))) => {
                        self.learn(partition, owner.as_ref());
                    }
                    Some(Ok(found)) => return found,
                    Some(Err(silence)) => silent = Some(silence),
                }
            }
            // Nothing came: it is tried again all the same.
            if !search.goes_on_after(moves.changed()).await {
                break;
            }
        }
        Err(match silent {
            Some(silent) => unheard(partition, &silent),
            None => self.not_owner(partition),
        })
    }

    fn learn(&self, partition: Partition, owner: Option<&Location>) {
        if let Some(owner) = owner {
            self.shared.coordinator.learn(partition, owner.clone());
        }
    }

    fn not_owner(&self, partition: Partition) -> CommandError {
        CommandError::NotOwner { partition, owner: self.shared.coordinator.locate(partition) }
    }
}

/// How long an owner is looked for, and when again.
struct Search {
    until: Instant,
    attempts: u32,
    hops: u32,
}

impl Search {
    /// News of an owner that are followed at once; two nodes that name each other would be asked without end.
    const HOPS_MAX: u32 = 8;

    fn until(deadline: Option<Instant>) -> Self {
        let until = deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        Self { until, attempts: 0, hops: 0 }
    }

    fn has_hops(&mut self) -> bool {
        self.hops += 1;
        self.hops <= Self::HOPS_MAX
    }

    /// Waits for `news`, for a while; `false` where the caller would not hear an answer any more.
    async fn goes_on_after<T>(&mut self, news: impl Future<Output = T>) -> bool {
        self.attempts += 1;
        let pause = (PAUSE * self.attempts).min(PAUSE_MAX);
        if Instant::now() + pause >= self.until {
            return false;
        }
        drop(timeout(pause, news).await);
        true
    }
}

/// Nobody has answered, and nobody else has taken over.
fn unheard(partition: Partition, silent: &Silent) -> CommandError {
    let detail = format!("{silent}: whether it was done is not known, ask again with the same request id");
    CommandError::Unavailable { partition, detail }
}

fn job(envelope: CommandEnvelope) -> (Job, oneshot::Receiver<Heard>) {
    let (reply, answer) = oneshot::channel();
    (Job { envelope, reply, looked_up: None }, answer)
}

async fn heard(partition: Partition, put: Put) -> Heard {
    match put {
        Ok(answer) => answer.await.unwrap_or_else(|_| Heard::Answer(Err(closed(partition)))),
        Err(heard) => heard,
    }
}

/// The shard ended without an answer: the process is stopping.
fn closed(partition: Partition) -> CommandError {
    CommandError::Unavailable {
        partition,
        detail: "this node is stopping; ask again with the same request id".into(),
    }
}
