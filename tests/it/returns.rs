//! What comes back.

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_proto::order::v1::GetOrderRequest;
use shopstream_proto::order::v1::Order;
use shopstream_proto::payment::v1::{GetPaymentRequest, Payment, RefundPaymentRequest, RefundStatus};
use shopstream_proto::returns::v1::{
    CreateReturnRequest, GetReturnRequest, NewReturnLine, Return, ReturnStatus,
};
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{longest, money, order, place, product, sell, stock};
use shopstream_tests::{Refusal, Shared, refusal, unique};
use tonic::Code;

/// Sold: this many units at 500 each.
async fn sold(client: &Client, name: &str, units: i64, token: &str) -> Result<Order> {
    let sku = format!("{name}-{}", unique());
    sell(client, &sku, units).await?;
    place(client, order(&format!("ord_{sku}"), &sku, units, token)).await
}

fn give_back(bought: &Order, id: &str, quantity: i64) -> CreateReturnRequest {
    let name = bought.order_id.trim_start_matches("ord_");
    CreateReturnRequest {
        request_id: format!("{id}:{name}"),
        return_id: Some(format!("ret_{name}-{id}")),
        order_id: bought.order_id.clone(),
        lines: vec![NewReturnLine { line_index: 0, quantity }],
        ..CreateReturnRequest::default()
    }
}

fn refund(payment_id: &str, request_id: &str, amount: Option<i64>) -> RefundPaymentRequest {
    RefundPaymentRequest {
        request_id: format!("{request_id}:{payment_id}"),
        payment_id: payment_id.into(),
        amount: amount.map(money),
        ..RefundPaymentRequest::default()
    }
}

async fn return_that(client: &Client, return_id: &str, is: impl Fn(&Return) -> bool) -> Result<Return> {
    let get = GetReturnRequest { return_id: return_id.to_owned(), ..GetReturnRequest::default() };
    until(async || {
        let answer = client.shop().returns.get_return(get.clone()).await?.into_inner();
        Ok(answer.return_view.filter(|view| is(view)))
    })
    .await
}

async fn payment_that(client: &Client, payment_id: &str, is: impl Fn(&Payment) -> bool) -> Result<Payment> {
    let get = GetPaymentRequest { payment_id: payment_id.to_owned(), ..GetPaymentRequest::default() };
    until(async || {
        let answer = client.shop().payments.get_payment(get.clone()).await?;
        Ok(answer.into_inner().payment.filter(|payment| is(payment)))
    })
    .await
}

async fn seen(client: &Client, bought: &Order) -> Result<Order> {
    let get = GetOrderRequest { order_id: bought.order_id.clone(), ..GetOrderRequest::default() };
    client.shop().orders.get_order(get).await?.into_inner().order.context("an order")
}

/// What the order says went back.
fn refunded(order: &Order) -> Option<i64> {
    order.totals.as_ref().and_then(|totals| totals.refunded.as_ref()).map(|refunded| refunded.amount_minor)
}

fn is_over(view: &Return) -> bool {
    matches!(view.status(), ReturnStatus::Resolved | ReturnStatus::Refused)
}

#[tokio::test]
async fn a_return_of_more_than_is_left_is_refused_and_nothing_moves() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let bought = sold(&client, "LEFT", 2, "tok_return").await?;
    let payment_id = bought.payment_ids.first().context("a payment")?;
    client.shop().payments.refund_payment(refund(payment_id, "by hand", Some(300))).await?;
    payment_that(&client, payment_id, |payment| payment.refunded == Some(money(300))).await?;
    let refused = refusal(client.shop().returns.create_return(give_back(&bought, "both", 2)).await);
    ensure!(
        refused == Refusal::new(Code::FailedPrecondition, "AMOUNT_EXCEEDS_CAPTURED", "lines"),
        "{refused:?}"
    );
    let order = seen(&client, &bought).await?;
    ensure!((refunded(&order), order.lines[0].units_returned) == (Some(300), 0), "{order:?}");
    // One of them there is money for.
    let made = client.shop().returns.create_return(give_back(&bought, "one", 1)).await?.into_inner();
    let over = return_that(&client, &made.return_id, is_over).await?;
    ensure!(over.status() == ReturnStatus::Resolved && over.refunded && over.restocked, "{over:?}");
    let order = seen(&client, &bought).await?;
    ensure!((refunded(&order), order.lines[0].units_returned) == (Some(800), 1), "{order:?}");
    Ok(())
}

#[tokio::test]
async fn what_an_order_says_went_back_did() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let bought = sold(&client, "WISH", 2, "tok_refund_fails_2").await?;
    let payment_id = bought.payment_ids.first().context("a payment")?;
    let made = client.shop().returns.create_return(give_back(&bought, "both", 2)).await?.into_inner();
    // The provider says no at first: the goods are back, the money is promised and nobody else's.
    let asked = payment_that(&client, payment_id, |payment| {
        payment.refunds.iter().any(|refund| refund.status() == RefundStatus::Failed)
    })
    .await?;
    ensure!((asked.refunded, asked.refundable) == (Some(money(0)), Some(money(0))), "{:?}", asked.refunds);
    ensure!(asked.refund_pending == Some(money(1000)), "{:?}", asked.refunds);
    ensure!(refunded(&seen(&client, &bought).await?).is_none());
    let under_way = return_that(&client, &made.return_id, |view| view.restocked).await?;
    ensure!(under_way.status() == ReturnStatus::Requested && !under_way.refunded, "{under_way:?}");
    let refused =
        refusal(client.shop().payments.refund_payment(refund(payment_id, "by hand", Some(1))).await);
    ensure!(refused.code == Code::FailedPrecondition, "{refused:?}");
    let over = return_that(&client, &made.return_id, is_over).await?;
    ensure!(over.status() == ReturnStatus::Resolved && over.refunded, "{over:?}");
    ensure!(refunded(&seen(&client, &bought).await?) == Some(1000));
    Ok(())
}

