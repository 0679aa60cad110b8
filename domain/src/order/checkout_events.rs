//! What a checkout learned and decided: ids and outcomes, never lines (those are in the order).
//!
//! A clean checkout writes four of these: [`CheckoutStarted`], [`CheckoutPaymentPending`],
//! [`CheckoutPaymentSecured`], [`CheckoutDone`]. With the ten records of order, reservation and payment that makes
//! the budget of 14. [`CheckoutStockHeld`] and [`CheckoutStockCommitted`] are implied by the reservation's stored
//! replies and are written only where the process pauses between them; all others belong to trouble.

use serde::{Deserialize, Serialize};

use super::CancelReason;
use crate::aggregate::events;
use crate::text::{ACCOUNT, LABEL, REASON};
use crate::{Currency, OrderId, PaymentId, ReservationId, Timestamp};

events! {
    /// An event of a [`Checkout`](super::Checkout).
    pub enum CheckoutEvent {
        /// The process took the order on. Always written.
        Started(CheckoutStarted) = 1,
        /// The reservation holds every line.
        StockHeld(CheckoutStockHeld) = 1,
        /// An attempt to pay begins. Always written: the first record before money is touched.
        PaymentPending(CheckoutPaymentPending) = 1,
        /// The customer must act (F-08, F-09).
        AwaitingCustomer(CheckoutAwaitingCustomer) = 1,
        /// Nobody knows yet whether the payment went through (F-10).
        PaymentUnknown(CheckoutPaymentUnknown) = 1,
        /// The payment covers the total. Always written: the last record before the pivot.
        PaymentSecured(CheckoutPaymentSecured) = 1,
        /// The reservation is committed: no way back but by reversal.
        StockCommitted(CheckoutStockCommitted) = 1,
        /// Confirmed and captured. Always written.
        Done(CheckoutDone) = 1,
        /// Undoing, before the pivot.
        Compensating(CheckoutCompensating) = 1,
        /// Undoing, after the pivot (F-14).
        Reversing(CheckoutReversing) = 1,
        /// Nothing is held any more and the order is cancelled.
        Cancelled(CheckoutCancelled) = 1,
        /// A step keeps failing; an operator must look.
        NeedsAttention(CheckoutNeedsAttention) = 1,
        /// The operator looked: go on where it stopped.
        Resumed(CheckoutResumed) = 1,
        /// The operator saw to what stopped it: go on after that.
        Settled(CheckoutSettled) = 1,
    }
}

/// What a checkout can be told: exactly what it then remembers.
pub type Step = CheckoutEvent;

impl CheckoutEvent {
    /// The step with its texts as they may be on the log. What a process says is not refused: it would say the same again.
    pub(super) fn tidied(&self) -> Self {
        let mut step = self.clone();
        match &mut step {
            Self::AwaitingCustomer(awaiting) => awaiting.code = LABEL.tidy(&awaiting.code).into_owned(),
            Self::NeedsAttention(attention) => {
                attention.step = LABEL.tidy(&attention.step).into_owned();
                attention.detail = ACCOUNT.tidy(&attention.detail).into_owned();
            }
            Self::Resumed(resumed) => {
                resumed.reason = resumed.reason.take().map(|reason| REASON.tidy(&reason).into_owned());
            }
            Self::Settled(settled) => settled.reason = REASON.tidy(&settled.reason).into_owned(),
            Self::Started(_)
            | Self::StockHeld(_)
            | Self::PaymentPending(_)
            | Self::PaymentUnknown(_)
            | Self::PaymentSecured(_)
            | Self::StockCommitted(_)
            | Self::Done(_)
            | Self::Compensating(_)
            | Self::Reversing(_)
            | Self::Cancelled(_) => {}
        }
        step
    }
}

/// The one timer of a checkout. Each event replaces the one before it; an event without a timer stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// What is due.
    pub kind: TimerKind,
    /// When.
    pub due_at: Timestamp,
}

/// What is due when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// The hold on the stock ends.
    Hold,
    /// The customer's time to act ends.
    CustomerAction,
    /// Ask the provider again.
    PaymentCheck,
    /// The authorisation lapses.
    CaptureBefore,
    /// Try the undo again.
    Undo,
}

/// Something that a compensation or reversal takes back, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "undo")]
pub enum Undo {
    /// Give the stock back: the hold, or after the pivot the committed units.
    ReleaseStock,
    /// Let the authorisation go.
    VoidPayment {
        /// Of this payment.
        payment_id: PaymentId,
    },
    /// Give the money back.
    RefundPayment {
        /// Of this payment.
        payment_id: PaymentId,
        /// How much.
        amount_minor: i64,
    },
}

/// The process took the order on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutStarted {
    /// The order.
    pub order_id: OrderId,
    /// The reservation that is to hold its stock.
    pub reservation_id: ReservationId,
    /// What has to be paid.
    pub total_minor: i64,
    /// Its currency.
    pub currency: Currency,
    /// How to pay.
    pub payment_method_token: String,
    /// Until when the stock is to be held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Timestamp>,
    /// What wakes the process if nothing else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// The reservation holds every line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutStockHeld {
    /// When the hold ends.
    pub until: Timestamp,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// An attempt to pay begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutPaymentPending {
    /// The payment of this attempt.
    pub payment_id: PaymentId,
    /// Counted from 1.
    pub attempt: u32,
    /// The method of this attempt, where the customer named another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method_token: Option<String>,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// The payment was declined or wants an action, and the customer may still act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutAwaitingCustomer {
    /// The payment in question.
    pub payment_id: PaymentId,
    /// The provider's word for it.
    pub code: String,
    /// How long the customer has.
    pub until: Timestamp,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// Nobody knows yet whether the payment went through: no new key, no release, no second charge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutPaymentUnknown {
    /// The payment in question.
    pub payment_id: PaymentId,
    /// When the provider is asked again.
    pub check_at: Timestamp,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// The payment covers the total.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutPaymentSecured {
    /// The payment.
    pub payment_id: PaymentId,
    /// The authorised amount.
    pub amount_minor: i64,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// The reservation is committed: the pivot is behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutStockCommitted {
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// The order is confirmed and its money captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutDone {}

/// Undoing before the pivot. Written again when what is left to undo changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutCompensating {
    /// Why.
    pub reason: CancelReason,
    /// What is left to undo, first things first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Undo>,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// Undoing after the pivot. Written again when what is left to undo changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutReversing {
    /// Why.
    pub reason: CancelReason,
    /// What is left to undo, first things first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Undo>,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// Nothing is held any more and the order is cancelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutCancelled {
    /// Why.
    pub reason: CancelReason,
}

/// A step keeps failing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutNeedsAttention {
    /// The step, in the process's own word.
    pub step: String,
    /// What was seen, for the operator.
    pub detail: String,
}

/// The operator looked: the process goes on at the stage where it stopped. Who it was is in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutResumed {
    /// What the operator found or did; absent where nobody said so, as before it could be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// See [`Timer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
}

/// The operator saw to what stopped the process, by hand: it goes on at the stage where it stopped, and takes this as
/// done. Who it was is in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckoutSettled {
    /// Money that was to be taken counts as taken, money that was to be let go or given back as gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub money: bool,
    /// The stock items count as having followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stock: bool,
    /// What the operator found or did.
    pub reason: String,
}
