//! The table: what happens, and where it must end.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use shopstream_domain::inventory::{ReleaseReason, ReservationCommand, ReservationStatus};
use shopstream_domain::order::{CancelReason, Command, OrderStatus, Stage};
use shopstream_domain::payment::{self, Answer, PaymentStatus, ProviderOperation};
use shopstream_domain::returns::ReturnStatus;
use shopstream_domain::{LocationId, OrderId, Sku};
use shopstream_eventlog::raw::RawError;
use shopstream_eventlog::sim::Fate;
use shopstream_sagas::Settings;
use shopstream_sagas::testing::{Shop, client};

use super::{Scenario, Seen};

const ORDER: &str = "ord_1";
const LINES: &[(&str, i64)] = &[("MUG", 2), ("PEN", 1)];
const TOTAL: i64 = 300;

pub(super) fn stock() -> Vec<Scenario> {
    vec![
        scenario(
            "F-02 out of stock",
            f02,
            vec![Seen { hold: ReservationStatus::Rejected, ..cancelled(CancelReason::OutOfStock) }],
        ),
        // Where the checkout begins before the next life can break the stock again, the stock answers.
        Scenario {
            settings: Settings { patience: Duration::from_secs(15), ..Settings::default() },
            order: ELSEWHERE,
            ends_if_broken: vec![Seen { sold: [0, 1], ..done() }],
            ..scenario("F-04 the stock does not answer", f04, vec![cancelled(CancelReason::Timeout)])
        },
        scenario("F-22 nothing but the break", f22, vec![done()]),
    ]
}

pub(super) fn declines() -> Vec<Scenario> {
    let declined = |times| Seen {
        payments: vec![PaymentStatus::Declined; times],
        provider: [0, times, 0, 0, 0],
        ..cancelled(CancelReason::PaymentDeclined)
    };
    vec![
        scenario("F-08 declined for good", f08_final, vec![declined(1)]),
        scenario(
            "F-08 declined, then another method",
            f08_again,
            vec![Seen {
                payments: vec![PaymentStatus::Declined, PaymentStatus::Captured],
                provider: [1, 1, 1, 0, 0],
                ..done()
            }],
        ),
        scenario("F-08 declined as often as one may try", f08_exhausted, vec![declined(3)]),
        scenario(
            "F-09 the customer does not come back",
            f09,
            vec![Seen { reason: Some(CancelReason::Expired), ..ran_out(declined(1)) }],
        ),
        scenario(
            "F-09 the declined money comes after all",
            f09_after_all,
            vec![Seen { provider: [0, 1, 1, 0, 0], ..done() }],
        ),
        scenario(
            "F-11 money after the end",
            f11,
            vec![Seen { payments: vec![PaymentStatus::Voided], provider: [0, 1, 0, 1, 0], ..declined(1) }],
        ),
        scenario("F-12 the answer comes again and again", f12, vec![done()]),
        scenario("a capture fails once", capture_fails, vec![done()]),
    ]
}

pub(super) fn unknown_outcomes() -> Vec<Scenario> {
    vec![
        scenario("F-10 charged and not said", f10_found, vec![done()]),
        scenario("F-10 never known", f10_never, vec![unknown()]),
        scenario("F-10 reported", f10_reported, vec![Seen { provider: [0, 0, 1, 0, 0], ..done() }]),
        // As F-09: nobody holds the stock on while an operator is awaited.
        Scenario {
            ends_if_broken: vec![ran_out(unknown())],
            ..scenario("F-10 the void not known either", f10_attention, vec![unknown()])
        },
        Scenario {
            ends_if_broken: vec![ran_out(voided_twice())],
            ..scenario("F-10 the charge comes after its void", f10_overtaken, vec![voided_twice()])
        },
    ]
}

