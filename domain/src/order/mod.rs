//! Orders, and the checkout that takes each from submitted to confirmed or cancelled.
//!
//! [`Order`] is what the customer sees. [`Checkout`] is the memory of the process that reserves stock and takes
//! money for it. Both live on one shard, because their ids share a root.

mod checkout;
mod checkout_error;
mod checkout_events;
mod commands;
mod error;
mod events;
mod lifecycle;
mod offer;
mod placement;
mod rules;
mod stage;
#[cfg(test)]
mod tests;

pub use checkout::Checkout;
pub use checkout_error::CheckoutError;
pub use checkout_events::{
    CheckoutAwaitingCustomer, CheckoutCancelled, CheckoutCompensating, CheckoutDone, CheckoutEvent,
    CheckoutNeedsAttention, CheckoutPaymentPending, CheckoutPaymentSecured, CheckoutPaymentUnknown,
    CheckoutResumed, CheckoutReversing, CheckoutSettled, CheckoutStarted, CheckoutStockCommitted,
    CheckoutStockHeld, Step, Timer, TimerKind, Undo,
};
pub use commands::{CheckoutCommand, Command};
pub use error::Error;
pub use events::{
    CancelReason, Event, OrderAwaitingPayment, OrderCancellationRequested, OrderCancelled, OrderConfirmed,
    OrderDrafted, OrderSubmitted, OrderUnitsReturned, ReturnedLine,
};
pub use lifecycle::{Line, Order, OrderStatus};
pub use offer::{LineOffer, LinePrice, WantedLine};
pub use placement::{LINES_MAX, OrderLine, Placement, PriceSource};
pub use stage::Stage;
