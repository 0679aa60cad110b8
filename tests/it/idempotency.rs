//! One key, one operation, over the wire: across methods and targets, at any later state, across a restart.

use std::fmt::Debug;

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::catalog::v1::{DeleteProductRequest, SetPriceRequest};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{
    CountStock, GetStockRequest, ReleaseReason, ReleaseStockRequest, ReservationLine, ReserveStockRequest,
    UpdateStockRequest,
};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CancelReason, CreateOrderRequest, GetOrderRequest, OrderStatus,
};
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, GetPaymentRequest, ProcessPaymentRequest, RefundPaymentRequest,
};
use shopstream_proto::returns::v1::{CreateReturnRequest, GetReturnRequest, NewReturnLine, ReturnStatus};
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{ended, money, order, place, product, sell, stock};
use shopstream_tests::{Refusal, Shared, TestShop, calls, read_log, refusal, unique};
use tonic::{Code, Response, Status};

fn reused<A: Debug>(answered: Result<Response<A>, Status>) -> Result<()> {
    let refused = refusal(answered);
    let wanted = Refusal::new(Code::InvalidArgument, "REQUEST_ID_REUSED", "request_id");
    ensure!(refused == wanted, "{refused:?}");
    Ok(())
}

fn give_back(request_id: &str, return_id: &str, order_id: &str) -> CreateReturnRequest {
    CreateReturnRequest {
        request_id: request_id.into(),
        return_id: Some(return_id.into()),
        order_id: order_id.into(),
        lines: vec![NewReturnLine { line_index: 0, quantity: 1 }],
        ..CreateReturnRequest::default()
    }
}

#[tokio::test]
async fn a_refund_is_not_taken_for_the_capture_whose_bytes_it_has() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("BYTES-{}", unique());
    sell(&client, &sku, 2).await?;
    let bought = place(&client, order(&format!("ord_{sku}"), &sku, 2, "tok_ok")).await?;
    let payment_id = bought.payment_ids.first().context("a payment")?.clone();
    let refund = |key: &str| RefundPaymentRequest {
        request_id: format!("{key}:{sku}"),
        payment_id: payment_id.clone(),
        amount: Some(money(300)),
        ..RefundPaymentRequest::default()
    };
    let capture = |key: &str| CapturePaymentRequest {
        request_id: format!("{key}:{sku}"),
        payment_id: payment_id.clone(),
        amount: Some(money(300)),
        ..CapturePaymentRequest::default()
    };
    // Refused, for all is captured: the key is free, and the refund is made.
    let refused = refusal(client.shop().payments.capture_payment(capture("case-1")).await);
    ensure!(refused.code == Code::FailedPrecondition, "{refused:?}");
    let first = client.shop().payments.refund_payment(refund("case-1")).await?.into_inner();
    reused(client.shop().payments.capture_payment(capture("case-1")).await)?;
    let get = GetPaymentRequest { payment_id: payment_id.clone(), ..GetPaymentRequest::default() };
    until(async || {
        let paid = client.shop().payments.get_payment(get.clone()).await?.into_inner().payment;
        Ok((paid.context("a payment")?.refunded == Some(money(300))).then_some(()))
    })
    .await?;
    let again = client.shop().payments.refund_payment(refund("case-1")).await?.into_inner();
    ensure!(again == first, "{first:?} then {again:?}");
    let refunds = calls(shop.data()).into_iter();
    let refunds =
        refunds.filter(|call| call.effective && call.key.starts_with(&format!("{payment_id}:refund")));
    ensure!(refunds.count() == 1);
    Ok(())
}

