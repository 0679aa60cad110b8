//! The present state, then every change: `StreamOrderUpdates` and `StreamStockUpdates`.

use std::time::Duration;

use futures::stream;
use shopstream_domain::inventory::{StockEvent, StockReceived};
use shopstream_domain::model::Event;
use shopstream_domain::{LocationId, Quantity, Sku, StreamId};
use shopstream_projections::testing::TestLog;
use shopstream_proto::inventory::v1::{
    ReceiveStock, StreamStockUpdatesRequest, StreamStockUpdatesResponse, UpdateStockRequest,
    update_stock_request,
};
use shopstream_proto::order::v1::{
    CreateOrderRequest, OrderStatus, ProcessBulkOrdersRequest, StreamOrderUpdatesRequest,
    StreamOrderUpdatesResponse,
};
use shopstream_proto::r#type::v1::Position;
use tokio::time::timeout;
use tonic::Streaming;

use crate::shop::{PARTITIONS, PATIENCE, TestShop, draft};
use crate::streams::{cancel, order};

/// As the gateway says it.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Tokens that were given before the two streams had one machine, for four partitions and requests without filters.
/// All orders: from offset 0 on, after the row of ord_1.
const ORDERS_AFTER_ORD_1: &str = "2-4z6Dir5NAKBAAAAAASBW9yZF8x";
/// All stock: from offset 0 on, after the row of A1 at main.
const STOCK_AFTER_A1: &str = "Q7ekLhm_JmoKBAAAAAASB0ExQG1haW4";
/// All stock: every change from offset 0 on.
const STOCK_FROM_THE_BEGINNING: &str = "53fjZHhVRREKBAAAAAA";

async fn orders(
    shop: &TestShop,
    request: StreamOrderUpdatesRequest,
) -> Streaming<StreamOrderUpdatesResponse> {
    shop.orders().stream_order_updates(request).await.expect("open").into_inner()
}

async fn orders_after(shop: &TestShop, token: &str) -> Streaming<StreamOrderUpdatesResponse> {
    let resume_token = token.to_owned();
    orders(shop, StreamOrderUpdatesRequest { resume_token, ..Default::default() }).await
}

async fn stock(shop: &TestShop, request: StreamStockUpdatesRequest) -> Streaming<StreamStockUpdatesResponse> {
    shop.stock().stream_stock_updates(request).await.expect("open").into_inner()
}

async fn stock_after(shop: &TestShop, token: &str) -> Streaming<StreamStockUpdatesResponse> {
    let resume_token = token.to_owned();
    stock(shop, StreamStockUpdatesRequest { resume_token, ..Default::default() }).await
}

/// The next message. A stream that does not go on is a failure and no test without end.
async fn next<T>(updates: &mut Streaming<T>) -> T {
    let message = timeout(PATIENCE, updates.message()).await.expect("a message in time");
    message.expect("a message").expect("no end")
}

/// The order of the next message, the event, and the token.
async fn next_order(updates: &mut Streaming<StreamOrderUpdatesResponse>) -> (String, String, String) {
    let message = next(updates).await;
    (message.order.expect("an order").order_id, message.event_type, message.resume_token)
}

/// What is on hand of which SKU where, at which version, in the next message, and the token.
async fn next_stock(
    updates: &mut Streaming<StreamStockUpdatesResponse>,
) -> ((String, String, i64, i64), String) {
    let message = next(updates).await;
    let stock = message.stock.expect("stock");
    ((stock.sku, stock.location, stock.on_hand, stock.version), message.resume_token)
}

fn level(sku: &str, location: &str, on_hand: i64, version: i64) -> (String, String, i64, i64) {
    (sku.to_owned(), location.to_owned(), on_hand, version)
}

async fn receive(
    shop: &TestShop,
    request_id: &str,
    (sku, location): (&str, &str),
    quantity: i64,
) -> Position {
    let request = UpdateStockRequest {
        request_id: request_id.to_owned(),
        sku: sku.to_owned(),
        location: location.to_owned(),
        change: Some(update_stock_request::Change::Receive(ReceiveStock { quantity })),
        ..UpdateStockRequest::default()
    };
    let received = shop.stock().update_stock(request).await.expect("received").into_inner();
    received.position.expect("a position")
}

/// A receipt, as the log has it.
fn received(sku: &str, units: i64) -> Event {
    Event::Stock(StockEvent::Received(StockReceived {
        sku: Sku::new(sku).expect("a SKU"),
        location: LocationId::main(),
        quantity: Quantity::new(units).expect("units"),
        reference: None,
    }))
}

