//! Returns: what comes back, and whether its money and its stock have followed.

use shopstream_domain::model::Event;
use shopstream_domain::returns::{self, ReturnLine, ReturnStatus};
use shopstream_domain::{
    Currency, OrderId, Partition, PaymentId, ReservationId, ReturnId, StreamId, StreamKind, TenantId,
    Timestamp, Version,
};
use shopstream_eventlog::{Offset, Position};

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
        /// Why it was refused.
        refusal: Option<String>,
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
}

impl ReturnView {
    /// Where its last event is.
    pub const fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
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
            created_at: updated_at,
            effective_at: fact.effective_at(),
            updated_at,
            version,
            partition,
            offset,
        })
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Return(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        match event {
            returns::Event::Requested(_) => return Err(Poison::repeated(fact.event)),
            returns::Event::Refunded(_) => self.status = ReturnStatus::Refunded,
            returns::Event::Restocked(_) => self.status = ReturnStatus::Restocked,
            returns::Event::Resolved(_) => self.status = ReturnStatus::Resolved,
            returns::Event::Refused(refused) => {
                self.status = ReturnStatus::Refused;
                self.refusal = Some(refused.reason.clone());
            }
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
        Ok(self.select(Projection::ReturnView, condition, &key).await?.pop())
    }

    /// A page of the returns of all tenants that are not at an end, ordered by tenant and id, after the given one:
    /// for the return process, not for callers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unfinished_returns(
        &self,
        after: Option<(&TenantId, &ReturnId)>,
        limit: u32,
    ) -> Result<Vec<ReturnView>, DatabaseError> {
        let condition = "WHERE t.status <> ALL ('{resolved,refused}') AND (t.tenant_id, t.return_id) > ($1, $2) \
             ORDER BY t.tenant_id, t.return_id LIMIT $3";
        let (tenant, id) = after.map_or(("", ""), |(tenant, id)| (tenant.as_str(), id.as_str()));
        self.select(Projection::ReturnView, condition, &[&tenant, &id, &i64::from(limit)]).await
    }
}
