//! Every branch of the checkout that can be reached today (`commerce.md` C.5.3), to its end state and with nothing
//! left over. Time is tokio's, paused: it passes only while nobody has anything to do.

use shopstream_command_handlers::CommandError;
use shopstream_domain::inventory::{
    Allocation, ReleaseReason, ReservationCommand, ReservationStatus, StockKey,
};
use shopstream_domain::order::{
    CancelReason, CheckoutCancelled, CheckoutCommand, CheckoutStarted, Command, OrderStatus, Stage, Step,
};
use shopstream_domain::payment::{self, Answer, PaymentStatus, ProviderOperation};
use shopstream_domain::{Currency, LocationId, OrderId, Quantity, ReservationId, Sku};
use shopstream_sagas::testing::{Shop, TRACE, client};
use shopstream_sagas::{HoldRequest, Settings};

async fn shop() -> Shop {
    shop_with(Settings::default()).await
}

async fn shop_with(settings: Settings) -> Shop {
    let mut shop = Shop::open(settings).await;
    shop.receive("MUG", 10).await;
    shop.receive("PEN", 10).await;
    shop
}

/// Waits until the checkout is at `stage`.
async fn at(shop: &Shop, order: &OrderId, stage: Stage) {
    shop.until(&format!("{stage:?}"), |shop| (shop.checkout(order).stage() == Some(stage)).then_some(()))
        .await;
}

async fn ends_cancelled(shop: &Shop, order: &OrderId, reason: CancelReason) {
    at(shop, order, Stage::Cancelled).await;
    assert_eq!(shop.checkout(order).reason(), Some(reason), "{:#?}", shop.story());
    assert_eq!(shop.order_state(order).status(), Some(OrderStatus::Cancelled));
    shop.assert_conserved();
    assert_eq!((shop.stock("MUG").available(), shop.stock("PEN").available()), (10, 10));
}

async fn ends_done(shop: &Shop, order: &OrderId) {
    at(shop, order, Stage::Done).await;
    assert_eq!(shop.order_state(order).status(), Some(OrderStatus::Confirmed));
    shop.assert_conserved();
    assert_eq!(shop.stock("MUG").committed(), 2);
    assert_eq!(shop.provider.carried_out("captured").len(), 1, "one charge");
}

const LINES: &[(&str, i64)] = &[("MUG", 2), ("PEN", 1)];

#[tokio::test(start_paused = true)]
async fn a_clean_checkout_confirms_and_captures_within_its_budget() {
    let mut shop = shop().await;
    let before = shop.until("received", |shop| (shop.records() == 2).then_some(2)).await;
    let order = shop.order("ord_1", LINES, "tok_approve").await;
    ends_done(&shop, &order).await;
    assert_eq!(shop.payment(&order, 1).status(), Some(PaymentStatus::Captured));
    assert!(shop.records() - before <= 14 + 2 * LINES.len(), "{:#?}", shop.story());
}

