//! Words that commands and events of this context share.

use serde::{Deserialize, Serialize};

use crate::{LocationId, Quantity, Sku};

/// A quantity of one SKU at one location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockKey {
    /// What.
    pub sku: Sku,
    /// Where; `main` is left out of the stored form.
    #[serde(default = "LocationId::main", skip_serializing_if = "is_main")]
    pub location: LocationId,
    /// How much.
    pub quantity: Quantity,
}

/// A line of a reservation that could not be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLine {
    /// What.
    pub sku: Sku,
    /// Where; `main` is left out of the stored form.
    #[serde(default = "LocationId::main", skip_serializing_if = "is_main")]
    pub location: LocationId,
    /// How much was wanted.
    pub requested: Quantity,
    /// How much there was.
    pub available: i64,
}

/// Why a hold was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// The order was cancelled before its stock was committed.
    Cancelled,
    /// Nobody paid in time.
    Expired,
    /// Another line of the same reservation was short.
    Rejected,
    /// Inventory did not answer in time.
    Timeout,
    /// No payment came about.
    PaymentDeclined,
    /// The order was cancelled after its stock was committed.
    Reversed,
    /// Somebody asked for it.
    Requested,
}

/// Why stock was not reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionCause {
    /// There was not enough.
    #[default]
    Shortage,
    /// The same reservation had already been given up, or rejected, here: its answer is final.
    Finished,
}

impl RejectionCause {
    pub(super) fn is_shortage(&self) -> bool {
        *self == Self::Shortage
    }
}

/// Which part of the stock on hand units belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// Held for somebody who has not paid yet.
    #[default]
    Reserved,
    /// Sold, waiting to leave.
    Committed,
}

impl Bucket {
    pub(super) fn is_reserved(&self) -> bool {
        *self == Self::Reserved
    }
}

/// A decision on a reservation that the stock items must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Some line was short: the lines that were held go back.
    Rejected,
    /// Sold.
    Committed,
    /// Given up.
    Released,
}

pub(super) fn is_main(location: &LocationId) -> bool {
    location.as_str() == "main"
}
