//! Money: what the provider does on bad days, and that it charges once all the same.

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use shopstream_command_handlers::{Clock as _, SystemClock};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CancelReason, CreateOrderRequest, GetOrderRequest, Order, OrderStatus,
};
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, GetPaymentRequest, Payment, PaymentStatus, ProcessPaymentRequest,
    ProviderSignalKind, RecordProviderSignalRequest, RecordProviderSignalResponse, RefundPaymentRequest,
    RefundStatus, SignalOutcome,
};
use shopstream_server::client::{Client, Shop, until};
use shopstream_tests::requests::{ended, money, order, place, sell};
use shopstream_tests::{Paused, Refusal, Setup, Shared, TestShop, calls, refusal, unique};
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
        request_id: format!("{request_id}:{order_id}"),
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
        request_id: format!("{request_id}:{payment_id}"),
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
        request_id: format!("once more:{payment_id}"),
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
        request_id: format!("signal:{payment_id}"),
        payment_id: payment_id.clone(),
        provider_event_id: "evt_1".into(),
        kind: ProviderSignalKind::Captured.into(),
        amount: Some(money(TOTAL)),
        provider_key: format!("{payment_id}:capture:1"),
        ..RecordProviderSignalRequest::default()
    };
    let first = client.shop().payments.record_provider_signal(signal.clone()).await?.into_inner();
    let renamed = RecordProviderSignalRequest { request_id: format!("signal again:{payment_id}"), ..signal };
    let again = client.shop().payments.record_provider_signal(renamed).await?.into_inner();
    // Its own key is remembered, and nothing else happened.
    ensure!(again.version == first.version + 1, "{again:?} after {first:?}");
    Ok(())
}

fn refund(payment_id: &str, request_id: &str, amount: Option<i64>) -> RefundPaymentRequest {
    RefundPaymentRequest {
        request_id: format!("{request_id}:{payment_id}"),
        payment_id: payment_id.into(),
        amount: amount.map(money),
        ..RefundPaymentRequest::default()
    }
}

/// What the provider says of a refund.
fn reported(payment_id: &str, id: &str, key: &str, amount: i64) -> RecordProviderSignalRequest {
    RecordProviderSignalRequest {
        request_id: format!("{id}:{payment_id}"),
        payment_id: payment_id.into(),
        provider_event_id: id.into(),
        kind: ProviderSignalKind::Refunded.into(),
        amount: Some(money(amount)),
        provider_key: key.into(),
        ..RecordProviderSignalRequest::default()
    }
}

async fn report(client: &Client, said: RecordProviderSignalRequest) -> Result<RecordProviderSignalResponse> {
    Ok(client.shop().payments.record_provider_signal(said).await?.into_inner())
}

#[tokio::test]
async fn a_refund_that_the_provider_refuses_is_seen_and_may_be_tried_again() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund_fails_1").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    let asked = client.shop().payments.refund_payment(refund(&payment_id, "first", Some(300))).await?;
    let refund_id = asked.into_inner().refund_id;
    let failed = payment_that(&client, &payment_id, |payment| {
        payment.refunds.iter().any(|refund| refund.status() == RefundStatus::Failed)
    })
    .await?;
    let [seen] = failed.refunds.as_slice() else { anyhow::bail!("{failed:?}") };
    ensure!((&seen.refund_id, &*seen.failure_code) == (&refund_id, "try_later"), "{seen:?}");
    ensure!(seen.provider_key == format!("{payment_id}:refund:1"), "{seen:?}");
    ensure!((failed.refunded, failed.refundable) == (Some(money(0)), Some(money(TOTAL))), "{seen:?}");
    client.shop().payments.refund_payment(refund(&payment_id, "second", Some(300))).await?;
    let paid = payment_when(&client, &payment_id, PaymentStatus::PartiallyRefunded).await?;
    ensure!((paid.refunded, paid.refundable) == (Some(money(300)), Some(money(700))), "{:?}", paid.refunds);
    // The order says what went back, by hand as well.
    let get = GetOrderRequest { order_id: order.order_id, min_position: paid.position.into_iter().collect() };
    let seen = client.shop().orders.get_order(get).await?.into_inner().order.context("an order")?;
    ensure!(seen.totals.and_then(|totals| totals.refunded) == Some(money(300)));
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_to_refund() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    client.shop().payments.refund_payment(refund(&payment_id, "all", None)).await?;
    payment_when(&client, &payment_id, PaymentStatus::Refunded).await?;
    let refused = refusal(client.shop().payments.refund_payment(refund(&payment_id, "again", None)).await);
    ensure!(refused == Refusal::new(Code::FailedPrecondition, "NOTHING_TO_REFUND", ""), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_busy_for_a_moment_is_worth_waiting_for() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    // As many as there are pennies: sooner or later two of them meet.
    let mut met = false;
    for round in 0..20 {
        let ask = async |n: i32| {
            let request = refund(&payment_id, &format!("{round}-{n}"), Some(10));
            client.shop().payments.refund_payment(request).await
        };
        let (a, b, c) = tokio::join!(ask(1), ask(2), ask(3));
        for answer in [a, b, c].into_iter().filter(Result::is_err) {
            let refused = refusal(answer);
            ensure!(refused.reason == "PAYMENT_OPERATION_IN_FLIGHT" && refused.retry, "{refused:?}");
            met = true;
        }
        if met {
            return Ok(());
        }
    }
    anyhow::bail!("no two refunds ever met")
}

