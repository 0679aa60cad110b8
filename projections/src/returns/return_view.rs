//! Returns: what comes back, and whether its money and its stock have followed.

use shopstream_domain::model::Event;
use shopstream_domain::returns::{self, ReturnLine, ReturnStatus};
use shopstream_domain::{
    Currency, OrderId, Partition, PaymentId, ReservationId, ReturnId, StreamId, StreamKind, TenantId,
    Timestamp, Version,
};
use shopstream_eventlog::{Offset, Position};

use tokio_postgres::types::ToSql;

use crate::memory::MemoryViews;
use crate::table::table;
use crate::view::{Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(EntityRows::<ReturnView>::new(schema))]
}

table! {
    /// A return.
    pub struct ReturnView in "returns" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Its id.
            return_id: ReturnId,
        }
        /// The order the units were sold in.
        order_id: OrderId,
        /// The payment that gives the money back.
        payment_id: PaymentId,
        /// The reservation that takes the units back.
        reservation_id: ReservationId,
        /// Where it is.
        status: ReturnStatus,
        /// The currency of every amount.
        currency: Currency,
        /// The price of all units.
        refund_minor: i64,
        /// The units.
        lines: Vec<ReturnLine>,
        /// Why it was refused; of one that is not, what a person said who saw to it by hand.
        refusal: Option<String>,
        /// The step that keeps failing and waits for a person, whatever `status` says of how far it came.
        attention_step: Option<String>,
        /// What was seen there.
        attention_detail: Option<String>,
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
    index "(tenant_id, order_id)"
    index "(tenant_id, return_id) WHERE status <> ALL ('{resolved,refused}')"
    index "(tenant_id, return_id) WHERE attention_step IS NOT NULL"
}

impl ReturnView {
    /// Where its last event is.
    pub const fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    fn wait_for_nobody(&mut self) {
        (self.attention_step, self.attention_detail) = (None, None);
    }
}

impl Entity for ReturnView {
    const KIND: StreamKind = StreamKind::Return;

    fn key(stream: &StreamId) -> Vec<&str> {
        vec![stream.tenant_str(), stream.id()]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let Event::Return(returns::Event::Requested(requested)) = fact.event else {
            return Err(Poison::no_row(fact.event));
        };
        let request = &requested.request;
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        Ok(Self {
            tenant_id: fact.stream().tenant(),
            return_id: request.return_id.clone(),
            order_id: request.order_id.clone(),
            payment_id: request.payment_id.clone(),
            reservation_id: request.reservation_id.clone(),
            status: ReturnStatus::Requested,
            currency: request.currency,
            refund_minor: requested.refund_minor,
            lines: request.lines.clone(),
            refusal: None,
            attention_step: None,
            attention_detail: None,
            created_at: updated_at,
            effective_at: fact.effective_at(),
            updated_at,
            version,
            partition,
            offset,
        })
    }

    fn begins(event: &Event) -> bool {
        matches!(event, Event::Nothing(_) | Event::Return(returns::Event::Requested(_)))
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Return(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        match event {
            returns::Event::Requested(_) => return Err(Poison::repeated(fact.event)),
            returns::Event::Refunded(_) => self.status = ReturnStatus::Refunded,
            returns::Event::Restocked(_) => self.status = ReturnStatus::Restocked,
            returns::Event::Settled(settled) => {
                self.refusal = Some(settled.reason.clone());
                self.wait_for_nobody();
            }
            returns::Event::Resolved(_) => {
                let by_hand = self.refusal.is_some();
                self.status = if by_hand { ReturnStatus::Settled } else { ReturnStatus::Resolved };
                self.wait_for_nobody();
            }
            returns::Event::Refused(refused) => {
                self.status = ReturnStatus::Refused;
                self.refusal = Some(refused.reason.clone());
            }
            returns::Event::NeedsAttention(needs) => {
                self.attention_step = Some(needs.step.clone());
                self.attention_detail = Some(needs.detail.clone());
            }
            returns::Event::Resumed(_) => self.wait_for_nobody(),
        }
        Ok(())
    }

    marked!();
}

impl ReadModels {
    /// A return.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn goods_return(
        &self,
        tenant: &TenantId,
        goods_return: &ReturnId,
    ) -> Result<Option<ReturnView>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.return_id = $2";
        let key: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&tenant.as_str(), &goods_return.as_str()];
        let in_memory = |views: &MemoryViews| {
            views.find(|row: &ReturnView| row.tenant_id == *tenant && row.return_id == *goods_return)
        };
        Ok(self.select(Projection::ReturnView, condition, &key, in_memory).await?.pop())
    }

    /// A page of the returns of all tenants that are not at an end and wait for no person, ordered by tenant and id,
    /// after the given one: for the return process, not for callers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unfinished_returns(
        &self,
        after: Option<(&TenantId, &ReturnId)>,
        limit: u32,
    ) -> Result<Vec<ReturnView>, DatabaseError> {
        let condition = "WHERE t.status <> ALL ('{resolved,refused}') AND t.status <> 'settled' \
             AND t.attention_step IS NULL AND (t.tenant_id, t.return_id) > ($1, $2) ORDER BY t.tenant_id, t.return_id LIMIT $3";
        let (tenant, id) = after.map_or(("", ""), |(tenant, id)| (tenant.as_str(), id.as_str()));
        let in_memory = |views: &MemoryViews| {
            let key =
                |row: &ReturnView| (row.tenant_id.as_str().to_owned(), row.return_id.as_str().to_owned());
            let goes_on = |row: &ReturnView| {
                !matches!(row.status, ReturnStatus::Resolved | ReturnStatus::Refused)
                    && row.attention_step.is_none()
            };
            let after = (tenant.to_owned(), id.to_owned());
            views.page(|row| goes_on(row) && key(row) > after, key, limit)
        };
        self.select(Projection::ReturnView, condition, &[&tenant, &id, &i64::from(limit)], in_memory).await
    }

    /// A page of a tenant's returns that wait for a person, ordered by id, after the given one: for operators.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn stopped_returns(
        &self,
        tenant: &TenantId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ReturnView>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.attention_step IS NOT NULL AND t.return_id > $2 \
             ORDER BY t.return_id LIMIT $3";
        let in_memory = |views: &MemoryViews| {
            let waits = |row: &ReturnView| row.tenant_id == *tenant && row.attention_step.is_some();
            views.page(|row| waits(row) && row.return_id.as_str() > after, |row| row.return_id.clone(), limit)
        };
        let key: [&(dyn ToSql + Sync); 3] = [&tenant.as_str(), &after, &i64::from(limit)];
        self.select(Projection::ReturnView, condition, &key, in_memory).await
    }
}
