//! Where history is kept: stream ids, their kinds, and the partition each belongs to.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Context;

/// Number of the last event of a stream; the first event has version 1, an empty stream version 0.
pub type Version = u64;

/// A partition of the log, 0 ≤ partition < N.
pub type Partition = u16;

/// Whose shop it is. Every stream, row and query names one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant of a call that names none.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// A tenant id: 1 to 64 of `a-z A-Z 0-9 _ - .`.
    ///
    /// # Errors
    /// Another length or character.
    pub fn new(text: &str) -> Result<Self, StreamIdError> {
        if is_id(text) { Ok(Self(text.into())) } else { Err(StreamIdError::Segment { text: shown(text) }) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantId {
    type Error = StreamIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0.as_ref().to_owned()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of history a stream holds: one kind per aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// A product and its variants: `product/prd_…`.
    Product,
    /// Which product owns a SKU: `sku/SKU`.
    Sku,
    /// The list price of a SKU in one currency: `price/SKU.GBP`.
    Price,
    /// A SKU at a location: `stock/SKU@main`.
    Stock,
    /// A hold on several stock items: `reservation/res_…`.
    Reservation,
    /// `order/ord_…`.
    Order,
    /// The process that takes an order from submitted to confirmed: `checkout/chk_…`, same root as its order.
    Checkout,
    /// One attempt to pay an order: `payment/pay_….1`.
    Payment,
    /// `return/ret_…`.
    Return,
    /// What a client's idempotency key stands for: `request/req_…`, same root as the order that the key names.
    Request,
}

impl StreamKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::Product,
        Self::Sku,
        Self::Price,
        Self::Stock,
        Self::Reservation,
        Self::Order,
        Self::Checkout,
        Self::Payment,
        Self::Return,
        Self::Request,
    ];

    /// The middle segment of a stream id.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Sku => "sku",
            Self::Price => "price",
            Self::Stock => "stock",
            Self::Reservation => "reservation",
            Self::Order => "order",
            Self::Checkout => "checkout",
            Self::Payment => "payment",
            Self::Return => "return",
            Self::Request => "request",
        }
    }

    /// The context that owns streams of this kind.
    pub const fn context(self) -> Context {
        match self {
            Self::Product | Self::Sku => Context::Catalog,
            Self::Price => Context::Pricing,
            Self::Stock | Self::Reservation => Context::Inventory,
            Self::Order | Self::Checkout => Context::Order,
            Self::Payment => Context::Payment,
            Self::Return => Context::Returns,
            Self::Request => Context::Requests,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The part of `id` that decides the partition. An order, its checkout, its reservations and its payments share
    /// one (`ord_X`, `chk_X`, `res_X`, `res_X.2`, `pay_X.1`), so that one checkout stays on one shard; and so does the
    /// key that named the order (`req_X`), so that one shard sees whether the key stands for something else already.
    fn root(self, id: &str) -> &str {
        match self {
            Self::Product | Self::Sku | Self::Price | Self::Stock | Self::Return => id,
            Self::Order | Self::Checkout | Self::Reservation | Self::Payment | Self::Request => {
                let root = id.split_once('_').map_or(id, |(_, root)| root);
                root.split_once('.').map_or(root, |(root, _)| root)
            }
        }
    }
}

/// The name of one history: `{tenant}/{kind}/{id}`. Cheap to clone.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct StreamId {
    text: Arc<str>,
    kind: StreamKind,
    tenant_len: u8,
}

impl StreamId {
    /// The stream of `kind` and `id` in a tenant's shop.
    ///
    /// # Errors
    /// `id` is empty, longer than 132 bytes or holds anything but `a-z A-Z 0-9 _ - . @`.
    pub fn new(tenant: &TenantId, kind: StreamKind, id: &str) -> Result<Self, StreamIdError> {
        if id.is_empty() || id.len() > 132 || !id.bytes().all(|b| is_id_byte(b) || b == b'@') {
            return Err(StreamIdError::Segment { text: shown(id) });
        }
        let text = format!("{tenant}/{}/{id}", kind.name()).into();
        Ok(Self { text, kind, tenant_len: tenant.as_str().len() as u8 })
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its kind.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }

