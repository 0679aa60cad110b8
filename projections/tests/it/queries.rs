//! What a history looks like through the read models.

use shopstream_domain::order::Stage;
use shopstream_domain::payment::PaymentStatus;
use shopstream_domain::{CustomerId, LocationId, OrderId, ProductId, TenantId};
use shopstream_eventlog::Position;
use shopstream_projections::catalog::ProductStatus;
use shopstream_projections::inventory::ReservationStatus;
use shopstream_projections::order::OrderStatus;
use shopstream_projections::{Behind, Projection};
use tokio::time::Instant;

use crate::story::{Shop, sku, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_order_is_seen_in_every_view() {
    let shop = Shop::new(4).await;
    shop.product("MUG", 125).await;
    shop.receive("MUG", 1, 10).await;
    shop.order(7, "cus_1", "MUG", 1).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let views = shop.read_models(&projector).await;
    let (tenant, order_id) = (tenant(), OrderId::new("ord_7").unwrap());

    let order = views.order(&tenant, &order_id).await.unwrap().unwrap();
    assert_eq!(
        (order.detail.status, order.detail.total_minor, order.lines.len(), order.detail.version),
        (OrderStatus::Confirmed, 125, 1, 2)
    );
    assert_eq!(order.detail.payments, [order_id.payment(1)]);

    let stock = views.stock(&tenant, &sku("MUG"), &LocationId::main()).await.unwrap().unwrap();
    assert_eq!((stock.on_hand, stock.available, stock.reserved, stock.committed), (10, 9, 0, 1));

    let product = views.product(&tenant, &ProductId::new("prd_MUG").unwrap()).await.unwrap().unwrap();
    assert_eq!(product.product.status, ProductStatus::Published);
    assert_eq!(product.prices.iter().map(|price| price.amount_minor).collect::<Vec<_>>(), [125]);
    let offers = views.offers(&tenant, &[sku("MUG"), sku("NONE")]).await.unwrap();
    assert_eq!(
        offers.iter().map(|offer| (offer.sku.as_str(), offer.prices.len())).collect::<Vec<_>>(),
        [("MUG", 1)]
    );

    let payments = views.payments_of(&tenant, &order_id).await.unwrap();
    assert_eq!(
        payments.iter().map(|payment| payment.status).collect::<Vec<_>>(),
        [PaymentStatus::Authorized]
    );

    let checkout = views.checkout(&tenant, &order_id).await.unwrap().unwrap();
    assert_eq!(checkout.stage, Stage::Done);
    assert_eq!(views.unfinished_checkouts(None, 10).await.unwrap(), []);

    // Committed, and its stock items have not said that they followed.
    let open = views.open_reservations(None, 10).await.unwrap();
    assert_eq!(open.iter().map(|open| open.status).collect::<Vec<_>>(), [ReservationStatus::Committed]);

    let timeline = views.timeline(&tenant, &order_id, None, 100).await.unwrap();
    let types: Vec<&str> = timeline.iter().map(|entry| entry.event_type.as_str()).collect();
    assert_eq!(
        types,
        [
            "OrderSubmitted",
            "CheckoutStarted",
            "ReservationRequested",
            "ReservationHeld",
            "ReservationCommitted",
            "PaymentInitiated",
            "PaymentAuthorized",
            "OrderConfirmed",
            "CheckoutDone"
        ]
    );
    let rest = views.timeline(&tenant, &order_id, Some(timeline[5].place()), 100).await.unwrap();
    assert_eq!(rest, timeline[6..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customers_orders_come_in_pages_newest_first() {
    let shop = Shop::new(4).await;
    for n in 0..7 {
        shop.order(n, "cus_1", "MUG", u64::from(n) * 2).await;
    }
    shop.order(100, "cus_2", "MUG", 14).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let views = shop.read_models(&projector).await;
    let customer = CustomerId::new("cus_1").unwrap();

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = views.orders_of(&tenant(), &customer, after.as_ref(), 3).await.unwrap();
        seen.extend(page.iter().map(|order| order.order_id.to_string()));
        match page.last() {
            Some(last) => after = Some(last.key()),
            None => break,
        }
    }
    assert_eq!(seen, (0..7).rev().map(|n| format!("ord_{n}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_sees_nothing() {
    let shop = Shop::new(4).await;
    shop.product("MUG", 125).await;
    shop.order(7, "cus_1", "MUG", 0).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let views = shop.read_models(&projector).await;
    let other = TenantId::new("other").unwrap();
    let order_id = OrderId::new("ord_7").unwrap();

    assert_eq!(views.order(&other, &order_id).await.unwrap(), None);
    assert_eq!(views.stock_levels(&other, &[], None, 10).await.unwrap(), []);
    assert_eq!(views.offers(&other, &[sku("MUG")]).await.unwrap(), []);
    assert_eq!(views.timeline(&other, &order_id, None, 10).await.unwrap(), []);
    assert_eq!(views.orders_of(&other, &CustomerId::new("cus_1").unwrap(), None, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_waits_for_a_position_and_says_how_far_the_view_is_when_it_does_not_come() {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    let views = shop.read_models(&projector).await;
    let written = shop.receive("MUG", 1, 10).await;

    let soon = Instant::now() + crate::story::PATIENCE;
    views.wait_for(Projection::StockLevel, &[written], soon).await.unwrap();
    assert!(views.stock(&tenant(), &sku("MUG"), &LocationId::main()).await.unwrap().is_some());

    let beyond = Position { offset: written.offset + 1, ..written };
    let behind = views.wait_for(Projection::StockLevel, &[written, beyond], Instant::now()).await;
    let expected = Behind { projection: Projection::StockLevel, wanted: beyond, next: beyond.offset };
    assert_eq!(behind, Err(expected));
    let nowhere = Position { partition: 9, offset: 0 };
    assert!(views.wait_for(Projection::StockLevel, &[nowhere], Instant::now()).await.is_err());
}
