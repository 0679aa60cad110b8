//! Where each checkout is, what it waits for, and which of them need a person.
//!
//! The runner of `sagas` reads from here, after a restart, which checkouts it has to go on with and which timers
//! it has to set.

use shopstream_domain::model::Event;
use shopstream_domain::order::{CancelReason, Checkout, CheckoutEvent, Stage, TimerKind};
use shopstream_domain::{Aggregate, OrderId, Partition, StreamId, StreamKind, TenantId, Timestamp, Version};
use shopstream_eventlog::{Offset, Position};

use tokio_postgres::types::ToSql;

use crate::column::{Column, Folded, Instant};
use crate::memory::MemoryViews;
use crate::table::table;
use crate::view::{Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(EntityRows::<CheckoutStatus>::new(schema))]
}

table! {
    /// A checkout.
    pub struct CheckoutStatus in "checkout" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Its id, `chk_…`.
            checkout_id: String,
        }
        /// The order it is for.
        order_id: OrderId,
        /// Where it is.
        stage: Stage,
        /// Why it undoes, or has undone, what it did.
        reason: Option<CancelReason>,
        /// What its timer is for.
        timer_kind: Option<TimerKind>,
        /// When its timer is due.
        timer_due_at: Option<Timestamp>,
        /// The step that needs a person, and what was seen there.
        attention: Option<String>,
        /// The whole of what it knows.
        state: Folded<Checkout>,
        /// When it began.
        created_at: Timestamp,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its last event.
        version: Version,
        /// Where that event is.
        partition: Partition,
        /// Where that event is.
        offset: Offset,
    }
    index "(tenant_id, checkout_id) WHERE stage <> ALL ('{done,cancelled}')"
    index "(timer_due_at, tenant_id, checkout_id) WHERE timer_due_at IS NOT NULL"
}

impl CheckoutStatus {
    /// The stream that it is the fold of.
    pub fn stream(&self) -> StreamId {
        self.order_id.checkout_stream(&self.tenant_id)
    }

    /// Where its last event is.
    pub const fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    fn fold(&mut self, event: &CheckoutEvent) {
        let checkout = &mut self.state.0;
        checkout.evolve(event);
        self.stage = checkout.stage().unwrap_or(self.stage);
        self.reason = checkout.reason();
        (self.timer_kind, self.timer_due_at) =
            checkout.timer().map_or((None, None), |timer| (Some(timer.kind), Some(timer.due_at)));
        self.attention = match event {
            CheckoutEvent::NeedsAttention(needs) => Some(format!("{}: {}", needs.step, needs.detail)),
            CheckoutEvent::Started(_)
            | CheckoutEvent::StockHeld(_)
            | CheckoutEvent::PaymentPending(_)
            | CheckoutEvent::AwaitingCustomer(_)
            | CheckoutEvent::PaymentUnknown(_)
            | CheckoutEvent::PaymentSecured(_)
            | CheckoutEvent::StockCommitted(_)
            | CheckoutEvent::Done(_)
            | CheckoutEvent::Compensating(_)
            | CheckoutEvent::Reversing(_)
            | CheckoutEvent::Cancelled(_)
            | CheckoutEvent::Resumed(_)
            | CheckoutEvent::Settled(_) => None,
        };
    }
}

impl Entity for CheckoutStatus {
    const KIND: StreamKind = StreamKind::Checkout;

    fn key(stream: &StreamId) -> Vec<&str> {
        vec![stream.tenant_str(), stream.id()]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let Event::Checkout(event @ CheckoutEvent::Started(started)) = fact.event else {
            return Err(Poison::no_row(fact.event));
        };
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        let mut status = Self {
            tenant_id: fact.stream().tenant(),
            checkout_id: fact.stream().id().to_owned(),
            order_id: started.order_id.clone(),
            stage: Stage::Started,
            reason: None,
            timer_kind: None,
            timer_due_at: None,
            attention: None,
            state: Folded::default(),
            created_at: updated_at,
            updated_at,
            version,
            partition,
            offset,
        };
        status.fold(event);
        Ok(status)
    }

