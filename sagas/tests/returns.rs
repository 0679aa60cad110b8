//! Goods that come back: the money once, the units once, whatever happens on the way.

use std::time::Duration;

use shopstream_domain::inventory::{ReleaseReason, ReservationStatus};
use shopstream_domain::order::Stage;
use shopstream_domain::returns::ReturnStatus;
use shopstream_domain::{OrderId, ReturnId, StreamId, TenantId, payment};
use shopstream_sagas::Settings;
use shopstream_sagas::testing::Shop;
use tokio::time::Instant;

/// A shop that has sold three mugs at 100.
async fn sold() -> (Shop, OrderId) {
    sold_for("tok_approve", Settings::default()).await
}

async fn sold_for(token: &str, settings: Settings) -> (Shop, OrderId) {
    let mut shop = Shop::open(settings).await;
    shop.receive("MUG", 10).await;
    let order = shop.order("ord_1", &[("MUG", 1), ("MUG", 2)], token).await;
    shop.until("sold", |shop| (shop.checkout(&order).stage() == Some(Stage::Done)).then_some(())).await;
    (shop, order)
}

async fn ends(shop: &Shop, stream: &StreamId, status: ReturnStatus) {
    shop.until(&format!("{status:?}"), |shop| {
        (shop.goods_return(stream).status() == Some(status)).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_price_goes_back_and_the_units_too() {
    let (mut shop, order) = sold().await;
    let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 1), (1, "MUG", 1)]).await;
    ends(&shop, &goods, ReturnStatus::Resolved).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 200);
    assert_eq!((shop.stock("MUG").committed(), shop.stock("MUG").available()), (1, 9));
    shop.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn more_than_was_sold_is_refused_and_nothing_moves() {
    let (mut shop, order) = sold().await;
    let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 2)]).await;
    ends(&shop, &goods, ReturnStatus::Refused).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 0);
    assert_eq!(shop.stock("MUG").committed(), 3);
}

#[tokio::test(start_paused = true)]
async fn two_returns_of_one_order_do_not_meet_at_the_provider() {
    let (mut shop, order) = sold().await;
    let first = shop.give_back(&order, "ret_1", &[(0, "MUG", 1)]).await;
    let second = shop.give_back(&order, "ret_2", &[(1, "MUG", 2)]).await;
    ends(&shop, &first, ReturnStatus::Resolved).await;
    ends(&shop, &second, ReturnStatus::Resolved).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 300);
    assert_eq!(shop.provider.carried_out("refunded").len(), 2);
    assert_eq!(shop.stock("MUG").available(), 10);
}

/// A payment makes one refund at a time, so all but one wait; each end of one wakes the next, and no clock does.
#[tokio::test(start_paused = true)]
async fn many_returns_of_one_order_wait_for_each_other_and_not_for_the_clock() {
    many_returns_are_paid_back_soon("tok_approve").await;
}

/// The others have their refunds set aside meanwhile, so what happens to the payment next is not what its process expects.
#[tokio::test(start_paused = true)]
async fn a_refund_that_takes_a_moment_is_not_taken_for_one_that_failed() {
    many_returns_are_paid_back_soon("tok_refund_takes").await;
}

async fn many_returns_are_paid_back_soon(token: &str) {
    let mut shop = Shop::open(Settings::default()).await;
    shop.receive("MUG", 10).await;
    let order = shop.order("ord_1", &[("MUG", 10)], token).await;
    shop.until("sold", |shop| (shop.checkout(&order).stage() == Some(Stage::Done)).then_some(())).await;
    let begun = Instant::now();
    let mut returns = Vec::new();
    for n in 0..10 {
        returns.push(shop.give_back(&order, &format!("ret_{n}"), &[(0, "MUG", 1)]).await);
    }
    for goods in &returns {
        ends(&shop, goods, ReturnStatus::Resolved).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 1000);
    shop.assert_conserved();
}

