//! StreamOrderUpdates: which orders it is about, and what it says of them.

use std::collections::HashSet;

use shopstream_domain::{CustomerId, OrderId, StreamId, TenantId};
use shopstream_projections::order::OrderSummary;
use shopstream_projections::{DatabaseError, Projection, ReadModels};
use shopstream_proto::order::v1::{StreamOrderUpdatesRequest, StreamOrderUpdatesResponse};

use super::view;
use crate::failure::Failure;
use crate::shop::Shop;
use crate::updates::{Folded, Subject};
use crate::wire::id;

/// The orders that one request names.
pub(super) struct OrderUpdates {
    /// Empty: all.
    orders: Vec<OrderId>,
    names: HashSet<String>,
    customer: Option<CustomerId>,
}

impl Subject for OrderUpdates {
    type Request = StreamOrderUpdatesRequest;
    type Row = OrderSummary;
    type Key = OrderId;
    type Message = StreamOrderUpdatesResponse;

    const METHOD: &'static str = "StreamOrderUpdates";
    const VIEW: Projection = Projection::OrdersByUser;

    fn of(request: &StreamOrderUpdatesRequest) -> Result<Self, Failure> {
        let orders = request.order_ids.iter().enumerate();
        let orders = orders.map(|(i, name)| id(OrderId::new(name), &format!("order_ids[{i}]")));
        let customer = Some(request.customer_id.as_str()).filter(|name| !name.is_empty());
        Ok(Self {
            orders: orders.collect::<Result<_, _>>()?,
            names: request.order_ids.iter().cloned().collect(),
            customer: customer.map(|name| id(CustomerId::new(name), "customer_id")).transpose()?,
        })
    }

    fn folded(shop: &Shop) -> &Folded<OrderSummary> {
        &shop.order_rows
    }

    fn key(row: &OrderSummary) -> OrderId {
        row.order_id.clone()
    }

    fn stream(tenant: &TenantId, order_id: &OrderId) -> StreamId {
        order_id.stream(tenant)
    }

    fn key_of(text: &str) -> Result<OrderId, Failure> {
        id(OrderId::new(text), "resume_token")
    }

    async fn page(
        &self,
        reads: &ReadModels,
        tenant: &TenantId,
        after: Option<&OrderId>,
        limit: u32,
    ) -> Result<Vec<OrderSummary>, DatabaseError> {
        reads.order_summaries(tenant, &self.orders, self.customer.as_ref(), after, limit).await
    }

    fn may_want(&self, id: &str) -> bool {
        self.names.is_empty() || self.names.contains(id)
    }

    fn wants(&self, row: &OrderSummary) -> bool {
        self.customer.as_ref().is_none_or(|customer| *customer == row.customer_id)
    }

    fn message(
        row: Option<&OrderSummary>,
        event_type: &str,
        resume_token: String,
    ) -> StreamOrderUpdatesResponse {
        StreamOrderUpdatesResponse {
            order: row.map(view::summary),
            event_type: event_type.to_owned(),
            resume_token,
        }
    }
}
