//! What may be asked of a price.

use serde::{Deserialize, Serialize};

use crate::{Currency, Sku};

/// What may be asked of a SKU's list price in one currency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PriceCommand {
    /// Makes it this much from now on.
    Set {
        /// The SKU whose price this is.
        sku: Sku,
        /// The price in minor units; zero is a gift.
        amount_minor: i64,
        /// The currency whose price this is.
        currency: Currency,
        /// Why, for people.
        reason: Option<String>,
    },
}