pub(super) fn lost_holds() -> Vec<Scenario> {
    // Longer than the hold: it runs out while the provider is asked.
    let settings = Settings {
        hold_seconds: 20,
        hard_max_seconds: 20,
        provider_timeout: Duration::from_secs(90),
        ..Settings::default()
    };
    let lost = Seen {
        payments: vec![PaymentStatus::Voided],
        sold: [10, 0],
        // The rival's are among them.
        provider: [2, 0, 1, 1, 0],
        ..ran_out(cancelled(CancelReason::OutOfStockAfterPayment))
    };
    // A break takes the provider's answer with it: the money is never known of, and the hold may be gone by then.
    let unheard = |seen: Seen| {
        let expired = Seen { reason: Some(CancelReason::Expired), ..ran_out(seen.clone()) };
        vec![ran_out(seen.clone()), seen, expired]
    };
    vec![
        Scenario {
            settings: settings.clone(),
            ends_if_broken: unheard(unknown()),
            ..scenario("F-13 the hold ran out, another is had", f13_again, vec![ran_out(done())])
        },
        Scenario {
            settings,
            ends_if_broken: unheard(Seen { sold: [10, 0], provider: [1, 0, 1, 1, 0], ..unknown() }),
            ..scenario("F-13 the hold ran out, there is no other", f13_lost, vec![lost])
        },
    ]
}

pub(super) fn cancellations() -> Vec<Scenario> {
    let nothing_paid = cancelled(CancelReason::Customer);
    let voided = Seen { payments: vec![PaymentStatus::Voided], provider: [1, 0, 0, 1, 0], ..nothing_paid };
    let reversed = Seen { hold: released(ReleaseReason::Reversed), ..voided.clone() };
    let refunded = Seen { payments: vec![PaymentStatus::Refunded], provider: [1, 0, 1, 0, 1], ..reversed };
    vec![
        scenario(
            "F-14 cancelled while the customer is awaited",
            f14_awaiting,
            vec![Seen {
                payments: vec![PaymentStatus::Declined],
                provider: [0, 1, 0, 0, 0],
                ..nothing_paid.clone()
            }],
        ),
        scenario(
            "F-14 cancelled while the provider is asked",
            f14_asked,
            vec![Seen { provider: [0, 0, 0, 1, 0], ..voided.clone() }, nothing_paid.clone()],
        ),
        scenario(
            "F-14 cancelled when it has begun",
            f14_begun,
            vec![nothing_paid, voided.clone(), reversed.clone(), refunded.clone()],
        ),
        scenario(
            "F-14 cancelled when the money is promised",
            f14_secured,
            vec![voided, reversed.clone(), refunded.clone()],
        ),
        scenario("F-14 cancelled after the end", f14_done, vec![refunded.clone()]),
        scenario("F-15 cancelled between pivot and confirmation", f15, vec![refunded, reversed]),
    ]
}

/// Refunds that fail until somebody has looked.
pub(super) fn refunds() -> Vec<Scenario> {
    let refunded = Seen { payments: vec![PaymentStatus::Refunded], provider: [1, 0, 1, 0, 1], ..done() };
    let reversed = Seen {
        hold: released(ReleaseReason::Reversed),
        payments: refunded.payments.clone(),
        provider: refunded.provider,
        ..cancelled(CancelReason::Customer)
    };
    // The provider never gave back what a person says that the customer has.
    let by_hand = |seen: &Seen| Seen { provider: [1, 0, 1, 0, 0], ..seen.clone() };
    // Where a break begins the reversal anew, a part of it may have failed and gone back by hand before.
    let in_parts = Seen { provider: [1, 0, 1, 0, 2], ..reversed.clone() };
    vec![
        scenario(
            "F-21 returned, seen to by hand",
            f21_returned_by_hand,
            vec![by_hand(&Seen { sold: [0, 0], ..refunded.clone() })],
        ),
        scenario("F-21 cancelled, seen to by hand", f21_cancelled_by_hand, vec![by_hand(&reversed)]),
        scenario(
            "F-21 cancelled while a part goes back by hand",
            f21_in_parts,
            vec![in_parts, reversed.clone()],
        ),
        scenario("F-21 goods come back", f21_returned, vec![Seen { sold: [0, 0], ..refunded }]),
        scenario("F-21 cancelled after the end", f21_cancelled, vec![reversed]),
    ]
}

fn scenario(
    name: &'static str,
    script: for<'a> fn(&'a mut Shop) -> BoxFuture<'a, ()>,
    ends: Vec<Seen>,
) -> Scenario {
    Scenario { name, settings: Settings::default(), order: ORDER, script, ends, ends_if_broken: vec![] }
}

/// Sold, paid once.
fn done() -> Seen {
    Seen {
        stage: Stage::Done,
        reason: None,
        order: OrderStatus::Confirmed,
        hold: ReservationStatus::Committed,
        payments: vec![PaymentStatus::Captured],
        sold: [2, 1],
        provider: [1, 0, 1, 0, 0],
    }
}

