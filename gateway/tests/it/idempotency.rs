//! One key, one operation: whatever the state is by then, and whatever else the key is tried for.

use std::fmt::Debug;

use futures::future::join_all;
use futures::stream;
use prost_types::FieldMask;
use shopstream_proto::catalog::v1::{
    CreateProductRequest, DeleteProductRequest, GetProductRequest, NewVariant, ProductStatus,
    SetPriceRequest, UpdateProductRequest,
};
use shopstream_proto::event::v1::{Event, ReadRequest};
use shopstream_proto::inventory::v1::{
    CountStock, GetStockRequest, ReceiveStock, ReleaseStockRequest, ReservationLine, ReserveStockRequest,
    UpdateStockRequest, update_stock_request::Change,
};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, OrderStatus, ProcessBulkOrdersRequest, UpdateOrderStatusRequest,
};
use shopstream_proto::r#type::v1::Position;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::shop::{TestShop, draft, gbp};

/// What one answered, whole.
fn answer<A>(answered: Result<Response<A>, Status>) -> A {
    answered.expect("carried out").into_inner()
}

/// Its key was used for something else, and that is all that is said.
fn assert_reused<A: Debug>(answered: Result<Response<A>, Status>) {
    let status = answered.expect_err("the key was used");
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let field = details.bad_request().map(|bad| bad.field_violations[0].field.clone()).unwrap_or_default();
    let said = (status.code(), &*reason, &*field);
    assert_eq!(said, (Code::InvalidArgument, "REQUEST_ID_REUSED", "request_id"), "{status:?}");
}

/// Everything on the log.
async fn events(shop: &TestShop) -> Vec<Event> {
    let mut read = answer(shop.log().read(ReadRequest::default()).await);
    let mut events = Vec::new();
    while let Some(batch) = read.message().await.expect("a batch") {
        events.extend(batch.events);
    }
    events
}

fn unnamed(request_id: &str, sku: &str) -> CreateOrderRequest {
    CreateOrderRequest { order_id: None, ..draft(request_id, sku) }
}

fn named(request_id: &str, order_id: &str) -> CreateOrderRequest {
    CreateOrderRequest { order_id: Some(order_id.to_owned()), ..draft(request_id, "A1") }
}

fn cancel(request_id: &str, order_id: &str) -> CancelOrderRequest {
    CancelOrderRequest {
        request_id: request_id.to_owned(),
        order_id: order_id.to_owned(),
        ..CancelOrderRequest::default()
    }
}

fn change(request_id: &str, change: Change) -> UpdateStockRequest {
    UpdateStockRequest {
        request_id: request_id.to_owned(),
        sku: "A1".to_owned(),
        change: Some(change),
        ..UpdateStockRequest::default()
    }
}

fn receive(request_id: &str, quantity: i64) -> UpdateStockRequest {
    change(request_id, Change::Receive(ReceiveStock { quantity }))
}

fn count(request_id: &str, found: i64) -> UpdateStockRequest {
    change(request_id, Change::Count(CountStock { found }))
}

fn price(request_id: &str, amount_minor: i64) -> SetPriceRequest {
    SetPriceRequest {
        request_id: request_id.to_owned(),
        sku: "A1".to_owned(),
        price: Some(gbp(amount_minor)),
        ..SetPriceRequest::default()
    }
}

fn status(request_id: &str, status: ProductStatus) -> UpdateProductRequest {
    UpdateProductRequest {
        request_id: request_id.to_owned(),
        product_id: "prd_1".to_owned(),
        update_mask: Some(FieldMask { paths: vec!["status".to_owned(), "title".to_owned()] }),
        title: "Lamp".to_owned(),
        status: status.into(),
        ..UpdateProductRequest::default()
    }
}

fn product(request_id: &str, product_id: Option<&str>, sku: &str) -> CreateProductRequest {
    CreateProductRequest {
        request_id: request_id.to_owned(),
        product_id: product_id.map(str::to_owned),
        title: "Lamp".to_owned(),
        variants: vec![NewVariant { sku: sku.to_owned(), ..NewVariant::default() }],
        ..CreateProductRequest::default()
    }
}

fn hold(request_id: &str, reservation_id: Option<&str>) -> ReserveStockRequest {
    ReserveStockRequest {
        request_id: request_id.to_owned(),
        reservation_id: reservation_id.map(str::to_owned),
        lines: vec![ReservationLine { sku: "A1".to_owned(), location: String::new(), quantity: 2 }],
        ..ReserveStockRequest::default()
    }
}

