//! Money: what the provider does on bad days, and that it charges once all the same.

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::order::v1::{CancelReason, GetOrderRequest, OrderStatus};
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, GetPaymentRequest, Payment, PaymentStatus, ProcessPaymentRequest,
    ProviderSignalKind, RecordProviderSignalRequest, RefundPaymentRequest,
};
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{ended, money, order, place, sell};
use shopstream_tests::{Refusal, Shared, TestShop, calls, refusal, unique};
use tonic::Code;

const TOTAL: i64 = 1000;

/// How often money was promised and taken for an order, over all attempts, as the provider's own log has it.
fn charges(shop: &TestShop, order_id: &str) -> [usize; 2] {
    let payments = format!("pay_{}.", order_id.trim_start_matches("ord_"));
    let effective = |operation: &str| {
        let calls = calls(shop.data()).into_iter();
        calls.filter(|c| c.effective && c.operation == operation && c.key.starts_with(&payments)).count()
    };
    [effective("authorize"), effective("capture")]
}

async fn buy(shop: &TestShop, token: &str) -> Result<shopstream_proto::order::v1::Order> {
    let client = shop.client().await;
    let sku = format!("PAY-{}", unique());
    sell(&client, &sku, 2).await?;
    place(&client, order(&format!("ord_{sku}"), &sku, 2, token)).await
}

#[tokio::test]
async fn a_decline_cancels_and_charges_nothing() -> Result<()> {
    let shop = Shared::shop();
    let order = buy(&shop, "tok_decline").await?;
    ensure!(order.status() == OrderStatus::Cancelled, "{order:?}");
    ensure!(order.cancel_reason() == CancelReason::PaymentDeclined, "{order:?}");
    ensure!(charges(&shop, &order.order_id) == [0, 0]);
    Ok(())
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_found_and_not_made_again() -> Result<()> {
    let shop = Shared::shop();
    let order = buy(&shop, "tok_timeout_after_charge").await?;
    ensure!(order.status() == OrderStatus::Confirmed, "{order:?}");
    ensure!(charges(&shop, &order.order_id) == [1, 1]);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_comes_twice_charges_once() -> Result<()> {
    let shop = Shared::shop();
    let order = buy(&shop, "tok_answer_twice").await?;
    ensure!(order.status() == OrderStatus::Confirmed, "{order:?}");
    ensure!(charges(&shop, &order.order_id) == [1, 1]);
    Ok(())
}

#[tokio::test]
async fn a_slow_provider_is_waited_for() -> Result<()> {
    let shop = Shared::shop();
    let order = buy(&shop, "tok_slow").await?;
    ensure!(order.status() == OrderStatus::Confirmed, "{order:?}");
    ensure!(charges(&shop, &order.order_id) == [1, 1]);
    Ok(())
}

#[tokio::test]
async fn after_a_decline_that_may_be_retried_the_customer_pays_otherwise() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("RETRY-{}", unique());
    sell(&client, &sku, 2).await?;
    let wanted = order(&format!("ord_{sku}"), &sku, 2, "tok_decline_retryable");
    let placed = client.shop().orders.create_order(wanted).await?.into_inner();
    let order_id = placed.order_id;
    let min_position: Vec<_> = placed.position.into_iter().collect();
    let get = GetOrderRequest { min_position, order_id: order_id.clone() };
    until(async || {
        let order =
            client.shop().orders.get_order(get.clone()).await?.into_inner().order.context("an order")?;
        Ok((order.status() == OrderStatus::AwaitingPayment).then_some(()))
    })
    .await?;
    let pay = ProcessPaymentRequest {
        request_id: format!("pay again:{sku}"),
        order_id: order_id.clone(),
        payment_method_token: "tok_good".into(),
        ..ProcessPaymentRequest::default()
    };
    let first = client.shop().payments.process_payment(pay.clone()).await?.into_inner();
    let end = ended(&client, &order_id, first.position.clone()).await?;
    ensure!(end.status() == OrderStatus::Confirmed, "{end:?}");
    ensure!(charges(&shop, &order_id) == [1, 1]);
    ensure!(end.payment_ids.last() == Some(&first.payment_id), "{end:?}");
    // Asked again, the same attempt is answered.
    let again = client.shop().payments.process_payment(pay).await?.into_inner();
    ensure!(again == first, "{again:?} after {first:?}");
    Ok(())
}

#[tokio::test]
async fn no_attempt_to_pay_begins_while_another_is_open() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("ONE-{}", unique());
    sell(&client, &sku, 2).await?;
    let wanted = order(&format!("ord_{sku}"), &sku, 2, "tok_decline_retryable");
    let placed = client.shop().orders.create_order(wanted).await?.into_inner();
    let order_id = placed.order_id;
    let min_position: Vec<_> = placed.position.into_iter().collect();
    let get = GetOrderRequest { min_position, order_id: order_id.clone() };
    until(async || {
        let order =
            client.shop().orders.get_order(get.clone()).await?.into_inner().order.context("an order")?;
        Ok((order.status() == OrderStatus::AwaitingPayment).then_some(()))
    })
    .await?;
    let pay = |request_id: &str, token: &str| ProcessPaymentRequest {
        request_id: request_id.into(),
        order_id: order_id.clone(),
        payment_method_token: token.into(),
        ..ProcessPaymentRequest::default()
    };
    // The provider takes two seconds over it.
    let first = client.shop().payments.process_payment(pay("first", "tok_slow")).await?.into_inner();
    let refused = refusal(client.shop().payments.process_payment(pay("second", "tok_good")).await);
    ensure!(
        refused == Refusal::new(Code::FailedPrecondition, "PAYMENT_ATTEMPT_OPEN", "order_id"),
        "{refused:?}"
    );
    // The one that is open is answered again all the same.
    let again = client.shop().payments.process_payment(pay("first", "tok_slow")).await?.into_inner();
    ensure!(again == first, "{again:?} after {first:?}");
    let end = ended(&client, &order_id, first.position.clone()).await?;
    ensure!(end.status() == OrderStatus::Confirmed && end.payment_ids.len() == 2, "{end:?}");
    ensure!(charges(&shop, &order_id) == [1, 1]);
    Ok(())
}

