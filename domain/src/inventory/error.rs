//! Why inventory refuses.
//!
//! A shortage is not here: somebody branches on it, so it is an event.

use crate::{LocationId, Quantity, Refusal, RefusalFamily, ReservationId, ReturnId, Sku, Timestamp};

use super::ReleaseReason;

/// The fact that stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More units than can be counted.
    #[error("{on_hand} units on hand and {change} more are beyond what can be counted")]
    Overflow {
        /// The request field that is too large.
        field: &'static str,
        /// Units on hand.
        on_hand: i64,
        /// Units that were to be added.
        change: i64,
    },
    /// Fewer units than are held or sold.
    #[error("{on_hand} units on hand would be fewer than the {held} that are reserved or committed")]
    BelowHeld {
        /// The request field that is too small.
        field: &'static str,
        /// Units that would be on hand.
        on_hand: i64,
        /// Units reserved or committed.
        held: i64,
    },
    /// A text that must be there is empty.
    #[error("{field} is empty")]
    TextMissing {
        /// Which text.
        field: &'static str,
    },
    /// A text is longer than anybody would read.
    #[error("{field} has {found} characters, more than {limit}")]
    TextTooLong {
        /// Which text.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The same reservation holds another quantity here.
    #[error("reservation {reservation_id} holds {held} here, not {requested}")]
    HeldDiffers {
        /// The reservation.
        reservation_id: ReservationId,
        /// What it holds.
        held: Quantity,
        /// What was asked for.
        requested: Quantity,
    },
    /// The reservation holds nothing here.
    #[error("reservation {reservation_id} holds nothing here")]
    NotReserved {
        /// The reservation.
        reservation_id: ReservationId,
    },
    /// The reservation holds nothing here any more.
    #[error("reservation {reservation_id} has been released or rejected here")]
    Finished {
        /// The reservation.
        reservation_id: ReservationId,
    },
    /// More is to come back than was sold.
    #[error("reservation {reservation_id} has {committed} units sold here, not {quantity}")]
    BeyondCommitted {
        /// The reservation.
        reservation_id: ReservationId,
        /// Units sold and not returned.
        committed: i64,
        /// Units that were to come back.
        quantity: Quantity,
    },
    /// The same return has put back another quantity.
    #[error("return {return_id} has put back {put_back}, not {quantity}")]
    PutBackDiffers {
        /// The return.
        return_id: ReturnId,
        /// What it has put back.
        put_back: Quantity,
        /// What was asked for.
        quantity: Quantity,
    },
    /// A reservation of nothing.
    #[error("a reservation needs a line")]
    KeysMissing,
    /// A reservation of too much at once.
    #[error("{found} lines are more than {limit}")]
    TooManyKeys {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// One SKU twice at one location.
    #[error("{sku} at {location} appears twice")]
    DuplicateKey {
        /// The SKU.
        sku: Sku,
        /// The location.
        location: LocationId,
        /// Where the second one stands.
        index: usize,
    },
    /// A hold that is too short or too long.
    #[error("a hold of {seconds} s is not between 1 and {limit}")]
    HoldLength {
        /// The offending request field.
        field: &'static str,
        /// Its value.
        seconds: u32,
        /// The longest allowed.
        limit: u32,
    },
    /// A rejection that names no short line.
    #[error("a rejected allocation names the lines that are short")]
    ShortMissing,
    /// Nobody has asked for it.
    #[error("the reservation does not exist")]
    ReservationNotFound,
    /// It was asked for with other lines.
    #[error("reservation {reservation_id} exists with other lines")]
    ReservationExists {
        /// The id that is taken.
        reservation_id: ReservationId,
    },
    /// It is not held yet.
    #[error("the reservation is not held yet")]
    NotHeld,
    /// It was held.
    #[error("the reservation is held already")]
    AlreadyHeld,
    /// It was sold.
    #[error(
        "the reservation is committed: its units are sold, and come back by cancelling or returning the order"
    )]
    AlreadyCommitted,
    /// It was not to be had.
    #[error("the reservation was rejected")]
    AlreadyRejected,
    /// It was given up.
    #[error("the reservation was released: {reason:?}")]
    AlreadyReleased {
        /// Why.
        reason: ReleaseReason,
    },
    /// Its time is over.
    #[error("the hold ended at {until}")]
    HoldExpired {
        /// When it ended.
        until: Timestamp,
    },
    /// Its time is not over.
    #[error("the hold lasts until {until}")]
    HoldNotExpired {
        /// When it ends.
        until: Timestamp,
    },
    /// No such decision was made.
    #[error("no such decision was made on the reservation")]
    NothingToSettle,
}