#[tokio::test(start_paused = true)]
async fn lines_of_one_sku_are_one_share() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", &[("MUG", 1), ("MUG", 1)], "tok_approve").await;
    ends_done(&shop, &order).await;
    assert_eq!(shop.reservation(&order).keys().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f02_short_stock_cancels_and_says_what_there_was() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", &[("MUG", 2), ("PEN", 11)], "tok_approve").await;
    ends_cancelled(&shop, &order, CancelReason::OutOfStock).await;
    assert_eq!(shop.reservation(&order).status(), ReservationStatus::Rejected);
    let rejected = shop.journal.history(&order.reservation().stream(&shop.tenant));
    let text = rejected
        .iter()
        .flat_map(|record| &record.commit.events)
        .find(|event| event.event_type == "ReservationRejected");
    let text = String::from_utf8_lossy(&text.expect("it was rejected").payload).into_owned();
    assert!(text.contains("\"requested\":11") && text.contains("\"available\":10"), "{text}");
    assert_eq!(shop.provider.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn f04_stock_that_does_not_answer_is_released_first() {
    let settings = Settings { patience: secs(15), ..Settings::default() };
    let mut shop = shop_with(settings).await;
    let (pen, order) = distant(&shop);
    // Whatever reaches the partition of the stock is lost, for longer than a checkout is patient.
    shop.faults.next(pen, std::iter::repeat_n(lost(), 1_000));
    let order = shop.order(&order, &[("PEN", 1)], "tok_approve").await;
    at(&shop, &order, Stage::Compensating).await;
    assert_eq!(shop.stock("PEN").available(), 10, "not reached");
    shop.faults.heal();
    ends_cancelled(&shop, &order, CancelReason::Timeout).await;
    assert_eq!(
        shop.reservation(&order).status(),
        ReservationStatus::Released { reason: ReleaseReason::Timeout },
        "{:#?}",
        shop.story()
    );
    assert_eq!(shop.provider.calls(), []);
}

fn lost() -> shopstream_eventlog::sim::Fate {
    shopstream_eventlog::sim::Fate::Lose(shopstream_eventlog::raw::RawError::Unavailable {
        detail: "test".to_owned(),
    })
}

/// The partition of the pens, and an order that is elsewhere.
fn distant(shop: &Shop) -> (u16, String) {
    let partitions = shop.commands().partitions();
    let pen = shopstream_domain::Sku::new("PEN").unwrap();
    let pen = pen.stock_stream(&shop.tenant, &shopstream_domain::LocationId::main()).partition(partitions);
    let elsewhere = (0..)
        .map(|n| format!("ord_{n}"))
        .find(|id| OrderId::new(id).unwrap().stream(&shop.tenant).partition(partitions) != pen);
    (pen, elsewhere.unwrap())
}

#[tokio::test(start_paused = true)]
async fn f08_a_final_decline_cancels() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline").await;
    ends_cancelled(&shop, &order, CancelReason::PaymentDeclined).await;
    assert_eq!(shop.provider.carried_out("declined").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f08_a_retryable_decline_waits_for_another_method() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    assert_eq!(shop.order_state(&order).status(), Some(OrderStatus::AwaitingPayment));
    pay_again(&mut shop, &order, 2, "tok_approve").await;
    ends_done(&shop, &order).await;
    assert_eq!(shop.payment(&order, 2).status(), Some(PaymentStatus::Captured));
}

/// What the gateway does for `ProcessPayment`.
async fn pay_again(shop: &mut Shop, order: &OrderId, attempt: u32, token: &str) {
    let payment_id = order.payment(attempt);
    let (amount_minor, currency) =
        (shop.payment(order, 1).amount_minor(), shop.payment(order, 1).currency().unwrap());
    let initiate = payment::Command::Initiate {
        payment_id: payment_id.clone(),
        order_id: order.clone(),
        amount_minor,
        currency,
        method_token: token.to_owned(),
    };
    shop.send(payment_id.stream(&shop.tenant), initiate).await;
}

#[tokio::test(start_paused = true)]
async fn f08_after_the_last_attempt_it_is_over() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    for attempt in 2..=3 {
        at(&shop, &order, Stage::AwaitingCustomer).await;
        let of = |shop: &Shop| shop.checkout(&order).attempt() == attempt - 1;
        shop.until("the attempt", |shop| of(shop).then_some(())).await;
        pay_again(&mut shop, &order, attempt, "tok_decline_retryable").await;
        shop.until("adopted", |shop| (shop.checkout(&order).attempt() == attempt).then_some(())).await;
    }
    ends_cancelled(&shop, &order, CancelReason::PaymentDeclined).await;
    assert_eq!(shop.provider.carried_out("declined").len(), 3);
}

/// Seed 383 of the simulation: the checkout looked only when two attempts more had been made, and went for the one that
/// held money, which is not the next.
#[tokio::test(start_paused = true)]
async fn f08_attempts_that_were_made_behind_its_back_are_adopted_one_by_one() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    shop.crash_sagas().await;
    pay_again(&mut shop, &order, 2, "tok_decline_retryable").await;
    let answer = Answer::Declined { code: "card_declined".to_owned(), retryable: true };
    let declined = payment::Command::RecordAnswer { key: "pay_1.2:authorize:1".to_owned(), answer };
    shop.send(order.payment(2).stream(&shop.tenant), declined).await;
    pay_again(&mut shop, &order, 3, "tok_approve").await;
    shop.start_sagas();
    ends_done(&shop, &order).await;
    assert_eq!(shop.payment(&order, 3).status(), Some(PaymentStatus::Captured));
}

#[tokio::test(start_paused = true)]
async fn f08_a_customer_who_never_comes_back_loses_the_hold_at_its_end() {
    let mut shop = shop().await;
    let began = shop.clock.now();
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    ends_cancelled(&shop, &order, CancelReason::Expired).await;
    let passed = shop.clock.now().since(began).micros() / 1_000_000;
    assert!((1800..1810).contains(&passed), "{passed} s");
}

