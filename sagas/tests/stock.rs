//! Holds that nobody's checkout takes: all or nothing, given back, running out, broken off half-way.

use shopstream_domain::inventory::{
    Allocation, ReleaseReason, Reservation, ReservationCommand, ReservationStatus, ShortLine, StockKey,
};
use shopstream_domain::{LocationId, OrderId, Quantity, ReservationId, Sku};
use shopstream_sagas::testing::{Shop, client};
use shopstream_sagas::{HoldRequest, Settings, StockError};

async fn shop() -> Shop {
    let mut shop = Shop::open(Settings::default()).await;
    shop.receive("MUG", 10).await;
    shop.receive("PEN", 10).await;
    shop
}

fn key(sku: &str, units: i64) -> StockKey {
    let (sku, location) = (Sku::new(sku).unwrap(), LocationId::main());
    StockKey { sku, location, quantity: Quantity::new(units).unwrap() }
}

fn wish(shop: &Shop, keys: &[(&str, i64)]) -> HoldRequest {
    HoldRequest {
        tenant: shop.tenant.clone(),
        reservation_id: id(),
        keys: keys.iter().map(|(sku, units)| key(sku, *units)).collect(),
        hold_seconds: 60,
        hard_max_seconds: 60,
    }
}

fn id() -> ReservationId {
    order().reservation()
}

fn order() -> OrderId {
    OrderId::new("ord_alone").unwrap()
}

async fn until(shop: &Shop, what: &str, fact: impl Fn(&Reservation) -> bool) {
    shop.until(what, |shop| fact(&shop.reservation(&order())).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn all_of_it_is_held_and_asking_again_changes_nothing() {
    let shop = shop().await;
    let wish = wish(&shop, &[("MUG", 3), ("PEN", 1)]);
    for _ in 0..2 {
        let held = shop.sagas().stock().reserve(wish.clone(), &client()).await.unwrap();
        assert_eq!(held, Allocation::Held);
    }
    until(&shop, "held", |reservation| reservation.status() == ReservationStatus::Held).await;
    assert_eq!((shop.stock("MUG").reserved(), shop.stock("PEN").reserved()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn short_of_one_nothing_is_held_and_the_answer_stays() {
    let shop = shop().await;
    let wish = wish(&shop, &[("MUG", 3), ("PEN", 11)]);
    let StockKey { sku, location, quantity: requested } = key("PEN", 11);
    let short = vec![ShortLine { sku, location, requested, available: 10 }];
    for _ in 0..2 {
        let answer = shop.sagas().stock().reserve(wish.clone(), &client()).await.unwrap();
        assert_eq!(answer, Allocation::Rejected { short: short.clone() });
    }
    until(&shop, "settled", |reservation| !reservation.is_unsettled()).await;
    shop.assert_conserved();
    assert_eq!(shop.stock("MUG").available(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_is_released_is_for_anybody_again() {
    let shop = shop().await;
    let stock = shop.sagas().stock();
    stock.reserve(wish(&shop, &[("MUG", 3)]), &client()).await.unwrap();
    for _ in 0..2 {
        stock.release(&shop.tenant, &id(), ReleaseReason::Requested, &client()).await.unwrap();
    }
    until(&shop, "settled", |reservation| {
        matches!(reservation.status(), ReservationStatus::Released { .. }) && !reservation.is_unsettled()
    })
    .await;
    assert_eq!(shop.stock("MUG").available(), 10);
    let late = stock.reserve(wish(&shop, &[("MUG", 3)]), &client()).await;
    assert!(matches!(late, Ok(Allocation::Held)), "the stored answer: {late:?}");
    assert_eq!(shop.stock("MUG").available(), 10, "and nothing is held by it");
}

#[tokio::test(start_paused = true)]
async fn a_release_before_the_request_wins() {
    let shop = shop().await;
    let stock = shop.sagas().stock();
    stock.release(&shop.tenant, &id(), ReleaseReason::Requested, &client()).await.unwrap();
    let refused = stock.reserve(wish(&shop, &[("MUG", 3)]), &client()).await;
    let Err(StockError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.reason, "RESERVATION_RELEASED");
    assert_eq!(shop.stock("MUG").available(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_hold_runs_out_at_its_time() {
    let shop = shop().await;
    let began = shop.clock.now();
    shop.sagas().stock().reserve(wish(&shop, &[("MUG", 3)]), &client()).await.unwrap();
    runs_out(&shop).await;
    let passed = shop.clock.now().since(began).micros() / 1_000_000;
    assert!((60..62).contains(&passed), "{passed} s");
}

async fn runs_out(shop: &Shop) {
    until(shop, "expired", |reservation| {
        reservation.status() == ReservationStatus::Released { reason: ReleaseReason::Expired }
            && !reservation.is_unsettled()
    })
    .await;
    shop.assert_conserved();
    assert_eq!(shop.stock("MUG").available(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_hold_runs_out_after_a_restart_too() {
    let mut shop = shop().await;
    shop.sagas().stock().reserve(wish(&shop, &[("MUG", 3)]), &client()).await.unwrap();
    shop.restart().await;
    runs_out(&shop).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_broken_off_half_way_is_taken_up() {
    let mut shop = shop().await;
    // Only the first step of `reserve`, as after a crash.
    let HoldRequest { reservation_id, keys, hold_seconds, hard_max_seconds, .. } = wish(&shop, &[("MUG", 3)]);
    let request = ReservationCommand::Request { reservation_id, keys, hold_seconds, hard_max_seconds };
    shop.crash_sagas().await;
    shop.send(id().stream(&shop.tenant), request).await;
    shop.restart().await;
    until(&shop, "held", |reservation| reservation.status() == ReservationStatus::Held).await;
    assert_eq!(shop.stock("MUG").reserved(), 3);
    runs_out(&shop).await;
}