#[tokio::test]
async fn what_changed_nothing_changes_nothing_later_either() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    // Of a stock item that nothing was ever recorded for, too.
    let none = answer(shop.stock().update_stock(count("count-sun", 0)).await);
    answer(shop.stock().update_stock(receive("in-0", 10)).await);
    let counted = answer(shop.stock().update_stock(count("count-mon", 10)).await);
    answer(shop.stock().update_stock(receive("in-1", 5)).await);
    assert_eq!(answer(shop.stock().update_stock(count("count-mon", 10)).await), counted);
    assert_eq!(answer(shop.stock().update_stock(count("count-sun", 0)).await), none);
    assert_reused(shop.stock().update_stock(count("count-mon", 9)).await);
    let last = answer(shop.stock().update_stock(receive("in-2", 1)).await).position;
    let request = GetStockRequest {
        sku: "A1".to_owned(),
        min_position: last.into_iter().collect(),
        ..GetStockRequest::default()
    };
    let stock = answer(shop.stock().get_stock(request).await).stock.expect("stock");
    assert_eq!((stock.on_hand, stock.available, stock.version), (16, 16, 5), "every view goes on past it");

    let monday = answer(shop.products().set_price(price("price-mon", 250)).await);
    answer(shop.products().set_price(price("price-tue", 3000)).await);
    assert_eq!(answer(shop.products().set_price(price("price-mon", 250)).await), monday);
    let published = answer(shop.products().update_product(status("publish", ProductStatus::Published)).await);
    answer(shop.products().update_product(status("withdraw", ProductStatus::Unpublished)).await);
    let again = answer(shop.products().update_product(status("publish", ProductStatus::Published)).await);
    assert_eq!(again, published);
    shop.caught_up().await;
    let get = GetProductRequest { product_id: "prd_1".to_owned(), ..GetProductRequest::default() };
    let seen = answer(shop.products().get_product(get).await).product.expect("a product");
    assert_eq!(seen.status(), ProductStatus::Unpublished);
    assert_eq!(seen.prices[0].list_price, Some(gbp(3000)));
}

#[tokio::test]
async fn one_key_makes_one_order_whatever_its_name() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    // Named by the shop first.
    let first = answer(shop.orders().create_order(unnamed("K", "A1")).await);
    for order_id in ["ord_a", "ord_b"] {
        assert_reused(shop.orders().create_order(named("K", order_id)).await);
    }
    assert_eq!(answer(shop.orders().create_order(unnamed("K", "A1")).await), first);
    // Named by the client first.
    let first = answer(shop.orders().create_order(named("L", "ord_c")).await);
    assert_reused(shop.orders().create_order(named("L", "ord_d")).await);
    assert_reused(shop.orders().create_order(unnamed("L", "A1")).await);
    assert_eq!(answer(shop.orders().create_order(named("L", "ord_c")).await), first);
    let message = ProcessBulkOrdersRequest {
        orders: vec![
            named("L", "ord_e"),
            named("M", "ord_f"),
            unnamed("L", "A1"),
            named("L", "ord_c"),
            unnamed("N", "A1"),
        ],
    };
    let done = answer(shop.orders().process_bulk_orders(stream::iter([message])).await);
    assert_eq!((done.accepted_count, done.failed_count), (3, 2), "{done:?}");
    let refused: Vec<_> = done.failures.iter().map(|failure| (failure.index, &*failure.reason)).collect();
    assert_eq!(refused, [(0, "REQUEST_ID_REUSED"), (2, "REQUEST_ID_REUSED")]);
    let drafted = events(&shop).await.into_iter().filter(|event| event.event_type == "OrderDrafted").count();
    assert_eq!(drafted, 4, "K, L, M and N");
}

#[tokio::test]
async fn one_key_is_for_one_method() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let order = answer(shop.orders().create_order(unnamed("K", "A1")).await);
    let move_on = |request_id: &str| UpdateOrderStatusRequest {
        request_id: request_id.to_owned(),
        order_id: order.order_id.clone(),
        status: OrderStatus::Cancelled.into(),
        ..UpdateOrderStatusRequest::default()
    };
    // Whatever the state says of the other request: the key comes first.
    let tried = async |key: &str| {
        assert_reused(shop.orders().cancel_order(cancel(key, &order.order_id)).await);
        assert_reused(shop.orders().cancel_order(cancel(key, "ord_nobody")).await);
        assert_reused(shop.orders().update_order_status(move_on(key)).await);
        assert_reused(shop.stock().reserve_stock(hold(key, None)).await);
        assert_reused(shop.stock().reserve_stock(hold(key, Some("res_mine"))).await);
        assert_reused(shop.products().create_product(product(key, None, "NEW")).await);
        assert_reused(shop.products().create_product(product(key, Some("prd_2"), "NEW")).await);
        assert_reused(shop.orders().create_order(unnamed(key, "NONE")).await);
        assert_reused(
            shop.orders()
                .create_order(CreateOrderRequest { customer_id: "c9".to_owned(), ..named(key, "ord_z") })
                .await,
        );
        let delete = DeleteProductRequest {
            request_id: key.to_owned(),
            product_id: "prd_1".to_owned(),
            ..DeleteProductRequest::default()
        };
        assert_reused(shop.products().delete_product(delete).await);
        let release = ReleaseStockRequest {
            request_id: key.to_owned(),
            reservation_id: "res_nobody".to_owned(),
            ..ReleaseStockRequest::default()
        };
        assert_reused(shop.stock().release_stock(release).await);
    };
    tried("K").await;
    // One that was claimed, and changed nothing.
    answer(shop.products().update_product(status("published", ProductStatus::Published)).await);
    tried("published").await;
    // Nothing stayed claimed: neither the SKU nor the names.
    answer(shop.products().create_product(product("other", Some("prd_3"), "NEW")).await);
    assert!(events(&shop).await.iter().all(|event| !event.stream_id.contains("prd_2")));
}

