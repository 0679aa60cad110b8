//! Every stop has a way out: wherever a process stopped, a person who has seen to it by hand lets it come to its end.

use std::collections::BTreeSet;

use shopstream_domain::order::{
    CancelReason, CheckoutCommand, CheckoutNeedsAttention, Command, OrderStatus, Stage, Step,
};
use shopstream_domain::returns::{self, ReturnStatus};
use shopstream_domain::{LocationId, OrderId, Sku, StreamId};
use shopstream_eventlog::raw::RawError;
use shopstream_eventlog::sim::Fate;
use shopstream_sagas::Settings;
use shopstream_sagas::testing::Shop;

const LINES: &[(&str, i64)] = &[("MUG", 2)];

async fn shop() -> Shop {
    let mut shop = Shop::open(Settings::default()).await;
    shop.receive("MUG", 10).await;
    shop
}

async fn at(shop: &Shop, order: &OrderId, stages: &[Stage]) {
    let is_there = |shop: &Shop| shop.checkout(order).stage().is_some_and(|stage| stages.contains(&stage));
    shop.until(&format!("{stages:?}"), |shop| is_there(shop).then_some(())).await;
}

async fn settle(shop: &mut Shop, order: &OrderId, money: bool, stock: bool) {
    let settle = CheckoutCommand::Settle { money, stock, reason: "done by hand".to_owned() };
    shop.send(order.checkout_stream(&shop.tenant), settle).await;
}

/// The stock items do not answer, for longer than anybody is patient.
fn break_the_stock(shop: &Shop) {
    let item = Sku::new("MUG").unwrap().stock_stream(&shop.tenant, &LocationId::main());
    let lost = Fate::Lose(RawError::Unavailable { detail: "test".to_owned() });
    let partition = item.partition(shop.commands().partitions());
    shop.faults.next(partition, std::iter::repeat_n(lost, 100_000));
}

/// An order on another partition than the stock.
fn elsewhere(shop: &Shop, prefix: &str) -> String {
    let partitions = shop.commands().partitions();
    let item = Sku::new("MUG").unwrap().stock_stream(&shop.tenant, &LocationId::main());
    let is_elsewhere = |id: &String| {
        let stream: StreamId = match prefix {
            "ord_" => OrderId::new(id).unwrap().stream(&shop.tenant),
            _ => shopstream_domain::ReturnId::new(id).unwrap().stream(&shop.tenant),
        };
        stream.partition(partitions) != item.partition(partitions)
    };
    (1..).map(|n| format!("{prefix}{n}")).find(is_elsewhere).unwrap()
}

/// One shop after another, each with a clock of its own.
fn in_a_life<T>(life: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // The test looks after every step of any task.
    runtime.enable_time().start_paused(true).event_interval(1).build().expect("a runtime").block_on(life)
}

/// Whatever it was doing when it stopped, be it by a bug: a checkout of which a person has seen to all ends, and holds no
/// money but what it sold for.
#[test]
fn a_checkout_that_stopped_anywhere_ends_when_all_of_it_was_seen_to() {
    let tokens =
        ["tok_approve", "tok_decline_retryable", "tok_unknown", "tok_unknown_void", "tok_refund_fails"];
    let rounds =
        tokens.into_iter().flat_map(|token| (1..16).chain([20, 24]).map(move |records| (token, records)));
    let stages: BTreeSet<Stage> =
        rounds.filter_map(|(token, records)| in_a_life(seen_to(token, records))).collect();
    for stage in [Stage::Started, Stage::PaymentPending, Stage::AwaitingCustomer, Stage::PaymentUnknown] {
        assert!(stages.contains(&stage), "{stage:?} is not among {stages:?}");
    }
    for stage in [Stage::PaymentSecured, Stage::Compensating, Stage::Reversing] {
        assert!(stages.contains(&stage), "{stage:?} is not among {stages:?}");
    }
}