/// The first of the names that `name` makes of 0, 1, 2 … whose stream is in the partition of `stream`: there the log
/// has one order.
fn beside(stream: &str, name: impl Fn(u32) -> String) -> String {
    let partition = |stream: &str| stream.parse::<StreamId>().expect("a stream").partition(PARTITIONS);
    (0..1_000).map(name).find(|name| partition(name) == partition(stream)).expect("one of a thousand")
}

/// The last segment of a stream's name.
fn last(stream: &str) -> &str {
    stream.rsplit('/').next().expect("a segment")
}

#[tokio::test]
async fn order_updates_begin_with_what_there_is_and_go_on_after_a_token() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let first = order(&shop, "1").await;
    let request = StreamOrderUpdatesRequest { min_position: vec![first], ..Default::default() };
    let mut updates = orders(&shop, request).await;
    let mut next = async || {
        let message = next(&mut updates).await;
        let order = message.order.expect("an order");
        (order.order_id.clone(), order.status(), message.event_type, message.resume_token)
    };
    let (id, status, event, _) = next().await;
    assert_eq!((id.as_str(), status, event.as_str()), ("ord_1", OrderStatus::Draft, ""));

    // What is no order is passed over.
    shop.sell("prd_2", "A2").await;
    order(&shop, "2").await;
    let (id, _, event, token) = next().await;
    assert_eq!((id.as_str(), event.as_str()), ("ord_2", "OrderDrafted"));
    cancel(&shop, "1").await;
    let (id, status, event, _) = next().await;
    assert_eq!((id.as_str(), status, event.as_str()), ("ord_1", OrderStatus::Cancelled, "OrderCancelled"));
    cancel(&shop, "2").await;

    // The cancellations come again after the token; of an order that this stream has not seen before, too.
    let mut resumed = orders_after(&shop, &token).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let order = self::next(&mut resumed).await.order.expect("an order");
        assert_eq!((order.status(), order.line_count), (OrderStatus::Cancelled, 1));
        ids.push(order.order_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, ["ord_1", "ord_2"]);
}

#[tokio::test]
async fn stock_updates_show_every_change() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let position = receive(&shop, "r1", ("A1", ""), 5).await;
    let request = StreamStockUpdatesRequest {
        min_position: vec![position],
        skus: vec!["A1".to_owned()],
        ..StreamStockUpdatesRequest::default()
    };
    let mut updates = stock(&shop, request.clone()).await;
    let mut tokens = Vec::new();
    for (i, on_hand) in [5, 6, 8].into_iter().enumerate() {
        let (seen, token) = next_stock(&mut updates).await;
        assert_eq!(seen, level("A1", "main", on_hand, i as i64 + 1));
        tokens.push(token);
        // Each change is made once the state before it has been seen.
        receive(&shop, &format!("more-{i}"), ("A1", ""), i as i64 + 1).await;
    }
    let resumed =
        StreamStockUpdatesRequest { min_position: Vec::new(), resume_token: tokens[1].clone(), ..request };
    let mut updates = stock(&shop, resumed).await;
    assert_eq!(next_stock(&mut updates).await.0, level("A1", "main", 8, 3));
}

/// There is more than a page of it, which has 500 rows.
#[tokio::test]
async fn the_present_state_goes_on_behind_the_row_that_a_token_names() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let ids: Vec<String> = (0..502).map(|i| format!("b{i:03}")).collect();
    let orders_of = ids.iter().map(|id| draft(id, "A1")).collect();
    let bulk = stream::iter([ProcessBulkOrdersRequest { orders: orders_of }]);
    let answer = shop.orders().process_bulk_orders(bulk).await.expect("an answer").into_inner();
    assert_eq!(answer.accepted_count, 502, "{answer:?}");
    shop.caught_up().await;

    let mut updates = orders(&shop, StreamOrderUpdatesRequest::default()).await;
    let mut tokens = Vec::new();
    for id in &ids {
        let (seen, event, token) = next_order(&mut updates).await;
        assert_eq!((seen, event), (format!("ord_{id}"), String::new()));
        tokens.push(token);
    }
    for at in [1, 498, 499, 500, 501] {
        let mut resumed = orders_after(&shop, &tokens[at]).await;
        for id in &ids[at + 1..] {
            let (seen, event, _) = next_order(&mut resumed).await;
            assert_eq!((seen, event), (format!("ord_{id}"), String::new()), "after row {at}");
        }
        // A row of it, had it come before the first of them.
        let new = format!("a{at}");
        order(&shop, &new).await;
        let mut changes = Vec::new();
        while changes.last() != Some(&format!("ord_{new}")) {
            let (seen, event, _) = next_order(&mut resumed).await;
            assert_eq!(event, "OrderDrafted", "{seen} after row {at}");
            changes.push(seen);
        }
        let known = |id: &String| id.starts_with("ord_a");
        assert!(changes.iter().all(known), "nothing is told twice: {changes:?} after row {at}");
    }
}