#[tokio::test(start_paused = true)]
async fn f09_money_that_comes_while_the_customer_is_awaited_pays() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    report(&mut shop, &order, "pay_1.1:authorize:1").await;
    ends_done(&shop, &order).await;
    assert_eq!(shop.payment(&order, 1).status(), Some(PaymentStatus::Captured));
    assert_eq!(shop.provider.carried_out("voided"), [""; 0]);
}

/// The customer pays otherwise at the moment in which the declined money comes after all: one of the two pays.
#[tokio::test(start_paused = true)]
async fn f09_money_that_comes_beside_another_attempt_is_taken_once() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    shop.crash_sagas().await;
    pay_again(&mut shop, &order, 2, "tok_approve").await;
    report(&mut shop, &order, "pay_1.1:authorize:1").await;
    shop.start_sagas();
    at(&shop, &order, Stage::Done).await;
    let kept = |attempt| {
        let payment = shop.payment(&order, attempt);
        payment.captured_minor() - payment.refunded_minor()
    };
    assert_eq!(kept(1) + kept(2), 300, "{:#?}", shop.story());
    let let_go = |shop: &Shop| shop.payment(&order, 2).status() == Some(PaymentStatus::Voided);
    shop.until("the other one is let go", |shop| let_go(shop).then_some(())).await;
}

/// Sold and paid by the second attempt; the money of the first comes as well, and the provider does not let it go.
async fn sold_with_a_promise_that_stays() -> (Shop, OrderId) {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_void_fails").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    pay_again(&mut shop, &order, 2, "tok_approve").await;
    at(&shop, &order, Stage::Done).await;
    report(&mut shop, &order, "pay_1.1:authorize:1").await;
    (shop, order)
}

