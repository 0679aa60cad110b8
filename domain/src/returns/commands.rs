//! What somebody wants of a return.

use serde::{Deserialize, Serialize};

use super::ReturnLine;
use crate::{Currency, OrderId, PaymentId, ReservationId, ReturnId};

/// A command for a [`Return`](super::Return).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// These units come back.
    Request(ReturnRequest),
    /// Their price went back to the customer (return process).
    RecordRefunded {
        /// How much.
        amount_minor: i64,
    },
    /// They are on the shelf again (return process).
    RecordRestocked,
    /// They cannot come back (return process).
    Refuse {
        /// The reason of whoever refused, such as the order's `RETURN_EXCEEDS_ORDER`.
        reason: String,
    },
    /// A step keeps failing (return process).
    RecordNeedsAttention {
        /// The step, in the process's own word.
        step: String,
        /// What was seen, for the operator.
        detail: String,
    },
    /// Go on where you stopped (operator).
    Resume {
        /// What the operator found or did.
        reason: String,
    },
    /// Go on where you stopped, and take this as done by hand (operator).
    Settle {
        /// What had to go back to the customer.
        money: bool,
        /// What had to go back on the shelf.
        stock: bool,
        /// What the operator found or did.
        reason: String,
    },
}

/// Which units of which order come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnRequest {
    /// The return.
    pub return_id: ReturnId,
    /// The order they were sold in.
    pub order_id: OrderId,
    /// The payment that gives the money back.
    pub payment_id: PaymentId,
    /// The reservation that takes the units back.
    pub reservation_id: ReservationId,
    /// The currency of every amount in here.
    pub currency: Currency,
    /// The units.
    pub lines: Vec<ReturnLine>,
}
