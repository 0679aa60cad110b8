//! Orders with their lines.
//!
//! The lines are written once and never again: they are a table of their own, so that a change of status does not
//! carry a thousand lines to the disk. What came back is a short list beside the status.

use serde::{Deserialize, Serialize};
use shopstream_domain::model::Event;
use shopstream_domain::order::{self, CancelReason, OrderLine, Placement};
use shopstream_domain::{
    Currency, CustomerId, OrderId, Partition, PaymentId, ReservationId, StreamId, StreamKind, TenantId,
    Timestamp, Version,
};
use shopstream_eventlog::{Offset, Position};
use tokio_postgres::types::ToSql;

use super::OrderStatus;
use super::status::cancel_reason;
use crate::memory::MemoryViews;
use crate::read_models::{SourceOf, look};
use crate::table::{Row as _, columns, read, table};
use crate::view::{Derived, DerivedRows, Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(EntityRows::<OrderDetail>::new(schema)), Box::new(DerivedRows::<OrderLines>::new(schema))]
}

/// Units of one line that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedUnits {
    /// The line's place in the order, counted from 0.
    pub line: u32,
    /// How many units.
    pub units: i64,
}

table! {
    /// An order, all but its lines.
    pub struct OrderDetail in "orders" {
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
        /// The currency of every amount.
        currency: Currency,
        /// The sum over its lines.
        total_minor: i64,
        /// The price of the units that came back: what is owed for them, not what went back.
        refunded_minor: i64,
        /// Units that came back, by line; lines of which none did are left out.
        returned: Vec<ReturnedUnits>,
        /// Its payments as far as the order knows them, in the order of the attempts.
        payments: Vec<PaymentId>,
        /// The reservation under which it was sold, once confirmed: not always the one that it began with.
        reservation_id: Option<ReservationId>,
        /// Why it is, or is being, cancelled.
        cancel_reason: Option<CancelReason>,
        /// When it was recorded.
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
}

impl OrderDetail {
    /// Where its last event is.
    pub const fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    /// The reservation that counts: that under which it was sold, else the one that it began with.
    pub fn reservation(&self) -> ReservationId {
        self.reservation_id.clone().unwrap_or_else(|| self.order_id.reservation())
    }
}

table! {
    /// The lines of an order.
    pub struct OrderLines in "lines" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Of which order.
            order_id: OrderId,
        }
        /// The lines as ordered.
        lines: Vec<OrderLine>,
    }
}

/// What a draft or a submission places.
pub(super) fn placement(event: &order::Event) -> Option<&Placement> {
    match event {
        order::Event::Drafted(drafted) => Some(&drafted.placement),
        order::Event::Submitted(submitted) => Some(&submitted.placement),
        order::Event::AwaitingPayment(_)
        | order::Event::Confirmed(_)
        | order::Event::CancellationRequested(_)
        | order::Event::Cancelled(_)
        | order::Event::UnitsReturned(_) => None,
    }
}

impl Entity for OrderDetail {
    const KIND: StreamKind = StreamKind::Order;

