//! Whether a shop's books are right: the conservation laws over the whole log.

mod account;
mod keys;
mod laws;
mod money;
mod skus;
mod stock;
#[cfg(test)]
mod tests;

pub use laws::{Findings, Laws, ProviderCall, Seen, Violation};