/// Stops a checkout after so many records and sees to it; answers the stage at which that was.
async fn seen_to(token: &str, records: usize) -> Option<Stage> {
    let mut shop = shop().await;
    let before = shop.until("received", |shop| (shop.records() == 1).then_some(1)).await;
    let order = shop.order("ord_1", LINES, token).await;
    let over = |shop: &Shop| shop.checkout(&order).stage().is_some_and(Stage::is_terminal);
    let enough = |shop: &Shop| (shop.records() >= before + records || over(shop)).then_some(());
    shop.until("so many records", enough).await;
    if over(&shop) {
        // Further on the way back.
        let command = Command::RequestCancellation { reason: CancelReason::Customer };
        shop.send(order.stream(&shop.tenant), command).await;
        let enough = |shop: &Shop| shop.records() >= before + records;
        let back = |shop: &Shop| shop.checkout(&order).stage() != Some(Stage::Done);
        shop.until("on the way back", |shop| (enough(shop) || back(shop)).then_some(())).await;
    }
    shop.crash_sagas().await;
    let stage = shop.checkout(&order).stage().filter(|stage| !stage.is_terminal())?;
    if stage != Stage::NeedsAttention {
        let (step, detail) = ("plan".to_owned(), "it makes more moves than any checkout should".to_owned());
        let stop = Step::NeedsAttention(CheckoutNeedsAttention { step, detail });
        shop.send(order.checkout_stream(&shop.tenant), CheckoutCommand::Record(stop)).await;
    }
    shop.start_sagas();
    // Undoing an order that was not sold yet begins anew, and may stop anew.
    loop {
        // The stop is known before it is settled, and the settlement before the next one is looked for.
        at(&shop, &order, &[Stage::NeedsAttention]).await;
        let settled = |shop: &Shop| shop.story_of(&order.checkout_stream(&shop.tenant), "CheckoutSettled");
        let before = settled(&shop);
        settle(&mut shop, &order, true, true).await;
        shop.until("it is known", |shop| (settled(shop) > before).then_some(())).await;
        let stages = [Stage::Done, Stage::Cancelled, Stage::NeedsAttention];
        at(&shop, &order, &stages).await;
        if shop.checkout(&order).stage() != Some(Stage::NeedsAttention) {
            break;
        }
    }
    let payment = shop.payment(&order, 1);
    let kept = payment.captured_minor() - payment.refunded_minor();
    let owed = if shop.checkout(&order).stage() == Some(Stage::Done) { 200 } else { 0 };
    assert_eq!(kept, owed, "{token}, {records}: {:#?}", shop.story());
    assert_eq!(payment.open_operation(), None, "{token}, {records}: {:#?}", shop.story());
    Some(stage)
}

#[tokio::test(start_paused = true)]
async fn stock_that_never_follows_is_seen_to_by_hand() {
    let mut shop = shop().await;
    let id = elsewhere(&shop, "ord_");
    let order = shop.order(&id, LINES, "tok_approve").await;
    at(&shop, &order, &[Stage::Done]).await;
    break_the_stock(&shop);
    let command = Command::RequestCancellation { reason: CancelReason::Customer };
    shop.send(order.stream(&shop.tenant), command).await;
    at(&shop, &order, &[Stage::NeedsAttention]).await;
    let attention = shop.checkout(&order).attention().cloned().expect("it stopped");
    assert!(attention.detail.contains("did not answer"), "{attention:?}");
    settle(&mut shop, &order, false, true).await;
    at(&shop, &order, &[Stage::Cancelled]).await;
    assert_eq!(shop.order_state(&order).status(), Some(OrderStatus::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn units_that_never_come_to_the_shelf_are_seen_to_by_hand() {
    let mut shop = shop().await;
    let order = shop.order(&elsewhere(&shop, "ord_"), LINES, "tok_approve").await;
    at(&shop, &order, &[Stage::Done]).await;
    break_the_stock(&shop);
    let id = elsewhere(&shop, "ret_");
    let goods = shop.give_back(&order, &id, &[(0, "MUG", 1)]).await;
    let is_at = |shop: &Shop, status| (shop.goods_return(&goods).status() == Some(status)).then_some(());
    shop.until("a person is needed", |shop| is_at(shop, ReturnStatus::NeedsAttention)).await;
    let (money, stock, reason) = (false, true, "they were thrown away".to_owned());
    shop.send(goods.clone(), returns::Command::Settle { money, stock, reason }).await;
    shop.until("over", |shop| is_at(shop, ReturnStatus::Settled)).await;
    // The money went its ordinary way.
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 100);
    assert_eq!(shop.provider.carried_out("refunded").len(), 1);
}

/// Whatever it was doing when it stopped.
#[test]
fn a_return_that_stopped_anywhere_ends_when_all_of_it_was_seen_to() {
    (1..12).for_each(|records| in_a_life(return_seen_to(records)));
}

async fn return_seen_to(records: usize) {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_refund_fails").await;
    at(&shop, &order, &[Stage::Done]).await;
    let before = shop.records();
    let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 1)]).await;
    let is_at = |shop: &Shop, status| shop.goods_return(&goods).status() == Some(status);
    shop.until("so many records", |shop| {
        (shop.records() >= before + records || is_at(shop, ReturnStatus::NeedsAttention)).then_some(())
    })
    .await;
    shop.crash_sagas().await;
    if !is_at(&shop, ReturnStatus::NeedsAttention) {
        let (step, detail) = ("load".to_owned(), "test".to_owned());
        shop.send(goods.clone(), returns::Command::RecordNeedsAttention { step, detail }).await;
    }
    shop.start_sagas();
    let (money, stock, reason) = (true, true, "done by hand".to_owned());
    shop.send(goods.clone(), returns::Command::Settle { money, stock, reason }).await;
    shop.until("over", |shop| is_at(shop, ReturnStatus::Settled).then_some(())).await;
    let payment = shop.payment(&order, 1);
    assert_eq!((payment.refunded_minor(), payment.refund_pending_minor()), (100, 0), "{:#?}", shop.story());
    assert_eq!(payment.open_operation(), None);
}