/// Order ids are the tenants' own choice: at the one provider of all of them, the same order of two is two payments.
#[tokio::test(start_paused = true)]
async fn the_same_order_of_two_tenants_is_paid_and_given_back_apart() {
    let (mut shop, order) = sold().await;
    let default = std::mem::replace(&mut shop.tenant, TenantId::new("acme").expect("a tenant"));
    shop.receive("MUG", 10).await;
    shop.receive("PEN", 10).await;
    let same = shop.order(order.as_str(), &[("MUG", 1), ("PEN", 2)], "tok_approve").await;
    shop.until("done", |shop| (shop.checkout(&same).stage() == Some(Stage::Done)).then_some(())).await;
    let (own, other) = ("pay_1.1", "acme/pay_1.1");
    let each = |operation| [other, own].map(|payment| format!("{payment}:{operation}:1"));
    assert_eq!(shop.provider.carried_out("authorized"), each("authorize"), "each is promised its money");
    assert_eq!(shop.provider.carried_out("captured"), each("capture"), "and charged");

    let goods = shop.give_back(&same, "ret_1", &[(0, "MUG", 1)]).await;
    ends(&shop, &goods, ReturnStatus::Resolved).await;
    assert_eq!(shop.payment(&same, 1).refunded_minor(), 100);
    assert_eq!(shop.provider.carried_out("refunded"), [format!("{other}:refund:1")]);
    shop.tenant = default;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 0);
    let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 1)]).await;
    ends(&shop, &goods, ReturnStatus::Resolved).await;
    assert_eq!(shop.provider.carried_out("refunded"), each("refund"));
    shop.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_record_of_a_return() {
    for more in 1..=8 {
        let (mut shop, order) = sold().await;
        let before = shop.records();
        let goods = shop.give_back(&order, "ret_1", &[(1, "MUG", 2)]).await;
        let resolved = |shop: &Shop| shop.goods_return(&goods).status() == Some(ReturnStatus::Resolved);
        shop.until("so many records", |shop| {
            (shop.records() >= before + more || resolved(shop)).then_some(())
        })
        .await;
        shop.restart().await;
        ends(&shop, &goods, ReturnStatus::Resolved).await;
        assert_eq!(shop.provider.carried_out("refunded").len(), 1);
        assert_eq!(shop.payment(&order, 1).refunded_minor(), 200);
        assert_eq!((shop.stock("MUG").committed(), shop.stock("MUG").available()), (1, 9));
    }
}

/// Sends what the gateway sends for `RefundPayment`.
async fn refund_by_hand(shop: &mut Shop, order: &OrderId, id: &str, amount_minor: Option<i64>) -> bool {
    let refund = payment::Command::RequestRefund { refund_id: id.to_owned(), amount_minor };
    shop.ask(order.payment(1).stream(&shop.tenant), refund).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_return_of_more_than_is_left_is_refused_before_anything_moves() {
    let (mut shop, order) = sold().await;
    assert!(refund_by_hand(&mut shop, &order, "rfd_1", Some(250)).await);
    let back = |shop: &Shop| shop.payment(&order, 1).refunded_minor() == 250;
    shop.until("back", |shop| back(shop).then_some(())).await;
    let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 1)]).await;
    ends(&shop, &goods, ReturnStatus::Refused).await;
    assert_eq!((shop.stock("MUG").committed(), shop.payment(&order, 1).refunded_minor()), (3, 250));
    assert!(!shop.order_state(&order).has_return(&ReturnId::new("ret_1").unwrap()));
    // What is left is there for whoever wants no more than that.
    assert!(refund_by_hand(&mut shop, &order, "rfd_2", None).await);
    let back = |shop: &Shop| shop.payment(&order, 1).refunded_minor() == 300;
    shop.until("all of it", |shop| back(shop).then_some(())).await;
}