#[tokio::test]
async fn one_key_makes_one_order_and_one_charge() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("CART-{}", unique());
    sell(&client, &sku, 10).await?;
    let cart = |order_id: Option<&str>| CreateOrderRequest {
        request_id: format!("cart:{sku}"),
        order_id: order_id.map(|name| format!("ord_{sku}-{name}")),
        ..order("ord_x", &sku, 1, "tok_ok")
    };
    let first = client.shop().orders.create_order(cart(Some("a"))).await?.into_inner();
    for other in [Some("b"), Some("c"), None] {
        reused(client.shop().orders.create_order(cart(other)).await)?;
    }
    let end = ended(&client, &first.order_id, first.position.clone()).await?;
    ensure!(end.status() == OrderStatus::Confirmed, "{end:?}");
    let again = client.shop().orders.create_order(cart(Some("a"))).await?.into_inner();
    ensure!(again == first, "{first:?} then {again:?}");
    let log = read_log(&client).await;
    let made = log.keys().filter(|stream| stream.starts_with(&format!("default/order/ord_{sku}"))).count();
    ensure!(made == 1, "{made} orders");

    // And one return, whatever it is called.
    let back = give_back(&format!("back:{sku}"), &format!("ret_{sku}-a"), &first.order_id);
    let returned = client.shop().returns.create_return(back.clone()).await?.into_inner();
    for name in [Some(format!("ret_{sku}-b")), None] {
        let other = CreateReturnRequest { return_id: name, ..back.clone() };
        reused(client.shop().returns.create_return(other).await)?;
    }
    reused(
        client
            .shop()
            .returns
            .create_return(give_back(&back.request_id, &format!("ret_{sku}-a"), "ord_nobody"))
            .await,
    )?;
    let get = GetReturnRequest {
        min_position: returned.position.clone().into_iter().collect(),
        return_id: returned.return_id.clone(),
    };
    until(async || {
        let found = client.shop().returns.get_return(get.clone()).await?.into_inner().return_view;
        Ok((found.context("a return")?.status() == ReturnStatus::Resolved).then_some(()))
    })
    .await?;
    let again = client.shop().returns.create_return(back).await?.into_inner();
    ensure!(again == returned, "{returned:?} then {again:?}");
    Ok(())
}

#[tokio::test]
async fn a_hold_that_was_given_back_is_answered_as_it_was_held() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("GIVEN-{}", unique());
    sell(&client, &sku, 5).await?;
    for (name, quantity) in [("held", 3), ("short", 6)] {
        let reserve = ReserveStockRequest {
            request_id: format!("{name}:{sku}"),
            lines: vec![ReservationLine { sku: sku.clone(), location: String::new(), quantity }],
            ..ReserveStockRequest::default()
        };
        let first = client.shop().inventory.reserve_stock(reserve.clone()).await?.into_inner();
        let again = client.shop().inventory.reserve_stock(reserve.clone()).await?.into_inner();
        ensure!(again == first, "{first:?} then {again:?}");
        let release = ReleaseStockRequest {
            request_id: format!("release-{name}:{sku}"),
            reservation_id: first.reservation_id.clone(),
            reason: ReleaseReason::Requested.into(),
            ..ReleaseStockRequest::default()
        };
        let released = client.shop().inventory.release_stock(release.clone()).await?.into_inner();
        let again = client.shop().inventory.reserve_stock(reserve).await?.into_inner();
        ensure!(again == first, "{first:?} then {again:?}");
        let again = client.shop().inventory.release_stock(release).await?.into_inner();
        ensure!(again == released, "{released:?} then {again:?}");
    }
    let get = GetStockRequest { sku: sku.clone(), ..GetStockRequest::default() };
    until(async || {
        let level = client.shop().inventory.get_stock(get.clone()).await?.into_inner().stock;
        Ok((level.context("stock")?.available == 5).then_some(()))
    })
    .await
}

/// What a client asks, each to be answered the same for ever.
struct Asked {
    sku: String,
    order_id: String,
    awaiting: String,
}

