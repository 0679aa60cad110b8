//! What a shop allows, and what then is true.
//!
//! Everything in this crate is a pure function of its arguments: no clock, no I/O, no randomness. Each context
//! is a module named by its noun; in it an aggregate has commands (what somebody wants), events (what happened)
//! and errors (the fact that stood in the way). [`model`] lists all aggregates in one place, so that the layers
//! above can be exhaustive about them.

mod aggregate;
mod context;
mod ids;
pub mod model;
mod money;
mod refusal;
mod stream;
pub mod testing;
pub mod text;
mod time;

pub mod catalog;
pub mod inventory;
pub mod order;
pub mod payment;
pub mod pricing;
pub mod requests;
pub mod returns;

pub use aggregate::{Aggregate, At, DecodeError, StoredEvent};
pub use context::Context;
pub use ids::{
    CustomerId, IdError, LocationId, OrderId, PaymentId, ProductId, Quantity, ReservationId, ReturnId, Sku,
};
pub use money::{Currency, Money, MoneyError};
pub use refusal::{Refusal, RefusalFamily, Refused};
pub use stream::{Partition, StreamId, StreamIdError, StreamKind, TenantId, Version, partition_of};
pub use time::{Duration, Timestamp};