#[tokio::test]
async fn of_two_ways_to_pay_at_once_one_is_told_that_the_other_is_open() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order_id = waiting(&client, "TWO").await?;
    let pay = async |request_id: &str, token: &str| {
        let request = ProcessPaymentRequest {
            request_id: format!("{request_id}:{order_id}"),
            order_id: order_id.clone(),
            payment_method_token: token.into(),
            ..ProcessPaymentRequest::default()
        };
        client.shop().payments.process_payment(request).await
    };
    let (first, second) = tokio::join!(pay("first", "tok_slow_1"), pay("second", "tok_slow_2"));
    let (won, lost) = match (first, second) {
        (Ok(won), lost) => (won, lost),
        (lost, Ok(won)) => (won, lost),
        (Err(first), Err(second)) => anyhow::bail!("{first:?}, {second:?}"),
    };
    let refused = refusal(lost);
    ensure!(
        refused == Refusal::new(Code::FailedPrecondition, "PAYMENT_ATTEMPT_OPEN", "order_id"),
        "{refused:?}"
    );
    let end = ended(&client, &order_id, won.into_inner().position).await?;
    ensure!(end.status() == OrderStatus::Confirmed, "{end:?}");
    ensure!(charges(&shop, &order_id) == [1, 1]);
    Ok(())
}

#[tokio::test]
async fn every_true_report_about_a_refund_counts() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund_fails_2").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    for (n, amount) in [(1, 300), (2, 500)] {
        let request = refund(&payment_id, &format!("r{n}"), Some(amount));
        client.shop().payments.refund_payment(request).await?;
        payment_that(&client, &payment_id, |payment| {
            payment.refunds.len() == n && payment.refunds[n - 1].status() == RefundStatus::Failed
        })
        .await?;
    }
    // Both had happened after all, in one second.
    let noon = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
    for (n, amount) in [(1, 300), (2, 500)] {
        let key = format!("{payment_id}:refund:{n}");
        let said = RecordProviderSignalRequest {
            provider_time: noon,
            ..reported(&payment_id, &format!("e{n}"), &key, amount)
        };
        let applied = report(&client, said.clone()).await?;
        ensure!(applied.outcome() == SignalOutcome::Applied, "{applied:?}");
        // Delivered again under another request, it is known.
        let again =
            RecordProviderSignalRequest { request_id: format!("again {n}:{payment_id}"), ..said.clone() };
        ensure!(report(&client, again).await?.outcome() == SignalOutcome::AlreadyKnown);
        // Said again in other words, too.
        let other = RecordProviderSignalRequest {
            request_id: format!("other {n}:{payment_id}"),
            provider_event_id: format!("other {n}").replace(' ', "-"),
            provider_time: None,
            ..said
        };
        ensure!(report(&client, other).await?.outcome() == SignalOutcome::AlreadyKnown);
    }
    let paid = payment_that(&client, &payment_id, |payment| payment.refunded == Some(money(800))).await?;
    ensure!(paid.status() == PaymentStatus::PartiallyRefunded, "{paid:?}");
    Ok(())
}

