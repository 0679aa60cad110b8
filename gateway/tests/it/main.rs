//! The gateway over the network.

mod bad_input;
mod orders;
mod shop;
mod streams;
