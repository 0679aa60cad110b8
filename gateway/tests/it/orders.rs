//! Commands, and reading one's own writes.

use futures::stream;
use prost_types::FieldMask;
use shopstream_proto::catalog::v1::{
    DeleteProductRequest, GetProductRequest, ProductStatus, SetPriceRequest, UpdateProductRequest,
};
use shopstream_proto::inventory::v1::reserve_stock_response::Outcome;
use shopstream_proto::inventory::v1::{
    GetStockRequest, ReceiveStock, ReservationLine, ReserveStockRequest, UpdateStockRequest,
    update_stock_request,
};
use shopstream_proto::order::v1::{
    GetOrderRequest, GetUserOrdersRequest, OrderStatus, PriceSource, ProcessBulkOrdersRequest,
    UpdateOrderStatusRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::shop::{TestShop, draft, gbp};

#[tokio::test]
async fn a_product_can_be_ordered_as_soon_as_it_is_created() {
    let shop = TestShop::start().await;
    let created = shop.sell("prd_1", "A1").await;
    let request = GetProductRequest { min_position: vec![created], product_id: "prd_1".to_owned() };
    let product = shop.products().get_product(request).await.expect("found").into_inner().product;
    assert_eq!(product.expect("a product").variants[0].sku, "A1");

    let order = shop.orders().create_order(draft("1", "A1")).await.expect("accepted").into_inner();
    let request =
        GetOrderRequest { min_position: order.position.into_iter().collect(), order_id: order.order_id };
    let order = shop.orders().get_order(request).await.expect("found").into_inner().order.expect("an order");
    assert_eq!((order.status(), order.version), (OrderStatus::Draft, 1));
    assert_eq!(order.lines[0].price_source(), PriceSource::List);
    assert_eq!(order.totals.and_then(|totals| totals.total).map(|money| money.amount_minor), Some(250));
}

#[tokio::test]
async fn a_repeat_answers_as_the_first_time_though_the_product_is_gone() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let first = shop.orders().create_order(draft("1", "A1")).await.expect("accepted").into_inner();
    shop.withdraw("prd_1").await;
    let again = shop.orders().create_order(draft("1", "A1")).await.expect("accepted before").into_inner();
    assert_eq!(first, again);
    let other = shop.orders().create_order(draft("2", "A1")).await.expect_err("off sale");
    assert_eq!(other.code(), Code::FailedPrecondition);
}

fn submit(request_id: &str, order_id: &str) -> UpdateOrderStatusRequest {
    UpdateOrderStatusRequest {
        request_id: request_id.to_owned(),
        order_id: order_id.to_owned(),
        status: OrderStatus::Submitted.into(),
        payment_method_token: "tok_ok".to_owned(),
        ..UpdateOrderStatusRequest::default()
    }
}

async fn set_price(shop: &TestShop, request_id: &str, amount_minor: i64) {
    let request = SetPriceRequest {
        request_id: request_id.to_owned(),
        sku: "A1".to_owned(),
        price: Some(gbp(amount_minor)),
        ..SetPriceRequest::default()
    };
    shop.products().set_price(request).await.expect("priced");
}

/// Its status and total.
async fn seen(shop: &TestShop, order_id: &str) -> (OrderStatus, Option<i64>) {
    let request = GetOrderRequest { order_id: order_id.to_owned(), ..GetOrderRequest::default() };
    let order = shop.orders().get_order(request).await.expect("found").into_inner().order.expect("an order");
    (order.status(), order.totals.and_then(|totals| totals.total).map(|money| money.amount_minor))
}

fn not_on_sale<A: std::fmt::Debug>(answered: Result<A, Status>) {
    let status = answered.expect_err("off sale");
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    assert_eq!((status.code(), reason), (Code::FailedPrecondition, Some("SKU_NOT_ON_SALE")), "{status:?}");
}

#[tokio::test]
async fn a_draft_is_sold_at_the_price_of_its_submission() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let first = shop.orders().create_order(draft("1", "A1")).await.expect("accepted").into_inner();
    for (n, price) in [(1, 300), (2, 400)] {
        set_price(&shop, &format!("p{n}"), price).await;
        // The same order asked for again is neither another one nor dearer.
        let again = shop.orders().create_order(draft("1", "A1")).await.expect("known").into_inner();
        assert_eq!(first, again);
        assert_eq!(seen(&shop, "ord_1").await, (OrderStatus::Draft, Some(250)));
    }
    let placed = shop.orders().update_order_status(submit("s1", "ord_1")).await.expect("placed").into_inner();
    assert_eq!(seen(&shop, "ord_1").await, (OrderStatus::Submitted, Some(400)));
    set_price(&shop, "p3", 500).await;
    let again = shop.orders().update_order_status(submit("s1", "ord_1")).await.expect("known").into_inner();
    assert_eq!(placed, again);
    assert_eq!(seen(&shop, "ord_1").await, (OrderStatus::Submitted, Some(400)));
}

