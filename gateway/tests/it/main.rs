//! The gateway over the network.

mod bad_input;
mod bounds;
mod claims;
mod idempotency;
mod orders;
mod reads;
mod reflection;
mod shop;
mod streams;
mod updates;
mod verify;
