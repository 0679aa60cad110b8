//! The rules that stand in the way of returns.

use super::ReturnStatus;
use crate::text::TextError;
use crate::{Refusal, RefusalFamily};

/// Why a return refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A return of nothing.
    #[error("a return needs at least one line")]
    NoLines,
    /// More lines than an order may have.
    #[error("a return has at most 1000 lines, not {found}")]
    TooManyLines {
        /// How many there are.
        found: usize,
    },
    /// A price below nothing.
    #[error("line {index}: a unit price of {found} is negative")]
    NegativePrice {
        /// The place in the request, counted from 0.
        index: usize,
        /// The offending price in minor units.
        found: i64,
    },
    /// The line's refund, or the sum up to it, does not fit.
    #[error("line {index}: the refund exceeds the range of a 64-bit integer")]
    Overflow {
        /// The place in the request, counted from 0.
        index: usize,
    },
    /// A text that cannot be kept.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The stream is empty.
    #[error("there is no such return")]
    NotFound,
    /// The stream holds another return already.
    #[error("the return exists already with other contents")]
    AlreadyExists,
    /// It was refused.
    #[error("the return was refused")]
    AlreadyRefused,
    /// Money or goods moved already.
    #[error("the return is being carried out and can no longer be refused")]
    UnderWay,
    /// It waits for nobody.
    #[error("the return is {} and goes on by itself: only one that needs attention is resumed", .status.name())]
    NotStopped {
        /// Where it is.
        status: ReturnStatus,
    },
    /// The refunded amount is not the one that was owed.
    #[error("{expected} are to be refunded, not {found}")]
    RefundMismatch {
        /// What is owed, in minor units.
        expected: i64,
        /// What is said to have been refunded.
        found: i64,
    },
}

impl Refusal for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::NoLines => "LINES_MISSING",
            Self::TooManyLines { .. } => "TOO_MANY_LINES",
            Self::NegativePrice { .. } => "PRICE_NEGATIVE",
            Self::Overflow { .. } => "AMOUNT_OVERFLOW",
            Self::Text(error) => error.reason(),
            Self::NotFound => "RETURN_NOT_FOUND",
            Self::AlreadyExists => "RETURN_EXISTS",
            Self::AlreadyRefused => "RETURN_REFUSED",
            Self::UnderWay => "RETURN_UNDER_WAY",
            Self::NotStopped { .. } => "PROCESS_NOT_STOPPED",
            Self::RefundMismatch { .. } => "REFUND_MISMATCH",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::NoLines
            | Self::TooManyLines { .. }
            | Self::NegativePrice { .. }
            | Self::Text(_)
            | Self::Overflow { .. } => RefusalFamily::Invalid,
            Self::NotFound => RefusalFamily::NotFound,
            Self::AlreadyExists => RefusalFamily::AlreadyExists,
            Self::AlreadyRefused | Self::UnderWay | Self::NotStopped { .. } | Self::RefundMismatch { .. } => {
                RefusalFamily::Precondition
            }
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::NoLines | Self::TooManyLines { .. } => Some("lines".to_owned()),
            Self::NegativePrice { index, .. } => Some(format!("lines[{index}].unit_price")),
            Self::Overflow { index } => Some(format!("lines[{index}]")),
            Self::Text(error) => error.field(),
            Self::RefundMismatch { .. } => Some("amount".to_owned()),
            Self::NotFound
            | Self::AlreadyExists
            | Self::AlreadyRefused
            | Self::UnderWay
            | Self::NotStopped { .. } => None,
        }
    }
}