#[tokio::test]
async fn a_change_that_a_row_has_shown_is_left_out() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    shop.sell("prd_2", "A2").await;
    receive(&shop, "r1", ("A1", ""), 5).await;
    receive(&shop, "r2", ("A2", ""), 5).await;
    shop.caught_up().await;
    let mut updates = stock(&shop, StreamStockUpdatesRequest::default()).await;
    let (seen, token) = next_stock(&mut updates).await;
    assert_eq!(seen, level("A1", "main", 5, 1));

    // Behind the token the log has a change of either; the row of A2 shows its own, that of A1 was before the token.
    receive(&shop, "r3", ("A1", ""), 1).await;
    receive(&shop, "r4", ("A2", ""), 2).await;
    shop.caught_up().await;
    let mut resumed = stock_after(&shop, &token).await;
    assert_eq!(next_stock(&mut resumed).await.0, level("A2", "main", 7, 2));
    receive(&shop, "r5", ("A2", ""), 3).await;
    let mut changes = [next_stock(&mut resumed).await.0, next_stock(&mut resumed).await.0];
    changes.sort_unstable();
    assert_eq!(changes, [level("A1", "main", 6, 2), level("A2", "main", 10, 3)]);
}

#[tokio::test]
async fn a_token_in_the_midst_of_a_commit_loses_none_of_its_events() {
    let log = TestLog::new(PARTITIONS).await;
    log.append("default/stock/A1@main", 1, &[received("A1", 5), received("A1", 7)]).await;
    log.append("default/stock/A1@main", 3, &[received("A1", 1)]).await;
    let shop = TestShop::over(log.sim.clone(), log.log.clone()).await;
    let levels = [level("A1", "main", 5, 1), level("A1", "main", 12, 2), level("A1", "main", 13, 3)];
    let mut updates = stock_after(&shop, STOCK_FROM_THE_BEGINNING).await;
    let mut tokens = Vec::new();
    for expected in &levels {
        let (seen, token) = next_stock(&mut updates).await;
        assert_eq!(seen, *expected);
        tokens.push(token);
    }
    // After its first event the whole commit comes again, after its last one what is behind it.
    for (token, rest) in [(&tokens[0], &levels[..]), (&tokens[1], &levels[2..])] {
        let mut resumed = stock_after(&shop, token).await;
        for expected in rest {
            assert_eq!(next_stock(&mut resumed).await.0, *expected);
        }
    }
    shop.sell("prd_1", "A1").await;
    let mut resumed = stock_after(&shop, &tokens[2]).await;
    receive(&shop, "r1", ("A1", ""), 2).await;
    assert_eq!(next_stock(&mut resumed).await.0, level("A1", "main", 15, 4));
}

#[tokio::test]
async fn a_stream_tells_of_its_own_tenant_only() {
    let theirs = beside("default/stock/A1@main", |i| format!("other/stock/B{i}@main"));
    let sku = last(&theirs).trim_end_matches("@main");
    let log = TestLog::new(PARTITIONS).await;
    log.append(&theirs, 1, &[received(sku, 3)]).await;
    log.append("default/stock/A1@main", 1, &[received("A1", 5)]).await;
    let shop = TestShop::over(log.sim.clone(), log.log.clone()).await;
    let mut updates = stock_after(&shop, STOCK_FROM_THE_BEGINNING).await;
    assert_eq!(next_stock(&mut updates).await.0, level("A1", "main", 5, 1));
    shop.caught_up().await;
    let mut updates = stock(&shop, StreamStockUpdatesRequest::default()).await;
    assert_eq!(next_stock(&mut updates).await.0, level("A1", "main", 5, 1));
}

#[tokio::test]
async fn order_updates_are_about_the_customer_and_the_orders_that_are_named() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let wanted = "default/order/ord_m";
    let other = beside(wanted, |i| format!("default/order/ord_a{i}"));
    let other = last(&other).trim_start_matches("ord_");
    order(&shop, other).await;
    let of_c2 = CreateOrderRequest { customer_id: "c2".to_owned(), ..draft("m", "A1") };
    shop.orders().create_order(of_c2).await.expect("accepted");
    shop.caught_up().await;

    let by_customer = StreamOrderUpdatesRequest { customer_id: "c2".to_owned(), ..Default::default() };
    let by_id = StreamOrderUpdatesRequest { order_ids: vec!["ord_m".to_owned()], ..Default::default() };
    let mut streams = [orders(&shop, by_customer).await, orders(&shop, by_id).await];
    for updates in &mut streams {
        assert_eq!(next_order(updates).await.0, "ord_m");
    }
    cancel(&shop, other).await;
    cancel(&shop, "m").await;
    for updates in &mut streams {
        let (seen, event, _) = next_order(updates).await;
        assert_eq!((seen.as_str(), event.as_str()), ("ord_m", "OrderCancelled"));
    }
}