#[tokio::test]
async fn a_report_that_cannot_be_true_is_not_believed_and_the_answer_says_why() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund_fails_1").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    client.shop().payments.refund_payment(refund(&payment_id, "r1", Some(400))).await?;
    payment_that(&client, &payment_id, |payment| {
        !payment.refunds.is_empty() && payment.refundable == Some(money(TOTAL))
    })
    .await?;
    let key = format!("{payment_id}:refund:1");
    let never = format!("{payment_id}:refund:9");
    for (id, key, amount, reason) in [
        ("amount", &*key, 399, "PROVIDER_AMOUNT_MISMATCH"),
        ("never", &*never, 400, "PROVIDER_OPERATION_UNKNOWN"),
        ("too-much", "re_1", TOTAL + 1, "AMOUNT_EXCEEDS_CAPTURED"),
    ] {
        let said = reported(&payment_id, id, key, amount);
        let answer = report(&client, said.clone()).await?;
        ensure!(answer.outcome() == SignalOutcome::NotBelieved, "{id}: {answer:?}");
        ensure!(answer.reason == reason && !answer.detail.is_empty(), "{id}: {answer:?}");
        ensure!(report(&client, said).await? == answer, "{id}: the same request has another answer");
    }
    // A clock that is far ahead would be the newest for years.
    let early = RecordProviderSignalRequest {
        provider_time: Some(ahead(3_600)),
        ..reported(&payment_id, "early", &key, 400)
    };
    let refused = refusal(client.shop().payments.record_provider_signal(early).await);
    ensure!((refused.code, &*refused.field) == (Code::InvalidArgument, "provider_time"), "{refused:?}");
    // An operator's word that names no time counts, whatever was reported about other calls and when.
    let other = RecordProviderSignalRequest {
        provider_event_id: "held".into(),
        kind: ProviderSignalKind::Authorized.into(),
        provider_key: String::new(),
        provider_time: Some(ahead(90)),
        ..reported(&payment_id, "held", "", TOTAL)
    };
    ensure!(report(&client, other).await?.outcome() == SignalOutcome::AlreadyKnown);
    ensure!(
        report(&client, reported(&payment_id, "true", &key, 400)).await?.outcome() == SignalOutcome::Applied
    );
    payment_that(&client, &payment_id, |payment| payment.refunded == Some(money(400))).await?;
    Ok(())
}

#[tokio::test]
async fn a_refund_at_the_providers_own_site_is_booked() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    let said = report(&client, reported(&payment_id, "evt_1", "re_77", 600)).await?;
    ensure!(said.outcome() == SignalOutcome::Applied, "{said:?}");
    let paid = payment_when(&client, &payment_id, PaymentStatus::PartiallyRefunded).await?;
    ensure!((paid.refunded, paid.refundable) == (Some(money(600)), Some(money(400))), "{:?}", paid.refunds);
    ensure!(paid.refunds.len() == 1 && paid.refunds[0].provider_key == "re_77", "{:?}", paid.refunds);
    let refused =
        refusal(client.shop().payments.refund_payment(refund(&payment_id, "more", Some(401))).await);
    ensure!(refused.reason == "AMOUNT_EXCEEDS_CAPTURED", "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_late_yes_pays_an_order_that_waits_for_just_that() -> Result<()> {
    let shop = Shared::shop();
    let order = buy(&shop, "tok_late_yes").await?;
    ensure!(order.status() == OrderStatus::Confirmed, "{order:?}");
    ensure!(order.payment_ids.len() == 1, "{order:?}");
    ensure!(charges(&shop, &order.order_id) == [1, 1]);
    let client = shop.client().await;
    payment_when(&client, &order.payment_ids[0], PaymentStatus::Captured).await?;
    Ok(())
}

