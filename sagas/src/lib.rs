//! Processes across aggregates: they react to what happened by issuing commands, remember how far they came on
//! streams of their own, and undo.
//!
//! [`Sagas`] runs them: the checkout, the returns, the payment operations, the holds that run out. [`StockFanOut`]
//! is also for callers outside. What they need from outside are the [`ports`]. A process decides on aggregates
//! folded from their streams, never on notes of its own, so going on after a crash is the same as going on.

mod checkout;
mod checkpoint;
mod config;
mod issue;
mod known;
mod means;
mod payments;
pub mod ports;
mod process;
mod returns;
mod route;
mod runner;
mod stock;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod turns;

pub use config::Settings;
pub use runner::{Parts, Sagas, Status};
pub use stock::{HoldRequest, StockError, StockFanOut};
