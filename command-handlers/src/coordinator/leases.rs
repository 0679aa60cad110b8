//! Many nodes share the partitions by leases in a table (`event-log.md` §2.3).
//!
//! Each node says once a second that it is there and renews all that it holds. Everybody computes from the same
//! members who should own what. Who should own a partition no more gives it back; who should own it asks for it
//! until it is free, or until the lease of a dead holder has run out by the database's clock. Without the database
//! owners go on, their answers from memory behind a barrier, and nobody takes anything over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use metrics::{counter, gauge};
use shopstream_domain::Partition;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::rendezvous;
use super::terms::Terms;
use super::{Coordinator, Duty, Grant, LeaseSeen, Location};

/// A node among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Drawn anew by every process: one that was started again is another member.
    pub id: Uuid,
    /// The node's name, for people.
    pub node: String,
    /// Where the others reach it.
    pub address: String,
    /// Whether it may own partitions.
    pub commands: bool,
}

/// The table as it was at one moment, by the database's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What the asking node still holds of what it wanted to renew.
    pub kept: Vec<Duty>,
    /// Who is alive, and for how long unless it says so again.
    pub members: Vec<(Member, Duration)>,
    /// Every lease that there ever was.
    pub leases: Vec<Lease>,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// For what.
    pub duty: Duty,
    /// The highest epoch that was granted, or claimed as far as its holder has said.
    pub epoch: u64,
    /// Whose; `None`: free.
    pub holder: Option<Uuid>,
    /// The holder's name and address.
    pub node: String,
    /// See above.
    pub address: String,
    /// How long it lasts; zero where it has run out.
    pub left: Duration,
}

/// The table of members and leases. All times in it are the database's.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Notes that `me` is there for another `term`, unless it is `leaving`; renews what it holds of `held`, with its
    /// epochs; answers how things are then.
    ///
    /// # Errors
    /// The table is away.
    async fn renew(
        &self,
        me: &Member,
        leaving: bool,
        held: &[(Duty, u64)],
        term: Duration,
    ) -> Result<View, LeaseError>;

    /// Takes the lease of `duty` for a `term` where it is free, `me`'s already, or, if `expired` ones may be taken,
    /// has run out. Its epoch is then one above the highest in the table and above `seen`.
    ///
    /// # Errors
    /// The table is away.
    async fn acquire(
        &self,
        me: &Member,
        duty: Duty,
        seen: u64,
        expired: bool,
        term: Duration,
    ) -> Result<Option<u64>, LeaseError>;

    /// Gives `duty` back if it is `me`'s.
    ///
    /// # Errors
    /// The table is away; the lease runs out by itself.
    async fn release(&self, me: &Member, duty: Duty) -> Result<(), LeaseError>;

    /// Takes `me` off the members.
    ///
    /// # Errors
    /// The table is away; the membership runs out by itself.
    async fn leave(&self, me: &Member) -> Result<(), LeaseError>;

    /// Changes soon after anybody came, went, took or gave back. A hint: nothing is lost where it fails.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The table of leases did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leases are not available: {detail}")]
pub struct LeaseError {
    /// What was seen.
    pub detail: String,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lasts.
    pub term: Duration,
    /// Between two renewals.
    pub renew: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { term: Duration::from_secs(3), renew: Duration::from_secs(1) }
    }
}

impl Timing {
    /// A table that is away for longer lets leases run out by that alone. A single question that is lost is shorter.
    fn outage(&self) -> Duration {
        self.term - self.renew / 2
    }
}

/// Before what should have run out by now is asked for.
const SLACK: Duration = Duration::from_millis(10);
/// Between two questions for what has run out by this node's clock, and not yet by the table's.
const AGAIN: Duration = Duration::from_millis(100);
/// So many claims of one duty within [`FLAPPING`] are nobody's concern; each further one waits twice as long.
const CALM: usize = 12;
/// See [`CALM`].
const FLAPPING: Duration = Duration::from_secs(60);
/// The waits of a flapping duty: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The share of this node. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