/// A part goes back by hand between two tries of the reversal.
#[tokio::test]
async fn a_cancellation_gives_back_what_is_left_by_then() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let order = buy(&shop, "tok_refund_fails_1").await?;
    let payment_id = order.payment_ids.first().context("a payment")?.clone();
    let cancel = CancelOrderRequest {
        request_id: format!("cancel:{payment_id}"),
        order_id: order.order_id.clone(),
        reason: CancelReason::Customer.into(),
        ..CancelOrderRequest::default()
    };
    client.shop().orders.cancel_order(cancel).await?;
    payment_that(&client, &payment_id, |payment| {
        payment.refunds.iter().any(|refund| refund.status() == RefundStatus::Failed)
    })
    .await?;
    client.shop().payments.refund_payment(refund(&payment_id, "by hand", Some(400))).await?;
    let get = GetOrderRequest { order_id: order.order_id, ..GetOrderRequest::default() };
    until(async || {
        let order =
            client.shop().orders.get_order(get.clone()).await?.into_inner().order.context("an order")?;
        Ok((order.status() == OrderStatus::Cancelled).then_some(()))
    })
    .await?;
    let paid = payment_when(&client, &payment_id, PaymentStatus::Refunded).await?;
    let back: Vec<_> = paid.refunds.iter().map(|refund| (refund.amount.clone(), refund.status())).collect();
    ensure!(
        back == [
            (Some(money(TOTAL)), RefundStatus::Failed),
            (Some(money(400)), RefundStatus::Succeeded),
            (Some(money(600)), RefundStatus::Succeeded),
        ],
        "{back:?}"
    );
    // Nobody takes it again.
    let request_id = format!("capture again:{payment_id}");
    let capture = CapturePaymentRequest { request_id, payment_id, ..Default::default() };
    let refused = refusal(client.shop().payments.capture_payment(capture).await);
    ensure!(refused == Refusal::new(Code::FailedPrecondition, "PAYMENT_GIVEN_UP", ""), "{refused:?}");
    Ok(())
}

/// The provider reported the authorisation by itself and has not answered the call yet: the checkout waits for that, and
/// somebody takes a part. The checkout takes the rest.
#[tokio::test]
async fn what_is_authorised_is_captured_on_request() -> Result<()> {
    let shop = TestShop::start_with(Setup::default().waiting_for_the_provider(120));
    let client = shop.client().await;
    let note = std::fs::read_to_string(shop.data().join("provider/address"))?;
    let provider = Pid::from_raw(note.lines().nth(1).context("a process id")?.parse()?);
    for _ in 0..20 {
        let order_id = waiting(&client, "TAKE").await?;
        let paused = Paused::server(provider);
        let pay = ProcessPaymentRequest {
            request_id: format!("pay {order_id}"),
            order_id: order_id.clone(),
            payment_method_token: "tok_good".into(),
            ..ProcessPaymentRequest::default()
        };
        let payment_id = client.shop().payments.process_payment(pay).await?.into_inner().payment_id;
        let held = RecordProviderSignalRequest {
            kind: ProviderSignalKind::Authorized.into(),
            ..reported(&payment_id, &format!("held-{order_id}"), &format!("{payment_id}:authorize:1"), TOTAL)
        };
        ensure!(report(&client, held).await?.outcome() == SignalOutcome::Applied);
        let capture = CapturePaymentRequest {
            request_id: format!("take {order_id}"),
            payment_id: payment_id.clone(),
            amount: Some(money(400)),
            ..CapturePaymentRequest::default()
        };
        let taken = client.shop().payments.capture_payment(capture.clone()).await;
        drop(paused);
        let taken = match taken {
            Ok(taken) => taken.into_inner(),
            // The checkout looked at this payment only when the report was there, and is taking all of it.
            Err(refused) if refused.code() == Code::FailedPrecondition => continue,
            Err(other) => return Err(other.into()),
        };
        let end = ended(&client, &order_id, taken.position.clone()).await?;
        ensure!(end.status() == OrderStatus::Confirmed, "{end:?}");
        let paid = payment_when(&client, &payment_id, PaymentStatus::Captured).await?;
        ensure!(paid.captured == Some(money(TOTAL)), "{paid:?}");
        ensure!(charges(&shop, &order_id) == [1, 2], "{:?}", charges(&shop, &order_id));
        // Asked again, nothing more is taken.
        let again = client.shop().payments.capture_payment(capture).await?.into_inner();
        ensure!(again == taken, "{again:?} after {taken:?}");
        shop.finish();
        return Ok(());
    }
    anyhow::bail!("the checkout was faster each time")
}

