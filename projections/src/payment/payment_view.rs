//! Payments: what was promised, taken and given back.

use shopstream_domain::model::Event;
use shopstream_domain::payment::{self, PaymentIntent, PaymentStatus};
use shopstream_domain::{
    Aggregate, Currency, OrderId, Partition, PaymentId, StreamId, StreamKind, TenantId, Timestamp, Version,
};
use shopstream_eventlog::{Offset, Position};

use tokio_postgres::types::ToSql;

use crate::column::Folded;
use crate::memory::MemoryViews;
use crate::table::table;
use crate::view::{Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(EntityRows::<PaymentView>::new(schema))]
}

table! {
    /// One attempt to pay one order.
    pub struct PaymentView in "payment" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Its id, `pay_….n`.
            payment_id: PaymentId,
        }
        /// The order it pays.
        order_id: OrderId,
        /// Where it is.
        status: PaymentStatus,
        /// The currency of every amount.
        currency: Currency,
        /// What is to be paid.
        amount_minor: i64,
        /// What the provider holds or held for it.
        authorized_minor: i64,
        /// What was taken.
        captured_minor: i64,
        /// What was given back.
        refunded_minor: i64,
        /// The provider's word for its last refusal.
        decline_code: Option<String>,
        /// Whether another attempt may succeed after it.
        decline_retryable: bool,
        /// When the hold lapses.
        capture_before: Option<Timestamp>,
        /// Whether the provider was asked something that it has not answered yet.
        open: bool,
        /// The whole of what is known.
        state: Folded<PaymentIntent>,
        /// When it was recorded.
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
    index "(tenant_id, order_id)"
    index "(tenant_id, payment_id) WHERE open"
}

impl PaymentView {
    /// Which attempt it is, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.payment_id.as_str().rsplit_once('.').and_then(|(_, attempt)| attempt.parse().ok()).unwrap_or(1)
    }

    /// Where its last event is.
    pub const fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    fn fold(&mut self, event: &payment::Event) {
        let intent = &mut self.state.0;
        intent.evolve(event);
        self.status = intent.status().unwrap_or(self.status);
        self.authorized_minor = intent.authorized_minor();
        self.captured_minor = intent.captured_minor();
        self.refunded_minor = intent.refunded_minor();
        self.capture_before = intent.capture_before();
        self.open = intent.open_operation().is_some();
        if let payment::Event::Declined(declined) = event {
            self.decline_code = Some(declined.code.clone());
            self.decline_retryable = declined.retryable;
        }
    }
}

impl Entity for PaymentView {
    const KIND: StreamKind = StreamKind::Payment;

    fn key(stream: &StreamId) -> Vec<&str> {
        vec![stream.tenant_str(), stream.id()]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let Event::Payment(event @ payment::Event::Initiated(initiated)) = fact.event else {
            return Err(Poison::no_row(fact.event));
        };
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        let mut view = Self {
            tenant_id: fact.stream().tenant(),
            payment_id: initiated.payment_id.clone(),
            order_id: initiated.order_id.clone(),
            status: PaymentStatus::Authorizing,
            currency: initiated.currency,
            amount_minor: initiated.amount_minor,
            authorized_minor: 0,
            captured_minor: 0,
            refunded_minor: 0,
            decline_code: None,
            decline_retryable: false,
            capture_before: None,
            open: false,
            state: Folded::default(),
            created_at: updated_at,
            updated_at,
            version,
            partition,
            offset,
        };
        view.fold(event);
        Ok(view)
    }

    fn begins(event: &Event) -> bool {
        matches!(event, Event::Nothing(_) | Event::Payment(payment::Event::Initiated(_)))
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Payment(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        self.fold(event);
        Ok(())
    }

    marked!();
}

impl ReadModels {
    /// A payment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn payment(
        &self,
        tenant: &TenantId,
        payment: &PaymentId,
    ) -> Result<Option<PaymentView>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.payment_id = $2";
        let in_memory = |views: &MemoryViews| {
            views.find(|row: &PaymentView| row.tenant_id == *tenant && row.payment_id == *payment)
        };
        let key: [&(dyn ToSql + Sync); 2] = [&tenant.as_str(), &payment.as_str()];
        Ok(self.select(Projection::PaymentView, condition, &key, in_memory).await?.pop())
    }

    /// All payments of an order, in the order of the attempts.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn payments_of(
        &self,
        tenant: &TenantId,
        order: &OrderId,
    ) -> Result<Vec<PaymentView>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.order_id = $2";
        let in_memory = |views: &MemoryViews| {
            views.find(|row: &PaymentView| row.tenant_id == *tenant && row.order_id == *order)
        };
        let key: [&(dyn ToSql + Sync); 2] = [&tenant.as_str(), &order.as_str()];
        let mut payments = self.select(Projection::PaymentView, condition, &key, in_memory).await?;
        // Not in SQL: as text, attempt 10 would come before attempt 2.
        payments.sort_by_key(PaymentView::attempt);
        Ok(payments)
    }

    /// A page of the payments of all tenants whose provider has still to answer, ordered by tenant and id, after the
    /// given one: for the effect runner, not for callers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open_payments(
        &self,
        after: Option<(&TenantId, &PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentView>, DatabaseError> {
        let condition = "WHERE t.open AND (t.tenant_id, t.payment_id) > ($1, $2) \
             ORDER BY t.tenant_id, t.payment_id LIMIT $3";
        let (tenant, id) = after.map_or(("", ""), |(tenant, id)| (tenant.as_str(), id.as_str()));
        let in_memory = |views: &MemoryViews| {
            let key =
                |row: &PaymentView| (row.tenant_id.as_str().to_owned(), row.payment_id.as_str().to_owned());
            let after = (tenant.to_owned(), id.to_owned());
            views.page(|row| row.open && key(row) > after, key, limit)
        };
        self.select(Projection::PaymentView, condition, &[&tenant, &id, &i64::from(limit)], in_memory).await
    }
}
