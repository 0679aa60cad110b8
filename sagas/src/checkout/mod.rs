//! The checkout: from a submitted order to a confirmed one, or to a cancelled one with everything undone.
//!
//! | step | command → fact | its undo |
//! |---|---|---|
//! | begin | → `CheckoutStarted` | – |
//! | hold the stock | request, allocate → `ReservationHeld` | release, and the items follow |
//! | promise of money | initiate, authorise → `PaymentAuthorized` | void |
//! | **pivot** | commit the reservation → `ReservationCommitted` | release of what was sold (reversal) |
//! | confirm | → `OrderConfirmed` | – |
//! | take the money | capture → `PaymentCaptured` | refund |
//! | end | → `CheckoutDone` | reopened by a cancellation (F-14) |
//!
//! What goes wrong: short stock cancels (F-02); stock that does not answer is released first, then cancels (F-04);
//! a decline cancels or waits for the customer (F-08), whose time ends with the hold, and money that comes after all
//! in that time is taken; an unknown outcome is asked about while the stock can be
//! held, then voided (F-10); a hold that ran out under a secured payment is taken once more, else all is undone
//! (F-13); a cancellation undoes from wherever it is (F-14). What cannot be undone waits for an operator.
//!
//! [`plan`] says what comes next, a pure function of the streams ([`view`]); [`perform`] does it; here they take
//! turns. A checkout goes on from the replies to its own commands, so a crash anywhere is only a pause: the next
//! run reads the streams and plans the same.

mod perform;
mod plan;
mod view;

use metrics::counter;
use shopstream_domain::order::{CancelReason, Stage};
use shopstream_domain::{OrderId, StreamId};
use tracing::{error, warn};

use self::plan::Move;
use self::view::View;
use crate::means::{Means, Stuck};
use crate::payments::Payments;
use crate::process::{Rest, Wake};
use crate::stock::StockFanOut;

/// More moves than any checkout makes without a rest. Beyond it the plan runs in circles, which is a bug.
const MOVES_MAX: usize = 100;

/// Drives checkouts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Checkouts {
    pub(crate) means: Means,
    pub(crate) stock: StockFanOut,
    pub(crate) payments: Payments,
}

impl Checkouts {
    /// Drives one checkout until it ends or has to wait.
    pub(crate) async fn drive(&self, stream: &StreamId, wake: &mut Wake) -> Rest {
        let Some(order_id) = OrderId::of_checkout(stream.id()) else {
            error!(%stream, "a checkout without an order");
            return Rest::Ended;
        };
        let mut view = View::new(&stream.tenant(), order_id);
        view.tries = wake.tries;
        let known = match &wake.begun_by {
            Some(record) => view.submitted(record),
            None => view.load(&self.means, &wake.reached).await,
        };
        match known {
            Ok(()) => self.take_turns(&mut view, wake).await,
            Err(stuck) => later(&view, stuck),
        }
    }

    async fn take_turns(&self, view: &mut View, wake: &mut Wake) -> Rest {
        for _ in 0..MOVES_MAX {
            if view.is_stale()
                && let Err(stuck) = view.load(&self.means, &wake.reached).await
            {
                return later(view, stuck);
            }
            let planned = plan::next(view, &self.means.settings, self.means.now());
            match Box::pin(self.perform(view, &planned)).await {
                Ok(Some(rest)) => return rest,
                Ok(None) => {
                    count(&planned);
                    wake.receipts.confirm();
                }
                Err(stuck) => match self.on_stuck(view, &planned, stuck).await {
                    Some(rest) => return rest,
                    None => wake.receipts.confirm(),
                },
            }
        }
        // Somebody who asks for one thing after another on its payment can keep it busy, and that passes.
        if wake.tries < self.means.settings.tries_max {
            warn!(order = %view.order_id, "the checkout of {} pauses: it found no rest", view.order_id);
            return Rest::Later { tries: wake.tries + 1 };
        }
        view.setback = Some("it makes more moves than any checkout should".to_owned());
        match self.call_for_attention(view, "plan").await {
            Ok(()) => Rest::Waiting,
            Err(stuck) => later(view, stuck),
        }
    }

    /// A move found no answer, or one that cannot be. `None`: something else was recorded, and that goes on.
    async fn on_stuck(&self, view: &mut View, planned: &Move, stuck: Stuck) -> Option<Rest> {
        // F-04: the stock did not answer. Recorded before anything else is done about it.
        if matches!((planned, &stuck), (Move::Allocate, Stuck::Unanswered(_)))
            && view.memory.state().stage().is_some_and(|stage| stage != Stage::PaymentSecured)
        {
            warn!(order = %view.order_id, %stuck, "no stock for {}: {stuck}", view.order_id);
            return match self.undo(view, CancelReason::Timeout).await {
                Ok(()) => None,
                Err(stuck) => Some(later(view, stuck)),
            };
        }
        let may_pass = matches!(stuck, Stuck::Unreadable(_)) || stuck.passes();
        let tries_left = view.tries < self.means.settings.tries_max;
        if may_pass || tries_left || view.memory.state().stage().is_none() {
            return Some(later(view, stuck));
        }
        view.setback = Some(stuck.to_string());
        match self.call_for_attention(view, &format!("{planned:?}")).await {
            Ok(()) => Some(Rest::Waiting),
            Err(stuck) => Some(later(view, stuck)),
        }
    }
}

/// Not now; the streams are read again then.
fn later(view: &View, stuck: Stuck) -> Rest {
    if let Stuck::Unreadable(obstacle) = stuck {
        return Rest::Parked(Box::new(obstacle));
    }
    warn!(order = %view.order_id, %stuck, "the checkout of {} pauses: {stuck}", view.order_id);
    Rest::Later { tries: view.tries + 1 }
}

fn count(planned: &Move) {
    let outcome = match planned {
        Move::Start => return counter!("shopstream_saga_started_total", "saga" => "checkout").increment(1),
        Move::Finish => "done",
        Move::FinishUndo(reason) => reason.name(),
        _ => return,
    };
    counter!("shopstream_saga_finished_total", "saga" => "checkout", "outcome" => outcome).increment(1);
}