#[tokio::test]
async fn a_draft_of_what_is_not_on_sale_any_more_is_not_placed() {
    let shop = TestShop::start().await;
    for product in ["1", "2"] {
        shop.sell(&format!("prd_{product}"), &format!("A{product}")).await;
        let wanted = draft(product, &format!("A{product}"));
        shop.orders().create_order(wanted).await.expect("accepted");
    }
    shop.withdraw("prd_1").await;
    let delete = DeleteProductRequest {
        request_id: "delete".to_owned(),
        product_id: "prd_2".to_owned(),
        ..DeleteProductRequest::default()
    };
    shop.products().delete_product(delete).await.expect("discontinued");
    for product in ["1", "2"] {
        let (order_id, sku) = (format!("ord_{product}"), format!("A{product}"));
        not_on_sale(shop.orders().update_order_status(submit(&format!("s{product}"), &order_id)).await);
        not_on_sale(shop.orders().create_order(draft(&format!("new-{product}"), &sku)).await);
        assert_eq!(seen(&shop, &order_id).await, (OrderStatus::Draft, Some(250)));
    }
    // On sale again, the same requests come through.
    let publish = UpdateProductRequest {
        request_id: "publish".to_owned(),
        product_id: "prd_1".to_owned(),
        update_mask: Some(FieldMask { paths: vec!["status".to_owned()] }),
        status: ProductStatus::Published.into(),
        ..UpdateProductRequest::default()
    };
    shop.products().update_product(publish).await.expect("published");
    shop.orders().update_order_status(submit("s1", "ord_1")).await.expect("placed");
    shop.orders().create_order(draft("new-1", "A1")).await.expect("accepted");
    assert_eq!(seen(&shop, "ord_1").await, (OrderStatus::Submitted, Some(250)));
}

#[tokio::test]
async fn a_bulk_stream_counts_what_it_took_and_lists_what_it_refused() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let chunk = |ids: std::ops::Range<u32>| {
        let orders = ids.map(|i| draft(&format!("b{i}"), if i % 10 == 3 { "NONE" } else { "A1" }));
        ProcessBulkOrdersRequest { orders: orders.collect() }
    };
    let messages = || stream::iter(vec![chunk(0..50), chunk(50..100)]);
    let answer = shop.orders().process_bulk_orders(messages()).await.expect("answered").into_inner();
    assert_eq!((answer.received_count, answer.accepted_count, answer.failed_count), (100, 90, 10));
    assert_eq!((answer.failures[0].index, answer.failures[0].field.as_str()), (3, "lines[0].sku"));
    assert_eq!(answer.failures[9].index, 93);

    let again = shop.orders().process_bulk_orders(messages()).await.expect("answered").into_inner();
    assert_eq!((again.accepted_count, &again.positions), (90, &answer.positions), "nothing is doubled");

    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = GetUserOrdersRequest {
            min_position: answer.positions.clone(),
            customer_id: "c1".to_owned(),
            page_size: 40,
            page_token,
        };
        let page = shop.orders().get_user_orders(request).await.expect("a page").into_inner();
        seen.extend(page.orders.into_iter().map(|order| order.order_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let pages = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((pages, seen.len()), (90, 90));
}

#[tokio::test]
async fn stock_is_received_and_held() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let receive = |request_id: &str| UpdateStockRequest {
        request_id: request_id.to_owned(),
        sku: "A1".to_owned(),
        change: Some(update_stock_request::Change::Receive(ReceiveStock { quantity: 7 })),
        ..UpdateStockRequest::default()
    };
    shop.stock().update_stock(receive("r1")).await.expect("received");
    let position =
        shop.stock().update_stock(receive("r1")).await.expect("received before").into_inner().position;
    let request = GetStockRequest {
        min_position: position.into_iter().collect(),
        sku: "A1".to_owned(),
        ..Default::default()
    };
    let stock = shop.stock().get_stock(request).await.expect("found").into_inner().stock.expect("stock");
    assert_eq!((stock.on_hand, stock.available), (7, 7));

    let request = ReserveStockRequest {
        request_id: "h1".to_owned(),
        lines: vec![ReservationLine { sku: "A1".to_owned(), location: String::new(), quantity: 2 }],
        ..ReserveStockRequest::default()
    };
    let held = shop.stock().reserve_stock(request.clone()).await.expect("held").into_inner();
    assert!(matches!(&held.outcome, Some(Outcome::Held(held)) if held.expire_time.is_some()));
    assert_eq!(shop.stock().reserve_stock(request).await.expect("held before").into_inner(), held);
}