/// Order ids are the tenants' own choice: at the one provider of all of them, the same order of two is two payments.
#[tokio::test]
async fn the_same_order_of_two_tenants_is_charged_and_refunded_apart() -> Result<()> {
    let shop = TestShop::start();
    let client = shop.client().await;
    let order_id = "ord_SAME";
    let shops = ["default", "acme"].map(|tenant| {
        let names = if tenant == "default" { String::new() } else { format!("{tenant}/") };
        (client.of_tenant(tenant.parse().expect("ASCII")), names)
    });
    let effects = |shop: &TestShop| -> Vec<String> {
        let calls = calls(shop.data()).into_iter().filter(|call| call.effective);
        calls.map(|call| call.key).collect()
    };
    let mut expected = vec![];
    for (client, names) in &shops {
        sell(client, "SAME", 2).await?;
        // Its provider reports the authorisation by itself as well, twice.
        let sold = place(client, order(order_id, "SAME", 2, "tok_answer_twice")).await?;
        ensure!(sold.status() == OrderStatus::Confirmed, "{sold:?}");
        expected.extend(["authorize", "capture"].map(|what| format!("{names}pay_SAME.1:{what}:1")));
        ensure!(effects(&shop) == expected, "each is charged once: {:?}", effects(&shop));
    }
    let payment = async |client: &Client, is: &dyn Fn(&Payment) -> bool| {
        let asked = GetPaymentRequest { payment_id: "pay_SAME.1".into(), ..GetPaymentRequest::default() };
        until(async || {
            let get = async |mut shop: Shop, request| shop.payments.get_payment(request).await;
            let seen = client.call(asked.clone(), get).await?.payment;
            Ok(seen.filter(|payment| is(payment)))
        })
        .await
    };
    let [(default, _), (acme, _)] = &shops;
    let wanted = refund("pay_SAME.1", "some", Some(400));
    acme.call(wanted, async |mut shop, request| shop.payments.refund_payment(request).await).await?;
    payment(acme, &|payment| payment.refunded == Some(money(400))).await?;
    expected.push("acme/pay_SAME.1:refund:1".to_owned());
    ensure!(effects(&shop) == expected, "{:?}", effects(&shop));
    let kept = payment(default, &|payment| payment.captured == Some(money(TOTAL))).await?;
    ensure!(kept.refunded == Some(money(0)), "{kept:?}");
    // All that is left there is still to be had, and no more.
    let wanted = refund("pay_SAME.1", "all", None);
    default.call(wanted, async |mut shop, request| shop.payments.refund_payment(request).await).await?;
    payment(default, &|payment| payment.refunded == Some(money(TOTAL))).await?;
    expected.push("pay_SAME.1:refund:1".to_owned());
    ensure!(effects(&shop) == expected, "{:?}", effects(&shop));
    shop.finish();
    Ok(())
}

#[tokio::test]
async fn who_does_not_pay_in_time_is_told_so() -> Result<()> {
    let shop = TestShop::start_with(Setup::default().holding_for(4));
    let client = shop.client().await;
    sell(&client, "TIME", 2).await?;
    let order = place(&client, order("ord_TIME", "TIME", 2, "tok_decline_retryable")).await?;
    ensure!(order.status() == OrderStatus::Cancelled, "{order:?}");
    ensure!(order.cancel_reason() == CancelReason::PaymentTimeout, "{order:?}");
    shop.finish();
    Ok(())
}

/// An order whose first payment was declined and that may be paid otherwise.
async fn waiting(client: &Client, name: &str) -> Result<String> {
    let sku = format!("{name}-{}", unique());
    sell(client, &sku, 2).await?;
    let wanted: CreateOrderRequest = order(&format!("ord_{sku}"), &sku, 2, "tok_decline_retryable");
    let placed = client.shop().orders.create_order(wanted).await?.into_inner();
    let get = GetOrderRequest {
        min_position: placed.position.into_iter().collect(),
        order_id: placed.order_id.clone(),
    };
    until(async || {
        let order: Order =
            client.shop().orders.get_order(get.clone()).await?.into_inner().order.context("an order")?;
        Ok((order.status() == OrderStatus::AwaitingPayment).then_some(()))
    })
    .await?;
    Ok(placed.order_id)
}

async fn payment_that(client: &Client, payment_id: &str, is: impl Fn(&Payment) -> bool) -> Result<Payment> {
    let get = GetPaymentRequest { payment_id: payment_id.to_owned(), ..GetPaymentRequest::default() };
    until(async || {
        let answer = client.shop().payments.get_payment(get.clone()).await?;
        Ok(answer.into_inner().payment.filter(|payment| is(payment)))
    })
    .await
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

/// So many seconds from now.
fn ahead(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: SystemClock.now().micros() / 1_000_000 + seconds, nanos: 0 }
}