#[tokio::test]
async fn a_key_whose_request_was_refused_is_free() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let none = CreateOrderRequest { lines: draft("x", "NONE").lines, ..named("K", "ord_a") };
    shop.orders().create_order(none).await.expect_err("nobody sells it");
    let made = answer(shop.orders().create_order(named("K", "ord_a")).await);
    assert_eq!(made.version, 1);

    // Refused by the order itself, when the key had been claimed for it.
    shop.orders().cancel_order(cancel("L", "ord_nobody")).await.expect_err("there is none");
    let first = answer(shop.orders().create_order(unnamed("L", "A1")).await);
    assert_reused(shop.orders().cancel_order(cancel("L", "ord_nobody")).await);
    assert_reused(shop.orders().cancel_order(cancel("L", "ord_a")).await);
    assert_eq!(answer(shop.orders().create_order(unnamed("L", "A1")).await), first);

    shop.orders().cancel_order(cancel("M", "ord_nobody")).await.expect_err("there is none");
    answer(shop.orders().cancel_order(cancel("M", "ord_a")).await);
    assert_reused(shop.orders().create_order(unnamed("M", "A1")).await);
    assert_reused(shop.orders().create_order(named("M", "ord_nobody")).await);
    // An order may still get the name that was only tried, and everybody sees it.
    let late = answer(shop.orders().create_order(named("N", "ord_nobody")).await);
    shop.caught_up().await;
    let get = shopstream_proto::order::v1::GetOrderRequest {
        order_id: "ord_nobody".to_owned(),
        ..Default::default()
    };
    let seen = answer(shop.orders().get_order(get).await).order.expect("an order");
    assert_eq!(seen.version, late.version);
}

#[tokio::test]
async fn a_hold_is_answered_as_it_was_after_its_release() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    answer(shop.stock().update_stock(receive("in", 10)).await);
    for (key, name) in [("K", None), ("L", Some("res_mine"))] {
        let held = answer(shop.stock().reserve_stock(hold(key, name)).await);
        let release = ReleaseStockRequest {
            request_id: format!("release-{key}"),
            reservation_id: held.reservation_id.clone(),
            ..ReleaseStockRequest::default()
        };
        let released = answer(shop.stock().release_stock(release.clone()).await);
        assert_eq!(answer(shop.stock().reserve_stock(hold(key, name)).await), held);
        assert_eq!(answer(shop.stock().release_stock(release).await), released);
    }
    assert_reused(shop.stock().reserve_stock(hold("L", Some("res_other"))).await);
    assert_reused(shop.stock().reserve_stock(hold("L", None)).await);
}

#[tokio::test]
async fn of_many_uses_of_one_key_at_one_moment_one_has_an_effect() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    for round in 0..4 {
        let key = format!("K{round}");
        let orders = (0..64).map(|n| {
            let order = match n % 4 {
                0 => unnamed(&key, "A1"),
                _ => named(&key, &format!("ord_{round}-{}", n % 4)),
            };
            let mut client = shop.orders();
            async move { client.create_order(order).await }
        });
        let answers = join_all(orders).await;
        let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let mut done: Vec<(String, i64, Option<Position>)> =
            done.into_iter().map(answer).map(|done| (done.order_id, done.version, done.position)).collect();
        assert_eq!(done.len(), 16, "the same 16 are one request");
        done.dedup();
        assert_eq!(done.len(), 1, "and have one answer: {done:?}");
        refused.into_iter().for_each(assert_reused);
    }
    let drafted = events(&shop).await.into_iter().filter(|event| event.event_type == "OrderDrafted").count();
    assert_eq!(drafted, 4);
}

/// A client whose time is over sends again while the first is still at work: that one's effect refuses nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_that_overtakes_the_first_is_not_refused_for_what_that_one_does() {
    let shop = TestShop::start().await;
    for round in 0..40 {
        let variant = |n| NewVariant {
            sku: format!("R{round}-{n}"),
            list_price: Some(gbp(100)),
            ..NewVariant::default()
        };
        let wanted = CreateProductRequest {
            request_id: format!("create {round}"),
            title: "a thing".to_owned(),
            variants: (0..4).map(variant).collect(),
            ..CreateProductRequest::default()
        };
        let copies = (0..8_u64).map(|n| {
            let (mut products, wanted) = (shop.products(), wanted.clone());
            async move {
                tokio::time::sleep(std::time::Duration::from_millis(n)).await;
                answer(products.create_product(wanted).await)
            }
        });
        let answers = join_all(copies).await;
        assert!(answers.iter().all(|found| *found == answers[0]), "{answers:?}");
    }
}
