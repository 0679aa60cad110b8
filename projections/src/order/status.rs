//! Where an order is, as its own events tell it.

use serde::{Deserialize, Serialize};
use shopstream_domain::order::{CancelReason, Event};

use crate::column::words;

/// Where an order is in its life. Whether its payment is unknown is the checkout's to say, see
/// [`CheckoutStatus`](super::CheckoutStatus).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Written down.
    Draft,
    /// In checkout.
    Submitted,
    /// In checkout, and the customer must act.
    AwaitingPayment,
    /// Sold.
    Confirmed,
    /// Somebody wants out; stock and money are being given back.
    Cancelling,
    /// Ended without a sale.
    Cancelled,
}

words!(OrderStatus);

impl OrderStatus {
    /// The status after `event`, which came to an order of this one.
    pub const fn after(self, event: &Event) -> Self {
        match event {
            Event::Drafted(_) => Self::Draft,
            Event::Submitted(_) => Self::Submitted,
            // A checkout that learns this only now does not undo the wish to cancel.
            Event::AwaitingPayment(_) => match self {
                Self::Cancelling => Self::Cancelling,
                Self::Draft | Self::Submitted | Self::AwaitingPayment | Self::Confirmed | Self::Cancelled => {
                    Self::AwaitingPayment
                }
            },
            Event::Confirmed(_) => Self::Confirmed,
            Event::CancellationRequested(_) => Self::Cancelling,
            Event::Cancelled(_) => Self::Cancelled,
            Event::UnitsReturned(_) => self,
        }
    }
}

/// Why an order is cancelled, where `event` says so.
pub(super) const fn cancel_reason(event: &Event) -> Option<CancelReason> {
    match event {
        Event::CancellationRequested(requested) => Some(requested.reason),
        Event::Cancelled(cancelled) => Some(cancelled.reason),
        Event::Drafted(_)
        | Event::Submitted(_)
        | Event::AwaitingPayment(_)
        | Event::Confirmed(_)
        | Event::UnitsReturned(_) => None,
    }
}