impl Refusal for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Overflow { .. } => "STOCK_OVERFLOW",
            Self::BelowHeld { .. } => "STOCK_BELOW_HELD",
            Self::TextMissing { .. } => "TEXT_MISSING",
            Self::TextTooLong { .. } => "TEXT_TOO_LONG",
            Self::HeldDiffers { .. } => "STOCK_HELD_DIFFERS",
            Self::NotReserved { .. } => "STOCK_NOT_RESERVED",
            Self::Finished { .. } => "STOCK_RESERVATION_FINISHED",
            Self::BeyondCommitted { .. } => "STOCK_BEYOND_COMMITTED",
            Self::PutBackDiffers { .. } => "STOCK_PUT_BACK_DIFFERS",
            Self::KeysMissing => "LINES_MISSING",
            Self::TooManyKeys { .. } => "TOO_MANY_LINES",
            Self::DuplicateKey { .. } => "DUPLICATE_STOCK_KEY",
            Self::HoldLength { .. } => "HOLD_LENGTH",
            Self::ShortMissing => "SHORT_LINES_MISSING",
            Self::ReservationNotFound => "RESERVATION_NOT_FOUND",
            Self::ReservationExists { .. } => "RESERVATION_EXISTS",
            Self::NotHeld => "RESERVATION_NOT_HELD",
            Self::AlreadyHeld => "RESERVATION_HELD",
            Self::AlreadyCommitted => "RESERVATION_COMMITTED",
            Self::AlreadyRejected => "RESERVATION_REJECTED",
            Self::AlreadyReleased { .. } => "RESERVATION_RELEASED",
            Self::HoldExpired { .. } => "RESERVATION_EXPIRED",
            Self::HoldNotExpired { .. } => "RESERVATION_NOT_EXPIRED",
            Self::NothingToSettle => "RESERVATION_NOTHING_TO_SETTLE",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::TextMissing { .. }
            | Self::TextTooLong { .. }
            | Self::KeysMissing
            | Self::TooManyKeys { .. }
            | Self::DuplicateKey { .. }
            | Self::HoldLength { .. }
            | Self::ShortMissing => RefusalFamily::Invalid,
            Self::Overflow { .. }
            | Self::BelowHeld { .. }
            | Self::HeldDiffers { .. }
            | Self::NotReserved { .. }
            | Self::Finished { .. }
            | Self::BeyondCommitted { .. }
            | Self::PutBackDiffers { .. }
            | Self::NotHeld
            | Self::AlreadyHeld
            | Self::AlreadyCommitted
            | Self::AlreadyRejected
            | Self::AlreadyReleased { .. }
            | Self::HoldExpired { .. }
            | Self::HoldNotExpired { .. }
            | Self::NothingToSettle => RefusalFamily::Precondition,
            Self::ReservationNotFound => RefusalFamily::NotFound,
            Self::ReservationExists { .. } => RefusalFamily::AlreadyExists,
        }
    }

    fn field(&self) -> Option<String> {
        let field = match self {
            Self::Overflow { field, .. }
            | Self::BelowHeld { field, .. }
            | Self::TextMissing { field }
            | Self::TextTooLong { field, .. }
            | Self::HoldLength { field, .. } => field,
            Self::HeldDiffers { .. } | Self::BeyondCommitted { .. } | Self::PutBackDiffers { .. } => {
                "quantity"
            }
            Self::KeysMissing | Self::TooManyKeys { .. } => "keys",
            Self::DuplicateKey { index, .. } => return Some(format!("keys[{index}]")),
            Self::ShortMissing => "short",
            Self::NotReserved { .. } | Self::Finished { .. } | Self::ReservationExists { .. } => {
                "reservation_id"
            }
            Self::ReservationNotFound
            | Self::NotHeld
            | Self::AlreadyHeld
            | Self::AlreadyCommitted
            | Self::AlreadyRejected
            | Self::AlreadyReleased { .. }
            | Self::HoldExpired { .. }
            | Self::HoldNotExpired { .. }
            | Self::NothingToSettle => return None,
        };
        Some(field.to_owned())
    }
}
