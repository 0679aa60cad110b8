//! The rules that stand in the way of orders.

use super::OrderStatus;
use crate::{Currency, Refusal, RefusalFamily, Sku};

/// Why an order refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An order without a line.
    #[error("an order needs at least one line")]
    NoLines,
    /// More lines than an order may have.
    #[error("an order has at most 1000 lines, not {found}")]
    TooManyLines {
        /// How many there are.
        found: usize,
    },
    /// A quantity outside its range: for the gateway, which still holds a bare number.
    #[error("line {index}: a quantity of {found} is not between 1 and 1000000000")]
    Quantity {
        /// The line, counted from 0.
        index: usize,
        /// The offending number.
        found: i64,
    },
    /// More of one SKU than any stock can have.
    #[error("line {index}: more than 1000000000 of SKU {sku} over all lines")]
    UnitsOfSku {
        /// The line with which it is too much, counted from 0.
        index: usize,
        /// The SKU.
        sku: Sku,
    },
    /// A price below nothing.
    #[error("line {index}: a unit price of {found} is negative")]
    NegativePrice {
        /// The line, counted from 0.
        index: usize,
        /// The offending price in minor units.
        found: i64,
    },
    /// Two currencies in one order: for the gateway, which still holds a currency per price.
    #[error("line {index}: a unit price in {found} in an order in {expected}")]
    MixedCurrency {
        /// The line, counted from 0.
        index: usize,
        /// The order's currency.
        expected: Currency,
        /// The line's currency.
        found: Currency,
    },
    /// Nobody sells it.
    #[error("line {index}: no product has the SKU {sku}")]
    SkuUnknown {
        /// The line, counted from 0.
        index: usize,
        /// The SKU.
        sku: Sku,
    },
    /// It is not for sale now.
    #[error("line {index}: the product of SKU {sku} is not published")]
    NotOnSale {
        /// The line, counted from 0.
        index: usize,
        /// The SKU.
        sku: Sku,
    },
    /// Nobody has said what it costs.
    #[error("line {index}: SKU {sku} has no list price in the order's currency; name a unit_price")]
    PriceMissing {
        /// The line, counted from 0.
        index: usize,
        /// The SKU.
        sku: Sku,
    },
    /// It is no draft any more.
    #[error("the order is {status:?} already: only a draft is submitted")]
    AlreadyPlaced {
        /// Where it is.
        status: OrderStatus,
    },
    /// The line's total, or the sum up to it, does not fit.
    #[error("line {index}: the total exceeds the range of a 64-bit integer")]
    Overflow {
        /// The line, counted from 0.
        index: usize,
    },
    /// The stated total is not the sum of the lines.
    #[error("the lines add up to {sum}, not {stated}")]
    Total {
        /// The stated total.
        stated: i64,
        /// The sum of the lines.
        sum: i64,
    },
    /// No payment method, or text that cannot be the token of one.
    #[error("a payment method token is needed: 1 to 255 visible ASCII characters, never a card number")]
    PaymentMethod,
    /// No payment in a confirmation.
    #[error("a confirmed order names the payments that cover it")]
    NoPayments,
    /// The stream is empty.
    #[error("there is no such order")]
    NotFound,
    /// The stream holds an order already.
    #[error("the order exists already")]
    AlreadyExists,
    /// It would have to be submitted first.
    #[error("the order is a draft and was never placed")]
    NotPlaced,
    /// It has ended.
    #[error("the order is cancelled")]
    AlreadyCancelled,
    /// It stands already.
    #[error("the order is confirmed already")]
    AlreadyConfirmed,
    /// Cancellation goes first.
    #[error("the order's cancellation was requested")]
    CancellationRequested,
    /// A confirmed order is cancelled only on request.
    #[error("the order is confirmed and nobody asked to cancel it")]
    CancellationNotRequested,
    /// Some of it came back already: the rest has to come back the same way.
    #[error("units of the order were returned, so the rest can only be returned too")]
    UnitsReturned,
    /// Only what was sold comes back.
    #[error("the order is {status:?}, not confirmed")]
    NotConfirmed {
        /// Where it is.
        status: OrderStatus,
    },
    /// A return of nothing.
    #[error("a return needs at least one line")]
    NothingReturned,
    /// The order has no such line.
    #[error("returned line {index}: the order has no line {line}")]
    NoSuchLine {
        /// The place in the command, counted from 0.
        index: usize,
        /// The offending line number.
        line: u32,
    },
    /// More units than the customer still has.
    #[error("returned line {index}: {asked} units of line {line}, of which {left} are left")]
    TooManyUnits {
        /// The place in the command, counted from 0.
        index: usize,
        /// The order's line.
        line: u32,
        /// Units to return.
        asked: i64,
        /// Units ordered and not yet returned, lines before this one included.
        left: i64,
    },
}