#[tokio::test]
async fn money_goes_back_in_parts_and_never_more_than_came() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    let refund = |request_id: &str, amount| RefundPaymentRequest {
        request_id: request_id.into(),
        payment_id: payment_id.clone(),
        amount: Some(money(amount)),
        ..RefundPaymentRequest::default()
    };
    client.shop().payments.refund_payment(refund("part", 300)).await?;
    let paid = payment_when(&client, &payment_id, PaymentStatus::PartiallyRefunded).await?;
    ensure!((paid.captured, paid.refunded) == (Some(money(TOTAL)), Some(money(300))));
    let refused = refusal(client.shop().payments.refund_payment(refund("too much", 701)).await);
    ensure!(
        (refused.code, &*refused.reason) == (Code::FailedPrecondition, "AMOUNT_EXCEEDS_CAPTURED"),
        "{refused:?}"
    );
    client.shop().payments.refund_payment(refund("the rest", 700)).await?;
    let paid = payment_when(&client, &payment_id, PaymentStatus::Refunded).await?;
    ensure!(paid.refunded == Some(money(TOTAL)), "{paid:?}");
    let capture = CapturePaymentRequest {
        request_id: "once more".into(),
        payment_id: payment_id.clone(),
        amount: Some(money(1)),
        ..CapturePaymentRequest::default()
    };
    let refused = refusal(client.shop().payments.capture_payment(capture).await);
    ensure!(refused.code == Code::FailedPrecondition, "{refused:?}");
    ensure!(charges(&shop, &order.order_id) == [1, 1]);
    Ok(())
}

#[tokio::test]
async fn what_the_provider_reports_twice_is_recorded_once() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_signal").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    let signal = RecordProviderSignalRequest {
        request_id: "signal".into(),
        payment_id: payment_id.clone(),
        provider_event_id: "evt_1".into(),
        kind: ProviderSignalKind::Captured.into(),
        amount: Some(money(TOTAL)),
        provider_key: format!("{payment_id}:capture:1"),
        ..RecordProviderSignalRequest::default()
    };
    let first = client.shop().payments.record_provider_signal(signal.clone()).await?.into_inner();
    let renamed = RecordProviderSignalRequest { request_id: "signal again".into(), ..signal };
    let again = client.shop().payments.record_provider_signal(renamed).await?.into_inner();
    // Its own key is remembered, and nothing else happened.
    ensure!(again.version == first.version + 1, "{again:?} after {first:?}");
    Ok(())
}

async fn payment_when(client: &Client, payment_id: &str, status: PaymentStatus) -> Result<Payment> {
    let get = GetPaymentRequest { payment_id: payment_id.to_owned(), ..GetPaymentRequest::default() };
    until(async || {
        let answer = client.shop().payments.get_payment(get.clone()).await?;
        let payment = answer.into_inner().payment.context("a payment")?;
        Ok((payment.status() == status).then_some(payment))
    })
    .await
}