    /// Its tenant.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant_str().into())
    }

    /// Its tenant as text.
    pub fn tenant_str(&self) -> &str {
        &self.text[..usize::from(self.tenant_len)]
    }

    /// The last segment.
    pub fn id(&self) -> &str {
        &self.text[usize::from(self.tenant_len) + self.kind.name().len() + 2..]
    }

    /// What the commits of this stream share with those of every other stream of the same order: the order's id. Its own
    /// id, where it belongs to no order.
    pub fn correlation(&self) -> Cow<'_, str> {
        let is_an_orders = match self.kind {
            StreamKind::Order | StreamKind::Checkout | StreamKind::Payment => true,
            // Without a number it is a client's own hold.
            StreamKind::Reservation => self.id().contains('.'),
            StreamKind::Product
            | StreamKind::Sku
            | StreamKind::Price
            | StreamKind::Stock
            | StreamKind::Return
            | StreamKind::Request => false,
        };
        if is_an_orders { format!("ord_{}", self.kind.root(self.id())).into() } else { self.id().into() }
    }

    /// Whether this stream and `other` are in one partition, however many there are.
    pub fn shares_root(&self, other: &Self) -> bool {
        self.tenant_str() == other.tenant_str() && self.kind.root(self.id()) == other.kind.root(other.id())
    }

    /// The partition of this stream in a log of `partitions` partitions.
    pub fn partition(&self, partitions: u16) -> Partition {
        partition_of(self.tenant_str(), self.root(), partitions)
    }

    /// What it shares with the other streams of the same thing: those of an order, its checkout, its reservation and its
    /// payments have one root.
    pub fn root(&self) -> &str {
        self.kind.root(self.id())
    }
}

/// The partition of a root id: XXH3-64 of `tenant/root` modulo the number of partitions.
///
/// Part of the stored format (hash version 1 in the genesis record): it never changes for a log that exists.
pub fn partition_of(tenant: &str, root: &str, partitions: u16) -> Partition {
    let mut name = Vec::with_capacity(tenant.len() + 1 + root.len());
    name.extend_from_slice(tenant.as_bytes());
    name.push(b'/');
    name.extend_from_slice(root.as_bytes());
    (xxh3_64(&name) % u64::from(partitions.max(1))) as Partition
}

/// Text that is not the name of a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamIdError {
    /// A tenant or id with a character or a length that is not allowed.
    #[error("{text:?} is not 1 to 64 letters, digits, '_', '-' or '.'")]
    Segment {
        /// The offending text, cut to 80 characters.
        text: String,
    },
    /// Not three segments, or an unknown kind in the middle.
    #[error("{text:?} is not tenant/kind/id")]
    Shape {
        /// The offending text, cut to 80 characters.
        text: String,
    },
}

/// What an error shows of a text that somebody sent.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Serialize for StreamId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl TryFrom<String> for StreamId {
    type Error = StreamIdError;

    fn try_from(text: String) -> Result<Self, StreamIdError> {
        text.parse()
    }
}

impl FromStr for StreamId {
    type Err = StreamIdError;

    fn from_str(text: &str) -> Result<Self, StreamIdError> {
        let shape = || StreamIdError::Shape { text: shown(text) };
        let (tenant, rest) = text.split_once('/').ok_or_else(shape)?;
        let (kind, id) = rest.split_once('/').ok_or_else(shape)?;
        Self::new(&TenantId::new(tenant)?, StreamKind::from_name(kind).ok_or_else(shape)?, id)
    }
}

impl PartialEq for StreamId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for StreamId {}

impl PartialOrd for StreamId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for StreamId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether `text` may be a tenant or a plain id.
pub(crate) fn is_id(text: &str) -> bool {
    is_name(text, 64)
}

/// Whether `text` is of the characters of ids, and no longer than `max`.
pub(crate) fn is_name(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(is_id_byte)
}

fn is_id_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> StreamId {
        text.parse().unwrap()
    }

    #[test]
    fn a_stream_id_reads_back_as_it_was_written() {
        let id = stream("acme/stock/85123A@main");
        assert_eq!((id.tenant_str(), id.kind(), id.id()), ("acme", StreamKind::Stock, "85123A@main"));
        assert_eq!(id.to_string(), "acme/stock/85123A@main");
    }

    #[test]
    fn what_belongs_to_one_order_shares_its_partition() {
        let order = stream("acme/order/ord_12").partition(16);
        for sibling in [
            "acme/checkout/chk_12",
            "acme/reservation/res_12",
            "acme/reservation/res_12.2",
            "acme/payment/pay_12.1",
            "acme/request/req_12",
        ] {
            assert!(stream(sibling).shares_root(&stream("acme/order/ord_12")), "{sibling}");
            assert!(!stream(sibling).shares_root(&stream("other/order/ord_12")), "{sibling}");
            assert_eq!(stream(sibling).partition(16), order, "{sibling}");
        }
    }

    #[test]
    fn the_partition_of_a_root_never_changes() {
        // Golden: these values are part of the stored format.
        let of = |tenant, root| partition_of(tenant, root, 16);
        assert_eq!([of("default", "1"), of("default", "489434"), of("acme", "85123A@main")], GOLDEN);
    }
    const GOLDEN: [Partition; 3] = [4, 15, 14];

    #[test]
    fn text_that_is_no_stream_is_refused() {
        for text in ["", "a/b", "a/order/", "a/nothing/x", "/order/x", "a/order/x/y", "a/order/ü"] {
            assert!(text.parse::<StreamId>().is_err(), "{text}");
        }
    }
}
