//! Which projections there are.

use std::fmt;

/// Something that is folded from the log into Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Projection {
    /// Every event, by stream: what the write path loads aggregates from.
    Journal,
    /// Products, their SKUs and list prices.
    ProductView,
    /// Stock by SKU and location.
    StockLevel,
    /// Reservations, and which of them have work left.
    ReservationView,
    /// Orders with their lines.
    OrderDetail,
    /// Orders in short, by customer.
    OrdersByUser,
    /// What happened to each order, its checkout, reservation and payments.
    OrderTimeline,
    /// Where each checkout is, and what it waits for.
    SagaBoard,
    /// Payments.
    PaymentView,
    /// Returns.
    ReturnView,
}

impl Projection {
    /// Every projection, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::Journal,
        Self::ProductView,
        Self::StockLevel,
        Self::ReservationView,
        Self::OrderDetail,
        Self::OrdersByUser,
        Self::OrderTimeline,
        Self::SagaBoard,
        Self::PaymentView,
        Self::ReturnView,
    ];

    /// Every projection that answers queries, from a schema of its own: all but the journal.
    pub fn views() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|projection| *projection != Self::Journal)
    }

    /// The name in tables, metrics and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::ProductView => "product_view",
            Self::StockLevel => "stock_level",
            Self::ReservationView => "reservation_view",
            Self::OrderDetail => "order_detail",
            Self::OrdersByUser => "orders_by_user",
            Self::OrderTimeline => "order_timeline",
            Self::SagaBoard => "saga_board",
            Self::PaymentView => "payment_view",
            Self::ReturnView => "return_view",
        }
    }

    /// The projection of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name)
    }

    /// Its place in [`Projection::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The schema of its tables in an epoch.
    pub(crate) fn schema(self, epoch: u32) -> String {
        format!("{}_e{epoch}", self.name())
    }

    /// The full name of one of its tables in an epoch. The live journal's is fixed and in no schema of ours.
    pub(crate) fn table(self, epoch: u32, table: &str) -> String {
        if self.is_fixed(epoch) { table.to_owned() } else { format!("{}.{table}", self.schema(epoch)) }
    }

    /// Whether the migrations own its table in this epoch.
    pub(crate) fn is_fixed(self, epoch: u32) -> bool {
        self == Self::Journal && epoch == crate::epoch::FIRST
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
