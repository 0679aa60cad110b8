//! Orders: from a wish to a confirmed or cancelled order, and every way to see it.

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CancelReason, GetOrderRequest, GetUserOrdersRequest, OrderStatus,
    ProcessBulkOrdersRequest, StreamOrderUpdatesRequest, TrackOrderRequest, UpdateOrderStatusRequest,
};
use shopstream_tests::requests::{ended, longest, order, place, sell};
use shopstream_tests::{Shared, unique};
use tonic::Code;

#[tokio::test]
async fn the_demo_order_is_confirmed_with_its_timeline() {
    let said = Shared::shop().verb(&["demo"]);
    assert!(said.status.success(), "{said:?}");
    let places = ["order ord_", "OrderSubmitted", "OrderConfirmed", "CheckoutDone", "ORDER_STATUS_CONFIRMED"];
    let found: Vec<_> = places.iter().map(|place| said.out.find(place)).collect();
    assert!(
        found.iter().all(Option::is_some) && found.is_sorted(),
        "not {places:?} in this order:\n{}",
        said.out
    );
}

#[tokio::test]
async fn a_command_is_seen_by_the_query_that_names_its_position() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("OWN-{}", unique());
    sell(&client, &sku, 100).await?;
    for round in 0..20 {
        let wanted = order(&format!("ord_own-{sku}-{round}"), &sku, 1, "tok_own");
        let placed = client.shop().orders.create_order(wanted).await?.into_inner();
        let min_position = placed.position.clone().into_iter().collect();
        let get = GetOrderRequest { min_position, order_id: placed.order_id.clone() };
        let seen = client.shop().orders.get_order(get).await?.into_inner().order.context("an order")?;
        ensure!(seen.version >= placed.version, "{seen:?} is older than {placed:?}");
        ensure!(
            seen.lines.len() == 1 && seen.lines[0].unit_price == Some(shopstream_tests::requests::money(500))
        );
        let ended = ended(&client, &placed.order_id, placed.position).await?;
        ensure!(ended.status() == OrderStatus::Confirmed, "{ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_same_request_has_one_effect_and_one_answer() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("TWICE-{}", unique());
    sell(&client, &sku, 10).await?;
    let wanted = order(&format!("ord_{sku}"), &sku, 1, "tok_twice");
    let first = client.shop().orders.create_order(wanted.clone()).await?.into_inner();
    ended(&client, &first.order_id, first.position.clone()).await?;
    let again = client.shop().orders.create_order(wanted.clone()).await?.into_inner();
    ensure!(first == again, "{first:?} then {again:?}");

    let mut unnamed = wanted;
    (unnamed.order_id, unnamed.request_id) = (None, format!("unnamed:{sku}"));
    let first = place(&client, unnamed.clone()).await?;
    ensure!(
        place(&client, unnamed).await?.order_id == first.order_id,
        "a derived id is derived twice the same"
    );
    Ok(())
}

#[tokio::test]
async fn a_draft_waits_until_it_is_placed_or_dropped() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("DRAFT-{}", unique());
    sell(&client, &sku, 10).await?;
    for place_it in [true, false] {
        let mut draft = order(&format!("ord_{sku}-{place_it}"), &sku, 1, "");
        draft.draft = true;
        let drafted = client.shop().orders.create_order(draft).await?.into_inner();
        let position = if place_it {
            let submit = UpdateOrderStatusRequest {
                request_id: format!("place:{sku}"),
                expected_version: Some(drafted.version),
                order_id: drafted.order_id.clone(),
                status: OrderStatus::Submitted.into(),
                payment_method_token: "tok_draft".into(),
            };
            client.shop().orders.update_order_status(submit).await?.into_inner().position
        } else {
            let cancel = CancelOrderRequest {
                request_id: format!("drop:{sku}"),
                order_id: drafted.order_id.clone(),
                reason: CancelReason::Customer.into(),
                ..CancelOrderRequest::default()
            };
            client.shop().orders.cancel_order(cancel).await?.into_inner().position
        };
        let end = ended(&client, &drafted.order_id, position).await?;
        let wanted = if place_it { OrderStatus::Confirmed } else { OrderStatus::Cancelled };
        ensure!(end.status() == wanted, "{end:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_confirmed_order_can_be_cancelled_and_everything_comes_back() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("BACK-{}", unique());
    sell(&client, &sku, 3).await?;
    let confirmed = place(&client, order(&longest("ord_", &sku), &sku, 3, "tok_back")).await?;
    ensure!(confirmed.status() == OrderStatus::Confirmed, "{confirmed:?}");
    let cancel = CancelOrderRequest {
        request_id: format!("cancel:{sku}"),
        order_id: confirmed.order_id.clone(),
        reason: CancelReason::Staff.into(),
        ..CancelOrderRequest::default()
    };
    let cancelled = client.shop().orders.cancel_order(cancel).await?.into_inner();
    let end = ended(&client, &confirmed.order_id, cancelled.position).await?;
    ensure!(end.status() == OrderStatus::Cancelled && end.cancel_reason() == CancelReason::Staff, "{end:?}");
    // All three units can be sold again.
    let again = place(&client, order(&format!("ord_{sku}-again"), &sku, 3, "tok_back")).await?;
    ensure!(again.status() == OrderStatus::Confirmed, "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_customers_orders_come_in_pages_newest_first() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let (sku, customer_id) = (format!("PAGE-{}", unique()), format!("cus_page-{}", unique()));
    sell(&client, &sku, 10).await?;
    // The orders lie in different partitions: a page must have seen all of them.
    let mut min_position = Vec::new();
    for number in 0..5 {
        let mut wanted = order(&format!("ord_{sku}-{number}"), &sku, 1, "");
        (wanted.customer_id, wanted.draft) = (customer_id.clone(), true);
        min_position.extend(client.shop().orders.create_order(wanted).await?.into_inner().position);
    }
    let (page_size, page_token) = (2, String::new());
    let mut request = GetUserOrdersRequest { min_position, customer_id, page_size, page_token };
    let mut seen = Vec::new();
    loop {
        let page = client.shop().orders.get_user_orders(request.clone()).await?.into_inner();
        ensure!(page.orders.len() <= 2, "{page:?}");
        seen.extend(page.orders.into_iter().map(|order| order.order_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    seen.reverse();
    let wanted: Vec<_> = (0..5).map(|number| format!("ord_{sku}-{number}")).collect();
    ensure!(seen == wanted, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn updates_are_streamed_and_go_on_from_a_token() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("LIVE-{}", unique());
    sell(&client, &sku, 10).await?;
    let order_id = format!("ord_{sku}");
    let mut watch = StreamOrderUpdatesRequest {
        order_ids: vec![order_id.clone()],
        ..StreamOrderUpdatesRequest::default()
    };
    let mut updates = client.shop().orders.stream_order_updates(watch.clone()).await?.into_inner();
    client.shop().orders.create_order(order(&order_id, &sku, 1, "tok_live")).await?;
    let mut first = None;
    loop {
        let update = updates.message().await?.context("the stream goes on")?;
        let Some(seen) = &update.order else { continue };
        ensure!(seen.order_id == order_id, "{update:?}");
        first.get_or_insert_with(|| update.resume_token.clone());
        if seen.status() == OrderStatus::Confirmed {
            break;
        }
    }
    // From the first token on, what was sent since comes again.
    watch.resume_token = first.context("a first update")?;
    let mut resumed = client.shop().orders.stream_order_updates(watch).await?.into_inner();
    loop {
        let update = resumed.message().await?.context("the stream goes on")?;
        if update.order.is_some_and(|order| order.status() == OrderStatus::Confirmed) {
            break;
        }
    }
    // And the story of an order that has ended, ends.
    let track = TrackOrderRequest { order_id, ..TrackOrderRequest::default() };
    let mut story = client.shop().orders.track_order(track).await?.into_inner();
    let mut names = Vec::new();
    while let Some(chapter) = story.message().await? {
        names.extend(chapter.entry.map(|entry| entry.event_type));
    }
    ensure!(names.first().is_some_and(|name| name == "OrderSubmitted"), "{names:?}");
    Ok(())
}

#[tokio::test]
async fn a_bulk_answers_for_each_order() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("BULK-{}", unique());
    sell(&client, &sku, 10).await?;
    let draft = |number: usize| {
        let mut draft = order(&format!("ord_{sku}-{number}"), &sku, 1, "");
        draft.draft = true;
        draft
    };
    let mut orders: Vec<_> = (0..500).map(draft).collect();
    orders[7].lines[0].quantity = 0;
    orders[300].lines[0].sku = "NOBODY-SELLS-THIS".into();
    let messages: Vec<_> =
        orders.chunks(100).map(|orders| ProcessBulkOrdersRequest { orders: orders.to_vec() }).collect();
    let send = || tokio_stream::iter(messages.clone());
    let answer = client.shop().orders.process_bulk_orders(send()).await?.into_inner();
    ensure!(
        (answer.received_count, answer.accepted_count, answer.failed_count) == (500, 498, 2),
        "{answer:?}"
    );
    let failures: Vec<_> = answer
        .failures
        .iter()
        .map(|failure| {
            (failure.index, Code::from(failure.code), failure.reason.as_str(), failure.field.as_str())
        })
        .collect();
    let wanted = [
        (7, Code::InvalidArgument, "REQUEST_INVALID", "lines[0].quantity"),
        (300, Code::FailedPrecondition, "SKU_UNKNOWN", "lines[0].sku"),
    ];
    ensure!(failures == wanted, "{failures:?}");
    // A broken stream is sent again whole: the same answer, and nothing twice.
    let again = client.shop().orders.process_bulk_orders(send()).await?.into_inner();
    ensure!(again == answer, "{again:?} after {answer:?}");
    Ok(())
}
