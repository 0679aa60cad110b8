//! What a checkout does next: one pure function of everything it knows.

use shopstream_domain::inventory::{ReleaseReason, ReservationStatus};
use shopstream_domain::order::{CancelReason, OrderStatus, Stage};
use shopstream_domain::payment::{Operation, PaymentStatus};
use shopstream_domain::{Timestamp, inventory};

use super::view::{Attempt, View};
use crate::Settings;
use crate::process::Rest;

/// The next move of a checkout.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move {
    /// Remember that it began, and ask for the hold.
    Start,
    /// Ask every stock item.
    Allocate,
    /// Begin the attempt that runs, or the first.
    Pay,
    /// The customer has begun another attempt.
    Adopt,
    /// Let the provider do what is open on this attempt.
    CarryOut(Which),
    /// The customer must act.
    AwaitCustomer,
    /// Nobody knows whether there is money: note when to ask again.
    NoteUnknown,
    /// Ask the provider again, holding the stock on.
    AskAgain,
    /// Remember that the money is promised, and commit the stock: the pivot.
    Secure,
    /// The hold ran out.
    Expire,
    /// Take another hold in place of the one that ran out.
    HoldAgain,
    /// Let the stock items follow the reservation.
    Follow(Which),
    /// Confirm the order.
    Confirm,
    /// Take the money.
    Capture,
    /// All is done.
    Finish,
    /// Begin to undo.
    Undo(CancelReason),
    /// Let the promise of money go.
    Void(Which),
    /// Give the money back.
    Refund(Which),
    /// Have the rest of a promise never taken, of which a part was.
    GiveUpRest(Which),
    /// The money that came after a decline is what the order waits for.
    AcceptLate,
    /// A person saw to it that the money was taken.
    SettleCapture,
    /// A person saw to it that no money is held or owed.
    Settle(Which),
    /// Give the stock back.
    GiveUp(ReleaseReason),
    /// Tell the order that it is over.
    CancelOrder(CancelReason),
    /// All is undone.
    FinishUndo(CancelReason),
    /// An operator must look.
    Attention {
        /// At what.
        step: &'static str,
    },
    /// Nothing now.
    Rest(Rest),
}

/// One of two: the payment that runs or another attempt; the first hold or the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that runs; the first.
    This,
    /// The other one.
    Next,
}

/// Plans one move. See the table of [`super`].
pub(super) fn next(view: &View, settings: &Settings, now: Timestamp) -> Move {
    let plan = Plan { view, settings, now };
    let Some(stage) = view.memory.state().stage() else { return Move::Start };
    match stage {
        Stage::Started
        | Stage::StockHeld
        | Stage::PaymentPending
        | Stage::AwaitingCustomer
        | Stage::PaymentUnknown
        | Stage::PaymentSecured
        | Stage::StockCommitted => plan.forward(stage),
        Stage::Done => match plan.cancellation() {
            Some(reason) if view.order.state().status() != Some(OrderStatus::Cancelled) => Move::Undo(reason),
            // Paid by this attempt: what another one came to hold since goes back.
            _ if view.next_payment.holds_money() && view.memory.state().money_settled().is_some() => {
                Move::Settle(Which::Next)
            }
            _ if view.next_payment.holds_money() => plan.give_money_back(Which::Next, &view.next_payment),
            Some(_) | None => Move::Rest(Rest::Ended),
        },
        Stage::Compensating | Stage::Reversing => plan.backward(),
        // F-11: money came for an order that had ended.
        Stage::Cancelled if view.payment.holds_money() || view.next_payment.holds_money() => {
            Move::Undo(view.memory.state().reason().unwrap_or(CancelReason::PaymentUnknown))
        }
        Stage::Cancelled => Move::Rest(Rest::Ended),
        // What was sold is given back though a person is still to look at something beside it.
        Stage::NeedsAttention if view.memory.state().interrupted() == Some(Stage::Done) => {
            plan.cancellation().map_or(Move::Rest(Rest::Waiting), Move::Undo)
        }
        Stage::NeedsAttention => Move::Rest(Rest::Waiting),
    }
}

