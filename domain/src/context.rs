//! The bounded contexts. Each layer matches on this enum without a wildcard arm, so adding a context stops the
//! build at every place that needs to know it.

/// A bounded context: the word is the module, the proto package and the folder in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// Products and the SKUs they sell.
    Catalog,
    /// What a SKU costs, now and before.
    Pricing,
    /// Stock, and who has reserved it.
    Inventory,
    /// Orders and their checkout.
    Order,
    /// Money promised, taken and given back by a provider.
    Payment,
    /// Goods that come back.
    Returns,
    /// What the idempotency keys of clients stand for.
    Requests,
}

impl Context {
    /// Every context, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Catalog,
        Self::Pricing,
        Self::Inventory,
        Self::Order,
        Self::Payment,
        Self::Returns,
        Self::Requests,
    ];

    /// The word that names the context everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Pricing => "pricing",
            Self::Inventory => "inventory",
            Self::Order => "order",
            Self::Payment => "payment",
            Self::Returns => "returns",
            Self::Requests => "requests",
        }
    }
}