#[tokio::test]
async fn an_order_for_nothing_comes_back_like_any_other() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("FREE-{}", unique());
    client.shop().products.create_product(product(&sku, 0)).await?;
    client.shop().inventory.update_stock(stock(&format!("stock:{sku}"), &sku, 2)).await?;
    let bought = place(&client, order(&format!("ord_{sku}"), &sku, 2, "tok_free")).await?;
    let made = client.shop().returns.create_return(give_back(&bought, "one", 1)).await?.into_inner();
    let over = return_that(&client, &made.return_id, is_over).await?;
    ensure!(over.status() == ReturnStatus::Resolved && over.refund_total == Some(money(0)), "{over:?}");
    ensure!(refunded(&seen(&client, &bought).await?).is_none());
    Ok(())
}

/// Everybody wants the same money at the same moment: nobody gets it twice, and no return is left half done.
#[tokio::test]
async fn returns_and_refunds_by_hand_share_one_account() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let bought = sold(&client, "RACE", 8, "tok_return").await?;
    let payment_id = bought.payment_ids.first().context("a payment")?;
    let back = async |n: i64| {
        let request = give_back(&bought, &format!("r{n}"), 1);
        client.shop().returns.create_return(request).await.ok().map(|made| made.into_inner().return_id)
    };
    let by_hand = async |n: i64| {
        let request = refund(payment_id, &format!("h{n}"), Some(700));
        client.shop().payments.refund_payment(request).await.is_ok()
    };
    let returns = futures::future::join_all((0..8).map(back));
    let refunds = futures::future::join_all((0..6).map(by_hand));
    let (returns, refunds) = futures::future::join(returns, refunds).await;
    let mut resolved = 0;
    for return_id in returns.into_iter().flatten() {
        let over = return_that(&client, &return_id, is_over).await?;
        match over.status() {
            ReturnStatus::Resolved => resolved += 1,
            _ => ensure!(over.refusal_reason == "AMOUNT_EXCEEDS_CAPTURED", "{over:?}"),
        }
    }
    let by_hand = refunds.into_iter().filter(|made| *made).count() as i64;
    let settled =
        payment_that(&client, payment_id, |payment| payment.refund_pending == Some(money(0))).await?;
    ensure!(settled.refunded == Some(money(500 * resolved + 700 * by_hand)), "{settled:?}");
    let order = seen(&client, &bought).await?;
    ensure!(order.lines[0].units_returned == resolved, "{order:?}");
    Ok(())
}

#[tokio::test]
async fn a_return_gives_back_the_price_paid_and_puts_the_units_back() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("RETURN-{}", unique());
    sell(&client, &sku, 5).await?;
    let bought = place(&client, order(&longest("ord_", &sku), &sku, 3, "tok_return")).await?;
    let give_back = |request_id: &str, quantity| CreateReturnRequest {
        request_id: format!("{request_id}:{sku}"),
        return_id: Some(longest("ret_", &format!("{sku}-{request_id}"))),
        order_id: bought.order_id.clone(),
        lines: vec![NewReturnLine { line_index: 0, quantity }],
        ..CreateReturnRequest::default()
    };
    let created = client.shop().returns.create_return(give_back("two", 2)).await?.into_inner();
    let get = GetReturnRequest {
        min_position: created.position.into_iter().collect(),
        return_id: created.return_id,
    };
    let resolved = until(async || {
        let answer = client.shop().returns.get_return(get.clone()).await?.into_inner();
        let view = answer.return_view.context("a return")?;
        ensure!(!matches!(view.status(), ReturnStatus::NeedsAttention | ReturnStatus::Refused), "{view:?}");
        Ok((view.status() == ReturnStatus::Resolved).then_some(view))
    })
    .await?;
    ensure!(resolved.refund_total == Some(money(1000)), "{resolved:?}");

    let stock = GetStockRequest {
        min_position: resolved.position.clone().into_iter().collect(),
        sku: sku.clone(),
        location: String::new(),
    };
    until(async || {
        let stock =
            client.shop().inventory.get_stock(stock.clone()).await?.into_inner().stock.context("stock")?;
        Ok(([stock.on_hand, stock.available, stock.committed] == [5, 4, 1]).then_some(()))
    })
    .await?;
    let get = GetOrderRequest {
        min_position: resolved.position.into_iter().collect(),
        order_id: bought.order_id.clone(),
    };
    let seen = client.shop().orders.get_order(get).await?.into_inner().order.context("an order")?;
    ensure!(seen.lines[0].units_returned == 2, "{seen:?}");

    let refused = refusal(client.shop().returns.create_return(give_back("two-more", 2)).await);
    ensure!(
        (refused.code, &*refused.reason) == (Code::FailedPrecondition, "RETURN_EXCEEDS_ORDER"),
        "{refused:?}"
    );
    ensure!(refused.field == "lines[0].quantity", "{refused:?}");
    Ok(())
}