struct Plan<'a> {
    view: &'a View,
    settings: &'a Settings,
    now: Timestamp,
}

impl Plan<'_> {
    fn forward(&self, stage: Stage) -> Move {
        let held_again = self.view.again.is_some();
        if let Some(settled) = self.seen_to() {
            return settled;
        }
        if let Some(reason) = self.cancellation() {
            return self.cancel(stage, reason);
        }
        match self.view.hold().status() {
            ReservationStatus::Requested | ReservationStatus::Held if !self.view.holds_what_it_wants() => {
                Move::Undo(CancelReason::OutOfStock)
            }
            ReservationStatus::Missing if held_again => Move::HoldAgain,
            ReservationStatus::Missing if self.wants_too_much() => Move::Undo(CancelReason::OutOfStock),
            ReservationStatus::Missing => Move::Start,
            ReservationStatus::Requested => Move::Allocate,
            ReservationStatus::Held if self.view.is_covered() => self.pivot(stage),
            ReservationStatus::Held => self.pay(stage),
            ReservationStatus::Committed if !is_secured(stage) => Move::Secure,
            ReservationStatus::Committed => self.past_the_pivot(),
            ReservationStatus::Rejected if held_again => Move::Undo(CancelReason::OutOfStockAfterPayment),
            ReservationStatus::Rejected => Move::Undo(CancelReason::OutOfStock),
            ReservationStatus::Released { reason } => self.lost_hold(reason),
        }
    }

    /// What follows from a person's having seen to money or stock before the pivot: no sale can stand on that, so all
    /// else is undone. After the pivot it is a step that need not be taken.
    fn seen_to(&self) -> Option<Move> {
        if self.view.hold().status() == ReservationStatus::Committed {
            return None;
        }
        let memory = self.view.memory.state();
        if memory.money_settled().is_some() && self.view.payment.holds_money() {
            return Some(Move::Settle(Which::This));
        }
        let seen_to = memory.money_settled().or_else(|| memory.stock_settled());
        seen_to.map(|_| Move::Undo(self.cancellation().unwrap_or(CancelReason::Staff)))
    }

    /// F-14. What is under way at the provider ends first; after the pivot the undo is a reversal.
    fn cancel(&self, stage: Stage, reason: CancelReason) -> Move {
        let committed = self.view.hold().status() == ReservationStatus::Committed;
        match self.open() {
            Some(open) if !open.is_unknown() => self.carry_out(Which::This),
            _ if committed && !is_secured(stage) => Move::Secure,
            _ => Move::Undo(reason),
        }
    }

    /// The hold is there, the money is not.
    fn pay(&self, stage: Stage) -> Move {
        match self.view.payment.status() {
            None if self.now >= self.view.until() => Move::Undo(CancelReason::Expired),
            None => Move::Pay,
            Some(PaymentStatus::Authorizing) => self.carry_out(Which::This),
            Some(PaymentStatus::OutcomeUnknown) => self.unknown(stage),
            Some(PaymentStatus::Declined) => self.declined(stage),
            // It was declined, the customer was asked to pay otherwise, and now it came after all.
            Some(PaymentStatus::SucceededLate)
                if !self.view.payment.payment.state().is_given_up() && self.now < self.view.until() =>
            {
                Move::AcceptLate
            }
            Some(PaymentStatus::SucceededLate) if self.now >= self.view.until() => {
                Move::Undo(CancelReason::Expired)
            }
            Some(
                PaymentStatus::Voided
                | PaymentStatus::Refunded
                | PaymentStatus::PartiallyRefunded
                | PaymentStatus::SucceededLate,
            ) => Move::Undo(CancelReason::PaymentDeclined),
            Some(PaymentStatus::Authorized | PaymentStatus::PartiallyCaptured | PaymentStatus::Captured) => {
                self.pivot(stage)
            }
        }
    }

    /// F-08. The customer may try again while the hold lasts.
    fn declined(&self, stage: Stage) -> Move {
        let (_, retryable) = self.view.payment.decline();
        let other = &self.view.next_payment;
        let more = self.view.payment.number < self.settings.attempts_max && self.now < self.view.until();
        match stage {
            Stage::AwaitingCustomer if self.view.following.is_some() => Move::Adopt,
            Stage::AwaitingCustomer if other.holds_money() => self.give_money_back(Which::Next, other),
            Stage::AwaitingCustomer if self.now < self.view.until() => {
                Move::Rest(Rest::until(self.view.until()))
            }
            // The customer did not pay in time.
            Stage::AwaitingCustomer => Move::Undo(CancelReason::Expired),
            _ if retryable && more => Move::AwaitCustomer,
            _ => Move::Undo(CancelReason::PaymentDeclined),
        }
    }

    /// F-10. No new key, no release, no second charge: ask, ever more rarely, while the stock can be held.
    fn unknown(&self, stage: Stage) -> Move {
        let check_at = self.view.memory.state().timer().map(|timer| timer.due_at);
        match (stage, check_at) {
            (Stage::PaymentUnknown, Some(at)) if self.now < at => {
                Move::Rest(Rest::Until { at, tries: self.view.tries })
            }
            (Stage::PaymentUnknown, _) => Move::AskAgain,
            _ => Move::NoteUnknown,
        }
    }

    /// Both are there. F-13: unless the hold ran out before the stock was committed.
    fn pivot(&self, stage: Stage) -> Move {
        match stage {
            Stage::PaymentSecured if self.now >= self.view.until() => Move::Expire,
            _ => Move::Secure,
        }
    }

    /// Somebody or the clock took the hold away.
    fn lost_hold(&self, reason: ReleaseReason) -> Move {
        let secured = self.view.is_covered();
        match reason {
            _ if self.view.reservation().is_unsettled() => self.follow(),
            ReleaseReason::Expired if secured && self.view.again.is_none() => Move::HoldAgain,
            _ if secured => Move::Undo(CancelReason::OutOfStockAfterPayment),
            ReleaseReason::Expired => Move::Undo(CancelReason::Expired),
            ReleaseReason::Cancelled
            | ReleaseReason::Rejected
            | ReleaseReason::Timeout
            | ReleaseReason::PaymentDeclined
            | ReleaseReason::Reversed
            | ReleaseReason::Requested => Move::Undo(CancelReason::OutOfStock),
        }
    }

    /// From here on forward only: settle, confirm, capture.
    fn past_the_pivot(&self) -> Move {
        let memory = self.view.memory.state();
        if self.view.reservation().is_unsettled() && memory.stock_settled().is_none() {
            return self.follow();
        }
        if self.view.order.state().status() != Some(OrderStatus::Confirmed) {
            return Move::Confirm;
        }
        let captured = self.view.payment.payment.state().captured_minor();
        if memory.money_settled().is_some() && captured < self.view.total_minor() {
            return Move::SettleCapture;
        }
        match self.open() {
            Some(_) => self.carry_out(Which::This),
            None if self.view.setback.is_some() => self.later("capture"),
            None if captured < self.view.total_minor() => Move::Capture,
            // Before the end is recorded: a restart takes up only what has not ended.
            None if self.view.next_payment.holds_money() => {
                self.give_money_back(Which::Next, &self.view.next_payment)
            }
            None => Move::Finish,
        }
    }

    /// Undoes what is there, the last thing first: money, then stock, then the order.
    fn backward(&self) -> Move {
        let reason = self.view.memory.state().reason().unwrap_or(CancelReason::Customer);
        let status = self.view.hold().status();
        let holds = matches!(status, ReservationStatus::Requested | ReservationStatus::Held)
            && self.view.holds_what_it_wants();
        let memory = self.view.memory.state();
        let stock_settled = memory.stock_settled().is_some();
        // Stock whose time is over does not wait for money.
        if holds && !stock_settled && self.now >= self.view.until() {
            return Move::GiveUp(release_reason(reason));
        }
        let mut attempts = [(Which::Next, &self.view.next_payment), (Which::This, &self.view.payment)];
        // What was taken goes back first: a promise that the provider does not let go must not hold it up.
        attempts.sort_by_key(|(_, attempt)| !attempt.owes());
        for (which, attempt) in attempts {
            if attempt.holds_money() && memory.money_settled().is_some() {
                return Move::Settle(which);
            }
            if attempt.holds_money() {
                return self.give_money_back(which, attempt);
            }
            let payment = attempt.payment.state();
            if payment.captured_minor() < payment.authorized_minor() && !payment.is_given_up() {
                return Move::GiveUpRest(which);
            }
        }
        match status {
            _ if stock_settled => {}
            // Somebody else's.
            ReservationStatus::Requested | ReservationStatus::Held if !self.view.holds_what_it_wants() => {}
            ReservationStatus::Missing | ReservationStatus::Requested | ReservationStatus::Held => {
                return Move::GiveUp(release_reason(reason));
            }
            ReservationStatus::Committed => return Move::GiveUp(ReleaseReason::Reversed),
            ReservationStatus::Rejected | ReservationStatus::Released { .. } => {}
        }
        // The customer need not wait until every stock item has heard of it.
        if self.view.order.state().status() != Some(OrderStatus::Cancelled) {
            return Move::CancelOrder(reason);
        }
        let unsettled = |hold: &inventory::Reservation| hold.is_unsettled() && !stock_settled;
        if unsettled(self.view.first.reservation.state()) {
            return Move::Follow(Which::This);
        }
        if self.view.again.as_ref().is_some_and(|hold| unsettled(hold.reservation.state())) {
            return Move::Follow(Which::Next);
        }
        Move::FinishUndo(reason)
    }

    fn give_money_back(&self, which: Which, attempt: &Attempt) -> Move {
        if self.view.setback.is_some() {
            return self.later("give_money_back");
        }
        let payment = attempt.payment.state();
        let unknown_authorization = attempt.status() == Some(PaymentStatus::OutcomeUnknown);
        match payment.open_operation() {
            // A void goes after it: then at least that answer will settle it. Where the void failed, as one of something
            // that was never authorised does, the provider is asked what there is.
            Some(open)
                if unknown_authorization && attempt_is_open(attempt, open) && !payment.is_given_up() =>
            {
                Move::Void(which)
            }
            Some(_) => Move::CarryOut(which),
            None if attempt.owes() => Move::Refund(which),
            None => Move::Void(which),
        }
    }

    fn carry_out(&self, which: Which) -> Move {
        if self.view.setback.is_some() { self.later("provider") } else { Move::CarryOut(which) }
    }

    /// Not again at once; and after so many tries an operator must look.
    fn later(&self, step: &'static str) -> Move {
        if self.view.tries >= self.settings.tries_max {
            return Move::Attention { step };
        }
        Move::Rest(Rest::Later { tries: self.view.tries + 1 })
    }

    /// More units of one key than any stock can have.
    fn wants_too_much(&self) -> bool {
        self.view.demand.as_ref().is_none_or(|demand| demand.keys.is_none())
    }

    fn follow(&self) -> Move {
        Move::Follow(if self.view.again.is_some() { Which::Next } else { Which::This })
    }

    fn open(&self) -> Option<&Operation> {
        self.view.payment.payment.state().open_operation()
    }

    fn cancellation(&self) -> Option<CancelReason> {
        self.view.order.state().cancellation()
    }
}

fn is_secured(stage: Stage) -> bool {
    matches!(stage, Stage::PaymentSecured | Stage::StockCommitted)
}

/// Whether what is open on the attempt is its authorisation.
fn attempt_is_open(attempt: &Attempt, open: &Operation) -> bool {
    attempt.payment.state().authorization_key() == Some(&open.key)
}

/// What the stock is told of why the order ends.
pub(super) fn release_reason(reason: CancelReason) -> ReleaseReason {
    match reason {
        CancelReason::Customer | CancelReason::Staff => ReleaseReason::Cancelled,
        CancelReason::OutOfStock => ReleaseReason::Rejected,
        CancelReason::PaymentDeclined | CancelReason::PaymentUnknown => ReleaseReason::PaymentDeclined,
        CancelReason::Timeout => ReleaseReason::Timeout,
        CancelReason::OutOfStockAfterPayment | CancelReason::Expired => ReleaseReason::Expired,
    }
}
