//! What happened to an order. The payload structs' names are on the log and never reused.

use serde::{Deserialize, Serialize};

use super::Placement;
use crate::aggregate::events;
use crate::{PaymentId, Quantity, ReservationId, ReturnId};

events! {
    /// An event of an [`Order`](super::Order).
    pub enum Event {
        /// Written down, not yet wanted.
        Drafted(OrderDrafted) = 1,
        /// Wanted: the checkout starts here.
        Submitted(OrderSubmitted) = 1,
        /// The customer must act.
        AwaitingPayment(OrderAwaitingPayment) = 1,
        /// Stock and money are secured.
        Confirmed(OrderConfirmed) = 1,
        /// Somebody wants out.
        CancellationRequested(OrderCancellationRequested) = 1,
        /// Ended without a sale.
        Cancelled(OrderCancelled) = 1,
        /// Units came back.
        UnitsReturned(OrderUnitsReturned) = 1,
    }
}

/// An order was written down but not submitted. On the wire it is the [`Placement`] itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderDrafted {
    /// What may be ordered.
    pub placement: Placement,
}

/// An order was submitted. On the wire it is the [`Placement`] itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderSubmitted {
    /// What is ordered.
    pub placement: Placement,
}

/// A payment was declined or wants an action; the hold on the stock goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderAwaitingPayment {
    /// The payment in question.
    pub payment_id: PaymentId,
    /// The provider's word for it.
    pub code: String,
}

/// The order stands: stock committed, payment secured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderConfirmed {
    /// The committed reservation.
    pub reservation_id: ReservationId,
    /// The payments that cover the total.
    pub payments: Vec<PaymentId>,
}

/// Somebody asked to cancel; from here the order can no longer be confirmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderCancellationRequested {
    /// Who asked.
    pub reason: CancelReason,
}

/// The order ended without a sale, everything undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderCancelled {
    /// Why.
    pub reason: CancelReason,
}

/// Units of a confirmed order come back and are to be refunded at the price paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderUnitsReturned {
    /// The return that takes them.
    pub return_id: ReturnId,
    /// Which units.
    pub lines: Vec<ReturnedLine>,
    /// Their price, summed.
    pub refund_minor: i64,
}

/// Units of one line that come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedLine {
    /// The line's place in the order, counted from 0.
    pub line: u32,
    /// How many units.
    pub quantity: Quantity,
}

/// Why an order is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The customer changed their mind.
    Customer,
    /// The shop decided so.
    Staff,
    /// A line could not be reserved (F-02).
    OutOfStock,
    /// The hold was lost while the payment went through (F-13).
    OutOfStockAfterPayment,
    /// The payment was declined for good (F-08).
    PaymentDeclined,
    /// The payment's outcome stayed unknown and it was voided (F-10).
    PaymentUnknown,
    /// The stock did not answer (F-04).
    Timeout,
    /// The customer did not act in time (F-09).
    Expired,
}

impl CancelReason {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Staff => "staff",
            Self::OutOfStock => "out_of_stock",
            Self::OutOfStockAfterPayment => "out_of_stock_after_payment",
            Self::PaymentDeclined => "payment_declined",
            Self::PaymentUnknown => "payment_unknown",
            Self::Timeout => "timeout",
            Self::Expired => "expired",
        }
    }
}
