//! One hold over many stock items: the only place where reservations fan out.
//!
//! The [`Reservation`] decides, the stock items follow (`rulings.md` 19). A fan-out is one batch over all shards,
//! repeated until everybody has answered, and its outcome is one record, not one per item. Its command ids derive
//! from the reservation alone, so checkout, gateway and recovery may all drive the same one without harm.

use futures::StreamExt;
use metrics::counter;
use shopstream_command_handlers::{Origin, Reply};
use shopstream_domain::inventory::{
    Allocation, Decision, ReleaseReason, Reservation, ReservationCommand, ReservationStatus, ShortLine,
    StockCommand, StockEvent, StockKey,
};
use shopstream_domain::{Refused, ReservationId, StreamId, StreamKind, TenantId, model};
use shopstream_eventlog::{CommitRecord, schema};
use tracing::error;

use crate::issue::{Process, Step, Unanswered};
use crate::known::{Known, Reached};
use crate::means::{Means, Stuck};
use crate::process::Rest;

/// How many shortages are looked up at a time.
const LOOK_UPS: usize = 16;

/// Reserves, commits and releases over many stock items. Cheap to clone.
#[derive(Clone)]
pub struct StockFanOut {
    means: Means,
}

/// A wish to hold stock.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldRequest {
    /// Whose shop.
    pub tenant: TenantId,
    /// The reservation; the same again with the same keys is the same wish.
    pub reservation_id: ReservationId,
    /// What to hold, each SKU and location once.
    pub keys: Vec<StockKey>,
    /// How long.
    pub hold_seconds: u32,
    /// How long with all extensions.
    pub hard_max_seconds: u32,
}

/// Why a hold was neither given nor denied.
#[derive(Debug, thiserror::Error)]
pub enum StockError {
    /// A rule forbids the request.
    #[error("{0}")]
    Refused(Refused),
    /// Somebody did not answer in time; what was begun goes on, and the same request asks for its outcome.
    #[error("the stock is not available: {detail}")]
    Unavailable {
        /// Who, and why.
        detail: String,
    },
}

/// A reservation and the process that drives it.
pub(crate) struct Hold {
    pub(crate) process: Process,
    pub(crate) reservation: Known<Reservation>,
    id: ReservationId,
}

impl Hold {
    /// A hold believed to be new.
    pub(crate) fn new(tenant: &TenantId, id: ReservationId) -> Self {
        let stream = id.stream(tenant);
        let process = Process::new(tenant.clone(), "stock", id.as_str(), &stream.correlation());
        Self { process, reservation: Known::empty(stream), id }
    }

    /// The hold of a reservation stream.
    pub(crate) fn of(stream: &StreamId) -> Option<Self> {
        Some(Self::new(&stream.tenant(), ReservationId::new(stream.id()).ok()?))
    }

    pub(crate) fn id(&self) -> &ReservationId {
        &self.id
    }

    pub(crate) fn status(&self) -> ReservationStatus {
        self.reservation.state().status()
    }
}

impl StockFanOut {
    pub(crate) const fn new(means: Means) -> Self {
        Self { means }
    }

    /// Holds all of it or nothing. Asking again gives the same answer. Dropping the future stops nothing.
    ///
    /// # Errors
    /// See [`StockError`].
    pub async fn reserve(&self, request: HoldRequest, origin: &Origin) -> Result<Allocation, StockError> {
        let (this, process) = (self.clone(), origin.clone());
        let mut hold = Hold::new(&request.tenant, request.reservation_id.clone());
        hold.process = hold.process.asked_by(process);
        detached(async move {
            this.request(&mut hold, &request).await?;
            // Also where it was allocated long ago: every command is a repeat then, and gives the old answer.
            let allocation = this.allocate(&mut hold, &request.keys).await?;
            this.follow(&mut hold).await?;
            Ok(allocation)
        })
        .await
    }

    /// Gives everything back that the reservation holds, or ever would; refused where it was sold. Dropping the future stops nothing.
    ///
    /// # Errors
    /// See [`StockError`].
    pub async fn release(
        &self,
        tenant: &TenantId,
        reservation_id: &ReservationId,
        reason: ReleaseReason,
        origin: &Origin,
    ) -> Result<(), StockError> {
        let (this, process) = (self.clone(), origin.clone());
        let mut hold = Hold::new(tenant, reservation_id.clone());
        hold.process = hold.process.asked_by(process);
        detached(async move {
            let released = this.decide(&mut hold, "release", ReservationCommand::Release { reason }).await?;
            released.map_err(|refused| Stuck::Refused { step: "release", refused })?;
            this.follow(&mut hold).await
        })
        .await
    }