#[tokio::test(start_paused = true)]
async fn a_promise_beside_a_sale_that_does_not_go_back_is_seen_to_by_hand() {
    let (mut shop, order) = sold_with_a_promise_that_stays().await;
    at(&shop, &order, Stage::NeedsAttention).await;
    shop.restart().await;
    shop.settle_checkout(&order).await;
    at(&shop, &order, Stage::Done).await;
    let settled = |shop: &Shop| !shop.payment(&order, 1).status().is_some_and(PaymentStatus::may_hold_money);
    shop.until("settled", |shop| settled(shop).then_some(())).await;
    ends_done(&shop, &order).await;
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_does_not_go_back_holds_up_no_refund() {
    for stops_first in [false, true] {
        let (mut shop, order) = sold_with_a_promise_that_stays().await;
        if stops_first {
            at(&shop, &order, Stage::NeedsAttention).await;
        }
        cancel(&mut shop, &order).await;
        let back = |shop: &Shop| shop.payment(&order, 2).refunded_minor() == 300;
        shop.until("refunded", |shop| back(shop).then_some(())).await;
        at(&shop, &order, Stage::NeedsAttention).await;
        shop.settle_checkout(&order).await;
        ends_cancelled(&shop, &order, CancelReason::Customer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f10_nothing_is_authorised_once_its_void_was_asked_for() {
    let settings = Settings { hold_seconds: 8, hard_max_seconds: 8, tries_max: 0, ..Settings::default() };
    let mut shop = shop_with(settings).await;
    let order = shop.order("ord_1", LINES, "tok_lost").await;
    // The provider does not know of such a payment, so that the void fails; nobody needs to look for that.
    at(&shop, &order, Stage::Cancelled).await;
    shop.restart().await;
    tokio::time::sleep(secs(3_600)).await;
    let calls = shop.provider.calls();
    let void = calls.iter().position(|(operation, _)| *operation == "void").expect("a void");
    let late = calls.iter().skip(void).filter(|(operation, _)| *operation == "authorize").count();
    assert_eq!(late, 0, "{calls:?}");
    assert_eq!(shop.payment(&order, 1).open_operation(), None);
    shop.assert_conserved();
}

/// A part goes back by hand between two tries of the reversal: the next try is of what is left.
#[tokio::test(start_paused = true)]
async fn f14_a_reversal_gives_back_what_is_left_by_then() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_refund_fails").await;
    at(&shop, &order, Stage::Done).await;
    cancel(&mut shop, &order).await;
    let failed = |shop: &Shop| {
        let payment = shop.payment(&order, 1);
        payment.operations().iter().any(|known| known.operation == ProviderOperation::Refund)
            && payment.open_operation().is_none()
    };
    shop.until("failed once", |shop| failed(shop).then_some(())).await;
    shop.provider.mend();
    let refund = payment::Command::RequestRefund { refund_id: "rfd_1".to_owned(), amount_minor: Some(100) };
    shop.send(order.payment(1).stream(&shop.tenant), refund).await;
    ends_cancelled(&shop, &order, CancelReason::Customer).await;
    assert_eq!(shop.payment(&order, 1).status(), Some(PaymentStatus::Refunded));
    assert_eq!(shop.provider.carried_out("refunded").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn f14_what_a_customer_gives_back_and_takes_by_hand_stops_no_reversal() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_approve").await;
    at(&shop, &order, Stage::Done).await;
    cancel(&mut shop, &order).await;
    for n in 0..20 {
        let payment = order.payment(1).stream(&shop.tenant);
        let refund_id = format!("rfd_{n}");
        // Refused or not, as it comes.
        let refund = payment::Command::RequestRefund { refund_id, amount_minor: Some(1) };
        drop(shop.ask(payment.clone(), refund).await);
        drop(shop.ask(payment, payment::Command::RequestCapture { amount_minor: None }).await);
    }
    ends_cancelled(&shop, &order, CancelReason::Customer).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 300);
}

/// Somebody takes a part by hand and gives it back, and the order ends: the rest of the promise is never taken.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_promise_is_not_taken_after_the_end() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_slow").await;
    let payment = order.payment(1).stream(&shop.tenant);
    at(&shop, &order, Stage::PaymentPending).await;
    shop.crash_sagas().await;
    report(&mut shop, &order, "pay_1.1:authorize:1").await;
    cancel(&mut shop, &order).await;
    for command in [
        payment::Command::RequestCapture { amount_minor: Some(100) },
        payment::Command::RecordAnswer {
            key: "pay_1.1:capture:1".to_owned(),
            answer: Answer::Captured { amount_minor: 100 },
        },
        payment::Command::RequestRefund { refund_id: "rfd_1".to_owned(), amount_minor: None },
        payment::Command::RecordAnswer {
            key: "pay_1.1:refund:1".to_owned(),
            answer: Answer::Refunded { amount_minor: 100 },
        },
    ] {
        shop.send(payment.clone(), command).await;
    }
    shop.start_sagas();
    at(&shop, &order, Stage::Cancelled).await;
    let capture = payment::Command::RequestCapture { amount_minor: None };
    let refused = shop.ask(payment, capture).await.expect_err("nobody wants it");
    assert!(refused.to_string().contains("undone"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_void_that_is_never_answered_is_seen_to_by_hand() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_unknown_void").await;
    at(&shop, &order, Stage::NeedsAttention).await;
    shop.settle_checkout(&order).await;
    ends_cancelled(&shop, &order, CancelReason::PaymentUnknown).await;
    assert_eq!(shop.payment(&order, 1).status(), Some(PaymentStatus::Voided));
    assert_eq!(shop.payment(&order, 1).open_operation(), None);
}

#[tokio::test(start_paused = true)]
async fn a_capture_that_keeps_failing_is_seen_to_by_hand() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_capture_fails").await;
    at(&shop, &order, Stage::NeedsAttention).await;
    shop.settle_checkout(&order).await;
    at(&shop, &order, Stage::Done).await;
    assert_eq!(shop.payment(&order, 1).status(), Some(PaymentStatus::Captured));
    assert_eq!(shop.provider.carried_out("captured"), [""; 0]);
    shop.assert_conserved();
}

/// The provider speaks of another amount than it was asked for: whatever it means, no sale stands on it.
#[tokio::test(start_paused = true)]
async fn a_promise_that_cannot_be_is_seen_to_by_hand_and_the_order_undone() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_other_amount").await;
    at(&shop, &order, Stage::NeedsAttention).await;
    shop.settle_checkout(&order).await;
    ends_cancelled(&shop, &order, CancelReason::Staff).await;
    assert_eq!(shop.payment(&order, 1).open_operation(), None);
}

#[tokio::test(start_paused = true)]
async fn f10_a_charge_that_nobody_heard_of_is_found_by_its_key() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_timeout_after_charge").await;
    ends_done(&shop, &order).await;
    assert_eq!(shop.provider.carried_out("authorized").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f10_a_slow_answer_is_waited_for() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_slow").await;
    at(&shop, &order, Stage::PaymentUnknown).await;
    shop.provider
        .settle("pay_1.1:authorize:1", Answer::Authorized { amount_minor: 300, capture_before: None });
    ends_done(&shop, &order).await;
}

#[tokio::test(start_paused = true)]
async fn f10_what_stays_unknown_is_voided_when_the_stock_can_be_held_no_longer() {
    let mut shop = shop().await;
    let began = shop.clock.now();
    let order = shop.order("ord_1", LINES, "tok_unknown").await;
    ends_cancelled(&shop, &order, CancelReason::PaymentUnknown).await;
    assert_eq!(shop.provider.carried_out("voided").len(), 1);
    let keys: std::collections::BTreeSet<_> = shop.provider.calls().into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys.len(), 2, "no second charge: {keys:?}");
    let passed = shop.clock.now().since(began).micros() / 1_000_000;
    assert!((6_000..7_300).contains(&passed), "held on to the hard maximum: {passed} s");
}

#[tokio::test(start_paused = true)]
async fn f10_a_void_that_stays_unknown_needs_attention_and_keeps_the_order() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_unknown_void").await;
    at(&shop, &order, Stage::NeedsAttention).await;
    assert_eq!(shop.order_state(&order).status(), Some(OrderStatus::Submitted));
    // The operator finds that it was voided, says so to the provider's side, and lets it go on.
    shop.provider.settle("pay_1.1:void:1", Answer::Voided);
    shop.resume_checkout(&order).await;
    ends_cancelled(&shop, &order, CancelReason::PaymentUnknown).await;
}

