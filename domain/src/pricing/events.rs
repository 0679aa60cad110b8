//! What happened to prices.

use serde::{Deserialize, Serialize};

use crate::aggregate::events;
use crate::{Currency, Sku, Timestamp};

events! {
    /// What happened to the list price of a SKU in one currency.
    pub enum PriceEvent {
        /// It has a price for the first time.
        Set(PriceSet) = 1,
        /// The price is another one.
        Changed(PriceChanged) = 1,
    }
}

/// The SKU has a price for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceSet {
    /// The SKU.
    pub sku: Sku,
    /// The currency.
    pub currency: Currency,
    /// The price in minor units.
    pub amount_minor: i64,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From when it holds.
    pub at: Timestamp,
}

/// The price is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceChanged {
    /// The SKU.
    pub sku: Sku,
    /// The currency.
    pub currency: Currency,
    /// The price until now, in minor units.
    pub old_minor: i64,
    /// The price from now on.
    pub new_minor: i64,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For a reduction: the lowest price of the 30 days before it, which must be shown beside the new one
    /// (directive (EU) 2019/2161, "Omnibus").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior_lowest_minor: Option<i64>,
    /// From when it holds.
    pub at: Timestamp,
}
