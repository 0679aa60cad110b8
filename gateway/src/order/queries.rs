//! GetOrder and GetUserOrders.

use std::mem::take;

use futures::try_join;
use prost::Message;
use shopstream_domain::{CustomerId, OrderId, Timestamp};
use shopstream_eventlog::{Offset, Position};
use shopstream_projections::Projection;
use shopstream_projections::order::{CheckoutStatus, Order, OrderKey};
use shopstream_projections::payment::PaymentView;
use shopstream_proto::Validate;
use shopstream_proto::order::v1::{
    GetOrderRequest, GetOrderResponse, GetUserOrdersRequest, GetUserOrdersResponse,
};

use super::view;
use crate::call::Call;
use crate::failure::Failure;
use crate::page::Page;
use crate::positions::position;
use crate::recent::About;
use crate::shop::Shop;
use crate::wire::id;

/// The views that an order is shown from.
const VIEWS: [Projection; 3] = [Projection::OrderDetail, Projection::SagaBoard, Projection::PaymentView];

pub(super) async fn order(
    shop: &Shop,
    call: &Call,
    request: &GetOrderRequest,
) -> Result<GetOrderResponse, Failure> {
    request.validate()?;
    let order_id = id(OrderId::new(&request.order_id), "order_id")?;
    let stream = order_id.stream(&call.tenant);
    let read = || Moment::of(shop, call, &order_id);
    let found = shop.find(call, &VIEWS, &stream, &request.min_position, read).await?;
    let moment = found.ok_or_else(|| not_found(&order_id))?;
    shop.note_shown(About::stream(&stream), moment.at);
    Ok(GetOrderResponse {
        order: Some(view::order(&moment.order, moment.checkout.as_ref(), &moment.payments)),
        position: Some(position(moment.at)),
    })
}

/// An order with what belongs to it, as all of it was at one moment.
struct Moment {
    order: Order,
    checkout: Option<CheckoutStatus>,
    payments: Vec<PaymentView>,
    /// The last event of any of them.
    at: Position,
}

impl Moment {
    /// Reads from every view until what they show is of one moment.
    ///
    /// The views commit each for itself, so one may have more than another. But all streams of an order are on one
    /// partition, and each row says which event it had last: where every view had come to the last event of all before it
    /// was read, each shows exactly what was there at that event.
    async fn of(shop: &Shop, call: &Call, order_id: &OrderId) -> Result<Option<Self>, Failure> {
        let (reads, tenant) = (shop.reads(), &call.tenant);
        let partition = order_id.stream(tenant).partition(shop.means.commands.partitions());
        loop {
            let seen = VIEWS.map(|view| reads.progress().next(view, partition));
            let (order, checkout, payments) = try_join!(
                reads.order(tenant, order_id),
                reads.checkout(tenant, order_id),
                reads.payments_of(tenant, order_id),
            )?;
            let Some(order) = order else { return Ok(None) };
            let last = [
                Some(order.detail.offset),
                checkout.as_ref().map(|checkout| checkout.offset),
                payments.iter().map(|payment| payment.offset).max(),
            ];
            let at = Position { partition, offset: last.into_iter().flatten().max().unwrap_or(0) };
            let behind = behind(seen, last, at.offset);
            if behind.is_empty() {
                return Ok(Some(Self { order, checkout, payments, at }));
            }
            shop.see_unasked(call, &behind, &[at]).await?;
        }
    }
}

/// The views that may lack something up to `moment`: they had not come so far before they were read (`seen` is the next
/// offset that each wanted), and the last event of their rows is not this very one.
fn behind(seen: [Offset; 3], last: [Option<Offset>; 3], moment: Offset) -> Vec<Projection> {
    let views = VIEWS.into_iter().zip(seen).zip(last);
    views
        .filter(|((_, seen), last)| *seen <= moment && *last != Some(moment))
        .map(|((view, _), _)| view)
        .collect()
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

    let reads = shop.reads();
    let found = || async { Ok(reads.orders_of(&call.tenant, &customer, after.as_ref(), page.look()).await?) };
    let about = orders_of(call, &customer);
    let mut rows = shop.list(call, Projection::OrdersByUser, about, &min_position, found).await?;
    let next_page_token = page.cut(&mut rows, |last| PageToken {
        created_at: last.created_at.micros(),
        order_id: last.order_id.as_str().to_owned(),
    });
    Ok(GetUserOrdersResponse { orders: rows.iter().map(view::summary).collect(), next_page_token })
}

/// What a new order is about besides itself: its customer's list shows it from then on.
pub(super) fn orders_of(call: &Call, customer: &CustomerId) -> About {
    About::of("customer", call.tenant.as_str(), customer.as_str())
}

fn order_key(token: &PageToken) -> Result<OrderKey, Failure> {
    let order_id = id(OrderId::new(&token.order_id), "page_token")?;
    Ok(OrderKey { created_at: Timestamp::from_micros(token.created_at), order_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_that_had_come_to_the_last_event_before_they_were_read_show_its_moment() {
        use Projection::{OrderDetail, PaymentView, SagaBoard};
        assert_eq!(behind([6, 6, 6], [Some(5), Some(3), None], 5), []);
        assert_eq!(
            behind([5, 5, 5], [Some(5), Some(3), None], 5),
            [SagaBoard, PaymentView],
            "of an earlier moment"
        );
        assert_eq!(behind([6, 2, 6], [Some(4), Some(5), Some(3)], 5), [], "the row itself is of this moment");
        assert_eq!(behind([5, 9, 9], [Some(4), Some(5), Some(3)], 5), [OrderDetail]);
    }
}
