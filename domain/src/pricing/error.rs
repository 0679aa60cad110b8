//! Why pricing refuses.

use crate::text::TextError;
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
    /// A text that cannot be kept.
    #[error(transparent)]
    Text(#[from] TextError),
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
            Self::Text(error) => error.reason(),
            Self::OtherSku { .. } => "SKU_MISMATCH",
            Self::OtherCurrency { .. } => "CURRENCY_MISMATCH",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::Negative { .. } | Self::Text(_) | Self::OtherSku { .. } | Self::OtherCurrency { .. } => {
                RefusalFamily::Invalid
            }
        }
    }

    fn field(&self) -> Option<String> {
        let field = match self {
            Self::Negative { .. } => "amount_minor",
            Self::Text(error) => return error.field(),
            Self::OtherSku { .. } => "sku",
            Self::OtherCurrency { .. } => "currency",
        };
        Some(field.to_owned())
    }
}
