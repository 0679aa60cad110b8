//! What is played: the branches of C.5.3 that a shop of today has, as far as they can be brought about from outside. F-04 (stock
//! that does not answer) and F-15 (a confirmation that meets another change) cannot: the processes' own tests play those.

use anyhow::{Context as _, Result, ensure};
use futures::future::LocalBoxFuture;
use shopstream_proto::order::v1::{CancelOrderRequest, CancelReason, GetOrderRequest, Order, OrderStatus};
use shopstream_proto::payment::v1::ProcessPaymentRequest;
use shopstream_proto::process::v1::ResumeProcessRequest;
use shopstream_proto::returns::v1::{CreateReturnRequest, GetReturnRequest, NewReturnLine, ReturnStatus};
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{ended, order, place, sell};
use tonic::Code;

type Act = fn(Client, String) -> LocalBoxFuture<'static, Result<()>>;

/// One branch.
pub(super) struct Play {
    pub(super) id: &'static str,
    pub(super) says: &'static str,
    /// Whether it needs a shop whose holds end soon.
    pub(super) short_holds: bool,
    /// What must be there before. Its name is also that of the SKU and the order.
    pub(super) prepare: Act,
    pub(super) act: Act,
}

macro_rules! play {
    ($id:literal, $says:literal, $short_holds:expr, $units:expr, $act:path) => {
        Play {
            id: $id,
            says: $says,
            short_holds: $short_holds,
            prepare: |client, name| Box::pin(async move { sell(&client, &name, $units).await }),
            act: |client, name| Box::pin(async move { $act(&client, &name).await }),
        }
    };
}

/// All of them.
pub(super) const PLAYS: [Play; 13] = [
    play!("F-01", "an unknown SKU", false, 2, unknown_sku),
    play!("F-02", "out of stock", false, 1, out_of_stock),
    play!("F-08", "declined for good", false, 2, declined),
    play!("F-08", "declined, then paid otherwise", false, 2, paid_otherwise),
    play!("F-09", "the customer never comes back", true, 2, never_comes_back),
    play!("F-10", "charged, and the answer is lost", false, 2, answer_lost),
    play!("F-11", "cancelled while the charge is unknown", false, 2, cancelled_while_unknown),
    play!("F-12", "answered twice", false, 2, answered_twice),
    play!("F-13", "the hold runs out under the payment", true, 2, hold_runs_out),
    play!("F-14", "cancelled at once", false, 2, cancelled_at_once),
    play!("F-14", "cancelled after the end", false, 2, cancelled_after_the_end),
    play!("F-21", "a refund keeps failing", false, 2, refund_fails),
    play!("F-22", "nothing goes wrong", false, 2, confirmed),
];

fn id(name: &str) -> String {
    format!("ord_{name}")
}

async fn pay_with(client: &Client, name: &str, token: &str) -> Result<Order> {
    place(client, order(&id(name), name, 2, token)).await
}

fn is_cancelled(order: &Order, reasons: &[CancelReason]) -> Result<()> {
    let cancelled = order.status() == OrderStatus::Cancelled && reasons.contains(&order.cancel_reason());
    ensure!(cancelled, "it should be cancelled for one of {reasons:?}: {order:?}");
    Ok(())
}

fn is_confirmed(order: &Order) -> Result<()> {
    ensure!(order.status() == OrderStatus::Confirmed, "it should be confirmed: {order:?}");
    Ok(())
}

async fn unknown_sku(client: &Client, name: &str) -> Result<()> {
    let wanted = order(&id(name), &format!("{name}-nobody-sells-this"), 2, "tok_ok");
    let refused = client.shop().orders.create_order(wanted).await.err().context("it was taken")?;
    // A node that was just killed answers otherwise, and nothing was done.
    ensure!(
        matches!(refused.code(), Code::FailedPrecondition | Code::Unavailable | Code::Unknown),
        "{refused:?}"
    );
    let get = GetOrderRequest { min_position: Vec::new(), order_id: id(name) };
    until(async || match client.shop().orders.get_order(get.clone()).await {
        Err(status) if status.code() == Code::NotFound => Ok(Some(())),
        Err(_) => Ok(None),
        Ok(order) => anyhow::bail!("it is there: {order:?}"),
    })
    .await
}

async fn out_of_stock(client: &Client, name: &str) -> Result<()> {
    is_cancelled(&pay_with(client, name, "tok_ok").await?, &[CancelReason::OutOfStock])
}

async fn declined(client: &Client, name: &str) -> Result<()> {
    is_cancelled(&pay_with(client, name, "tok_decline").await?, &[CancelReason::PaymentDeclined])
}

async fn paid_otherwise(client: &Client, name: &str) -> Result<()> {
    let placed = create(client, name, "tok_decline_retryable").await?;
    seen(client, name, OrderStatus::AwaitingPayment).await?;
    let pay = ProcessPaymentRequest {
        request_id: "pay again".into(),
        order_id: id(name),
        payment_method_token: "tok_good".into(),
        ..ProcessPaymentRequest::default()
    };
    let paid =
        client.call(pay, async |mut shop, request| shop.payments.process_payment(request).await).await?;
    is_confirmed(&ended(client, &placed, paid.position).await?)
}

