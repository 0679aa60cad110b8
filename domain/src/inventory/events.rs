//! What happened to stock items and reservations.
//!
//! A stock event says all that a reader needs to move units between buckets; only those that finish a reservation
//! carry a time, because only the memory of finished reservations fades.

use serde::{Deserialize, Serialize};

use super::values::is_main;
use super::{Bucket, Decision, RejectionCause, ReleaseReason, ShortLine, StockKey};
use crate::aggregate::events;
use crate::{LocationId, Quantity, ReservationId, ReturnId, Sku, Timestamp};

events! {
    /// What happened to a SKU at a location.
    pub enum StockEvent {
        /// Goods arrived.
        Received(StockReceived) = 1,
        /// The stock on hand was corrected.
        Adjusted(StockAdjusted) = 1,
        /// Somebody counted, and found another number.
        Counted(StockCounted) = 1,
        /// Units are held.
        Reserved(StockReserved) = 1,
        /// Units could not be held.
        ReservationRejected(StockReservationRejected) = 1,
        /// Held units are sold.
        Committed(StockCommitted) = 1,
        /// Held or sold units are for anybody again.
        Released(StockReleased) = 1,
        /// Returned units are for anybody again.
        PutBack(StockPutBack) = 1,
    }
}

/// Goods arrived: on hand and available grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReceived {
    /// What.
    pub sku: Sku,
    /// Where; `main` is left out of the stored form.
    #[serde(default = "LocationId::main", skip_serializing_if = "is_main")]
    pub location: LocationId,
    /// How many units.
    pub quantity: Quantity,
    /// The supplier's or our own document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// The stock on hand was corrected: on hand and available change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockAdjusted {
    /// Units more, or less where negative.
    pub delta: i64,
    /// Why.
    pub reason: String,
}

/// A count found another number: on hand and available change by the difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockCounted {
    /// Units on hand by the books.
    pub expected: i64,
    /// Units on hand in truth.
    pub found: i64,
}

/// Units moved from available to reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReserved {
    /// Whose hold.
    pub reservation_id: ReservationId,
    /// How many units.
    pub quantity: Quantity,
}

/// Units could not be held. Nothing moves, and the answer to this reservation stays the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReservationRejected {
    /// Whose hold it would have been.
    pub reservation_id: ReservationId,
    /// How many units were wanted.
    pub requested: Quantity,
    /// How many there were.
    pub available: i64,
    /// Why; left out of the stored form where there were too few.
    #[serde(default, skip_serializing_if = "RejectionCause::is_shortage")]
    pub cause: RejectionCause,
    /// When.
    pub at: Timestamp,
}

/// Units moved from reserved to committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockCommitted {
    /// Whose hold.
    pub reservation_id: ReservationId,
    /// How many units.
    pub quantity: Quantity,
}

/// Units moved back to available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReleased {
    /// Whose hold.
    pub reservation_id: ReservationId,
    /// How many units; zero where nothing was held yet, so that a late reserve is refused.
    pub quantity: i64,
    /// Where they were until now; left out of the stored form where reserved.
    #[serde(default, skip_serializing_if = "Bucket::is_reserved")]
    pub from: Bucket,
    /// Why.
    pub reason: ReleaseReason,
    /// When.
    pub at: Timestamp,
}

/// Returned units moved from committed to available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockPutBack {
    /// Whose units.
    pub reservation_id: ReservationId,
    /// With which return.
    pub return_id: ReturnId,
    /// How many units.
    pub quantity: Quantity,
    /// When.
    pub at: Timestamp,
}

events! {
    /// What happened to a reservation.
    pub enum ReservationEvent {
        /// Somebody asked for it.
        Requested(ReservationRequested) = 1,
        /// Every line is held.
        Held(ReservationHeld) = 1,
        /// Some line was short.
        Rejected(ReservationRejected) = 1,
        /// It holds longer.
        Extended(ReservationExtended) = 1,
        /// What it holds is sold.
        Committed(ReservationCommitted) = 1,
        /// It was given up.
        Released(ReservationReleased) = 1,
        /// The stock items have followed the last decision.
        Settled(ReservationSettled) = 1,
    }
}

/// Somebody asked for a hold on all of these or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRequested {
    /// Its id.
    pub reservation_id: ReservationId,
    /// What is wanted, once per SKU and location.
    pub keys: Vec<StockKey>,
    /// How long it holds.
    pub until: Timestamp,
    /// Beyond this no extension goes.
    pub hard_until: Timestamp,
}

/// Every line is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationHeld {}

/// Some line was short, so nothing is held; lines that were go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRejected {
    /// The lines that were short.
    pub short: Vec<ShortLine>,
}

/// It holds longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationExtended {
    /// The new deadline.
    pub until: Timestamp,
}

/// What it holds is sold: the pivot of a checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationCommitted {}

/// It was given up, before or after it was sold; before it was asked for, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationReleased {
    /// Why.
    pub reason: ReleaseReason,
}

/// The stock items have followed the last decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationSettled {
    /// Which decision that was.
    pub decision: Decision,
}
