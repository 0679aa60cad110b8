//! GetOrder and GetUserOrders.

use std::mem::take;

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
use crate::page::Page;
use crate::shop::Shop;
use crate::wire::id;

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
    let min_position = take(&mut request.min_position);
    let page = Page::asked("GetUserOrders", &call.tenant, &mut request)?;
    let after = page.after.as_ref().map(order_key).transpose()?;

    shop.see(call, Projection::OrdersByUser, &min_position).await?;
    let reads = shop.reads();
    let found = async { Ok(reads.orders_of(&call.tenant, &customer, after.as_ref(), page.look()).await?) };
    let mut rows = call.read_within(found).await?;
    let next_page_token = page.cut(&mut rows, |last| PageToken {
        created_at: last.created_at.micros(),
        order_id: last.order_id.as_str().to_owned(),
    });
    Ok(GetUserOrdersResponse { orders: rows.iter().map(view::summary).collect(), next_page_token })
}

fn order_key(token: &PageToken) -> Result<OrderKey, Failure> {
    let order_id = id(OrderId::new(&token.order_id), "page_token")?;
    Ok(OrderKey { created_at: Timestamp::from_micros(token.created_at), order_id })
}
