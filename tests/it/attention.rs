//! What stops and waits for a person: it is listed, it goes on when somebody says so, and who said it is on record.

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::order::v1::{CancelOrderRequest, CancelReason, GetOrderRequest, Order, OrderStatus};
use shopstream_proto::payment::v1::{
    GetPaymentRequest, Payment, ProviderSignalKind, RecordProviderSignalRequest, SignalOutcome,
};
use shopstream_proto::process::v1::{
    ListStoppedProcessesRequest, ProcessKind, ProcessResolution, ResumeProcessRequest, SettleProcessRequest,
    StoppedProcess,
};
use shopstream_proto::returns::v1::{
    CreateReturnRequest, GetReturnRequest, NewReturnLine, Return, ReturnStatus,
};
use shopstream_proto::r#type::v1::Position;
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{money, order, place, sell};
use shopstream_tests::{Refusal, Setup, TestShop, read_log, refusal};
use tonic::{Code, Request};

const SKU: &str = "ATTENTION";

#[tokio::test]
async fn a_refund_that_keeps_failing_stops_until_a_person_has_looked() -> Result<()> {
    let shop = TestShop::start_with(Setup::default().trying_again(0));
    let client = shop.client().await;
    sell(&client, SKU, 10).await?;
    ensure!(list(&client, None, 0).await?.0.is_empty(), "something waits already");
    a_return(&client).await?;
    a_cancellation(&shop, &client).await?;
    a_return_seen_to(&shop, &client).await?;
    a_cancellation_seen_to(&client).await?;
    a_return_whose_money_went_back_elsewhere(&shop, &client).await?;
    several(&client).await?;
    shop.finish();
    Ok(())
}

/// Goods come back, over the API alone.
async fn a_return(client: &Client) -> Result<()> {
    let bought = buy(client, "return").await?;
    let give_back = CreateReturnRequest {
        request_id: "give back".into(),
        return_id: Some("ret_attention".into()),
        order_id: bought.order_id.clone(),
        lines: vec![NewReturnLine { line_index: 0, quantity: 1 }],
        ..CreateReturnRequest::default()
    };
    let created = client.shop().returns.create_return(give_back).await?.into_inner();
    let stopped_at =
        return_when(client, "ret_attention", ReturnStatus::NeedsAttention, created.position).await?;

    let (listed, _) = list(client, stopped_at, 0).await?;
    let [stopped] = listed.as_slice() else { anyhow::bail!("{listed:?}") };
    let refund = format!("pay_{}.1:refund:1", bought.order_id.trim_start_matches("ord_"));
    ensure!((&*stopped.process_id, stopped.kind()) == ("ret_attention", ProcessKind::Return), "{stopped:?}");
    ensure!((&*stopped.order_id, &*stopped.step) == (&*bought.order_id, "refund"), "{stopped:?}");
    ensure!(stopped.detail.contains(&refund) && stopped.stop_time.is_some(), "{stopped:?}");

    let resume = ResumeProcessRequest {
        request_id: "seen to".into(),
        expected_version: Some(stopped.version),
        process_id: stopped.process_id.clone(),
        reason: "the provider is back".into(),
    };
    for (wrong, code, reason, field) in [
        (
            ResumeProcessRequest { reason: String::new(), ..resume.clone() },
            Code::InvalidArgument,
            "REQUEST_INVALID",
            "reason",
        ),
        (
            ResumeProcessRequest {
                process_id: "ret_nobodys".into(),
                expected_version: None,
                ..resume.clone()
            },
            Code::NotFound,
            "RETURN_NOT_FOUND",
            "",
        ),
        (
            ResumeProcessRequest {
                process_id: "chk_nobodys".into(),
                expected_version: None,
                ..resume.clone()
            },
            Code::NotFound,
            "CHECKOUT_NOT_FOUND",
            "",
        ),
    ] {
        let refused = refusal(client.shop().processes.resume_process(wrong).await);
        ensure!(refused == Refusal::new(code, reason, field), "{refused:?}");
    }
    let stale = ResumeProcessRequest { expected_version: Some(stopped.version - 1), ..resume.clone() };
    ensure!(refusal(client.shop().processes.resume_process(stale).await).code == Code::Aborted);

    let mut asked = Request::new(resume.clone());
    asked.metadata_mut().insert("shopstream-actor", "till-3".parse()?);
    let resumed = client.shop().processes.resume_process(asked).await?.into_inner();
    return_when(client, "ret_attention", ReturnStatus::Resolved, resumed.position.clone()).await?;
    // The same again is answered as it was; another wish finds nothing that waits.
    let again = client.shop().processes.resume_process(resume.clone()).await?.into_inner();
    ensure!(again == resumed, "{resumed:?} then {again:?}");
    let late = ResumeProcessRequest { request_id: "too late".into(), expected_version: None, ..resume };
    let refused = refusal(client.shop().processes.resume_process(late).await);
    ensure!(refused == Refusal::new(Code::FailedPrecondition, "PROCESS_NOT_STOPPED", ""), "{refused:?}");
    ensure!(list(client, resumed.position, 0).await?.0.is_empty(), "it waits no more");
    recorded(client, "default/return/ret_attention", "ReturnResumed", "till-3", "the provider is back").await
}