    fn begins(event: &Event) -> bool {
        matches!(event, Event::Nothing(_) | Event::Checkout(CheckoutEvent::Started(_)))
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Checkout(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        self.fold(event);
        Ok(())
    }

    marked!();
}

impl ReadModels {
    /// The checkout of an order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn checkout(
        &self,
        tenant: &TenantId,
        order: &OrderId,
    ) -> Result<Option<CheckoutStatus>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.checkout_id = $2";
        let stream = order.checkout_stream(tenant);
        let in_memory = |views: &MemoryViews| {
            views.find(|row: &CheckoutStatus| row.tenant_id == *tenant && row.checkout_id == stream.id())
        };
        let key: [&(dyn ToSql + Sync); 2] = [&tenant.as_str(), &stream.id()];
        Ok(self.select(Projection::SagaBoard, condition, &key, in_memory).await?.pop())
    }

    /// A page of the checkouts of all tenants that are not at an end, ordered by tenant and id, after the given
    /// one: for the saga runner, not for callers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unfinished_checkouts(
        &self,
        after: Option<(&TenantId, &str)>,
        limit: u32,
    ) -> Result<Vec<CheckoutStatus>, DatabaseError> {
        let condition = "WHERE t.stage <> ALL ('{done,cancelled}') AND (t.tenant_id, t.checkout_id) > ($1, $2) \
             ORDER BY t.tenant_id, t.checkout_id LIMIT $3";
        let (tenant, id) = after.map_or(("", ""), |(tenant, id)| (tenant.as_str(), id));
        let in_memory = |views: &MemoryViews| {
            let key = |row: &CheckoutStatus| (row.tenant_id.as_str().to_owned(), row.checkout_id.clone());
            let open = |row: &CheckoutStatus| !matches!(row.stage, Stage::Done | Stage::Cancelled);
            let after = (tenant.to_owned(), id.to_owned());
            views.page(|row| open(row) && key(row) > after, key, limit)
        };
        self.select(Projection::SagaBoard, condition, &[&tenant, &id, &i64::from(limit)], in_memory).await
    }

    /// The checkouts of all tenants whose timer is due at `now`, the longest due first: for the saga runner.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn due_checkouts(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<CheckoutStatus>, DatabaseError> {
        let condition =
            "WHERE t.timer_due_at <= $1 ORDER BY t.timer_due_at, t.tenant_id, t.checkout_id LIMIT $2";
        let in_memory = |views: &MemoryViews| {
            let is_due = |row: &CheckoutStatus| row.timer_due_at.is_some_and(|due| due <= now);
            let key =
                |row: &CheckoutStatus| (row.timer_due_at, row.tenant_id.clone(), row.checkout_id.clone());
            views.page(is_due, key, limit)
        };
        self.select(Projection::SagaBoard, condition, &[&Instant(now), &i64::from(limit)], in_memory).await
    }

    /// A page of a tenant's checkouts at `stage`, ordered by id, after the given one: for operators.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn checkouts_at(
        &self,
        tenant: &TenantId,
        stage: Stage,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CheckoutStatus>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.stage = $2 AND t.checkout_id > $3 \
             ORDER BY t.checkout_id LIMIT $4";
        let in_memory = |views: &MemoryViews| {
            let keep = |row: &CheckoutStatus| {
                row.tenant_id == *tenant
                    && row.stage == stage
                    && row.checkout_id.as_str() > after.unwrap_or("")
            };
            views.page(keep, |row| row.checkout_id.clone(), limit)
        };
        self.select(
            Projection::SagaBoard,
            condition,
            &[&tenant.as_str(), &stage.wire(), &after.unwrap_or(""), &i64::from(limit)],
            in_memory,
        )
        .await
    }
}