async fn never_comes_back(client: &Client, name: &str) -> Result<()> {
    let end = pay_with(client, name, "tok_decline_retryable").await?;
    // Where the node was away for as long as the hold, the order has expired before it was paid for at all.
    is_cancelled(&end, &[CancelReason::PaymentDeclined, CancelReason::PaymentTimeout])
}

async fn answer_lost(client: &Client, name: &str) -> Result<()> {
    is_confirmed(&pay_with(client, name, "tok_timeout_after_charge").await?)
}

async fn cancelled_while_unknown(client: &Client, name: &str) -> Result<()> {
    create(client, name, "tok_timeout_after_charge").await?;
    is_cancelled(&cancel(client, name).await?, &[CancelReason::Customer])
}

async fn answered_twice(client: &Client, name: &str) -> Result<()> {
    is_confirmed(&pay_with(client, name, "tok_answer_twice").await?)
}

async fn hold_runs_out(client: &Client, name: &str) -> Result<()> {
    let end = pay_with(client, name, "tok_slow").await?;
    if end.status() == OrderStatus::Confirmed {
        return Ok(());
    }
    // The second hold runs out as well where the node was away.
    is_cancelled(&end, &[CancelReason::OutOfStockAfterPayment, CancelReason::PaymentTimeout])
}

async fn cancelled_at_once(client: &Client, name: &str) -> Result<()> {
    create(client, name, "tok_ok").await?;
    is_cancelled(&cancel(client, name).await?, &[CancelReason::Customer])
}

async fn cancelled_after_the_end(client: &Client, name: &str) -> Result<()> {
    is_confirmed(&pay_with(client, name, "tok_ok").await?)?;
    is_cancelled(&cancel(client, name).await?, &[CancelReason::Customer])
}

/// The shop tries a step that failed once more, then a person must look.
async fn refund_fails(client: &Client, name: &str) -> Result<()> {
    is_confirmed(&pay_with(client, name, "tok_refund_fails_2").await?)?;
    let return_id = format!("ret_{name}");
    let give_back = CreateReturnRequest {
        request_id: "give back".into(),
        return_id: Some(return_id.clone()),
        order_id: id(name),
        lines: vec![NewReturnLine { line_index: 0, quantity: 2 }],
        ..CreateReturnRequest::default()
    };
    client.call(give_back, async |mut shop, request| shop.returns.create_return(request).await).await?;
    // A node that was killed forgets how often it has tried: the refund may come through before anybody is asked.
    if return_when(client, &return_id, &[ReturnStatus::NeedsAttention, ReturnStatus::Resolved]).await?
        == ReturnStatus::NeedsAttention
    {
        let resume = ResumeProcessRequest {
            request_id: "seen to".into(),
            process_id: return_id.clone(),
            reason: "seen to".into(),
            ..ResumeProcessRequest::default()
        };
        client.call(resume, async |mut shop, request| shop.processes.resume_process(request).await).await?;
    }
    return_when(client, &return_id, &[ReturnStatus::Resolved]).await.map(drop)
}

async fn return_when(client: &Client, return_id: &str, wanted: &[ReturnStatus]) -> Result<ReturnStatus> {
    let get = GetReturnRequest { return_id: return_id.to_owned(), ..GetReturnRequest::default() };
    until(async || match client.shop().returns.get_return(get.clone()).await {
        Ok(answer) => {
            let found = answer.into_inner().return_view.context("an answer without a return")?.status();
            Ok(wanted.contains(&found).then_some(found))
        }
        Err(_) => Ok(None),
    })
    .await
}

async fn confirmed(client: &Client, name: &str) -> Result<()> {
    is_confirmed(&pay_with(client, name, "tok_ok").await?)
}

async fn create(client: &Client, name: &str, token: &str) -> Result<String> {
    let wanted = order(&id(name), name, 2, token);
    let placed =
        client.call(wanted, async |mut shop, request| shop.orders.create_order(request).await).await?;
    Ok(placed.order_id)
}

async fn cancel(client: &Client, name: &str) -> Result<Order> {
    let cancel = CancelOrderRequest {
        request_id: "cancel".into(),
        order_id: id(name),
        reason: CancelReason::Customer.into(),
        ..CancelOrderRequest::default()
    };
    let asked =
        client.call(cancel, async |mut shop, request| shop.orders.cancel_order(request).await).await?;
    ended(client, &id(name), asked.position).await
}

async fn seen(client: &Client, name: &str, status: OrderStatus) -> Result<()> {
    let get = GetOrderRequest { min_position: Vec::new(), order_id: id(name) };
    until(async || match client.shop().orders.get_order(get.clone()).await {
        Ok(answer) => {
            let order = answer.into_inner().order.context("an answer without an order")?;
            Ok((order.status() == status).then_some(()))
        }
        Err(_) => Ok(None),
    })
    .await
}