struct Shared {
    me: Member,
    store: Arc<dyn LeaseStore>,
    timing: Timing,
    state: Mutex<State>,
    desired: Vec<watch::Sender<bool>>,
    moves: watch::Sender<u64>,
    /// Wakes the beat before its time.
    hurry: Notify,
    stop: CancellationToken,
}

struct State {
    terms: Terms,
    view: View,
    /// When the view was asked for.
    viewed: Instant,
    /// Since when the table was never away for so long that leases could run out by that alone. After such an outage
    /// the others may only not have been able to renew: for one term nothing is taken that has run out.
    contact: Option<Instant>,
    /// Owners named by the log or by other nodes.
    learned: Vec<Option<Location>>,
    /// When each duty was granted here, lately.
    grants: BTreeMap<Duty, VecDeque<Instant>>,
    leaving: bool,
}

impl Leases {
    /// The share of `me` in a log of `partitions`; it has none before [`Leases::join`].
    pub fn new(me: Member, store: Arc<dyn LeaseStore>, partitions: u16, timing: Timing) -> Self {
        let state = State {
            terms: Terms::new(timing.term),
            view: View::default(),
            viewed: Instant::now(),
            contact: None,
            learned: vec![None; partitions.into()],
            grants: BTreeMap::new(),
            leaving: false,
        };
        let shared = Shared {
            me,
            store,
            timing,
            state: Mutex::new(state),
            desired: (0..partitions).map(|_| watch::Sender::new(false)).collect(),
            moves: watch::Sender::new(0),
            hurry: Notify::new(),
            stop: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Becomes a member and begins to renew: from now on others count on this node. Within a tokio runtime.
    ///
    /// # Errors
    /// The table is away.
    pub async fn join(&self) -> Result<(), LeaseError> {
        let changes = self.shared.store.changes();
        self.shared.beat().await?;
        tokio::spawn(self.shared.clone().run(changes));
        Ok(())
    }

    /// Renews nothing any more; what is still held runs out.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    async fn run(self: Arc<Self>, mut changes: watch::Receiver<u64>) {
        let mut away = false;
        loop {
            let nap = self.nap();
            tokio::select! {
                () = sleep(nap) => {}
                // Closed: the hints are over, the naps go on.
                Ok(()) = changes.changed() => {}
                () = self.hurry.notified() => {}
                () = self.stop.cancelled() => return,
            }
            changes.borrow_and_update();
            match self.beat().await {
                Ok(()) => {
                    if std::mem::take(&mut away) {
                        info!("the leases are renewed again");
                    }
                }
                Err(error) => {
                    counter!("shopstream_lease_failures_total").increment(1);
                    if !std::mem::replace(&mut away, true) {
                        warn!(%error, "no lease is renewed: what is owned here is served behind barriers");
                    }
                    sleep(self.timing.renew / 4).await;
                    self.hurry.notify_one();
                }
            }
        }
    }

    /// Renews, looks, and draws the consequences.
    async fn beat(&self) -> Result<(), LeaseError> {
        let (held, leaving) = {
            let state = self.state();
            (state.terms.held(), state.leaving)
        };
        let asked = Instant::now();
        let renewed = self.store.renew(&self.me, leaving, &held, self.timing.term);
        let view = self.in_time(renewed).await?;
        {
            let mut state = self.state();
            if state.contact.is_none() || asked.duration_since(state.viewed) > self.timing.outage() {
                state.contact = Some(asked);
            }
            state.terms.renewed(&held, &view.kept, asked);
            (state.view, state.viewed) = (view, asked);
            gauge!("shopstream_claims_per_minute").set(state.grants_lately(asked) as f64);
        }
        self.reconsider();
        Ok(())
    }

    /// What should this node own now?
    fn reconsider(&self) {
        let wishes: Vec<bool> = {
            let state = self.state();
            let partitions = 0..self.desired.len() as Partition;
            partitions
                .map(|partition| {
                    !state.leaving && state.chosen(partition).is_some_and(|it| it.id == self.me.id)
                })
                .collect()
        };
        for (desired, wish) in self.desired.iter().zip(wishes) {
            desired.send_if_modified(|desired| std::mem::replace(desired, wish) != wish);
        }
        self.moves.send_modify(|moves| *moves += 1);
    }

    /// Until the next beat: the next renewal, or sooner where somebody else's time runs out before.
    fn nap(&self) -> Duration {
        let state = self.state();
        let others = state.view.members.iter().filter(|(member, _)| member.id != self.me.id);
        let passed = state.viewed.elapsed();
        let ends = others.map(|(_, left)| left.saturating_sub(passed) + SLACK);
        ends.min().map_or(self.timing.renew, |next| next.min(self.timing.renew))
    }

    /// A question to the table that has no answer by then has none: the term goes on running.
    async fn in_time<T>(
        &self,
        question: impl Future<Output = Result<T, LeaseError>>,
    ) -> Result<T, LeaseError> {
        let late = |_| LeaseError { detail: "no answer in time".to_owned() };
        timeout(self.timing.renew, question).await.map_err(late)?
    }

    /// How long before it is worth asking for `duty`, as far as the last view shows: nobody is asked for what
    /// somebody has, and after every change all who wait would ask.
    fn until_free(&self, duty: Duty) -> Duration {
        let state = self.state();
        let others = state.live_lease(duty).filter(|(lease, _)| lease.holder != Some(self.me.id));
        others.map_or(Duration::ZERO, |(_, left)| left + SLACK)
    }

    /// The highest epoch of `duty` that the log or another node has told.
    fn learned_epoch(&self, duty: Duty) -> u64 {
        match duty {
            Duty::Partition(partition) => {
                let learned = &self.state().learned[usize::from(partition)];
                learned.as_ref().map_or(0, |owner| owner.epoch)
            }
            Duty::Projections | Duty::Sagas => 0,
        }
    }

    /// Whether what has run out may be taken, were it asked for at `asked`.
    fn is_settled(&self, asked: Instant) -> bool {
        let state = self.state();
        let reached = asked.duration_since(state.viewed) <= self.timing.outage();
        reached && state.contact.is_some_and(|since| asked.duration_since(since) >= self.timing.term)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The live member that should own `partition`.
    fn chosen(&self, partition: Partition) -> Option<&Member> {
        let candidates = || self.view.members.iter().map(|(member, _)| member).filter(|it| it.commands);
        // By address, so that a node that is started again gets what it had.
        let address = rendezvous::choose(candidates().map(|it| it.address.as_str()), partition)?;
        candidates().find(|it| it.address == address)
    }

    fn is_member(&self, address: &str) -> bool {
        self.view.members.iter().any(|(member, _)| member.address == address)
    }

    /// A lease that has not run out, and how long it lasts.
    fn live_lease(&self, duty: Duty) -> Option<(&Lease, Duration)> {
        let lease = self.view.leases.iter().find(|lease| lease.duty == duty && lease.holder.is_some())?;
        let left = lease.left.checked_sub(self.viewed.elapsed()).filter(|left| !left.is_zero())?;
        Some((lease, left))
    }

    /// How often anything was granted here within the last minute.
    fn grants_lately(&mut self, now: Instant) -> usize {
        for grants in self.grants.values_mut() {
            while grants.front().is_some_and(|grant| now.duration_since(*grant) > FLAPPING) {
                grants.pop_front();
            }
        }
        self.grants.values().map(VecDeque::len).sum()
    }

    /// How long to wait before `duty` is asked for.
    fn backoff(&mut self, duty: Duty, now: Instant) -> Duration {
        self.grants_lately(now);
        let lately = self.grants.get(&duty).map_or(0, VecDeque::len);
        match lately.checked_sub(CALM) {
            None => Duration::ZERO,
            Some(more) => {
                BACKOFF.0.saturating_mul(2_u32.saturating_pow(more.try_into().unwrap_or(31))).min(BACKOFF.1)
            }
        }
    }
}

#[async_trait]
impl Coordinator for Leases {
    fn is_shared(&self) -> bool {
        true
    }

    fn desired(&self, partition: Partition) -> watch::Receiver<bool> {
        self.shared.desired[usize::from(partition)].subscribe()
    }

    async fn acquire(&self, duty: Duty, seen: u64) -> Grant {
        let shared = &*self.shared;
        let backoff = shared.state().backoff(duty, Instant::now());
        if !backoff.is_zero() {
            warn!(%duty, "{duty} changes hands too often: it is asked for after {} ms", backoff.as_millis());
            counter!("shopstream_lease_backoffs_total").increment(1);
            sleep(backoff).await;
        }
        let mut moves = self.moves();
        loop {
            moves.borrow_and_update();
            let wait = shared.until_free(duty);
            if wait.is_zero() {
                let asked = Instant::now();
                let (seen, expired) = (seen.max(shared.learned_epoch(duty)), shared.is_settled(asked));
                let acquired = shared.store.acquire(&shared.me, duty, seen, expired, shared.timing.term);
                match shared.in_time(acquired).await {
                    Ok(Some(epoch)) => {
                        let mut state = shared.state();
                        state.grants.entry(duty).or_default().push_back(asked);
                        return state.terms.granted(duty, epoch, asked);
                    }
                    // Somebody has it, or it has run out and this node has not looked for long enough.
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%duty, %error, "not acquired"),
                }
            }
            tokio::select! {
                () = sleep(if wait.is_zero() { AGAIN } else { wait }) => {}
                Ok(()) = moves.changed() => {}
            }
        }
    }

    async fn release(&self, duty: Duty) {
        let shared = &*self.shared;
        shared.state().terms.released(duty);
        if let Err(error) = shared.in_time(shared.store.release(&shared.me, duty)).await {
            warn!(%duty, %error, "{duty} is not given back; its lease runs out by itself");
        }
    }

    fn is_live(&self, duty: Duty) -> bool {
        self.shared.state().terms.is_live(duty, Instant::now())
    }

    fn locate(&self, partition: Partition) -> Option<Location> {
        let shared = &*self.shared;
        let state = shared.state();
        let holder = state.live_lease(Duty::Partition(partition)).map(|(lease, _)| Location {
            epoch: lease.epoch,
            node: lease.node.clone(),
            address: lease.address.clone(),
        });
        let learned = state.learned[usize::from(partition)].clone();
        // Where both name the same epoch, what was learned is about the one who comes next.
        let newest = match (holder, learned) {
            (Some(holder), Some(learned)) if holder.epoch > learned.epoch => Some(holder),
            (holder, learned) => learned.filter(|it| state.is_member(&it.address)).or(holder),
        };
        let epoch = newest.as_ref().map_or(0, |owner| owner.epoch);
        let next = || {
            let next = state.chosen(partition)?;
            Some(Location { epoch, node: next.node.clone(), address: next.address.clone() })
        };
        // A holder that leaves is no member any more, and the owner until it gives its lease back.
        let other = |owner: &Location| owner.address != shared.me.address;
        newest.filter(other).or_else(next).filter(other)
    }

    fn moves(&self) -> watch::Receiver<u64> {
        self.shared.moves.subscribe()
    }

    fn learn(&self, partition: Partition, owner: Location) {
        {
            let mut state = self.shared.state();
            if owner.address == self.shared.me.address {
                state.terms.raise(Duty::Partition(partition), owner.epoch);
            }
            let Some(learned) = state.learned.get_mut(usize::from(partition)) else { return };
            if learned.as_ref().is_some_and(|known| known.epoch > owner.epoch || *known == owner) {
                return;
            }
            *learned = Some(owner);
        }
        self.shared.moves.send_modify(|moves| *moves += 1);
    }

    fn lease(&self, duty: Duty) -> Option<LeaseSeen> {
        let state = self.shared.state();
        let (lease, left) = state.live_lease(duty)?;
        let holder =
            Location { epoch: lease.epoch, node: lease.node.clone(), address: lease.address.clone() };
        Some(LeaseSeen { holder, left })
    }

    async fn leave(&self) {
        let shared = &*self.shared;
        shared.state().leaving = true;
        if let Err(error) = shared.in_time(shared.store.leave(&shared.me)).await {
            warn!(%error, "the others are not told that this node leaves; they will find out");
        }
        // Whoever comes next is known from here on, so that what arrives meanwhile can be sent there.
        shared.state().view.members.retain(|(member, _)| member.id != shared.me.id);
        shared.reconsider();
        shared.hurry.notify_one();
    }
}

#[cfg(test)]
mod tests;
