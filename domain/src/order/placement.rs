//! What is ordered, frozen: lines, prices, total.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Error, LineOffer, WantedLine};
use crate::payment::is_method_token;
use crate::{Currency, CustomerId, LocationId, OrderId, ProductId, Quantity, Sku};

/// How many lines an order may have.
pub const LINES_MAX: usize = 1_000;

/// An order as it was placed. Nothing in it changes afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The order.
    pub order_id: OrderId,
    /// Who buys.
    pub customer_id: CustomerId,
    /// The currency of every amount in here.
    pub currency: Currency,
    /// What, how many, at which price. A line is known by its place in this list, counted from 0.
    pub lines: Vec<OrderLine>,
    /// The sum over the lines.
    pub total_minor: i64,
    /// How to pay: the provider's reference to a payment method. A draft may do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method_token: Option<String>,
}

/// One line of an order. Lines of one SKU stay separate lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderLine {
    /// What.
    pub sku: Sku,
    /// The product that owns the SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
    /// Where the stock is taken from; `main` is left out of the payload.
    #[serde(default = "LocationId::main", skip_serializing_if = "is_main")]
    pub location: LocationId,
    /// How many units.
    pub quantity: Quantity,
    /// The price of one unit.
    pub unit_price_minor: i64,
    /// Where the price comes from; the list price is left out of the payload.
    #[serde(default, skip_serializing_if = "PriceSource::is_list")]
    pub price_source: PriceSource,
    /// The version of the price stream that was frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<u64>,
}

/// Where a line's price comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceSource {
    /// The list price at the time of the order.
    #[default]
    List,
    /// The caller named it.
    Override,
}

impl PriceSource {
    fn is_list(&self) -> bool {
        matches!(self, Self::List)
    }
}

fn is_main(location: &LocationId) -> bool {
    location.as_str() == "main"
}

impl Placement {
    /// An order of `lines` with its total.
    ///
    /// # Errors
    /// No line or too many, a negative price, a line or a sum that overflows, a token that cannot be one.
    pub fn new(
        order_id: OrderId,
        customer_id: CustomerId,
        currency: Currency,
        lines: Vec<OrderLine>,
        payment_method_token: Option<String>,
    ) -> Result<Self, Error> {
        let total_minor = total_of(&lines)?;
        check_token(payment_method_token.as_deref())?;
        Ok(Self { order_id, customer_id, currency, lines, total_minor, payment_method_token })
    }

    /// The same, submitted at what the SKUs are sold for now.
    pub(super) fn at(&self, offers: &[LineOffer], token: &str) -> Result<Self, Error> {
        let lines = self.lines.iter().enumerate().map(|(index, line)| {
            let OrderLine { sku, quantity, .. } = line;
            let unit_price_minor =
                (line.price_source == PriceSource::Override).then_some(line.unit_price_minor);
            let wanted = WantedLine { index, sku, quantity: *quantity, unit_price_minor };
            wanted.at(offers.iter().find(|offer| offer.sku == *sku))
        });
        let lines = lines.collect::<Result<_, _>>()?;
        let (order_id, customer_id) = (self.order_id.clone(), self.customer_id.clone());
        Self::new(order_id, customer_id, self.currency, lines, Some(token.to_owned()))
    }

    /// Whether this placement is one that [`Placement::new`] would have made: it may have come over the wire.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_token(self.payment_method_token.as_deref())?;
        let sum = total_of(&self.lines)?;
        if sum == self.total_minor { Ok(()) } else { Err(Error::Total { stated: self.total_minor, sum }) }
    }
}

impl OrderLine {
    /// Price times quantity; `None` beyond 2⁶³.
    pub fn total_minor(&self) -> Option<i64> {
        self.unit_price_minor.checked_mul(self.quantity.get())
    }
}

fn total_of(lines: &[OrderLine]) -> Result<i64, Error> {
    match lines.len() {
        0 => return Err(Error::NoLines),
        1..=LINES_MAX => {}
        found => return Err(Error::TooManyLines { found }),
    }
    let mut units: HashMap<(&Sku, &LocationId), i64> = HashMap::with_capacity(lines.len());
    lines.iter().enumerate().try_fold(0_i64, |sum, (index, line)| {
        let units = units.entry((&line.sku, &line.location)).or_default();
        *units = units.saturating_add(line.quantity.get());
        if Quantity::new(*units).is_err() {
            return Err(Error::UnitsOfSku { index, sku: line.sku.clone() });
        }
        if line.unit_price_minor < 0 {
            return Err(Error::NegativePrice { index, found: line.unit_price_minor });
        }
        line.total_minor().and_then(|total| sum.checked_add(total)).ok_or(Error::Overflow { index })
    })
}

/// A token where there is one must look like one.
pub(super) fn check_token(token: Option<&str>) -> Result<(), Error> {
    match token {
        Some(token) if !is_method_token(token) => Err(Error::PaymentMethod),
        Some(_) | None => Ok(()),
    }
}
