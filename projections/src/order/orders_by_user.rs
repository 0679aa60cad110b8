//! Orders in short, by customer, newest first.

use std::cmp::Reverse;

use shopstream_domain::model::Event;
use shopstream_domain::order::{CancelReason, Placement};
use shopstream_domain::{
    Currency, CustomerId, OrderId, Partition, StreamId, StreamKind, TenantId, Timestamp, Version,
};
use shopstream_eventlog::{Offset, Position};

use super::OrderStatus;
use super::order_detail::placement;
use super::status::cancel_reason;
use crate::column::Instant;
use crate::memory::MemoryViews;
use crate::table::table;
use crate::view::{Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(EntityRows::<OrderSummary>::new(schema))]
}

table! {
    /// An order in a list.
    pub struct OrderSummary in "orders" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Its id.
            order_id: OrderId,
        }
        /// Who buys.
        customer_id: CustomerId,
        /// Where it is.
        status: OrderStatus,
        /// The currency of the total.
        currency: Currency,
        /// What it costs.
        total_minor: i64,
        /// Number of lines.
        line_count: u32,
        /// Units over all lines.
        unit_count: i64,
        /// Why it is, or is being, cancelled.
        cancel_reason: Option<CancelReason>,
        /// When it was recorded: what lists are ordered by.
        created_at: Timestamp,
        /// When it was true in the business.
        effective_at: Timestamp,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its last event.
        version: Version,
        /// Where that event is.
        partition: Partition,
        /// Where that event is.
        offset: Offset,
    }
    index "(tenant_id, customer_id, created_at, order_id)"
}

/// A place in a customer's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderKey {
    /// When the order there was recorded.
    pub created_at: Timestamp,
    /// Its id.
    pub order_id: OrderId,
}

impl OrderSummary {
    /// Its place in its customer's list.
    pub fn key(&self) -> OrderKey {
        OrderKey { created_at: self.created_at, order_id: self.order_id.clone() }
    }

    /// Where its last event is.
    pub const fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    fn place(&mut self, placed: &Placement) -> Result<(), Poison> {
        let units = placed.lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.quantity.get()));
        self.unit_count = units.ok_or(Poison::Overflow { field: "unit_count" })?;
        self.line_count = u32::try_from(placed.lines.len()).unwrap_or(u32::MAX);
        self.total_minor = placed.total_minor;
        Ok(())
    }
}

impl Entity for OrderSummary {
    const KIND: StreamKind = StreamKind::Order;

    fn key(stream: &StreamId) -> Vec<&str> {
        vec![stream.tenant_str(), stream.id()]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let Event::Order(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        let placed = placement(event).ok_or_else(|| Poison::no_row(fact.event))?;
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        let mut summary = Self {
            tenant_id: fact.stream().tenant(),
            order_id: placed.order_id.clone(),
            customer_id: placed.customer_id.clone(),
            status: OrderStatus::Draft.after(event),
            currency: placed.currency,
            total_minor: placed.total_minor,
            line_count: 0,
            unit_count: 0,
            cancel_reason: None,
            created_at: updated_at,
            effective_at: fact.effective_at(),
            updated_at,
            version,
            partition,
            offset,
        };
        summary.place(placed)?;
        Ok(summary)
    }

    fn begins(event: &Event) -> bool {
        matches!(event, Event::Nothing(_))
            || matches!(event, Event::Order(event) if placement(event).is_some())
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Order(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        if let Some(placed) = placement(event) {
            self.place(placed)?;
        }
        self.status = self.status.after(event);
        self.cancel_reason = cancel_reason(event).or(self.cancel_reason);
        Ok(())
    }

    marked!();
}

impl ReadModels {
    /// A page of a customer's orders, newest first, after the given place.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn orders_of(
        &self,
        tenant: &TenantId,
        customer: &CustomerId,
        after: Option<&OrderKey>,
        limit: u32,
    ) -> Result<Vec<OrderSummary>, DatabaseError> {
        let order = "ORDER BY t.created_at DESC, t.order_id DESC LIMIT";
        let in_memory = |views: &MemoryViews| {
            let key = |row: &OrderSummary| Reverse((row.created_at, row.order_id.clone()));
            let after = after.map(|after| Reverse((after.created_at, after.order_id.clone())));
            let is_theirs = |row: &OrderSummary| row.tenant_id == *tenant && row.customer_id == *customer;
            let keep =
                |row: &OrderSummary| is_theirs(row) && after.as_ref().is_none_or(|after| key(row) > *after);
            views.page(keep, key, limit)
        };
        let limit = i64::from(limit);
        let (tenant, customer) = (tenant.as_str(), customer.as_str());
        match after {
            None => {
                let rest = format!("WHERE t.tenant_id = $1 AND t.customer_id = $2 {order} $3");
                self.select(Projection::OrdersByUser, &rest, &[&tenant, &customer, &limit], in_memory).await
            }
            Some(OrderKey { created_at, order_id }) => {
                let rest = format!(
                    "WHERE t.tenant_id = $1 AND t.customer_id = $2 AND (t.created_at, t.order_id) < ($3, $4) \
                     {order} $5"
                );
                let (created_at, order_id) = (Instant(*created_at), order_id.as_str());
                self.select(
                    Projection::OrdersByUser,
                    &rest,
                    &[&tenant, &customer, &created_at, &order_id, &limit],
                    in_memory,
                )
                .await
            }
        }
    }

    /// A page of a tenant's orders, ordered by id, after the given one: all of them, or where `orders` names some
    /// those, or where `customer` is given theirs. For streams, which begin with what there is.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn order_summaries(
        &self,
        tenant: &TenantId,
        orders: &[OrderId],
        customer: Option<&CustomerId>,
        after: Option<&OrderId>,
        limit: u32,
    ) -> Result<Vec<OrderSummary>, DatabaseError> {
        let rest = "WHERE t.tenant_id = $1 AND t.order_id > $2 \
             AND (cardinality($3::text[]) = 0 OR t.order_id = ANY($3)) \
             AND ($4::text IS NULL OR t.customer_id = $4) ORDER BY t.order_id LIMIT $5";
        let in_memory = |views: &MemoryViews| {
            let keep = |row: &OrderSummary| {
                row.tenant_id == *tenant
                    && after.is_none_or(|after| row.order_id > *after)
                    && (orders.is_empty() || orders.contains(&row.order_id))
                    && customer.is_none_or(|customer| row.customer_id == *customer)
            };
            views.page(keep, |row| row.order_id.clone(), limit)
        };
        let orders: Vec<&str> = orders.iter().map(OrderId::as_str).collect();
        self.select(
            Projection::OrdersByUser,
            rest,
            &[
                &tenant.as_str(),
                &after.map_or("", OrderId::as_str),
                &orders,
                &customer.map(CustomerId::as_str),
                &i64::from(limit),
            ],
            in_memory,
        )
        .await
    }
}