    fn key(stream: &StreamId) -> Vec<&str> {
        vec![stream.tenant_str(), stream.id()]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let Event::Order(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        let placed = placement(event).ok_or_else(|| Poison::no_row(fact.event))?;
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        Ok(Self {
            tenant_id: fact.stream().tenant(),
            order_id: placed.order_id.clone(),
            customer_id: placed.customer_id.clone(),
            status: OrderStatus::Draft.after(event),
            currency: placed.currency,
            total_minor: placed.total_minor,
            refunded_minor: 0,
            returned: Vec::new(),
            payments: Vec::new(),
            reservation_id: None,
            cancel_reason: None,
            created_at: updated_at,
            effective_at: fact.effective_at(),
            updated_at,
            version,
            partition,
            offset,
        })
    }

    fn begins(event: &Event) -> bool {
        matches!(event, Event::Nothing(_))
            || matches!(event, Event::Order(event) if placement(event).is_some())
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Order(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        match event {
            order::Event::Drafted(_) => return Err(Poison::repeated(fact.event)),
            order::Event::Submitted(submitted) => self.total_minor = submitted.placement.total_minor,
            order::Event::AwaitingPayment(awaiting) => self.paid_by(&awaiting.payment_id),
            order::Event::Confirmed(confirmed) => {
                confirmed.payments.iter().for_each(|payment| self.paid_by(payment));
                self.reservation_id = Some(confirmed.reservation_id.clone());
            }
            order::Event::CancellationRequested(_) | order::Event::Cancelled(_) => {}
            order::Event::UnitsReturned(returned) => {
                let refunded = self.refunded_minor.checked_add(returned.refund_minor);
                self.refunded_minor = refunded.ok_or(Poison::Overflow { field: "refund_minor" })?;
                for line in &returned.lines {
                    self.came_back(line.line, line.quantity.get());
                }
            }
        }
        self.status = self.status.after(event);
        self.cancel_reason = cancel_reason(event).or(self.cancel_reason);
        Ok(())
    }

    marked!();
}

impl OrderDetail {
    fn paid_by(&mut self, payment: &PaymentId) {
        if !self.payments.contains(payment) {
            self.payments.push(payment.clone());
        }
    }

    fn came_back(&mut self, line: u32, units: i64) {
        match self.returned.iter_mut().find(|returned| returned.line == line) {
            // The order never lets more come back than it sold, which is below 10⁹.
            Some(returned) => returned.units = returned.units.saturating_add(units),
            None => self.returned.push(ReturnedUnits { line, units }),
        }
    }
}

impl Derived for OrderLines {
    const KINDS: &'static [StreamKind] = &[StreamKind::Order];
    type Key = (TenantId, OrderId);

    fn key(&self) -> Self::Key {
        (self.tenant_id.clone(), self.order_id.clone())
    }

    fn derive(fact: &Fact<'_>, mut row: impl FnMut(Self)) -> Result<(), Poison> {
        let Event::Order(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        if let Some(placed) = placement(event) {
            row(Self {
                tenant_id: fact.stream().tenant(),
                order_id: placed.order_id.clone(),
                lines: placed.lines.clone(),
            });
        }
        Ok(())
    }
}

/// An order with its lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The order.
    pub detail: OrderDetail,
    /// Its lines as ordered.
    pub lines: Vec<OrderLine>,
}

impl Order {
    /// Units of a line that came back.
    pub fn units_returned(&self, line: u32) -> i64 {
        self.detail
            .returned
            .iter()
            .find(|returned| returned.line == line)
            .map_or(0, |returned| returned.units)
    }
}

fn is_it(tenant: &TenantId, order: &OrderId) -> impl Fn(&OrderDetail) -> bool {
    move |row| row.tenant_id == *tenant && row.order_id == *order
}

impl ReadModels {
    /// An order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn order(&self, tenant: &TenantId, order: &OrderId) -> Result<Option<Order>, DatabaseError> {
        let tables = match self.source() {
            SourceOf::Postgres(tables) => tables,
            SourceOf::Memory(store) => {
                return look(store, Projection::OrderDetail, |views| {
                    let detail = views.find(is_it(tenant, order)).pop()?;
                    let is_theirs = |row: &OrderLines| row.tenant_id == *tenant && row.order_id == *order;
                    Some(Order { detail, lines: views.find(is_theirs).pop()?.lines })
                });
            }
        };
        // One statement, so that order and lines are of one moment.
        let sql = format!(
            "SELECT {}, {} FROM {} AS t JOIN {} AS l USING (tenant_id, order_id) \
             WHERE t.tenant_id = $1 AND t.order_id = $2",
            columns::<OrderDetail>("t."),
            columns::<OrderLines>("l."),
            tables.table(Projection::OrderDetail, OrderDetail::NAME),
            tables.table(Projection::OrderDetail, OrderLines::NAME),
        );
        let key: [&(dyn ToSql + Sync); 2] = [&tenant.as_str(), &order.as_str()];
        let rows = tables.query(Projection::OrderDetail, &sql, &key).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let OrderLines { lines, .. } = read(row, OrderDetail::COLUMNS.len())?;
        Ok(Some(Order { detail: read(row, 0)?, lines }))
    }

    /// An order without its lines.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn order_detail(
        &self,
        tenant: &TenantId,
        order: &OrderId,
    ) -> Result<Option<OrderDetail>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.order_id = $2";
        let key: [&(dyn ToSql + Sync); 2] = [&tenant.as_str(), &order.as_str()];
        let in_memory = |views: &MemoryViews| views.find(is_it(tenant, order));
        Ok(self.select(Projection::OrderDetail, condition, &key, in_memory).await?.pop())
    }
}