/// Not sold, and nothing was paid.
fn cancelled(reason: CancelReason) -> Seen {
    let hold = released(match reason {
        CancelReason::Timeout => ReleaseReason::Timeout,
        CancelReason::PaymentDeclined | CancelReason::PaymentUnknown => ReleaseReason::PaymentDeclined,
        _ => ReleaseReason::Cancelled,
    });
    Seen {
        stage: Stage::Cancelled,
        reason: Some(reason),
        order: OrderStatus::Cancelled,
        hold,
        payments: vec![],
        sold: [0, 0],
        provider: [0; 5],
    }
}

/// The authorisation is not known to this day, and was voided.
fn unknown() -> Seen {
    Seen {
        payments: vec![PaymentStatus::Voided],
        provider: [0, 0, 0, 1, 0],
        ..cancelled(CancelReason::PaymentUnknown)
    }
}

/// The authorisation came after its void, and was let go by another.
fn voided_twice() -> Seen {
    Seen { provider: [1, 0, 0, 2, 0], ..unknown() }
}

/// The same, and the hold that the order began with ran out by itself.
fn ran_out(seen: Seen) -> Seen {
    Seen { hold: released(ReleaseReason::Expired), ..seen }
}

fn released(reason: ReleaseReason) -> ReservationStatus {
    ReservationStatus::Released { reason }
}

/// Waits for `fact`, or until the checkout is over: then it came to pass before a break, or never will.
async fn when(shop: &Shop, order: &OrderId, what: &str, fact: impl Fn(&Shop) -> bool) {
    let over = |shop: &Shop| matches!(shop.checkout(order).stage(), Some(Stage::Done | Stage::Cancelled));
    shop.until(what, |shop| (fact(shop) || over(shop)).then_some(())).await;
}

async fn when_at(shop: &Shop, order: &OrderId, stage: Stage) {
    when(shop, order, &format!("{stage:?}"), |shop| shop.checkout(order).stage() == Some(stage)).await;
}

async fn cancel(shop: &mut Shop, order: &OrderId) {
    let command = Command::RequestCancellation { reason: CancelReason::Customer };
    shop.send(order.stream(&shop.tenant), command).await;
}

/// What the gateway does for `ProcessPayment`.
async fn pay_again(shop: &mut Shop, order: &OrderId, attempt: u32, token: &str) {
    let payment_id = order.payment(attempt);
    let initiate = payment::Command::Initiate {
        payment_id: payment_id.clone(),
        order_id: order.clone(),
        amount_minor: TOTAL,
        currency: shop.payment(order, 1).currency().expect("a first attempt"),
        method_token: token.to_owned(),
    };
    shop.send(payment_id.stream(&shop.tenant), initiate).await;
}

/// What the gateway does for `RecordProviderSignal`.
async fn report(shop: &mut Shop, order: &OrderId) {
    let signal = payment::Command::RecordSignal {
        provider_event_id: "evt_1".to_owned(),
        key: "pay_1.1:authorize:1".to_owned(),
        operation: None,
        answer: Answer::Authorized { amount_minor: TOTAL, capture_before: None },
        sequence: 1,
    };
    shop.send(order.payment(1).stream(&shop.tenant), signal).await;
}

fn f02(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        shop.order(ORDER, &[("MUG", 2), ("PEN", 11)], "tok_approve").await;
    }
    .boxed()
}

/// On another partition than the pens.
const ELSEWHERE: &str = "ord_elsewhere";

fn f04(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let partitions = shop.commands().partitions();
        let pens = Sku::new("PEN").expect("a SKU").stock_stream(&shop.tenant, &LocationId::main());
        let order = OrderId::new(ELSEWHERE).expect("an order id");
        assert_ne!(order.stream(&shop.tenant).partition(partitions), pens.partition(partitions));
        if shop.checkout(&order).stage().is_none() {
            // For longer than a checkout is patient.
            let lost = Fate::Lose(RawError::Unavailable { detail: "test".to_owned() });
            shop.faults.next(pens.partition(partitions), std::iter::repeat_n(lost, 10_000));
        }
        shop.order(ELSEWHERE, &[("PEN", 1)], "tok_approve").await;
        when_at(shop, &order, Stage::Compensating).await;
        shop.faults.heal();
    }
    .boxed()
}