impl Refusal for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::NoLines => "LINES_MISSING",
            Self::TooManyLines { .. } => "TOO_MANY_LINES",
            Self::Quantity { .. } | Self::UnitsOfSku { .. } => "QUANTITY_OUT_OF_RANGE",
            Self::NegativePrice { .. } => "PRICE_NEGATIVE",
            Self::MixedCurrency { .. } => "CURRENCY_MIXED",
            Self::SkuUnknown { .. } => "SKU_UNKNOWN",
            Self::NotOnSale { .. } => "SKU_NOT_ON_SALE",
            Self::PriceMissing { .. } => "PRICE_MISSING",
            Self::AlreadyPlaced { .. } => "ORDER_NOT_DRAFT",
            Self::Overflow { .. } => "AMOUNT_OVERFLOW",
            Self::Total { .. } => "TOTAL_MISMATCH",
            Self::PaymentMethod => "PAYMENT_METHOD_INVALID",
            Self::NoPayments => "PAYMENTS_MISSING",
            Self::NotFound => "ORDER_NOT_FOUND",
            Self::AlreadyExists => "ORDER_EXISTS",
            Self::NotPlaced => "ORDER_NOT_PLACED",
            Self::AlreadyCancelled => "ORDER_CANCELLED",
            Self::AlreadyConfirmed => "ORDER_CONFIRMED",
            Self::CancellationRequested => "ORDER_CANCELLATION_REQUESTED",
            Self::CancellationNotRequested => "ORDER_CANCELLATION_NOT_REQUESTED",
            Self::UnitsReturned => "ORDER_UNITS_RETURNED",
            Self::NotConfirmed { .. } => "ORDER_NOT_CONFIRMED",
            Self::NothingReturned => "LINES_MISSING",
            Self::NoSuchLine { .. } => "ORDER_LINE_NOT_FOUND",
            Self::TooManyUnits { .. } => "RETURN_EXCEEDS_ORDER",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::NoLines
            | Self::TooManyLines { .. }
            | Self::Quantity { .. }
            | Self::UnitsOfSku { .. }
            | Self::NegativePrice { .. }
            | Self::MixedCurrency { .. }
            | Self::Overflow { .. }
            | Self::Total { .. }
            | Self::PaymentMethod
            | Self::NoPayments
            | Self::NothingReturned => RefusalFamily::Invalid,
            Self::NotFound => RefusalFamily::NotFound,
            Self::AlreadyExists => RefusalFamily::AlreadyExists,
            Self::SkuUnknown { .. }
            | Self::NotOnSale { .. }
            | Self::PriceMissing { .. }
            | Self::AlreadyPlaced { .. }
            | Self::NotPlaced
            | Self::AlreadyCancelled
            | Self::AlreadyConfirmed
            | Self::CancellationRequested
            | Self::CancellationNotRequested
            | Self::UnitsReturned
            | Self::NotConfirmed { .. }
            | Self::NoSuchLine { .. }
            | Self::TooManyUnits { .. } => RefusalFamily::Precondition,
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::NoLines | Self::TooManyLines { .. } | Self::NothingReturned => Some("lines".to_owned()),
            Self::Quantity { index, .. }
            | Self::UnitsOfSku { index, .. }
            | Self::TooManyUnits { index, .. } => Some(format!("lines[{index}].quantity")),
            Self::NegativePrice { index, .. } | Self::MixedCurrency { index, .. } => {
                Some(format!("lines[{index}].unit_price"))
            }
            Self::SkuUnknown { index, .. }
            | Self::NotOnSale { index, .. }
            | Self::PriceMissing { index, .. } => Some(format!("lines[{index}].sku")),
            Self::AlreadyPlaced { .. } => Some("status".to_owned()),
            Self::Overflow { index } => Some(format!("lines[{index}]")),
            Self::NoSuchLine { index, .. } => Some(format!("lines[{index}].line")),
            Self::Total { .. } => Some("total".to_owned()),
            Self::PaymentMethod => Some("payment_method_token".to_owned()),
            Self::NoPayments => Some("payments".to_owned()),
            Self::NotFound
            | Self::AlreadyExists
            | Self::NotPlaced
            | Self::AlreadyCancelled
            | Self::AlreadyConfirmed
            | Self::CancellationRequested
            | Self::CancellationNotRequested
            | Self::UnitsReturned
            | Self::NotConfirmed { .. } => None,
        }
    }
}