/// At the same moment somebody refunds by hand: one of the two gets the money, and the return never stops half done.
#[tokio::test(start_paused = true)]
async fn a_return_and_a_refund_by_hand_do_not_get_the_same_money() {
    for more in 0..=9 {
        let (mut shop, order) = sold().await;
        let before = shop.records();
        let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 1), (1, "MUG", 2)]).await;
        let over = |shop: &Shop| shop.goods_return(&goods).status().is_some_and(ReturnStatus::is_terminal);
        shop.until("so many records", |shop| (shop.records() > before + more || over(shop)).then_some(()))
            .await;
        let by_hand = refund_by_hand(&mut shop, &order, "rfd_1", Some(100)).await;
        shop.until("over", |shop| over(shop).then_some(())).await;
        let expected = if by_hand { ReturnStatus::Refused } else { ReturnStatus::Resolved };
        assert_eq!(shop.goods_return(&goods).status(), Some(expected), "{:#?}", shop.story());
        let settled = |shop: &Shop| shop.payment(&order, 1).open_operation().is_none();
        shop.until("settled", |shop| settled(shop).then_some(())).await;
        let payment = shop.payment(&order, 1);
        assert_eq!(payment.refunded_minor(), if by_hand { 100 } else { 300 });
        assert_eq!(payment.refund_pending_minor(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_order_does_not_take_back_is_not_set_aside_for_ever() {
    let (mut shop, order) = sold().await;
    let goods = shop.give_back(&order, "ret_1", &[(0, "MUG", 2)]).await;
    ends(&shop, &goods, ReturnStatus::Refused).await;
    assert_eq!(shop.payment(&order, 1).refundable_minor(), 300, "{:#?}", shop.story());
}

#[tokio::test(start_paused = true)]
async fn a_free_order_comes_back() {
    let mut shop = Shop::open(Settings::default()).await;
    shop.receive("MUG", 10).await;
    let order = shop.order_for("ord_1", &[("MUG", 2)], "tok_approve", 0).await;
    shop.until("sold", |shop| (shop.checkout(&order).stage() == Some(Stage::Done)).then_some(())).await;
    let goods = shop.give_back_for(&order, "ret_1", &[(0, "MUG", 1)], 0).await;
    ends(&shop, &goods, ReturnStatus::Resolved).await;
    assert_eq!(shop.stock("MUG").committed(), 1);
    assert_eq!(shop.provider.calls(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_never_comes_through_is_seen_to_by_hand() {
    let (mut shop, order) = sold_for("tok_refund_fails", Settings::default()).await;
    let goods = shop.give_back(&order, "ret_1", &[(1, "MUG", 2)]).await;
    ends(&shop, &goods, ReturnStatus::NeedsAttention).await;
    // Meanwhile the money is this return's, whatever anybody asks for.
    assert!(!refund_by_hand(&mut shop, &order, "rfd_1", Some(101)).await);
    shop.settle_return(&goods).await;
    ends(&shop, &goods, ReturnStatus::Settled).await;
    let payment = shop.payment(&order, 1);
    assert_eq!((payment.refunded_minor(), payment.refundable_minor()), (200, 100));
    assert_eq!(shop.provider.carried_out("refunded"), [""; 0]);
    shop.assert_conserved();
}

/// A report that the provider has given this much back without being asked.
async fn went_back_elsewhere(shop: &mut Shop, order: &OrderId, amount_minor: i64) {
    let signal = payment::Command::RecordSignal {
        provider_event_id: "evt_1".to_owned(),
        key: "re_1".to_owned(),
        operation: None,
        answer: payment::Answer::Refunded { amount_minor },
        sequence: 0,
    };
    shop.send(order.payment(1).stream(&shop.tenant), signal).await;
}

/// No client stops a return: of what was set aside for it, only what is still there goes back.
#[tokio::test(start_paused = true)]
async fn a_return_whose_money_went_back_elsewhere_ends_by_itself() {
    for (elsewhere, rest) in [(300, 0), (150, 150), (100, 200)] {
        let (mut shop, order) = sold_for("tok_refund_fails", Settings::default()).await;
        let goods = shop.give_back(&order, "ret_1", &[(1, "MUG", 2)]).await;
        shop.until("a refund that failed", |shop| {
            let payment = shop.payment(&order, 1);
            (refunds(shop) > 0 && payment.open_operation().is_none()).then_some(())
        })
        .await;
        went_back_elsewhere(&mut shop, &order, elsewhere).await;
        shop.provider.mend();
        ends(&shop, &goods, ReturnStatus::Resolved).await;
        let payment = shop.payment(&order, 1);
        assert_eq!((payment.refunded_minor(), payment.refund_pending_minor()), (elsewhere + rest, 0));
        assert_eq!(shop.provider.carried_out("refunded").len(), usize::from(rest > 0));
        shop.assert_conserved();
    }
}

/// Calls for a refund so far.
fn refunds(shop: &Shop) -> usize {
    shop.provider.calls().iter().filter(|(operation, _)| *operation == "refund").count()
}

#[tokio::test(start_paused = true)]
async fn f21_a_refund_that_keeps_failing_waits_for_an_operator() {
    let settings = Settings::default();
    let tries = settings.tries_max as usize + 1;
    let (mut shop, order) = sold_for("tok_refund_fails", settings).await;
    let goods = shop.give_back(&order, "ret_1", &[(1, "MUG", 2)]).await;
    ends(&shop, &goods, ReturnStatus::NeedsAttention).await;
    assert_eq!(refunds(&shop), tries);
    // The units are back, and nobody tries any more, not even after a restart.
    assert_eq!((shop.stock("MUG").committed(), shop.stock("MUG").available()), (1, 9));
    shop.restart().await;
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(refunds(&shop), tries);
    assert_eq!(shop.goods_return(&goods).status(), Some(ReturnStatus::NeedsAttention));

    // Resumed too early it stops again.
    shop.resume_return(&goods).await;
    shop.until("tried again", |shop| (refunds(shop) > tries).then_some(())).await;
    ends(&shop, &goods, ReturnStatus::NeedsAttention).await;
    assert_eq!(refunds(&shop), 2 * tries);
    shop.provider.mend();
    shop.resume_return(&goods).await;
    ends(&shop, &goods, ReturnStatus::Resolved).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 200);
    assert_eq!(shop.provider.carried_out("refunded").len(), 1);
    shop.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn f13_units_of_an_order_that_was_sold_under_another_hold_go_back_there() {
    // As in the checkout's own test: the hold runs out while the provider is asked.
    let settings = Settings {
        hold_seconds: 20,
        hard_max_seconds: 20,
        provider_timeout: Duration::from_secs(90),
        ..Settings::default()
    };
    let (mut shop, order) = sold_for("tok_slow", settings).await;
    let expired = ReservationStatus::Released { reason: ReleaseReason::Expired };
    assert_eq!(shop.reservation(&order).status(), expired);
    assert_eq!(shop.order_state(&order).reservation(), Some(&order.second_reservation()));
    let goods = shop.give_back(&order, "ret_1", &[(1, "MUG", 2)]).await;
    ends(&shop, &goods, ReturnStatus::Resolved).await;
    assert_eq!((shop.stock("MUG").committed(), shop.stock("MUG").available()), (1, 9));
    shop.assert_conserved();
}