#[tokio::test(start_paused = true)]
async fn f10_a_report_of_the_provider_settles_it() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_unknown").await;
    at(&shop, &order, Stage::PaymentUnknown).await;
    report(&mut shop, &order, "pay_1.1:authorize:1").await;
    ends_done(&shop, &order).await;
}

/// What the gateway does for `RecordProviderSignal`.
async fn report(shop: &mut Shop, order: &OrderId, key: &str) {
    let signal = payment::Command::RecordSignal {
        provider_event_id: "evt_1".to_owned(),
        key: key.to_owned(),
        operation: None,
        answer: Answer::Authorized { amount_minor: 300, capture_before: None },
        sequence: 1,
    };
    shop.send(order.payment(1).stream(&shop.tenant), signal).await;
}

#[tokio::test(start_paused = true)]
async fn f11_money_that_comes_after_the_end_goes_back() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline").await;
    at(&shop, &order, Stage::Cancelled).await;
    report(&mut shop, &order, "pay_1.1:authorize:1").await;
    let voided = |shop: &Shop| shop.payment(&order, 1).status() == Some(PaymentStatus::Voided);
    shop.until("voided", |shop| voided(shop).then_some(())).await;
    ends_cancelled(&shop, &order, CancelReason::PaymentDeclined).await;
}

#[tokio::test(start_paused = true)]
async fn f12_a_second_answer_changes_nothing() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_answer_twice").await;
    ends_done(&shop, &order).await;
    for _ in 0..2 {
        report(&mut shop, &order, "pay_1.1:authorize:1").await;
    }
    ends_done(&shop, &order).await;
}

#[tokio::test(start_paused = true)]
async fn f13_a_hold_that_ran_out_under_a_secured_payment_is_taken_again() {
    // Longer than the hold: it runs out while the provider is asked.
    let settings = Settings {
        hold_seconds: 20,
        hard_max_seconds: 20,
        provider_timeout: secs(90),
        ..Settings::default()
    };
    let mut shop = shop_with(settings).await;
    let order = shop.order("ord_1", LINES, "tok_slow").await;
    ends_done(&shop, &order).await;
    assert_eq!(
        shop.reservation(&order).status(),
        ReservationStatus::Released { reason: ReleaseReason::Expired }
    );
}

#[tokio::test(start_paused = true)]
async fn f13_without_stock_for_another_hold_everything_is_undone() {
    let settings = Settings {
        hold_seconds: 20,
        hard_max_seconds: 20,
        provider_timeout: secs(90),
        ..Settings::default()
    };
    let mut shop = shop_with(settings).await;
    let order = shop.order("ord_1", &[("MUG", 10)], "tok_slow").await;
    at(&shop, &order, Stage::PaymentPending).await;
    tokio::time::sleep(secs(25)).await;
    // The hold ends and somebody else gets the mugs while the money is on its way.
    let (reservation, reason) = (order.reservation(), ReleaseReason::Requested);
    shop.send(reservation.stream(&shop.tenant), ReservationCommand::Expire).await;
    shop.sagas().stock().release(&shop.tenant, &reservation, reason, &client()).await.unwrap();
    let rival = shop.order("ord_2", &[("MUG", 10)], "tok_approve").await;
    at(&shop, &rival, Stage::Done).await;
    at(&shop, &order, Stage::Cancelled).await;
    assert_eq!(
        shop.checkout(&order).reason(),
        Some(CancelReason::OutOfStockAfterPayment),
        "{:#?}",
        shop.story()
    );
    assert_eq!(shop.provider.carried_out("voided"), ["pay_1.1:void:1"]);
    shop.assert_conserved();
}

