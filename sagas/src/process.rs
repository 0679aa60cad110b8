//! One process: woken, it takes steps until it ends or rests.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use metrics::counter;
use shopstream_domain::{StreamId, StreamKind, Timestamp};
use shopstream_eventlog::CommitRecord;
use tracing::{error, info, warn};

use crate::checkout::Checkouts;
use crate::checkpoint::Receipts;
use crate::known::Reached;
use crate::means::{Means, Stuck};
use crate::payments::Payments;
use crate::ports::{Obstacle, PaymentProvider, SagaStore};
use crate::returns::Returns;
use crate::stock::{Hold, StockFanOut};

/// What became of a process when it stopped running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It has ended.
    Ended,
    /// Only a fact wakes it.
    Waiting,
    /// A time wakes it, or a fact.
    Until { at: Timestamp, tries: u32 },
    /// It could not go on; it is tried again after a while that grows with the tries.
    Later { tries: u32 },
    /// An event of its streams cannot be read. It takes no step before that is mended: see [`Obstacle`].
    Parked(Box<Obstacle>),
}

impl Rest {
    /// Until `at`, having tried nothing.
    pub(crate) const fn until(at: Timestamp) -> Self {
        Self::Until { at, tries: 0 }
    }
}

/// Why a process runs.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// The commit that begins it; else it is known from its streams.
    pub(crate) begun_by: Option<CommitRecord>,
    /// What its history has to show at least.
    pub(crate) reached: Reached,
    /// How often it has tried in vain.
    pub(crate) tries: u32,
    /// Who waits for it to be safe.
    pub(crate) receipts: Receipts,
    /// Whether it is parked, as far as is known.
    pub(crate) was_parked: bool,
}

impl Wake {
    pub(crate) fn add(&mut self, other: Self) {
        self.begun_by = self.begun_by.take().or(other.begun_by);
        self.reached.see_all(&other.reached);
        self.receipts.add(other.receipts);
    }
}

/// The kinds of processes.
pub(crate) struct Processes {
    pub(crate) means: Means,
    checkouts: Checkouts,
    returns: Returns,
    stock: StockFanOut,
    payments: Payments,
    store: Arc<dyn SagaStore>,
}

impl Processes {
    pub(crate) fn new(means: Means, provider: Arc<dyn PaymentProvider>, store: Arc<dyn SagaStore>) -> Self {
        let stock = StockFanOut::new(means.clone());
        let payments = Payments::new(means.clone(), provider);
        Self {
            checkouts: Checkouts { means: means.clone(), stock: stock.clone(), payments: payments.clone() },
            returns: Returns { means: means.clone(), stock: stock.clone(), payments: payments.clone() },
            stock,
            payments,
            means,
            store,
        }
    }

    /// The fan-out over stock items, for callers outside.
    pub(crate) fn stock(&self) -> StockFanOut {
        self.stock.clone()
    }

    /// Those whose wait for a payment is over. Cancel-safe.
    pub(crate) async fn woken(&self) -> BTreeSet<StreamId> {
        self.payments.woken().await
    }

    /// Runs the process of `stream` until it rests.
    pub(crate) async fn run(self: Arc<Self>, stream: StreamId, mut wake: Wake) -> Ran {
        let driven = AssertUnwindSafe(self.drive(&stream, &mut wake)).catch_unwind().await;
        let Ok(rest) = driven else {
            // A bug. Running it again would only meet it again; the others go on.
            error!(%stream, "quarantined: the process of {stream} takes no steps until the bug is mended");
            counter!("shopstream_saga_quarantined_total").increment(1);
            let is_parked = wake.was_parked;
            return Ran { stream, wake, rest: Rest::Waiting, is_parked };
        };
        let (rest, is_parked) = self.note(&stream, &wake, rest).await;
        Ran { stream, wake, rest, is_parked }
    }

    /// Writes down whether the process is parked, before anybody relies on it; answers how it rests then, and whether it
    /// is.
    async fn note(&self, stream: &StreamId, wake: &Wake, rest: Rest) -> (Rest, bool) {
        let noted = match &rest {
            Rest::Parked(obstacle) => {
                error!(%stream, %obstacle, "parked: the process of {stream} takes no steps: {obstacle}");
                self.store.park(stream, obstacle).await
            }
            // Nothing was seen that says otherwise.
            Rest::Later { .. } => return (rest, wake.was_parked),
            Rest::Ended | Rest::Waiting | Rest::Until { .. } if wake.was_parked => {
                info!(%stream, "the process of {stream} goes on");
                self.store.free(stream).await
            }
            Rest::Ended | Rest::Waiting | Rest::Until { .. } => Ok(()),
        };
        match noted {
            Ok(()) => {
                let is_parked = matches!(rest, Rest::Parked(_));
                (rest, is_parked)
            }
            Err(error) => {
                warn!(%stream, %error, "whether {stream} is parked is not written down; trying again");
                (Rest::Later { tries: wake.tries + 1 }, wake.was_parked)
            }
        }
    }

    async fn drive(&self, stream: &StreamId, wake: &mut Wake) -> Rest {
        // What woke these is on their own stream, which brings them back. A checkout has yet to write on its own.
        if stream.kind() != StreamKind::Checkout {
            wake.receipts.confirm();
        }
        let driven = match stream.kind() {
            StreamKind::Checkout => Ok(Box::pin(self.checkouts.drive(stream, wake)).await),
            StreamKind::Return => Ok(Box::pin(self.returns.drive(stream, wake)).await),
            StreamKind::Payment => Box::pin(self.payments.drive(stream, &wake.reached, wake.tries)).await,
            StreamKind::Reservation => match Hold::of(stream) {
                Some(mut hold) => Box::pin(self.stock.drive(&mut hold, &wake.reached, wake.tries)).await,
                None => Ok(Rest::Ended),
            },
            StreamKind::Product
            | StreamKind::Sku
            | StreamKind::Price
            | StreamKind::Stock
            | StreamKind::Order
            | StreamKind::Request => Ok(Rest::Ended),
        };
        driven.unwrap_or_else(|stuck| {
            if let Stuck::Unreadable(obstacle) = stuck {
                return Rest::Parked(Box::new(obstacle));
            }
            warn!(%stream, %stuck, "{stream} pauses: {stuck}");
            Rest::Later { tries: wake.tries + 1 }
        })
    }
}

/// A process that has come to rest.
pub(crate) struct Ran {
    pub(crate) stream: StreamId,
    pub(crate) wake: Wake,
    pub(crate) rest: Rest,
    pub(crate) is_parked: bool,
}
