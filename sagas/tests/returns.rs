//! Goods that come back: the money once, the units once, whatever happens on the way.

use shopstream_domain::order::Stage;
use shopstream_domain::returns::{Command, ReturnLine, ReturnRequest, ReturnStatus};
use shopstream_domain::{Currency, LocationId, OrderId, Quantity, ReturnId, Sku, StreamId};
use shopstream_sagas::Settings;
use shopstream_sagas::testing::Shop;

/// A shop that has sold three mugs at 100.
async fn sold() -> (Shop, OrderId) {
    let mut shop = Shop::open(Settings::default()).await;
    shop.receive("MUG", 10).await;
    let order = shop.order("ord_1", &[("MUG", 1), ("MUG", 2)], "tok_approve").await;
    shop.until("sold", |shop| (shop.checkout(&order).stage() == Some(Stage::Done)).then_some(())).await;
    (shop, order)
}

/// Asks for a return of units by line, as the gateway does.
async fn ask(shop: &mut Shop, order: &OrderId, id: &str, units: &[(u32, i64)]) -> StreamId {
    let return_id = ReturnId::new(id).unwrap();
    let stream = return_id.stream(&shop.tenant);
    let lines = units.iter().map(|(line, units)| ReturnLine {
        line: *line,
        sku: Sku::new("MUG").unwrap(),
        location: LocationId::main(),
        quantity: Quantity::new(*units).unwrap(),
        unit_price_minor: 100,
    });
    let request = ReturnRequest {
        return_id,
        order_id: order.clone(),
        payment_id: order.payment(1),
        reservation_id: order.reservation(),
        currency: Currency::new("GBP").unwrap(),
        lines: lines.collect(),
    };
    shop.send(stream.clone(), Command::Request(request)).await;
    stream
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
    let goods = ask(&mut shop, &order, "ret_1", &[(0, 1), (1, 1)]).await;
    ends(&shop, &goods, ReturnStatus::Resolved).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 200);
    assert_eq!((shop.stock("MUG").committed(), shop.stock("MUG").available()), (1, 9));
    shop.assert_conserved();
}

#[tokio::test(start_paused = true)]
async fn more_than_was_sold_is_refused_and_nothing_moves() {
    let (mut shop, order) = sold().await;
    let goods = ask(&mut shop, &order, "ret_1", &[(0, 2)]).await;
    ends(&shop, &goods, ReturnStatus::Refused).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 0);
    assert_eq!(shop.stock("MUG").committed(), 3);
}

#[tokio::test(start_paused = true)]
async fn two_returns_of_one_order_do_not_meet_at_the_provider() {
    let (mut shop, order) = sold().await;
    let first = ask(&mut shop, &order, "ret_1", &[(0, 1)]).await;
    let second = ask(&mut shop, &order, "ret_2", &[(1, 2)]).await;
    ends(&shop, &first, ReturnStatus::Resolved).await;
    ends(&shop, &second, ReturnStatus::Resolved).await;
    assert_eq!(shop.payment(&order, 1).refunded_minor(), 300);
    assert_eq!(shop.provider.carried_out("refunded").len(), 2);
    assert_eq!(shop.stock("MUG").available(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_record_of_a_return() {
    for more in 1..=8 {
        let (mut shop, order) = sold().await;
        let before = shop.records();
        let goods = ask(&mut shop, &order, "ret_1", &[(1, 2)]).await;
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
