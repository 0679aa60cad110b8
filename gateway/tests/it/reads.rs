//! Answers tell the truth of one moment, and who waits for it stands in nobody's way.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use shopstream_proto::catalog::v1::{GetProductRequest, SetPriceRequest};
use shopstream_proto::event::v1::{PartitionRange, ReadRequest};
use shopstream_proto::inventory::v1::{
    GetStockRequest, ReceiveStock, ReservationLine, ReserveStockRequest, UpdateStockRequest,
    update_stock_request,
};
use shopstream_proto::order::v1::{
    GetOrderRequest, GetUserOrdersRequest, OrderStatus, ProcessBulkOrdersRequest, StreamOrderUpdatesRequest,
    TrackOrderRequest,
};
use shopstream_proto::r#type::v1::Position;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::shop::{PARTITIONS, TestShop, draft, gbp};
use crate::streams::{cancel, order};

/// Longer than anything here takes, and shorter than a call may wait.
const LONG: Duration = Duration::from_secs(50);

fn get(order_id: &str) -> GetOrderRequest {
    GetOrderRequest { order_id: order_id.to_owned(), ..GetOrderRequest::default() }
}

fn since(order_id: &str, position: &Position) -> GetOrderRequest {
    GetOrderRequest { min_position: vec![position.clone()], ..get(order_id) }
}

fn within<T>(patience: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

/// Code, reason, and whether a repeat is advised.
fn said(status: &Status) -> (Code, String, bool) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), reason, details.retry_info().is_some())
}

fn is(code: Code, reason: &str, retry: bool) -> (Code, String, bool) {
    (code, reason.to_owned(), retry)
}

/// Places an order in a way that leaves nothing behind on this node but the log: as if another node had taken it.
async fn placed_elsewhere(shop: &TestShop, id: &str) {
    let orders = ProcessBulkOrdersRequest { orders: vec![draft(id, "A1")] };
    let bulk =
        shop.orders().process_bulk_orders(stream::iter([orders])).await.expect("accepted").into_inner();
    assert_eq!(bulk.accepted_count, 1, "{bulk:?}");
}

#[tokio::test]
async fn ones_own_writes_are_read_without_asking() {
    let shop = TestShop::start().await;
    for round in 1..=5 {
        let (product_id, sku) = (format!("prd_{round}"), format!("A{round}"));
        shop.sell(&product_id, &sku).await;
        let seen = GetProductRequest { product_id, ..GetProductRequest::default() };
        let product = shop.products().get_product(seen.clone()).await.expect("it was made").into_inner();
        assert_eq!(product.product.expect("a product").variants[0].sku, sku);

        let price = SetPriceRequest {
            request_id: format!("price-{round}"),
            sku: sku.clone(),
            price: Some(gbp(700 + round)),
            ..SetPriceRequest::default()
        };
        shop.products().set_price(price).await.expect("priced");
        let product = shop.products().get_product(seen).await.expect("it is there").into_inner().product;
        let price = product.expect("a product").prices[0].list_price.clone();
        assert_eq!(price.map(|price| price.amount_minor), Some(700 + round), "{round}");

        let receive = |request_id: String| UpdateStockRequest {
            request_id,
            sku: sku.clone(),
            change: Some(update_stock_request::Change::Receive(ReceiveStock { quantity: 5 })),
            ..UpdateStockRequest::default()
        };
        let stock = GetStockRequest { sku: sku.clone(), ..GetStockRequest::default() };
        for on_hand in [5, 10] {
            shop.stock().update_stock(receive(format!("s{round}-{on_hand}"))).await.expect("received");
            let level = shop.stock().get_stock(stock.clone()).await.expect("it is kept").into_inner().stock;
            assert_eq!(level.map(|level| level.on_hand), Some(on_hand), "{round}");
        }

        let id = round.to_string();
        let customer_id = format!("c{round}");
        let wanted = shopstream_proto::order::v1::CreateOrderRequest {
            customer_id: customer_id.clone(),
            ..draft(&id, &sku)
        };
        shop.orders().create_order(wanted).await.expect("accepted");
        let orders = GetUserOrdersRequest { customer_id, ..GetUserOrdersRequest::default() };
        let orders = shop.orders().get_user_orders(orders).await.expect("a page").into_inner().orders;
        assert_eq!(orders.len(), 1, "{round}");
        let order_id = format!("ord_{round}");
        let track = TrackOrderRequest { order_id: order_id.clone(), ..TrackOrderRequest::default() };
        let mut story = shop.orders().track_order(track).await.expect("it is there").into_inner();
        let first = story.message().await.expect("a message").expect("no end").entry.expect("an entry");
        assert_eq!(first.event_type, "OrderDrafted");
        cancel(&shop, &id).await;
        let order = shop.orders().get_order(get(&order_id)).await.expect("it is there").into_inner().order;
        assert_eq!(order.expect("an order").status(), OrderStatus::Cancelled, "{round}");
    }
}

