//! Returns: goods that come back, and the money for them.
//!
//! The order says first which units may come back. Then the refund and the restocking go their own ways; either
//! may finish first, and the second of the two ends the return.

mod commands;
mod error;
mod events;
mod goods_return;
#[cfg(test)]
mod tests;

pub use commands::{Command, ReturnRequest};
pub use error::Error;
pub use events::{
    Event, ReturnLine, ReturnNeedsAttention, ReturnRefunded, ReturnRefused, ReturnRequested, ReturnResolved,
    ReturnRestocked, ReturnResumed, ReturnSettled,
};
pub use goods_return::{Return, ReturnStatus};
