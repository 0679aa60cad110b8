//! Ids are types and look like what they name: a `PaymentId` cannot be passed where an `OrderId` is wanted.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::stream::{is_id, is_name};
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

/// Declares an id type over shared text: `Name, "prefix", what may stand behind it, "what it is"`.
macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal, $rest:ident, $expected:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Parses ", $expected, ".")]
            ///
            /// # Errors
            /// Another length, character or prefix.
            pub fn new(text: &str) -> Result<Self, IdError> {
                match text.strip_prefix($prefix) {
                    Some(rest) if $rest(rest) => Ok(Self(text.into())),
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

/// What is left of an id that others derive from: no `.`, which is where a number follows.
fn is_root(rest: &str) -> bool {
    is_name(rest, 60) && !rest.contains('.')
}

/// A root, and which of its payments or holds this is, where there may be several.
fn is_numbered(rest: &str) -> bool {
    let (root, number) = rest.split_once('.').unwrap_or((rest, "1"));
    is_root(root) && (1..=4).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit())
}

id!(/// A product: `prd_…`.
    ProductId, "prd_", is_root, "a product id (prd_ and 1 to 60 letters, digits, '_' or '-')");
id!(/// An order: `ord_…`.
    OrderId, "ord_", is_root, "an order id (ord_ and 1 to 60 letters, digits, '_' or '-')");
id!(/// A hold on stock: `res_…` where a client asked for it, `res_….n` where an order's checkout did.
    ReservationId, "res_", is_numbered, "a reservation id (res_ and 1 to 60 letters, digits, '_' or '-')");
id!(/// One attempt to pay: `pay_….n`.
    PaymentId, "pay_", is_numbered, "a payment id (pay_, 1 to 60 letters, digits, '_' or '-', and .n)");
id!(/// A return of goods: `ret_…`.
    ReturnId, "ret_", is_root, "a return id (ret_ and 1 to 60 letters, digits, '_' or '-')");
id!(/// Who buys.
    CustomerId, "", is_id, "a customer id (1 to 64 letters, digits, '_', '-' or '.')");
id!(/// What is sold: a stock keeping unit.
    Sku, "", is_id, "a SKU (1 to 64 letters, digits, '_', '-' or '.')");
id!(/// Where stock lies.
    LocationId, "", is_id, "a location id (1 to 64 letters, digits, '_', '-' or '.')");

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

    /// The reservation that holds this order's stock. Numbered, for numbers are the system's: a client can ask for no
    /// such id, so no hold of a client can pass for an order's (see [`ReservationId::is_of_an_order`]).
    pub fn reservation(&self) -> ReservationId {
        ReservationId(format!("res_{}.1", self.root()).into())
    }

    /// The reservation that held this order's stock before holds of orders were numbered.
    pub fn reservation_of_old(&self) -> ReservationId {
        ReservationId(format!("res_{}", self.root()).into())
    }

    /// The reservation that takes the place of [`OrderId::reservation`] where that ran out under a secured payment.
    pub fn second_reservation(&self) -> ReservationId {
        ReservationId(format!("res_{}.2", self.root()).into())
    }

    /// The order whose story the reservation with this id is part of. Orders of old held their stock under `res_X`,
    /// without a number.
    pub fn of_reservation(reservation_id: &str) -> Option<Self> {
        let rest = reservation_id.strip_prefix("res_")?;
        let root = rest.strip_suffix(".1").or_else(|| rest.strip_suffix(".2")).unwrap_or(rest);
        Self::new(&format!("ord_{root}")).ok()
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
    /// Whether only an order's checkout takes holds under this id.
    pub fn is_of_an_order(&self) -> bool {
        self.0.contains('.')
    }

    /// The stream of this reservation.
    pub fn stream(&self, tenant: &TenantId) -> StreamId {
        stream(tenant, StreamKind::Reservation, &self.0)
    }
}

impl PaymentId {
    /// The order that it pays.
    pub fn order_id(&self) -> OrderId {
        let root = self.0["pay_".len()..].split('.').next().unwrap_or_default();
        OrderId(format!("ord_{root}").into())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_derives_from_the_longest_order_id_is_an_id_too() {
        let order_id = OrderId::new(&format!("ord_{}", "x".repeat(60))).unwrap();
        let holds = [order_id.reservation(), order_id.second_reservation()];
        for hold in holds {
            assert_eq!(ReservationId::new(hold.as_str()).as_ref(), Ok(&hold));
            assert_eq!(OrderId::of_reservation(hold.as_str()).as_ref(), Some(&order_id));
        }
        let payment = order_id.payment(9_999);
        assert_eq!(PaymentId::new(payment.as_str()).as_ref(), Ok(&payment));
        assert_eq!(payment.order_id(), order_id);
    }

    #[test]
    fn no_order_has_what_belongs_to_another() {
        for text in ["ord_1.2", "ord_", "ord_1@2", &format!("ord_{}", "x".repeat(61))] {
            assert!(OrderId::new(text).is_err(), "{text}");
        }
        for text in ["res_1.", "res_.2", "res_1.x", "res_1.2.3", "res_1.12345"] {
            assert!(ReservationId::new(text).is_err(), "{text}");
        }
        assert_eq!(OrderId::of_reservation("res_1.3"), None);
    }

    #[test]
    fn the_hold_of_an_order_is_known_by_its_number() {
        let order_id = OrderId::new("ord_1").unwrap();
        assert!(order_id.reservation().is_of_an_order() && order_id.second_reservation().is_of_an_order());
        assert!(!ReservationId::new("res_1").unwrap().is_of_an_order());
        let of_old = OrderId::of_reservation("res_1");
        assert_eq!(of_old, Some(order_id));
    }
}