/// An order is cancelled after it was sold, by the verbs.
async fn a_cancellation(shop: &TestShop, client: &Client) -> Result<()> {
    let bought = buy(client, "cancelled").await?;
    let process = stop_by_cancelling(client, &bought).await?;
    let listed = shop.verb(&["attention", "list"]);
    let shown = [&*process, &*bought.order_id, ":refund:1 failed"];
    ensure!(listed.status.success() && shown.iter().all(|text| listed.out.contains(text)), "{listed:?}");
    let elsewhere = shop.verb(&["attention", "list", "--tenant", "another"]);
    ensure!(elsewhere.out.trim() == "nothing needs attention", "{elsewhere:?}");

    let resume = ["attention", "resume", &process, "--reason", "paid by hand", "--actor", "till-4"];
    let resumed = shop.verb(&resume);
    ensure!(resumed.status.success() && resumed.out.contains("goes on"), "{resumed:?}");
    is_cancelled(client, &bought.order_id).await?;
    recorded(client, &format!("default/checkout/{process}"), "CheckoutResumed", "till-4", "paid by hand")
        .await?;
    let again = shop.verb(&resume);
    ensure!(!again.status.success() && again.err.contains("PROCESS_NOT_STOPPED"), "{again:?}");
    Ok(())
}

/// A return whose refund never comes through is settled by the verb.
async fn a_return_seen_to(shop: &TestShop, client: &Client) -> Result<()> {
    let bought = place(client, order("ord_ATTENTION-settled", SKU, 1, "tok_refund_fails_99")).await?;
    let stopped = stop_a_return(client, &bought, "ret_settled").await?;
    let settle =
        ["attention", "settle", &stopped, "--done", "money", "--reason", "transferred", "--actor", "till-5"];
    let settled = shop.verb(&settle);
    ensure!(settled.status.success() && settled.out.contains("goes on"), "{settled:?}");
    let over = is_settled(client, &stopped).await?;
    ensure!(over.refunded && over.restocked, "{over:?}");
    recorded(client, "default/return/ret_settled", "ReturnSettled", "till-5", "transferred").await?;
    let payment = payment(client, &bought).await?;
    ensure!(payment.refunded == Some(money(500)) && payment.refunds.len() == 2, "{payment:?}");
    let again = shop.verb(&settle);
    ensure!(!again.status.success() && again.err.contains("PROCESS_NOT_STOPPED"), "{again:?}");
    Ok(())
}

