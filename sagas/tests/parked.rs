//! A process that cannot read an event of its streams takes no step, is known to be parked, holds nobody up, and goes on
//! once the program can read it. Time is tokio's, paused.

use shopstream_domain::order::Stage;
use shopstream_domain::payment::{self, PaymentStatus};
use shopstream_domain::{OrderId, StreamId};
use shopstream_sagas::Settings;
use shopstream_sagas::testing::Shop;

const LINES: &[(&str, i64)] = &[("MUG", 2)];

async fn at(shop: &Shop, order: &OrderId, stage: Stage) {
    shop.until(&format!("{stage:?}"), |shop| (shop.checkout(order).stage() == Some(stage)).then_some(()))
        .await;
}

/// Waits until exactly these are parked.
async fn parked(shop: &Shop, streams: &[&StreamId]) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(600);
    loop {
        let parked = shop.store.parked();
        if parked.keys().eq(streams.iter().copied()) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{parked:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// An order that waits for its customer, whose second payment the processes cannot read.
async fn blinded() -> (Shop, OrderId) {
    let mut shop = Shop::open(Settings::default()).await;
    shop.receive("MUG", 100).await;
    let order = shop.order("ord_blind", LINES, "tok_decline_retryable").await;
    at(&shop, &order, Stage::AwaitingCustomer).await;
    let second = order.payment(2).stream(&shop.tenant);
    shop.unreadable.add(second.clone());
    let initiate = payment::Command::Initiate {
        payment_id: order.payment(2),
        order_id: order.clone(),
        amount_minor: shop.payment(&order, 1).amount_minor(),
        currency: shop.payment(&order, 1).currency().unwrap(),
        method_token: "tok_approve".to_owned(),
    };
    shop.send(second, initiate).await;
    (shop, order)
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_event_parks_its_processes_and_no_other() {
    let (mut shop, order) = blinded().await;
    let (checkout, second) = (order.checkout_stream(&shop.tenant), order.payment(2).stream(&shop.tenant));
    parked(&shop, &[&checkout, &second]).await;
    let obstacle = shop.store.parked()[&checkout].clone();
    assert_eq!(obstacle.stream, second);
    assert_eq!(obstacle.version, shop.journal.history(&second).last().unwrap().commit.last_version());
    assert!(obstacle.detail.contains("9999"), "{obstacle}");

    // Neither holds the others up, nor the place from which the next start goes on.
    for n in 0..70 {
        let other = shop.order(&format!("ord_{n}"), &[("MUG", 1)], "tok_approve").await;
        at(&shop, &other, Stage::Done).await;
    }
    shop.until_passed().await;
    let asked = |shop: &Shop| shop.provider.calls().iter().any(|(_, key)| key.contains("blind.2"));
    assert!(!asked(&shop), "{:?}", shop.provider.calls());
    assert_eq!(shop.checkout(&order).stage(), Some(Stage::AwaitingCustomer));
}

#[tokio::test(start_paused = true)]
async fn a_parked_process_goes_on_once_it_is_wished_for_and_can_be_read() {
    let (shop, order) = blinded().await;
    let (checkout, second) = (order.checkout_stream(&shop.tenant), order.payment(2).stream(&shop.tenant));
    parked(&shop, &[&checkout, &second]).await;
    // Wished for in vain.
    shop.store.retry_parked();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    parked(&shop, &[&checkout, &second]).await;

    shop.unreadable.mend();
    shop.store.retry_parked();
    at(&shop, &order, Stage::Done).await;
    parked(&shop, &[]).await;
    assert_eq!(shop.payment(&order, 2).status(), Some(PaymentStatus::Captured));
    assert_eq!(shop.provider.carried_out("captured").len(), 1, "one charge");
    shop.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn a_mended_program_takes_up_what_was_parked_by_itself() {
    let (mut shop, order) = blinded().await;
    let (checkout, second) = (order.checkout_stream(&shop.tenant), order.payment(2).stream(&shop.tenant));
    parked(&shop, &[&checkout, &second]).await;
    shop.until_passed().await;
    // Started again as it was, it stays parked.
    shop.crash_sagas().await;
    shop.start_sagas();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    parked(&shop, &[&checkout, &second]).await;

    shop.crash_sagas().await;
    shop.unreadable.mend();
    shop.start_sagas();
    at(&shop, &order, Stage::Done).await;
    parked(&shop, &[]).await;
    shop.assert_conserved();
}