fn secs(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

async fn cancel(shop: &mut Shop, order: &OrderId) {
    let command = Command::RequestCancellation { reason: CancelReason::Customer };
    shop.send(order.stream(&shop.tenant), command).await;
}

#[tokio::test(start_paused = true)]
async fn f14_a_cancellation_after_the_end_refunds_and_restocks() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_approve").await;
    at(&shop, &order, Stage::Done).await;
    cancel(&mut shop, &order).await;
    ends_cancelled(&shop, &order, CancelReason::Customer).await;
    assert_eq!(shop.payment(&order, 1).status(), Some(PaymentStatus::Refunded));
}

#[tokio::test(start_paused = true)]
async fn f14_a_cancellation_at_any_record_ends_cancelled() {
    for records in 3..=20 {
        let mut shop = shop().await;
        let order = shop.order("ord_1", LINES, "tok_approve").await;
        let done = |shop: &Shop| shop.checkout(&order).stage() == Some(Stage::Done);
        shop.until("so many records", |shop| (shop.records() >= records || done(shop)).then_some(())).await;
        cancel(&mut shop, &order).await;
        ends_cancelled(&shop, &order, CancelReason::Customer).await;
        let captured = shop.provider.carried_out("captured").len();
        assert_eq!(shop.provider.carried_out("refunded").len(), captured, "{records}: {:#?}", shop.story());
    }
}

#[tokio::test(start_paused = true)]
async fn f14_a_cancellation_while_the_customer_is_awaited() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    cancel(&mut shop, &order).await;
    ends_cancelled(&shop, &order, CancelReason::Customer).await;
}

#[tokio::test(start_paused = true)]
async fn a_capture_that_fails_is_tried_again_under_a_new_key() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_capture_fails_once").await;
    ends_done(&shop, &order).await;
    assert_eq!(shop.provider.carried_out("captured"), ["pay_1.1:capture:2"]);
}

#[tokio::test(start_paused = true)]
async fn f22_a_crash_at_any_record_of_a_clean_checkout() {
    for records in 2..=20 {
        let mut shop = shop().await;
        let order = shop.order("ord_1", LINES, "tok_approve").await;
        let done = |shop: &Shop| shop.checkout(&order).stage() == Some(Stage::Done);
        shop.until("so many records", |shop| (shop.records() >= records || done(shop)).then_some(())).await;
        shop.restart().await;
        ends_done(&shop, &order).await;
        assert_eq!(shop.provider.carried_out("authorized").len(), 1);
        assert!(shop.records() <= 2 + 14 + 2 * LINES.len(), "{records}: {:#?}", shop.story());
    }
}

#[tokio::test(start_paused = true)]
async fn f22_a_crash_while_the_provider_hangs() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_hang").await;
    shop.until("called", |shop| (shop.provider.calls().len() == 1).then_some(())).await;
    shop.restart().await;
    at(&shop, &order, Stage::PaymentUnknown).await;
    shop.provider
        .settle("pay_1.1:authorize:1", Answer::Authorized { amount_minor: 300, capture_before: None });
    shop.restart().await;
    let capture = "pay_1.1:capture:1".to_owned();
    shop.until("captured", |shop| {
        shop.provider.calls().contains(&("capture", capture.clone())).then_some(())
    })
    .await;
    shop.restart().await;
    shop.provider.settle("pay_1.1:capture:1", Answer::Captured { amount_minor: 300 });
    ends_done(&shop, &order).await;
}

