//! Pricing: what a SKU costs, and what it cost before.

mod commands;
mod error;
mod events;
mod price;
#[cfg(test)]
mod tests;

pub use commands::PriceCommand;
pub use error::Error;
pub use events::{PriceChanged, PriceEvent, PriceSet};
pub use price::Price;