    /// Asks for the hold; the shares are still to be allocated.
    pub(crate) async fn request(&self, hold: &mut Hold, request: &HoldRequest) -> Result<(), Stuck> {
        let HoldRequest { reservation_id, keys, hold_seconds, hard_max_seconds, .. } = request.clone();
        let command = ReservationCommand::Request { reservation_id, keys, hold_seconds, hard_max_seconds };
        self.decide(hold, "request", command)
            .await?
            .map_err(|refused| Stuck::Refused { step: "request", refused })
    }

    /// Asks every stock item for its share and records what they answered.
    pub(crate) async fn allocate(&self, hold: &mut Hold, keys: &[StockKey]) -> Result<Allocation, Stuck> {
        let id = &hold.id;
        let answers = self
            .fan_out(&hold.process, "reserve", keys, |key| StockCommand::Reserve {
                reservation_id: id.clone(),
                quantity: key.quantity,
            })
            .await?;
        let short = self.shortages(hold, keys, answers).await?;
        let allocation = if short.is_empty() { Allocation::Held } else { Allocation::Rejected { short } };
        let recorded =
            self.decide(hold, "allocated", ReservationCommand::RecordAllocation(allocation.clone())).await?;
        recorded.map_err(|refused| Stuck::Refused { step: "allocated", refused })?;
        Ok(allocation)
    }

    /// Sells what is held. The refusal is for the caller to branch on: the hold may have ended (F-13).
    pub(crate) async fn commit(&self, hold: &mut Hold) -> Result<Result<(), Refused>, Unanswered> {
        self.decide(hold, "commit", ReservationCommand::Commit).await
    }

    /// Gives the hold up, or what was sold under it: for the checkout that took it.
    pub(crate) async fn give_up(&self, hold: &mut Hold, reason: ReleaseReason) -> Result<(), Stuck> {
        let reversed = self.decide(hold, "reverse", ReservationCommand::Reverse { reason }).await?;
        reversed.map_err(|refused| Stuck::Refused { step: "reverse", refused })
    }

    /// Gives the hold up if its time is over. Refused where the time is not over, which leaves the hold as it is.
    pub(crate) async fn expire(&self, hold: &mut Hold) -> Result<Result<(), Refused>, Unanswered> {
        self.decide(hold, "expire", ReservationCommand::Expire).await
    }

    /// Lets the stock items carry out the reservation's last decision, all of them, and records that they did.
    pub(crate) async fn follow(&self, hold: &mut Hold) -> Result<(), Stuck> {
        if hold.reservation.is_stale() {
            self.means.load(&mut hold.reservation, &Reached::default()).await?;
        }
        let reservation = hold.reservation.state();
        if !reservation.is_unsettled() {
            return Ok(());
        }
        let (decision, step, settled) = match reservation.status() {
            ReservationStatus::Committed => (Decision::Committed, "commit", "committed"),
            ReservationStatus::Rejected => (Decision::Rejected, "release", "rejected"),
            ReservationStatus::Released { .. } => (Decision::Released, "release", "released"),
            ReservationStatus::Missing | ReservationStatus::Requested | ReservationStatus::Held => {
                return Ok(());
            }
        };
        let (id, status) = (&hold.id, reservation.status());
        let answers = self
            .fan_out(&hold.process, step, reservation.keys(), |_| match status {
                ReservationStatus::Committed => StockCommand::Commit { reservation_id: id.clone() },
                ReservationStatus::Released { reason } => {
                    StockCommand::Release { reservation_id: id.clone(), reason }
                }
                _ => StockCommand::Release { reservation_id: id.clone(), reason: ReleaseReason::Rejected },
            })
            .await?;
        if let Some(refused) = answers.into_iter().find_map(Result::err) {
            // A stock item cannot refuse what its reservation decided: the two histories contradict each other.
            error!(reservation = %hold.id, step, %refused, "a stock item does not follow its reservation");
            counter!("shopstream_saga_contradictions_total").increment(1);
            return Err(Stuck::Refused { step, refused });
        }
        let command = ReservationCommand::RecordSettled { decision };
        let step = Step::new(settled, 0);
        let done = self.means.tell(&hold.process, step, &mut hold.reservation, command).await?;
        done.map_err(|refused| Stuck::Refused { step: "settle", refused })
    }

