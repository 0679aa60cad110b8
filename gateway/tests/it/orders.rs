//! Commands, and reading one's own writes.

use futures::stream;
use shopstream_proto::catalog::v1::GetProductRequest;
use shopstream_proto::inventory::v1::reserve_stock_response::Outcome;
use shopstream_proto::inventory::v1::{
    GetStockRequest, ReceiveStock, ReservationLine, ReserveStockRequest, UpdateStockRequest,
    update_stock_request,
};
use shopstream_proto::order::v1::{
    GetOrderRequest, GetUserOrdersRequest, OrderStatus, PriceSource, ProcessBulkOrdersRequest,
};
use tonic::Code;

use crate::shop::{TestShop, draft};

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
