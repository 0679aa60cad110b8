//! What may be asked of stock items and reservations.

use serde::{Deserialize, Serialize};

use super::{Decision, ReleaseReason, ShortLine, StockKey};
use crate::{LocationId, Quantity, ReservationId, ReturnId, Sku, Timestamp};

/// What may be asked of a SKU at a location.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StockCommand {
    /// Goods have arrived.
    Receive {
        /// What.
        sku: Sku,
        /// Where.
        location: LocationId,
        /// How many units.
        quantity: Quantity,
        /// The supplier's or our own document.
        reference: Option<String>,
    },
    /// The stock on hand differs by this much, for a reason.
    Adjust {
        /// Units more, or less where negative.
        delta: i64,
        /// Why.
        reason: String,
    },
    /// Somebody has counted.
    Count {
        /// Units on hand, whatever they are held for.
        found: i64,
    },
    /// Hold units for a reservation.
    Reserve {
        /// Whose hold.
        reservation_id: ReservationId,
        /// How many units.
        quantity: Quantity,
    },
    /// The reservation was committed: its units are sold.
    Commit {
        /// Whose hold.
        reservation_id: ReservationId,
    },
    /// The reservation was given up: its units are for anybody again.
    Release {
        /// Whose hold.
        reservation_id: ReservationId,
        /// Why.
        reason: ReleaseReason,
    },
    /// Sold units came back and are for anybody again.
    PutBack {
        /// Whose units.
        reservation_id: ReservationId,
        /// With which return.
        return_id: ReturnId,
        /// How many units.
        quantity: Quantity,
    },
}

/// What may be asked of a reservation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReservationCommand {
    /// Asks for a hold on all of these or none.
    Request {
        /// Its id.
        reservation_id: ReservationId,
        /// What is wanted, at most once per SKU and location.
        keys: Vec<StockKey>,
        /// How long it holds.
        hold_seconds: u32,
        /// How long it may hold with all extensions; at most a day.
        hard_max_seconds: u32,
    },
    /// Says what the stock items answered.
    RecordAllocation(Allocation),
    /// Holds until then, but never beyond the hard maximum.
    Extend {
        /// The wanted deadline.
        until: Timestamp,
    },
    /// Sells what is held: from here on there is no quiet way back.
    Commit,
    /// Gives up what is held. Refused where it was sold.
    Release {
        /// Why.
        reason: ReleaseReason,
    },
    /// Gives it up, sold or not: the undo of the checkout that took it, and of nobody else.
    Reverse {
        /// Why.
        reason: ReleaseReason,
    },
    /// Gives it up if its time is over.
    Expire,
    /// All stock items have followed this decision.
    RecordSettled {
        /// The decision that they followed; without it a late report on a commit would pass for one on the release
        /// that came after it.
        decision: Decision,
    },
}

/// What the stock items answered to a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    /// Every line is held.
    Held,
    /// Some line is short.
    Rejected {
        /// The lines that are.
        short: Vec<ShortLine>,
    },
}
