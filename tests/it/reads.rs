//! Answers tell the truth of one moment, and show one's own writes without being asked to.

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt;
use futures::stream;
use shopstream_proto::catalog::v1::GetProductRequest;
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_proto::order::v1::{
    CancelOrderRequest, GetOrderRequest, GetOrderResponse, GetUserOrdersRequest, OrderStatus,
    TrackOrderRequest,
};
use shopstream_proto::payment::v1::{GetPaymentRequest, PaymentStatus};
use shopstream_proto::returns::v1::{CreateReturnRequest, GetReturnRequest, NewReturnLine};
use shopstream_server::client::Client;
use shopstream_tests::requests::{ended, order, product, sell, stock};
use shopstream_tests::{Shared, unique};

/// Asks for an order until it is as wanted, and hands every answer on the way to `check`.
async fn watched(
    client: &Client,
    order_id: &str,
    wanted: OrderStatus,
    check: impl Fn(&GetOrderResponse) -> Result<()>,
) -> Result<GetOrderResponse> {
    let get = GetOrderRequest { order_id: order_id.to_owned(), ..GetOrderRequest::default() };
    let mut before = (0, 0);
    loop {
        let answer =
            client.call(get.clone(), async |mut shop, request| shop.orders.get_order(request).await).await?;
        check(&answer)?;
        let order = answer.order.as_ref().context("an order")?;
        let now = (order.version, answer.position.as_ref().context("a position")?.offset);
        ensure!(now.0 >= before.0 && now.1 >= before.1, "{now:?} after {before:?}: {order:?}");
        before = now;
        if order.status() == wanted && ["Done", "Cancelled"].contains(&order.checkout_state.as_str()) {
            return Ok(answer);
        }
    }
}

#[tokio::test]
async fn an_order_is_of_one_moment_while_it_checks_out_and_while_it_is_undone() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("MOMENT-{}", unique());
    sell(&client, &sku, 1_000).await?;
    let one = async |number: usize| {
        let wanted = order(&format!("ord_{sku}-{number}"), &sku, 1, "tok_moment");
        let placed =
            client.call(wanted, async |mut shop, request| shop.orders.create_order(request).await).await?;
        let confirmed = watched(&client, &placed.order_id, OrderStatus::Confirmed, |answer| {
            let order = answer.order.as_ref().context("an order")?;
            let begun = !["", "Started", "StockHeld"].contains(&order.checkout_state.as_str());
            match order.status() {
                OrderStatus::Submitted => {
                    ensure!(order.checkout_state != "Done", "done, and not confirmed: {order:?}");
                    // The payment is asked for as soon as the stock is held, and recorded in the same breath.
                    ensure!(order.payment_ids.is_empty() || begun, "paid, and not begun: {order:?}");
                }
                OrderStatus::Confirmed => {
                    ensure!(begun && order.payment_ids.len() == 1, "confirmed, and not paid: {order:?}");
                }
                other => anyhow::bail!("{other:?}: {order:?}"),
            }
            Ok(())
        })
        .await?;
        // Another view shows nothing older than this answer did.
        let get = GetPaymentRequest {
            min_position: confirmed.position.into_iter().collect(),
            payment_id: confirmed.order.context("an order")?.payment_ids[0].clone(),
        };
        let paid =
            client.call(get, async |mut shop, request| shop.payments.get_payment(request).await).await?;
        let paid = paid.payment.context("a payment")?;
        ensure!(paid.status() == PaymentStatus::Captured, "{paid:?}");

        let cancel = CancelOrderRequest {
            request_id: format!("cancel-{number}-{sku}"),
            order_id: placed.order_id.clone(),
            ..CancelOrderRequest::default()
        };
        client.call(cancel, async |mut shop, request| shop.orders.cancel_order(request).await).await?;
        watched(&client, &placed.order_id, OrderStatus::Cancelled, |answer| {
            let order = answer.order.as_ref().context("an order")?;
            match order.status() {
                OrderStatus::Cancelling => Ok(()),
                OrderStatus::Cancelled => {
                    ensure!(order.checkout_state != "Done", "cancelled, and done: {order:?}");
                    Ok(())
                }
                other => anyhow::bail!("{other:?} after it was cancelled: {order:?}"),
            }
        })
        .await?;
        // Nor where nobody names a position.
        let get = GetPaymentRequest { payment_id: paid.payment_id, ..GetPaymentRequest::default() };
        let back =
            client.call(get, async |mut shop, request| shop.payments.get_payment(request).await).await?;
        let back = back.payment.context("a payment")?;
        ensure!(back.status() == PaymentStatus::Refunded, "{back:?}");
        Ok(())
    };
    let mut orders = stream::iter(0..60).map(one).buffer_unordered(6);
    while let Some(seen) = orders.next().await {
        seen?;
    }
    Ok(())
}

#[tokio::test]
async fn whatever_was_just_made_is_found_by_its_id() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    for round in 0..10 {
        let sku = format!("FOUND-{round}-{}", unique());
        let made = client.shop().products.create_product(product(&sku, 500)).await?.into_inner();
        let get = GetProductRequest { product_id: made.product_id, ..GetProductRequest::default() };
        client.shop().products.get_product(get).await?;

        client.shop().inventory.update_stock(stock(&format!("s-{sku}"), &sku, 5)).await?;
        let get = GetStockRequest { sku: sku.clone(), ..GetStockRequest::default() };
        let level = client.shop().inventory.get_stock(get).await?.into_inner().stock.context("stock")?;
        ensure!(level.on_hand == 5, "{level:?}");

        let mut wanted = order(&format!("ord_{sku}"), &sku, 1, "tok_found");
        wanted.customer_id = format!("cus_{sku}");
        let customer_id = wanted.customer_id.clone();
        let placed = client.shop().orders.create_order(wanted).await?.into_inner();
        let order_id = placed.order_id;
        let get = GetOrderRequest { order_id: order_id.clone(), ..GetOrderRequest::default() };
        client.shop().orders.get_order(get.clone()).await?;
        let track = TrackOrderRequest { order_id: order_id.clone(), ..TrackOrderRequest::default() };
        client.shop().orders.track_order(track).await?;
        let list = GetUserOrdersRequest { customer_id, ..GetUserOrdersRequest::default() };
        let list = client.shop().orders.get_user_orders(list).await?.into_inner();
        ensure!(list.orders.len() == 1, "{list:?}");

        let confirmed = ended(&client, &order_id, None).await?;
        let payment_id = confirmed.payment_ids[0].clone();
        let get_payment = GetPaymentRequest { payment_id, ..GetPaymentRequest::default() };
        client.shop().payments.get_payment(get_payment).await?;
        let wanted = CreateReturnRequest {
            request_id: format!("r-{sku}"),
            order_id: order_id.clone(),
            lines: vec![NewReturnLine { line_index: 0, quantity: 1 }],
            ..CreateReturnRequest::default()
        };
        let made =
            client.call(wanted, async |mut shop, request| shop.returns.create_return(request).await).await?;
        let get_return = GetReturnRequest { return_id: made.return_id, ..GetReturnRequest::default() };
        client.shop().returns.get_return(get_return).await?;
    }
    Ok(())
}
