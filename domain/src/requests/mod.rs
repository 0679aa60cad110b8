//! Requests: what the idempotency keys of clients stand for.
//!
//! A client's key means one operation in the whole tenant. Which one, the key's own stream says ([`Claim`]); whether that
//! operation has come to something, only the stream that it is about.

mod claim;
mod commands;
mod error;
mod events;
#[cfg(test)]
mod tests;

pub use claim::Claim;
pub use commands::ClaimCommand;
pub use error::Error;
pub use events::{ClaimEvent, NothingChanged, RequestClaimed};
