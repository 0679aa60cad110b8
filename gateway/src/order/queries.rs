//! GetOrder and GetUserOrders.

use futures::try_join;
use prost::Message;
use shopstream_domain::{CustomerId, OrderId, Timestamp};
use shopstream_projections::Projection;
use shopstream_projections::order::OrderKey;
use shopstream_proto::Validate;
use shopstream_proto::order::v1 as wire;
use shopstream_proto::order::v1::{GetOrderRequest, GetUserOrdersRequest, GetUserOrdersResponse};

use super::view;
use crate::call::Call;
use crate::failure::Failure;
use crate::shop::Shop;
use crate::token::Scope;
use crate::wire::id;

/// What a page has where the request leaves it open, and at most.
const PAGE: (u32, u32) = (50, 1_000);

pub(super) async fn order(
    shop: &Shop,
    call: &Call,
    request: &GetOrderRequest,
) -> Result<wire::Order, Failure> {
    request.validate()?;
    let order_id = id(OrderId::new(&request.order_id), "order_id")?;
    for projection in [Projection::OrderDetail, Projection::SagaBoard, Projection::PaymentView] {
        shop.see(call, projection, &request.min_position).await?;
    }
    let (reads, tenant) = (shop.reads(), &call.tenant);
    // Side by side on one connection; each is of its own moment, and the order's version says of which it is.
    let found = async {
        Ok(try_join!(
            reads.order(tenant, &order_id),
            reads.checkout(tenant, &order_id),
            reads.payments_of(tenant, &order_id),
        )?)
    };
    let (order, checkout, payments) = call.read_within(found).await?;
    let order = order.ok_or_else(|| not_found(&order_id))?;
    Ok(view::order(&order, checkout.as_ref(), &payments))
}

pub(crate) fn not_found(order_id: &OrderId) -> Failure {
    Failure::not_found("ORDER_NOT_FOUND", format!("there is no order {order_id}"))
}

/// The last order of a page.
#[derive(Clone, PartialEq, Message)]
struct PageToken {
    /// When it was recorded, in microseconds since 1970.
    #[prost(int64, tag = "1")]
    created_at: i64,
    /// Its id.
    #[prost(string, tag = "2")]
    order_id: String,
}

pub(super) async fn user_orders(
    shop: &Shop,
    call: &Call,
    mut request: GetUserOrdersRequest,
) -> Result<GetUserOrdersResponse, Failure> {
    request.validate()?;
    let customer = id(CustomerId::new(&request.customer_id), "customer_id")?;
    let limit = page_size(request.page_size);
    let min_position = std::mem::take(&mut request.min_position);
    let token = std::mem::take(&mut request.page_token);
    request.page_size = 0;
    let scope = Scope::new("GetUserOrders", "page_token", &call.tenant, &request);
    let after = if token.is_empty() { None } else { Some(order_key(&scope.open(&token)?)?) };

    shop.see(call, Projection::OrdersByUser, &min_position).await?;
    let reads = shop.reads();
    // One more than asked for tells whether there is another page.
    let found = async { Ok(reads.orders_of(&call.tenant, &customer, after.as_ref(), limit + 1).await?) };
    let mut rows = call.read_within(found).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_page_token = match rows.last() {
        Some(last) if more => scope.seal(&PageToken {
            created_at: last.created_at.micros(),
            order_id: last.order_id.as_str().to_owned(),
        }),
        Some(_) | None => String::new(),
    };
    Ok(GetUserOrdersResponse { orders: rows.iter().map(view::summary).collect(), next_page_token })
}

/// How much a page has, of a size that validation has seen is not negative.
pub(crate) fn page_size(asked: i32) -> u32 {
    match asked.unsigned_abs() {
        0 => PAGE.0,
        some => some.min(PAGE.1),
    }
}

fn order_key(token: &PageToken) -> Result<OrderKey, Failure> {
    let order_id = id(OrderId::new(&token.order_id), "page_token")?;
    Ok(OrderKey { created_at: Timestamp::from_micros(token.created_at), order_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_fifty_orders_unless_asked_and_a_thousand_at_most() {
        assert_eq!([0, 1, 1_000, 1_001, i32::MAX].map(page_size), [50, 1, 1_000, 1_000, 1_000]);
    }
}