/// A cancellation whose refund never comes through is settled over the API.
async fn a_cancellation_seen_to(client: &Client) -> Result<()> {
    let bought = place(client, order("ord_ATTENTION-undone", SKU, 1, "tok_refund_fails_99")).await?;
    let process_id = stop_by_cancelling(client, &bought).await?;
    let settle = SettleProcessRequest {
        request_id: "settled".into(),
        expected_version: None,
        process_id,
        resolution: ProcessResolution::MoneyByHand.into(),
        reason: "transferred".into(),
    };
    let settled = client.shop().processes.settle_process(settle.clone()).await?.into_inner();
    is_cancelled(client, &bought.order_id).await?;
    ensure!(client.shop().processes.settle_process(settle).await?.into_inner() == settled);
    ensure!(payment(client, &bought).await?.refunded == Some(money(500)));
    Ok(())
}

/// While a return waited for its money, that went back at the provider's own site.
async fn a_return_whose_money_went_back_elsewhere(shop: &TestShop, client: &Client) -> Result<()> {
    let bought = place(client, order("ord_ATTENTION-elsewhere", SKU, 1, "tok_refund_fails_99")).await?;
    let stopped = stop_a_return(client, &bought, "ret_elsewhere").await?;
    let payment_id = payment(client, &bought).await?.payment_id;
    let said = RecordProviderSignalRequest {
        request_id: "elsewhere".into(),
        provider_event_id: "evt_elsewhere".into(),
        provider_key: "re_elsewhere".into(),
        kind: ProviderSignalKind::Refunded.into(),
        amount: Some(money(500)),
        payment_id,
        ..RecordProviderSignalRequest::default()
    };
    let said = client.shop().payments.record_provider_signal(said).await?.into_inner();
    ensure!(said.outcome() == SignalOutcome::Applied, "{said:?}");
    let resumed = shop.verb(&["attention", "resume", &stopped, "--reason", "try again"]);
    ensure!(resumed.status.success(), "{resumed:?}");
    // Nobody gives it back once more.
    return_when(client, &stopped, ReturnStatus::Resolved, None).await?;
    ensure!(payment(client, &bought).await?.refunded == Some(money(500)));
    Ok(())
}

/// Answers the return that stopped.
async fn stop_a_return(client: &Client, bought: &Order, return_id: &str) -> Result<String> {
    let give_back = CreateReturnRequest {
        request_id: return_id.into(),
        return_id: Some(return_id.into()),
        order_id: bought.order_id.clone(),
        lines: vec![NewReturnLine { line_index: 0, quantity: 1 }],
        ..CreateReturnRequest::default()
    };
    client.shop().returns.create_return(give_back).await?;
    until(async || {
        let listed = list(client, None, 0).await?.0;
        Ok(listed.into_iter().find(|process| process.process_id == return_id).map(|it| it.process_id))
    })
    .await
}

async fn is_settled(client: &Client, return_id: &str) -> Result<Return> {
    let get = GetReturnRequest { return_id: return_id.into(), ..GetReturnRequest::default() };
    until(async || {
        let answer = client.shop().returns.get_return(get.clone()).await?.into_inner();
        Ok(answer.return_view.filter(|view| view.status() == ReturnStatus::Settled))
    })
    .await
}

async fn payment(client: &Client, bought: &Order) -> Result<Payment> {
    let payment_id = bought.payment_ids.first().context("a payment")?.clone();
    let get = GetPaymentRequest { payment_id, ..GetPaymentRequest::default() };
    client.shop().payments.get_payment(get).await?.into_inner().payment.context("a payment")
}