#[tokio::test]
async fn stock_updates_are_about_the_skus_and_the_locations_that_are_named() {
    let shop = TestShop::start().await;
    let wanted = "default/stock/M1@west";
    let elsewhere = beside(wanted, |i| format!("default/stock/M1@east{i}"));
    let elsewhere = last(&elsewhere).trim_start_matches("M1@");
    let other = beside(wanted, |i| format!("default/stock/A{i}@west"));
    let other = last(&other).trim_end_matches("@west");
    shop.sell("prd_1", "M1").await;
    shop.sell("prd_2", other).await;
    let places = [("M1", elsewhere), (other, "west"), ("M1", "west")];
    for (i, place) in places.into_iter().enumerate() {
        receive(&shop, &format!("r{i}"), place, 5).await;
    }
    shop.caught_up().await;

    let west = StreamStockUpdatesRequest { locations: vec!["west".to_owned()], ..Default::default() };
    let m1 = StreamStockUpdatesRequest { skus: vec!["M1".to_owned()], ..Default::default() };
    let both = StreamStockUpdatesRequest { skus: m1.skus.clone(), ..west.clone() };
    let mut streams = Vec::new();
    for (request, shown) in [(west, [1, 2].as_slice()), (m1, &[0, 2]), (both, &[2])] {
        let mut updates = stock(&shop, request.clone()).await;
        for place in shown {
            let (sku, location) = places[*place];
            assert_eq!(next_stock(&mut updates).await.0, level(sku, location, 5, 1), "{request:?}");
        }
        streams.push((updates, shown));
    }
    for (i, place) in places.into_iter().enumerate() {
        receive(&shop, &format!("more-{i}"), place, 1).await;
    }
    for (updates, shown) in &mut streams {
        for place in *shown {
            let (sku, location) = places[*place];
            assert_eq!(next_stock(updates).await.0, level(sku, location, 6, 2));
        }
    }
}

#[tokio::test]
async fn a_stream_without_news_sends_a_token_behind_what_it_has_sent() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    order(&shop, "1").await;
    receive(&shop, "r1", ("A1", ""), 5).await;
    shop.caught_up().await;
    let mut order_updates = orders(&shop, StreamOrderUpdatesRequest::default()).await;
    let mut stock_updates = stock(&shop, StreamStockUpdatesRequest::default()).await;
    assert_eq!(next_order(&mut order_updates).await.0, "ord_1");
    assert_eq!(next_stock(&mut stock_updates).await.0, level("A1", "main", 5, 1));

    tokio::time::pause();
    tokio::time::advance(HEARTBEAT).await;
    tokio::time::resume();
    let of_orders = next(&mut order_updates).await;
    assert_eq!((of_orders.order, of_orders.event_type.as_str()), (None, ""));
    let of_stock = next(&mut stock_updates).await;
    assert_eq!(of_stock.stock, None);

    let mut order_updates = orders_after(&shop, &of_orders.resume_token).await;
    let mut stock_updates = stock_after(&shop, &of_stock.resume_token).await;
    cancel(&shop, "1").await;
    receive(&shop, "r2", ("A1", ""), 1).await;
    assert_eq!(next_order(&mut order_updates).await.1, "OrderCancelled");
    assert_eq!(next_stock(&mut stock_updates).await.0, level("A1", "main", 6, 2));
}

#[tokio::test]
async fn tokens_of_earlier_releases_are_taken() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    shop.sell("prd_2", "A2").await;
    for id in ["1", "2"] {
        order(&shop, id).await;
    }
    receive(&shop, "r1", ("A1", ""), 5).await;
    receive(&shop, "r2", ("A2", ""), 6).await;
    shop.caught_up().await;
    let (seen, event, _) = next_order(&mut orders_after(&shop, ORDERS_AFTER_ORD_1).await).await;
    assert_eq!((seen.as_str(), event.as_str()), ("ord_2", ""));
    let (seen, _) = next_stock(&mut stock_after(&shop, STOCK_AFTER_A1).await).await;
    assert_eq!(seen, level("A2", "main", 6, 1));
}