#[tokio::test]
async fn what_was_never_written_is_not_found_at_once() {
    let shop = TestShop::start().await;
    shop.caught_up().await;
    let status = shop.orders().get_order(within(LONG, get("ord_none"))).await.expect_err("nobody made it");
    assert_eq!(said(&status), is(Code::NotFound, "ORDER_NOT_FOUND", false));
    let stock = GetStockRequest { sku: "NONE".to_owned(), ..GetStockRequest::default() };
    let status = shop.stock().get_stock(within(LONG, stock)).await.expect_err("nobody has it");
    assert_eq!(said(&status), is(Code::NotFound, "STOCK_NOT_FOUND", false));
}

#[tokio::test]
async fn nothing_is_called_not_found_that_the_log_held_when_the_call_came() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    for round in 0..20 {
        let id = format!("e{round}");
        placed_elsewhere(&shop, &id).await;
        let found = shop.orders().get_order(get(&format!("ord_{id}"))).await.expect("it is on the log");
        assert_eq!(found.into_inner().order.expect("an order").version, 1);
    }

    let held = shop.hold("order_detail_e1.orders").await;
    placed_elsewhere(&shop, "late").await;
    let patience = Duration::from_secs(1);
    let status = shop.orders().get_order(within(patience, get("ord_late"))).await.expect_err("not seen yet");
    assert_eq!(said(&status), is(Code::Unavailable, "READ_MODEL_BEHIND", true));
    let track = TrackOrderRequest { order_id: "ord_late".to_owned(), ..TrackOrderRequest::default() };
    let status = shop.orders().track_order(within(patience, track)).await.expect_err("not seen yet");
    assert_eq!(said(&status), is(Code::Unavailable, "READ_MODEL_BEHIND", true));
    drop(held);
    shop.caught_up().await;
    shop.orders().get_order(get("ord_late")).await.expect("it is there");
}

#[tokio::test]
async fn a_position_that_the_log_has_not_reached_is_answered_at_once() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let at = order(&shop, "1").await;
    let beyond = Position { offset: at.offset + 1_000_000, ..at.clone() };
    let refused = is(Code::OutOfRange, "POSITION_BEYOND_END", false);
    let status = shop.orders().get_order(within(LONG, since("ord_1", &beyond))).await.expect_err("beyond");
    assert_eq!(said(&status), refused);
    let named = status.get_details_bad_request().expect("the field is named").field_violations;
    assert_eq!(named[0].field, "min_position[0].offset");

    let min_position = vec![at.clone(), beyond.clone()];
    let updates = StreamOrderUpdatesRequest { min_position, ..StreamOrderUpdatesRequest::default() };
    let status = shop.orders().stream_order_updates(within(LONG, updates)).await.expect_err("beyond");
    assert_eq!(said(&status), refused);
    for follow in [false, true] {
        let range = PartitionRange {
            partition: beyond.partition,
            from_offset: beyond.offset,
            ..PartitionRange::default()
        };
        let read = ReadRequest { partitions: vec![range], follow, ..ReadRequest::default() };
        assert_eq!(said(&shop.log().read(read).await.expect_err("beyond")), refused);
    }
    shop.orders().get_order(since("ord_1", &at)).await.expect("the log has it");
}

