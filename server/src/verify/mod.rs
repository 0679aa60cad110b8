//! Whether a shop's books are right: the conservation laws over the whole log.

mod keys;
mod laws;
mod money;
mod standing;
mod stock;
#[cfg(test)]
mod tests;

pub use laws::{Findings, Laws, ProviderCall, Seen, Violation};
