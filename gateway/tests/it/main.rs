//! The gateway over the network.

mod bad_input;
mod claims;
mod orders;
mod reads;
mod shop;
mod streams;
mod updates;
mod verify;