#[tokio::test]
async fn a_position_of_another_log_is_told_from_one_of_this() {
    let (shop, other) = (TestShop::start().await, TestShop::start().await);
    for shop in [&shop, &other] {
        shop.sell("prd_1", "A1").await;
    }
    let (here, there) = (order(&shop, "1").await, order(&other, "1").await);
    assert!(!here.log_id.is_empty() && here.log_id != there.log_id, "{here:?} {there:?}");
    let refused = is(Code::InvalidArgument, "POSITION_OF_ANOTHER_LOG", false);
    let status = shop.orders().get_order(since("ord_1", &there)).await.expect_err("of another log");
    assert_eq!(said(&status), refused);
    shop.orders().get_order(since("ord_1", &here)).await.expect("its own");
    let of_an_old_client = Position { log_id: String::new(), ..here };
    shop.orders().get_order(since("ord_1", &of_an_old_client)).await.expect("taken for its own");

    let read = ReadRequest { log_id: there.log_id.clone(), ..ReadRequest::default() };
    assert_eq!(said(&shop.log().read(read).await.expect_err("of another log")), refused);
    let updates = other.orders().stream_order_updates(StreamOrderUpdatesRequest::default()).await;
    let first = updates.expect("open").into_inner().message().await.expect("a message").expect("no end");
    assert_eq!(first.order.and_then(|order| order.position).map(|at| at.log_id), Some(there.log_id.clone()));
    let resume_token = first.resume_token;
    let updates = StreamOrderUpdatesRequest { resume_token, ..StreamOrderUpdatesRequest::default() };
    assert_eq!(
        said(&shop.orders().stream_order_updates(updates).await.expect_err("of another log")),
        refused
    );
    let track = TrackOrderRequest { order_id: "ord_1".to_owned(), ..TrackOrderRequest::default() };
    let story = other.orders().track_order(track.clone()).await;
    let first = story.expect("open").into_inner().message().await.expect("a message").expect("no end");
    assert_eq!(first.entry.and_then(|entry| entry.position).map(|at| at.log_id), Some(there.log_id));
    let track = TrackOrderRequest { resume_token: first.resume_token, ..track };
    assert_eq!(said(&shop.orders().track_order(track).await.expect_err("of another log")), refused);
}

#[tokio::test]
async fn who_waits_takes_no_place_of_those_who_have_something_to_do() {
    const PLACES: usize = 4;
    /// As many as may wait.
    const WAITING: usize = 4 * PLACES;
    let shop = TestShop::start_with_places(PLACES).await;
    shop.sell("prd_1", "A1").await;
    let receive = |round: usize| UpdateStockRequest {
        request_id: format!("s{round}"),
        sku: "A1".to_owned(),
        change: Some(update_stock_request::Change::Receive(ReceiveStock { quantity: 1 })),
        ..UpdateStockRequest::default()
    };
    let stock = GetStockRequest { sku: "A1".to_owned(), ..GetStockRequest::default() };
    shop.stock().update_stock(receive(0)).await.expect("received");
    let held = shop.hold("order_detail_e1.orders").await;
    let at = order(&shop, "1").await;

    // A few more than may wait; those are told so, and then all others do wait.
    let mut asked: FuturesUnordered<_> = (0..WAITING + 5)
        .map(|_| {
            let (orders, request) = (shop.orders(), since("ord_1", &at));
            // All of them come in by the same few places.
            tokio::spawn(patient(move || {
                let (mut orders, request) = (orders.clone(), within(LONG, request.clone()));
                async move { orders.get_order(request).await }
            }))
        })
        .collect();
    for _ in 0..5 {
        let status = asked.next().await.expect("some").expect("no panic").expect_err("too many wait");
        assert_eq!(said(&status), is(Code::ResourceExhausted, "TOO_MANY_WAITING", true));
    }
    for round in 1..=20 {
        shop.stock().update_stock(receive(round)).await.expect("work goes on");
        let level = shop.stock().get_stock(stock.clone()).await.expect("so do queries").into_inner().stock;
        assert_eq!(level.map(|level| level.on_hand), Some(round as i64 + 1));
    }
    drop(held);
    while let Some(answer) = asked.next().await {
        let order = answer.expect("no panic").expect("it came").into_inner().order.expect("an order");
        assert_eq!(order.order_id, "ord_1");
    }
}

