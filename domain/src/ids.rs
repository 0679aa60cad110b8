//! Ids are types and look like what they name: a `PaymentId` cannot be passed where an `OrderId` is wanted.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::stream::is_id;
use crate::{StreamId, StreamKind, TenantId};

/// Text that is not an id of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Wrong characters, wrong length or wrong prefix.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// The offending text, cut to 80 bytes.
        text: String,
        /// What was wanted, such as `an order id (ord_…)`.
        expected: &'static str,
    },
    /// A quantity outside 1 to 1,000,000,000.
    #[error("a quantity of {found} is not between 1 and 1000000000")]
    Quantity {
        /// The offending number.
        found: i64,
    },
}

fn malformed(text: &str, expected: &'static str) -> IdError {
    IdError::Malformed { text: text.chars().take(80).collect(), expected }
}

/// Declares an id type over shared text: `Name, "prefix", "what it is"`. An empty prefix allows any text of id
/// characters.
macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the id: 1 to 64 of `a-z A-Z 0-9 _ - .`, with its prefix where it has one.
            ///
            /// # Errors
            /// Another length, character or prefix.
            pub fn new(text: &str) -> Result<Self, IdError> {
                match text.strip_prefix($prefix) {
                    Some(rest) if is_id(text) && !rest.is_empty() => Ok(Self(text.into())),
                    _ => Err(malformed(text, $expected)),
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/// A product: `prd_…`.
    ProductId, "prd_", "a product id (prd_…)");
id!(/// An order: `ord_…`.
    OrderId, "ord_", "an order id (ord_…)");
id!(/// A hold on stock: `res_…`.
    ReservationId, "res_", "a reservation id (res_…)");
id!(/// One attempt to pay: `pay_….n`.
    PaymentId, "pay_", "a payment id (pay_…)");
id!(/// A return of goods: `ret_…`.
    ReturnId, "ret_", "a return id (ret_…)");
id!(/// Who buys.
    CustomerId, "", "a customer id (1 to 64 letters, digits, '_', '-' or '.')");
id!(/// What is sold: a stock keeping unit.
    Sku, "", "a SKU (1 to 64 letters, digits, '_', '-' or '.')");
id!(/// Where stock lies.
    LocationId, "", "a location id (1 to 64 letters, digits, '_', '-' or '.')");

impl LocationId {
    /// The location of a shop that has one.
    pub fn main() -> Self {
        Self("main".into())
    }
}

impl OrderId {
    fn root(&self) -> &str {
        &self.0["ord_".len()..]
    }

    /// The reservation that holds this order's stock.
    pub fn reservation(&self) -> ReservationId {
        ReservationId(format!("res_{}", self.root()).into())
    }

    /// The payment of the given attempt, counted from 1.
    pub fn payment(&self, attempt: u32) -> PaymentId {
        PaymentId(format!("pay_{}.{attempt}", self.root()).into())
    }

    /// The stream of this order's checkout.
    pub fn checkout_stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Checkout, &format!("chk_{}", self.root()))
    }

    /// The order that the checkout stream with this id belongs to; `None` where it is not the id of a checkout.
    pub fn of_checkout(checkout_id: &str) -> Option<Self> {
        checkout_id.strip_prefix("chk_").and_then(|root| Self::new(&format!("ord_{root}")).ok())
    }

    /// The stream of this order.
    pub fn stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Order, &self.0)
    }
}

impl ProductId {
    /// The stream of this product.
    pub fn stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Product, &self.0)
    }
}

impl ReservationId {
    /// The stream of this reservation.
    pub fn stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Reservation, &self.0)
    }
}

impl PaymentId {
    /// The stream of this payment.
    pub fn stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Payment, &self.0)
    }
}

impl ReturnId {
    /// The stream of this return.
    pub fn stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Return, &self.0)
    }
}

impl Sku {
    /// The stream that says which product owns this SKU.
    pub fn claim_stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Sku, &self.0)
    }

    /// The stream of this SKU's list price in `currency`.
    pub fn price_stream(&self, tenant: &TenantId, currency: crate::Currency) -> StreamId {
        stream(tenant, StreamKind::Price, &format!("{}.{currency}", self.0))
    }

    /// The stream of this SKU's stock at `location`.
    pub fn stock_stream(&self, tenant: &TenantId, location: &LocationId) -> StreamId {
        stream(tenant, StreamKind::Stock, &format!("{}@{location}", self.0))
    }
}

/// The ids above hold only characters that a stream id allows, so this cannot fail for them.
fn stream(tenant: &TenantId, kind: StreamKind, id: &str) -> StreamId {
    StreamId::new(tenant, kind, id).expect("typed ids are valid stream ids")
}

/// A number of units: 1 to 1,000,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Quantity(i64);

impl Quantity {
    /// `units`, if between 1 and 1,000,000,000.
    ///
    /// # Errors
    /// Outside that range.
    pub fn new(units: i64) -> Result<Self, IdError> {
        if (1..=1_000_000_000).contains(&units) {
            Ok(Self(units))
        } else {
            Err(IdError::Quantity { found: units })
        }
    }

    /// The number of units.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = IdError;

    fn try_from(units: i64) -> Result<Self, IdError> {
        Self::new(units)
    }
}

impl From<Quantity> for i64 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