    /// Drives a reservation that has nobody else: after a restart, and when its time is over.
    pub(crate) async fn drive(&self, hold: &mut Hold, reached: &Reached, tries: u32) -> Result<Rest, Stuck> {
        self.means.load(&mut hold.reservation, reached).await?;
        if let Some(cause) = hold.reservation.cause() {
            hold.process = hold.process.clone().because_of(cause);
        }
        let (status, until) = (hold.status(), hold.reservation.state().until());
        match status {
            ReservationStatus::Requested | ReservationStatus::Held if self.means.now() >= until => {
                // Refused: the shard's clock is a little behind, or it was extended and the journal does not show it
                // yet. Either takes a while.
                if self.expire(hold).await?.is_err() {
                    return Ok(Rest::Later { tries: tries + 1 });
                }
            }
            ReservationStatus::Requested => {
                let keys = hold.reservation.state().keys().to_vec();
                self.allocate(hold, &keys).await?;
            }
            ReservationStatus::Held
            | ReservationStatus::Missing
            | ReservationStatus::Rejected
            | ReservationStatus::Committed
            | ReservationStatus::Released { .. } => {}
        }
        self.follow(hold).await?;
        let held = hold.status() == ReservationStatus::Held;
        Ok(if held { Rest::until(hold.reservation.state().until()) } else { Rest::Ended })
    }

    async fn decide(
        &self,
        hold: &mut Hold,
        step: &'static str,
        command: ReservationCommand,
    ) -> Result<Result<(), Refused>, Unanswered> {
        self.means.tell(&hold.process, Step::new(step, 0), &mut hold.reservation, command).await
    }

    /// One command per key, all in one batch; the answers in the order of the keys.
    pub(crate) async fn fan_out(
        &self,
        process: &Process,
        step: &'static str,
        keys: &[StockKey],
        command: impl Fn(&StockKey) -> StockCommand + Send + Sync,
    ) -> Result<Vec<Result<Reply, Refused>>, Unanswered> {
        let envelope = |index: usize| {
            let key: &StockKey = &keys[index];
            let stream = key.sku.stock_stream(&process.tenant, &key.location);
            process.command(Step::new(step, 0).at(index), stream, model::Command::from(command(key)))
        };
        self.means.issuer.send(keys.len(), envelope).await
    }

    /// The keys that were short, with what there was: that is in their events, not in the replies.
    async fn shortages(
        &self,
        hold: &Hold,
        keys: &[StockKey],
        answers: Vec<Result<Reply, Refused>>,
    ) -> Result<Vec<ShortLine>, Stuck> {
        let mut short = Vec::new();
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(reply) if reply.outcome == Some("StockReservationRejected") => short.push((index, reply)),
                // `StockReserved`, or nothing because it is held already.
                Ok(_) => {}
                // The same reservation holds another quantity here: only a reused id can do that.
                Err(refused) => return Err(Stuck::Refused { step: "reserve", refused }),
            }
        }
        let lines = short.into_iter().map(|(index, reply)| async move {
            let key = &keys[index];
            let stream = key.sku.stock_stream(&hold.process.tenant, &key.location);
            let id = hold.process.command_id(Step::new("reserve", 0).at(index));
            let commit = self.means.histories.find(&stream, id, reply.position).await?;
            let StockKey { sku, location, quantity } = key.clone();
            let available = commit.as_ref().and_then(available_in).unwrap_or(0);
            Ok(ShortLine { sku, location, requested: quantity, available })
        });
        futures::stream::iter(lines).buffered(LOOK_UPS).collect::<Vec<_>>().await.into_iter().collect()
    }
}

/// What a rejection says was available.
fn available_in(record: &CommitRecord) -> Option<i64> {
    record.commit.events.iter().find_map(|data| match schema::decode(StreamKind::Stock, data) {
        Ok(model::Event::Stock(StockEvent::ReservationRejected(rejected))) => Some(rejected.available),
        Ok(_) | Err(_) => None,
    })
}

/// Runs on whether or not the caller stays: half a fan-out is worse than one that nobody waits for.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Stuck>> + Send + 'static,
) -> Result<T, StockError> {
    match tokio::spawn(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Stuck::Refused { refused, .. })) => Err(StockError::Refused(refused)),
        Ok(Err(stuck)) => Err(StockError::Unavailable { detail: stuck.to_string() }),
        Err(ended) => Err(StockError::Unavailable { detail: ended.to_string() }),
    }
}