/// More than one page.
async fn several(client: &Client) -> Result<()> {
    let mut stopped = Vec::new();
    for name in ["page-1", "page-2", "page-3"] {
        stopped.push(stop_by_cancelling(client, &buy(client, name).await?).await?);
    }
    let (first, token) = list(client, None, 2).await?;
    let request = ListStoppedProcessesRequest { page_size: 2, page_token: token, ..Default::default() };
    let second = client.shop().processes.list_stopped_processes(request).await?.into_inner();
    ensure!((first.len(), second.processes.len(), &*second.next_page_token) == (2, 1, ""), "{second:?}");
    let listed: Vec<_> = first.into_iter().chain(second.processes).map(|it| it.process_id).collect();
    ensure!(listed == stopped, "{listed:?} are not {stopped:?}");
    for process_id in stopped {
        let order_id = process_id.replacen("chk_", "ord_", 1);
        let resume = ResumeProcessRequest {
            request_id: format!("seen to:{process_id}"),
            expected_version: None,
            process_id,
            reason: "seen to".into(),
        };
        client.shop().processes.resume_process(resume).await?;
        is_cancelled(client, &order_id).await?;
    }
    Ok(())
}

/// An order whose first refund will fail.
async fn buy(client: &Client, name: &str) -> Result<Order> {
    let bought = place(client, order(&format!("ord_{SKU}-{name}"), SKU, 2, "tok_refund_fails_1")).await?;
    ensure!(bought.status() == OrderStatus::Confirmed, "{bought:?}");
    Ok(bought)
}

/// Answers the process that stopped.
async fn stop_by_cancelling(client: &Client, bought: &Order) -> Result<String> {
    let cancel = CancelOrderRequest {
        request_id: format!("cancel:{}", bought.order_id),
        order_id: bought.order_id.clone(),
        reason: CancelReason::Customer.into(),
        ..CancelOrderRequest::default()
    };
    client.shop().orders.cancel_order(cancel).await?;
    let process = bought.order_id.replacen("ord_", "chk_", 1);
    until(async || {
        let listed = list(client, None, 0).await?.0;
        Ok(listed.iter().any(|stopped| stopped.process_id == process).then_some(()))
    })
    .await?;
    Ok(process)
}

async fn is_cancelled(client: &Client, order_id: &str) -> Result<()> {
    let get = GetOrderRequest { order_id: order_id.to_owned(), ..GetOrderRequest::default() };
    until(async || {
        let answer = client.shop().orders.get_order(get.clone()).await?.into_inner();
        Ok((answer.order.context("an order")?.status() == OrderStatus::Cancelled).then_some(()))
    })
    .await
}

async fn list(
    client: &Client,
    position: Option<Position>,
    page_size: i32,
) -> Result<(Vec<StoppedProcess>, String)> {
    let request = ListStoppedProcessesRequest {
        min_position: position.into_iter().collect(),
        page_size,
        ..ListStoppedProcessesRequest::default()
    };
    let page = client.shop().processes.list_stopped_processes(request).await?.into_inner();
    Ok((page.processes, page.next_page_token))
}

/// Waits for the return's status, and answers where it came to it.
async fn return_when(
    client: &Client,
    return_id: &str,
    status: ReturnStatus,
    position: Option<Position>,
) -> Result<Option<Position>> {
    let get = GetReturnRequest { min_position: position.into_iter().collect(), return_id: return_id.into() };
    let seen = until(async || {
        let answer = client.shop().returns.get_return(get.clone()).await?.into_inner();
        let view = answer.return_view.context("a return")?;
        Ok((view.status() == status).then_some(view))
    })
    .await?;
    ensure!(seen.refund_total == Some(money(500)), "{seen:?}");
    Ok(seen.position)
}

/// Who resumed it and why is on the log.
async fn recorded(client: &Client, stream: &str, event: &str, actor: &str, reason: &str) -> Result<()> {
    let log = read_log(client).await;
    let resumed = log.get(stream).into_iter().flatten().find(|it| it.event_type == event);
    let resumed = resumed.with_context(|| format!("no {event} in {stream}"))?;
    ensure!(resumed.actor == actor && resumed.payload_json.contains(reason), "{resumed:?}");
    Ok(())
}
