//! What happened to a return. The payload structs' names are on the log and never reused.

use serde::{Deserialize, Serialize};

use super::ReturnRequest;
use crate::aggregate::events;
use crate::{LocationId, Quantity, Sku};

events! {
    /// An event of a [`Return`](super::Return).
    pub enum Event {
        /// Units are to come back.
        Requested(ReturnRequested) = 1,
        /// Their price went back.
        Refunded(ReturnRefunded) = 1,
        /// They are on the shelf again.
        Restocked(ReturnRestocked) = 1,
        /// Both are done.
        Resolved(ReturnResolved) = 1,
        /// They do not come back.
        Refused(ReturnRefused) = 1,
        /// A step keeps failing; an operator must look.
        NeedsAttention(ReturnNeedsAttention) = 1,
        /// The operator looked: go on.
        Resumed(ReturnResumed) = 1,
        /// The operator saw to what stopped it: go on after that.
        Settled(ReturnSettled) = 1,
    }
}

/// Units of an order are to come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnRequested {
    /// Which units of which order.
    #[serde(flatten)]
    pub request: ReturnRequest,
    /// Their price, summed.
    pub refund_minor: i64,
}

/// Units of one order line that come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnLine {
    /// The line's place in the order, counted from 0.
    pub line: u32,
    /// What.
    pub sku: Sku,
    /// Where it goes back to; `main` is left out of the payload.
    #[serde(default = "LocationId::main", skip_serializing_if = "is_main")]
    pub location: LocationId,
    /// How many units.
    pub quantity: Quantity,
    /// The price paid for one.
    pub unit_price_minor: i64,
}

fn is_main(location: &LocationId) -> bool {
    location.as_str() == "main"
}

/// The price of the units went back to the customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnRefunded {
    /// How much.
    pub amount_minor: i64,
}

/// The units are on the shelf again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnRestocked {}

/// Refunded and restocked: nothing is left to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnResolved {}

/// The units do not come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnRefused {
    /// The reason of whoever refused.
    pub reason: String,
}

/// A step keeps failing: nothing is tried any more until an operator has looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnNeedsAttention {
    /// The step, in the process's own word.
    pub step: String,
    /// What was seen, for the operator.
    pub detail: String,
}

/// The operator looked: the process goes on. Who it was is in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnResumed {
    /// What the operator found or did.
    pub reason: String,
}

/// The operator saw to what stopped the return, by hand: it goes on, and takes this as done. Who it was is in the
/// record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnSettled {
    /// The customer has the money.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub money: bool,
    /// The units are where they belong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stock: bool,
    /// What the operator found or did.
    pub reason: String,
}
