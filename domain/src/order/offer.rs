//! What SKUs are sold for at the moment at which an order is submitted.

use serde::{Deserialize, Serialize};

use super::{Error, OrderLine, PriceSource};
use crate::{LocationId, ProductId, Quantity, Sku};

/// What a SKU is sold for, as the catalogue says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineOffer {
    /// What.
    pub sku: Sku,
    /// The product that owns the SKU.
    pub product_id: ProductId,
    /// Whether that product is published.
    pub on_sale: bool,
    /// Its list price in the order's currency, if it has one.
    pub price: Option<LinePrice>,
}

/// A list price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinePrice {
    /// In minor units.
    pub amount_minor: i64,
    /// The version of the price stream.
    pub version: u64,
}

/// One line as somebody wants it, before anything is frozen.
#[derive(Clone, Copy, Debug)]
pub struct WantedLine<'a> {
    /// Its place in the order, counted from 0.
    pub index: usize,
    /// What.
    pub sku: &'a Sku,
    /// How many units.
    pub quantity: Quantity,
    /// The price that was named in place of the list price.
    pub unit_price_minor: Option<i64>,
}

impl WantedLine<'_> {
    /// The line at what its SKU is sold for.
    ///
    /// # Errors
    /// Nobody sells it, or it has no price.
    pub fn at(&self, offer: Option<&LineOffer>) -> Result<OrderLine, Error> {
        let (index, sku) = (self.index, self.sku.clone());
        let Some(offer) = offer else { return Err(Error::SkuUnknown { index, sku }) };
        if !offer.on_sale {
            return Err(Error::NotOnSale { index, sku });
        }
        let (unit_price_minor, price_source, price_version) = match (self.unit_price_minor, offer.price) {
            (Some(named), _) => (named, PriceSource::Override, None),
            (None, Some(price)) => (price.amount_minor, PriceSource::List, Some(price.version)),
            (None, None) => return Err(Error::PriceMissing { index, sku }),
        };
        Ok(OrderLine {
            sku,
            product_id: Some(offer.product_id.clone()),
            location: LocationId::main(),
            quantity: self.quantity,
            unit_price_minor,
            price_source,
            price_version,
        })
    }
}