impl Asked {
    /// Every kind of command once more, whole answers as text.
    async fn ask(&self, client: &Client) -> Result<Vec<String>> {
        let Self { sku, order_id, awaiting } = self;
        let mut said = Vec::new();
        let mut shop = client.shop();
        said.push(format!("{:?}", shop.products.create_product(product(sku, 500)).await?.into_inner()));
        said.push(format!("{:?}", shop.inventory.update_stock(stock("in", sku, 5)).await?.into_inner()));
        let count = UpdateStockRequest {
            change: Some(Change::Count(CountStock { found: 1_000 })),
            ..stock("count", sku, 1)
        };
        said.push(format!("{:?}", shop.inventory.update_stock(count).await?.into_inner()));
        let price = SetPriceRequest {
            request_id: "price".into(),
            sku: sku.clone(),
            price: Some(money(500)),
            ..SetPriceRequest::default()
        };
        said.push(format!("{:?}", shop.products.set_price(price).await?.into_inner()));
        let wanted = order(order_id, sku, 2, "tok_ok");
        said.push(format!("{:?}", shop.orders.create_order(wanted).await?.into_inner()));
        let unnamed = CreateOrderRequest {
            order_id: None,
            request_id: format!("unnamed:{sku}"),
            ..order("ord_x", sku, 1, "tok_ok")
        };
        said.push(format!("{:?}", shop.orders.create_order(unnamed).await?.into_inner()));
        let pay = ProcessPaymentRequest {
            request_id: format!("pay:{sku}"),
            order_id: awaiting.clone(),
            payment_method_token: "tok_ok".into(),
            ..ProcessPaymentRequest::default()
        };
        said.push(format!("{:?}", shop.payments.process_payment(pay).await?.into_inner()));
        Ok(said)
    }
}

#[tokio::test]
async fn everything_is_answered_the_same_at_a_later_state_and_after_a_restart() -> Result<()> {
    let mut shop = TestShop::start();
    let client = shop.client().await;
    let sku = "LATER".to_owned();
    sell(&client, &sku, 995).await?;
    let waits =
        client.shop().orders.create_order(order("ord_waits", &sku, 1, "tok_decline_retryable")).await?;
    let min_position: Vec<_> = waits.into_inner().position.into_iter().collect();
    let get = GetOrderRequest { min_position, order_id: "ord_waits".into() };
    until(async || {
        let found = client.shop().orders.get_order(get.clone()).await?.into_inner().order;
        Ok((found.context("an order")?.status() == OrderStatus::AwaitingPayment).then_some(()))
    })
    .await?;
    let asked = Asked { sku: sku.clone(), order_id: "ord_later".into(), awaiting: "ord_waits".into() };
    let first = asked.ask(&client).await?;
    ensure!(asked.ask(&client).await? == first, "at once");
    for order_id in ["ord_later", "ord_waits"] {
        let end = ended(&client, order_id, None).await?;
        ensure!(end.status() == OrderStatus::Confirmed, "{end:?}");
    }
    // More commands on each stream than are remembered exactly, another price, and all undone.
    for n in 0..70 {
        client.shop().inventory.update_stock(stock(&format!("more-{n}"), &sku, 1)).await?;
        let price = SetPriceRequest {
            request_id: format!("price-{n}"),
            sku: sku.clone(),
            price: Some(money(600 + n)),
            ..SetPriceRequest::default()
        };
        client.shop().products.set_price(price).await?;
    }
    let cancel = CancelOrderRequest {
        request_id: "cancel".into(),
        order_id: "ord_later".into(),
        reason: CancelReason::Customer.into(),
        ..CancelOrderRequest::default()
    };
    let cancelled = client.shop().orders.cancel_order(cancel.clone()).await?.into_inner();
    ended(&client, "ord_later", cancelled.position.clone()).await?;
    let delete = DeleteProductRequest {
        request_id: "delete".into(),
        product_id: format!("prd_{sku}"),
        ..DeleteProductRequest::default()
    };
    client.shop().products.delete_product(delete).await?;
    let again = asked.ask(&client).await?;
    ensure!(again == first, "later:\n{first:#?}\nthen\n{again:#?}");

    shop.kill9();
    shop.restart();
    let client = shop.client().await;
    let again = asked.ask(&client).await?;
    ensure!(again == first, "restarted:\n{first:#?}\nthen\n{again:#?}");
    let again = client.shop().orders.cancel_order(cancel).await?.into_inner();
    ensure!(again == cancelled, "{cancelled:?} then {again:?}");
    reused(
        client
            .shop()
            .orders
            .create_order(CreateOrderRequest {
                order_id: Some("ord_other".into()),
                ..order("ord_later", &sku, 2, "tok_ok")
            })
            .await,
    )?;
    shop.finish();
    Ok(())
}