fn plain<'a>(shop: &'a mut Shop, token: &'static str) -> BoxFuture<'a, ()> {
    async move {
        shop.order(ORDER, LINES, token).await;
    }
    .boxed()
}

fn f22(shop: &mut Shop) -> BoxFuture<'_, ()> {
    plain(shop, "tok_approve")
}

fn f08_final(shop: &mut Shop) -> BoxFuture<'_, ()> {
    plain(shop, "tok_decline")
}

fn f08_again(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_decline_retryable").await;
        when_at(shop, &order, Stage::AwaitingCustomer).await;
        pay_again(shop, &order, 2, "tok_approve").await;
    }
    .boxed()
}

fn f08_exhausted(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_decline_retryable").await;
        for attempt in 2..=3 {
            when(shop, &order, "its turn", |shop| {
                let checkout = shop.checkout(&order);
                let waits = checkout.stage() == Some(Stage::AwaitingCustomer);
                checkout.attempt() >= attempt || (waits && checkout.attempt() + 1 == attempt)
            })
            .await;
            pay_again(shop, &order, attempt, "tok_decline_retryable").await;
        }
    }
    .boxed()
}

fn f09(shop: &mut Shop) -> BoxFuture<'_, ()> {
    plain(shop, "tok_decline_retryable")
}

fn f09_after_all(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_decline_retryable").await;
        when_at(shop, &order, Stage::AwaitingCustomer).await;
        report(shop, &order).await;
    }
    .boxed()
}

fn f10_found(shop: &mut Shop) -> BoxFuture<'_, ()> {
    plain(shop, "tok_timeout_after_charge")
}

fn f10_never(shop: &mut Shop) -> BoxFuture<'_, ()> {
    plain(shop, "tok_unknown")
}

fn f10_reported(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_unknown").await;
        when_at(shop, &order, Stage::PaymentUnknown).await;
        report(shop, &order).await;
    }
    .boxed()
}

fn f10_attention(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_unknown_void").await;
        when_at(shop, &order, Stage::NeedsAttention).await;
        // The operator finds that it was voided, says so to the provider's side, and lets it go on.
        shop.provider.settle("pay_1.1:void:1", Answer::Voided);
        shop.resume_checkout(&order).await;
    }
    .boxed()
}

fn f10_overtaken(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_overtaken").await;
        when(shop, &order, "being voided", |shop| {
            let payment = shop.payment(&order, 1);
            payment.open_operation().is_some_and(|open| open.operation == ProviderOperation::Void)
        })
        .await;
        // The provider has carried it out by then, and the authorisation after it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        report(shop, &order).await;
    }
    .boxed()
}

fn f11(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_decline").await;
        when_at(shop, &order, Stage::Cancelled).await;
        report(shop, &order).await;
    }
    .boxed()
}

fn f12(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_answer_twice").await;
        when_at(shop, &order, Stage::Done).await;
        report(shop, &order).await;
        report(shop, &order).await;
    }
    .boxed()
}

fn capture_fails(shop: &mut Shop) -> BoxFuture<'_, ()> {
    plain(shop, "tok_capture_fails_once")
}

fn f13_again(shop: &mut Shop) -> BoxFuture<'_, ()> {
    plain(shop, "tok_slow")
}

fn f13_lost(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, &[("MUG", 10)], "tok_slow").await;
        when_at(shop, &order, Stage::PaymentPending).await;
        tokio::time::sleep(Duration::from_secs(25)).await;
        // The hold ends and somebody else gets the mugs while the money is on its way.
        let (hold, reason) = (order.reservation(), ReleaseReason::Requested);
        shop.send(hold.stream(&shop.tenant), ReservationCommand::Expire).await;
        let stock = shop.sagas().stock();
        stock.release(&shop.tenant, &hold, reason, &client()).await.expect("released");
        let rival = shop.order("ord_2", &[("MUG", 10)], "tok_approve").await;
        when_at(shop, &rival, Stage::Done).await;
    }
    .boxed()
}

fn cancelled_at<'a>(shop: &'a mut Shop, token: &'static str, stage: Stage) -> BoxFuture<'a, ()> {
    async move {
        let order = shop.order(ORDER, LINES, token).await;
        when_at(shop, &order, stage).await;
        cancel(shop, &order).await;
    }
    .boxed()
}

