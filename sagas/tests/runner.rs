//! The loop that drives the processes: each of its waits is woken by whatever ends it. Time is tokio's, paused: it
//! passes only while nobody has anything to do, so a wait that nobody wakes shows as time that passed.

use std::time::Duration;

use shopstream_domain::order::{CancelReason, Command, Stage};
use shopstream_domain::{LocationId, OrderId, Sku};
use shopstream_eventlog::raw::RawError;
use shopstream_eventlog::sim::Fate;
use shopstream_sagas::Settings;
use shopstream_sagas::testing::Shop;

async fn done(shop: &Shop, order: &OrderId) {
    shop.until("done", |shop| (shop.checkout(order).stage() == Some(Stage::Done)).then_some(())).await;
}

/// An order on the partition of this stock: whoever reads comes to it after all that was written there before.
fn behind(sku: &str, shop: &Shop) -> String {
    let partitions = shop.commands().partitions();
    let stock = Sku::new(sku).unwrap().stock_stream(&shop.tenant, &LocationId::main());
    let of = |id: &String| OrderId::new(id).unwrap().stream(&shop.tenant).partition(partitions);
    (0..).map(|n| format!("ord_{n}")).find(|id| of(id) == stock.partition(partitions)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn after_a_burst_of_changes_the_next_order_begins_at_once() {
    // Many small reads, and a store that takes a moment: more than the checkpointer takes at once.
    let mut shop = Shop::open(Settings { read_bytes: 4_096, ..Settings::default() }).await;
    shop.crash_sagas().await;
    for _ in 0..10_000 {
        shop.receive("MUG", 1).await;
    }
    let order = shop.order(&behind("MUG", &shop), &[("MUG", 1)], "tok_approve").await;
    shop.store.set_save_takes(Duration::from_millis(1));
    let began = shop.clock.now();
    shop.start_sagas();
    done(&shop, &order).await;
    let passed = shop.clock.now().since(began).micros();
    assert!(passed < 100_000, "stood still for {passed} µs");
}

/// Its process is woken while it is at work, and what woke it is only safe once it has looked at that.
#[tokio::test(start_paused = true)]
async fn a_cancellation_while_the_provider_hangs_holds_up_nobody_else() {
    let mut shop = Shop::open(Settings { read_bytes: 4_096, ..Settings::default() }).await;
    shop.receive("MUG", 1_000).await;
    let stuck = shop.order("ord_stuck", &[("MUG", 1)], "tok_hang").await;
    shop.until("asked", |shop| shop.payment(&stuck, 1).open_operation().map(drop)).await;
    let cancel = Command::RequestCancellation { reason: CancelReason::Customer };
    shop.send(stuck.stream(&shop.tenant), cancel).await;
    let began = shop.clock.now();
    for n in 0..100 {
        let order = shop.order(&format!("ord_{n}"), &[("MUG", 1)], "tok_approve").await;
        done(&shop, &order).await;
    }
    let passed = shop.clock.now().since(began).micros();
    assert!(passed < 1_000_000, "stood still for {passed} µs");
    shop.until("ended", |shop| (shop.checkout(&stuck).stage() == Some(Stage::Cancelled)).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn processes_that_wait_for_their_first_record_do_not_keep_each_other_from_trying_again() {
    let settings = Settings { in_flight_max: 2, patience: Duration::from_secs(15), ..Settings::default() };
    let mut shop = Shop::open(settings).await;
    shop.receive("MUG", 10).await;
    shop.crash_sagas().await;
    let mut orders = Vec::new();
    for n in 0..4 {
        orders.push(shop.order(&format!("ord_{n}"), &[("MUG", 1)], "tok_approve").await);
    }
    let lost = || Fate::Lose(RawError::Unavailable { detail: "test".to_owned() });
    for partition in 0..4 {
        shop.faults.next(partition, std::iter::repeat_with(lost).take(1_000));
    }
    shop.start_sagas();
    // Longer than they are patient: all places are taken by processes that have given up for now.
    tokio::time::sleep(Duration::from_secs(60)).await;
    shop.faults.heal();
    for order in &orders {
        done(&shop, order).await;
    }
}