#[tokio::test(start_paused = true)]
async fn f22_a_crash_at_any_record_of_a_decline_or_a_cancellation() {
    for records in 2..=24 {
        for token in ["tok_decline", "tok_approve"] {
            let mut shop = shop().await;
            let order = shop.order("ord_1", LINES, token).await;
            if token == "tok_approve" {
                at(&shop, &order, Stage::PaymentSecured).await;
                cancel(&mut shop, &order).await;
            }
            let cancelled = |shop: &Shop| shop.checkout(&order).stage() == Some(Stage::Cancelled);
            shop.until("so many records", |shop| {
                (shop.records() >= records || cancelled(shop)).then_some(())
            })
            .await;
            shop.restart().await;
            let reason =
                if token == "tok_decline" { CancelReason::PaymentDeclined } else { CancelReason::Customer };
            ends_cancelled(&shop, &order, reason).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_waiting_for_the_customer() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_decline_retryable").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    shop.restart().await;
    shop.until("seen again", |shop| {
        (shop.checkout(&order).stage() == Some(Stage::AwaitingCustomer)).then_some(())
    })
    .await;
    pay_again(&mut shop, &order, 2, "tok_approve").await;
    ends_done(&shop, &order).await;
}

#[tokio::test(start_paused = true)]
async fn many_orders_never_sell_more_than_there_is() {
    let settings = Settings { in_flight_max: 4, ..Settings::default() };
    let mut shop = shop_with(settings).await;
    let mut orders = Vec::new();
    for n in 0..30 {
        orders.push(shop.order(&format!("ord_{n}"), &[("MUG", 1), ("PEN", 1)], "tok_approve").await);
    }
    let stage = |shop: &Shop, order| shop.checkout(order).stage();
    let over = |stage| matches!(stage, Some(Stage::Done | Stage::Cancelled));
    shop.until("over", |shop| orders.iter().all(|order| over(stage(shop, order))).then_some(())).await;
    let done = orders.iter().filter(|order| stage(&shop, order) == Some(Stage::Done)).count();
    assert_eq!((done, shop.stock("MUG").committed(), shop.stock("MUG").available()), (10, 10, 0));
    shop.assert_conserved();
}

/// Somebody holds a thing under the name of an order and then orders another that is not there.
#[tokio::test(start_paused = true)]
async fn a_hold_of_a_client_is_not_taken_for_the_orders_own() {
    let mut shop = shop().await;
    let hold = HoldRequest {
        tenant: shop.tenant.clone(),
        reservation_id: OrderId::new("ord_cart1").unwrap().reservation_of_old(),
        keys: vec![StockKey {
            sku: Sku::new("PEN").unwrap(),
            location: LocationId::main(),
            quantity: Quantity::new(1).unwrap(),
        }],
        hold_seconds: 3_600,
        hard_max_seconds: 3_600,
    };
    shop.sagas().stock().reserve(hold, &client()).await.unwrap();
    let order = shop.order("ord_cart1", &[("MUG", 11)], "tok_approve").await;
    at(&shop, &order, Stage::Cancelled).await;
    assert_eq!(shop.checkout(&order).reason(), Some(CancelReason::OutOfStock), "{:#?}", shop.story());
    assert_eq!(shop.provider.calls(), []);
    assert_eq!((shop.stock("MUG").available(), shop.stock("PEN").reserved()), (10, 1));
}

/// An order that was begun when clients could take the names of orders' holds, on a hold of something else.
#[tokio::test(start_paused = true)]
async fn a_foreign_hold_of_old_sells_nothing_and_is_left_alone() {
    let mut shop = shop().await;
    shop.crash_sagas().await;
    let order = shop.order("ord_1", &[("MUG", 2)], "tok_approve").await;
    let of_old = order.reservation_of_old();
    let placement = shop.order_state(&order);
    let started = Step::Started(CheckoutStarted {
        order_id: order.clone(),
        reservation_id: of_old.clone(),
        total_minor: placement.total_minor(),
        currency: placement.currency().unwrap(),
        payment_method_token: "tok_approve".to_owned(),
        hold_until: None,
        timer: None,
    });
    shop.send(order.checkout_stream(&shop.tenant), CheckoutCommand::Record(started)).await;
    let pen = StockKey {
        sku: Sku::new("PEN").unwrap(),
        location: LocationId::main(),
        quantity: Quantity::new(1).unwrap(),
    };
    let (hold_seconds, hard_max_seconds) = (3_600, 3_600);
    let reservation_id = of_old.clone();
    let request =
        ReservationCommand::Request { reservation_id, keys: vec![pen], hold_seconds, hard_max_seconds };
    let stream = of_old.stream(&shop.tenant);
    shop.send(stream.clone(), request).await;
    shop.send(stream, ReservationCommand::RecordAllocation(Allocation::Held)).await;
    shop.restart().await;
    at(&shop, &order, Stage::Cancelled).await;
    assert_eq!(shop.checkout(&order).reason(), Some(CancelReason::OutOfStock), "{:#?}", shop.story());
    let hold = shop.journal.history(&of_old.stream(&shop.tenant));
    assert!(!hold.iter().flat_map(|record| &record.commit.events).any(|event| {
        event.event_type == "ReservationReleased" || event.event_type == "ReservationCommitted"
    }));
    assert_eq!(shop.provider.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_sold_is_not_released_on_request() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_approve").await;
    ends_done(&shop, &order).await;
    let release = ReservationCommand::Release { reason: ReleaseReason::Requested };
    let stream = order.reservation().stream(&shop.tenant);
    let refused = shop.ask(stream, release).await;
    assert!(
        matches!(&refused, Err(CommandError::Refused(refused)) if refused.reason == "RESERVATION_COMMITTED"),
        "{refused:?}"
    );
    shop.sagas()
        .stock()
        .release(&shop.tenant, &order.reservation(), ReleaseReason::Requested, &client())
        .await
        .unwrap_err();
    ends_done(&shop, &order).await;
}

/// Whenever somebody gives the hold back, the order has its stock or ends without it.
#[tokio::test(start_paused = true)]
async fn a_release_at_any_record_leaves_the_order_with_its_stock_or_cancelled() {
    for records in 0..14 {
        let mut shop = shop().await;
        let before = shop.until("received", |shop| (shop.records() >= 2).then(|| shop.records())).await;
        let order = shop.order("ord_1", LINES, "tok_approve").await;
        shop.until("the record", |shop| (shop.records() > before + records).then_some(())).await;
        let release = ReservationCommand::Release { reason: ReleaseReason::Requested };
        let _ = shop.ask(order.reservation().stream(&shop.tenant), release).await;
        let stage = shop
            .until("its end", |shop| shop.checkout(&order).stage().filter(|stage| stage.is_terminal()))
            .await;
        let sold = match stage {
            Stage::Done => (2, 1),
            _ => (0, 0),
        };
        assert_eq!((shop.stock("MUG").committed(), shop.stock("PEN").committed()), sold, "{records}");
        assert_ne!(shop.checkout(&order).reason(), Some(CancelReason::Staff), "{records}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_done_for_an_order_names_it_and_what_set_it_off() {
    let mut shop = shop().await;
    let order = shop.order("ord_1", LINES, "tok_approve").await;
    ends_done(&shop, &order).await;
    let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 1)]).await;
    shop.until("given back", |shop| {
        (shop.goods_return(&goods).status() == Some(shopstream_domain::returns::ReturnStatus::Resolved))
            .then_some(())
    })
    .await;
    let mut kinds = std::collections::BTreeSet::new();
    for record in shop.journal.all().into_values().flatten() {
        let commit = &record.commit;
        if !commit.actor.starts_with("process:") && !commit.actor.starts_with("effect:") {
            continue;
        }
        kinds.insert(commit.stream.kind().name());
        let said = (&*commit.correlation_id, &*commit.traceparent);
        assert_eq!(said, ("ord_1", TRACE), "{}", commit.stream);
        assert!(commit.causation_id.contains('@'), "{}: {}", commit.stream, commit.causation_id);
    }
    assert_eq!(Vec::from_iter(kinds), ["checkout", "order", "payment", "reservation", "return", "stock"]);
}

/// An older program held stock under another name. Its orders are met again where the place on the log was lost.
#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_has_begun_is_not_begun_under_another_name() {
    let mut shop = shop().await;
    shop.crash_sagas().await;
    let order = shop.order("ord_1", LINES, "tok_approve").await;
    let started = CheckoutStarted {
        order_id: order.clone(),
        reservation_id: ReservationId::new("res_1").unwrap(),
        total_minor: 300,
        currency: Currency::GBP,
        payment_method_token: "tok_approve".to_owned(),
        hold_until: None,
        timer: None,
    };
    let cancelled = CheckoutCancelled { reason: CancelReason::Staff };
    for fact in [Step::Started(started), Step::Cancelled(cancelled)] {
        shop.send(order.checkout_stream(&shop.tenant.clone()), CheckoutCommand::Record(fact)).await;
    }
    let before = shop.records();
    shop.start_sagas();
    tokio::time::sleep(secs(3_600)).await;
    assert_eq!(shop.records(), before, "{:#?}", shop.story());
}
