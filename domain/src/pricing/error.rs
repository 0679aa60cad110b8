//! Why pricing refuses.

use crate::{Currency, Refusal, RefusalFamily, Sku};

/// The fact that stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody is paid for buying.
    #[error("a price of {amount_minor} is below zero")]
    Negative {
        /// The offending amount.
        amount_minor: i64,
    },
    /// A reason longer than anybody would read.
    #[error("the reason has {found} characters, more than {limit}")]
    ReasonTooLong {
        /// Its length.
        found: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The command came to another SKU's stream.
    #[error("this is the price of {expected}, not of {found}")]
    OtherSku {
        /// Whose price this is.
        expected: Sku,
        /// Whose was meant.
        found: Sku,
    },
    /// The command came to another currency's stream.
    #[error("this is the price in {expected}, not in {found}")]
    OtherCurrency {
        /// This price's currency.
        expected: Currency,
        /// The one that was meant.
        found: Currency,
    },
}

impl Refusal for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Negative { .. } => "PRICE_NEGATIVE",
            Self::ReasonTooLong { .. } => "TEXT_TOO_LONG",
            Self::OtherSku { .. } => "SKU_MISMATCH",
            Self::OtherCurrency { .. } => "CURRENCY_MISMATCH",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::Negative { .. }
            | Self::ReasonTooLong { .. }
            | Self::OtherSku { .. }
            | Self::OtherCurrency { .. } => RefusalFamily::Invalid,
        }
    }

    fn field(&self) -> Option<String> {
        let field = match self {
            Self::Negative { .. } => "amount_minor",
            Self::ReasonTooLong { .. } => "reason",
            Self::OtherSku { .. } => "sku",
            Self::OtherCurrency { .. } => "currency",
        };
        Some(field.to_owned())
    }
}