fn f14_awaiting(shop: &mut Shop) -> BoxFuture<'_, ()> {
    cancelled_at(shop, "tok_decline_retryable", Stage::AwaitingCustomer)
}

fn f14_asked(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_slow").await;
        when(shop, &order, "asked", |shop| shop.payment(&order, 1).status().is_some()).await;
        cancel(shop, &order).await;
    }
    .boxed()
}

fn f14_begun(shop: &mut Shop) -> BoxFuture<'_, ()> {
    cancelled_at(shop, "tok_approve", Stage::Started)
}

fn f14_secured(shop: &mut Shop) -> BoxFuture<'_, ()> {
    cancelled_at(shop, "tok_approve", Stage::PaymentSecured)
}

fn f14_done(shop: &mut Shop) -> BoxFuture<'_, ()> {
    cancelled_at(shop, "tok_approve", Stage::Done)
}

fn f15(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_approve").await;
        when(shop, &order, "committed", |shop| {
            shop.reservation(&order).status() == ReservationStatus::Committed
        })
        .await;
        cancel(shop, &order).await;
    }
    .boxed()
}

fn f21_returned(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_refund_fails").await;
        when_at(shop, &order, Stage::Done).await;
        let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 2), (1, "PEN", 1)]).await;
        shop.until("a person is needed", |shop| {
            let status = shop.goods_return(&goods).status();
            matches!(status, Some(ReturnStatus::NeedsAttention | ReturnStatus::Resolved)).then_some(())
        })
        .await;
        shop.provider.mend();
        shop.resume_return(&goods).await;
    }
    .boxed()
}

fn f21_cancelled(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_refund_fails").await;
        let at = |shop: &Shop, stages: &[Stage]| {
            shop.checkout(&order).stage().is_some_and(|stage| stages.contains(&stage)).then_some(())
        };
        let seen_to = [Stage::NeedsAttention, Stage::Cancelled];
        // After a break it may have come further.
        let sold = [Stage::Done, Stage::Reversing, Stage::NeedsAttention, Stage::Cancelled];
        shop.until("sold", |shop| at(shop, &sold)).await;
        cancel(shop, &order).await;
        shop.until("a person is needed", |shop| at(shop, &seen_to)).await;
        shop.provider.mend();
        shop.resume_checkout(&order).await;
    }
    .boxed()
}

fn f21_returned_by_hand(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = shop.order(ORDER, LINES, "tok_refund_fails").await;
        when_at(shop, &order, Stage::Done).await;
        let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 2), (1, "PEN", 1)]).await;
        shop.until("a person is needed", |shop| {
            let status = shop.goods_return(&goods).status();
            matches!(status, Some(ReturnStatus::NeedsAttention | ReturnStatus::Settled)).then_some(())
        })
        .await;
        shop.settle_return(&goods).await;
        shop.until("settled", |shop| {
            (shop.goods_return(&goods).status() == Some(ReturnStatus::Settled)).then_some(())
        })
        .await;
    }
    .boxed()
}

/// Cancels what was sold, whose refunds fail, and waits until it has stopped or is over.
async fn cancelled_and_stopped(shop: &mut Shop) -> OrderId {
    let order = shop.order(ORDER, LINES, "tok_refund_fails").await;
    let at = |shop: &Shop, stages: &[Stage]| {
        shop.checkout(&order).stage().is_some_and(|stage| stages.contains(&stage)).then_some(())
    };
    let sold = [Stage::Done, Stage::Reversing, Stage::NeedsAttention, Stage::Cancelled];
    shop.until("sold", |shop| at(shop, &sold)).await;
    cancel(shop, &order).await;
    shop.until("a person is needed", |shop| at(shop, &[Stage::NeedsAttention, Stage::Cancelled])).await;
    order
}

fn f21_cancelled_by_hand(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = cancelled_and_stopped(shop).await;
        shop.settle_checkout(&order).await;
    }
    .boxed()
}

fn f21_in_parts(shop: &mut Shop) -> BoxFuture<'_, ()> {
    async {
        let order = cancelled_and_stopped(shop).await;
        shop.provider.mend();
        let refund =
            payment::Command::RequestRefund { refund_id: "rfd_1".to_owned(), amount_minor: Some(100) };
        shop.send(order.payment(1).stream(&shop.tenant), refund).await;
        shop.resume_checkout(&order).await;
    }
    .boxed()
}