#[tokio::test]
async fn a_hold_that_is_being_settled_takes_no_place() {
    let shop = TestShop::start_with_places(1).await;
    shop.sell("prd_1", "A1").await;
    let wanted = ReserveStockRequest {
        request_id: "h1".to_owned(),
        lines: vec![ReservationLine { sku: "A1".to_owned(), location: String::new(), quantity: 1 }],
        ..ReserveStockRequest::default()
    };
    let held = shop.hold("journal").await;
    let shop_of = shop.stock();
    let reserving = tokio::spawn(patient(move || {
        let (mut stock, wanted) = (shop_of.clone(), within(LONG, wanted.clone()));
        async move { stock.reserve_stock(wanted).await }
    }));
    // It is under way once the log has it.
    let event_types = vec!["ReservationHeld".to_owned()];
    let read = ReadRequest { event_types, follow: true, max_events: 1, ..ReadRequest::default() };
    let mut log = shop.log().read(read).await.expect("open").into_inner();
    log.message().await.expect("a message").expect("no end");
    for _ in 0..10 {
        let orders = shop.orders();
        let asked = patient(move || {
            let mut orders = orders.clone();
            async move { orders.get_order(get("ord_none")).await }
        });
        let answer =
            tokio::time::timeout(LONG, asked).await.expect("there is a place").expect_err("no order");
        assert_eq!(answer.code(), Code::NotFound);
    }
    assert!(!reserving.is_finished());
    drop(held);
    reserving.await.expect("no panic").expect("held");
}

/// Asks until there is a place.
async fn patient<T, F: Future<Output = Result<T, Status>>>(ask: impl Fn() -> F) -> Result<T, Status> {
    loop {
        match ask().await {
            Err(busy) if said(&busy).1 == "NODE_BUSY" => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

/// The events of the whole log, and the same read in pages of so many.
async fn paged(shop: &TestShop, max_events: i64) -> (Vec<(u32, i64, u32)>, Vec<usize>) {
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    let mut partitions: Vec<_> = (0..u32::from(PARTITIONS))
        .map(|partition| PartitionRange { partition, ..Default::default() })
        .collect();
    loop {
        let read = ReadRequest { partitions: partitions.clone(), max_events, ..ReadRequest::default() };
        let mut page = shop.log().read(read).await.expect("open").into_inner();
        let before = seen.len();
        while let Some(message) = page.message().await.expect("a message") {
            for event in &message.events {
                let at = event.position.clone().expect("a position");
                seen.push((at.partition, at.offset, event.index_in_record));
            }
            for next in message.next {
                partitions[next.partition as usize].from_offset = next.offset;
            }
        }
        if seen.len() == before {
            return (seen, sizes);
        }
        sizes.push(seen.len() - before);
    }
}

#[tokio::test]
async fn a_log_read_in_pages_is_the_log_whatever_the_size_of_a_page() {
    let shop = TestShop::start().await;
    for product in 1..=12 {
        shop.sell(&format!("prd_{product}"), &format!("A{product}")).await;
        order(&shop, &product.to_string()).await;
    }
    let (mut whole, _) = paged(&shop, 0).await;
    whole.sort_unstable();
    assert!(whole.iter().any(|(.., index)| *index > 0), "some record has several events");
    let largest = whole.iter().map(|(.., index)| *index as usize + 1).max().expect("some");
    for max_events in 1..=9 {
        let (mut seen, sizes) = paged(&shop, max_events).await;
        seen.sort_unstable();
        assert_eq!(seen, whole, "in pages of {max_events}");
        let most = largest.max(max_events as usize);
        assert!(sizes.iter().all(|size| *size <= most), "in pages of {max_events}: {sizes:?}");
    }
}

/// The heartbeat comes after 15 seconds, and what happened shortly before it is not there yet.
#[tokio::test]
async fn a_heartbeat_does_not_end_a_story_whose_news_the_view_has_not_got() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    order(&shop, "1").await;
    let track = TrackOrderRequest { order_id: "ord_1".to_owned(), ..TrackOrderRequest::default() };
    let mut story = shop.orders().track_order(track).await.expect("open").into_inner();
    story.message().await.expect("a message").expect("no end").entry.expect("an entry");
    let held = shop.hold("order_timeline_e1.timeline").await;
    cancel(&shop, "1").await;
    let heartbeat = story.message().await.expect("no error").expect("no end");
    assert_eq!(heartbeat.entry, None);
    drop(held);
    let news = story.message().await.expect("no error").expect("no end").entry.expect("an entry");
    assert_eq!(news.event_type, "OrderCancelled");
    assert_eq!(story.message().await.expect("an end"), None);
}
