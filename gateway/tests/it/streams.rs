//! Answers without end.

use shopstream_proto::event::v1::{PartitionRange, ReadRequest};
use shopstream_proto::order::v1::{CancelOrderRequest, OrderStatus, TrackOrderRequest};
use shopstream_proto::r#type::v1::Position;

use crate::shop::{TestShop, draft};

pub async fn order(shop: &TestShop, id: &str) -> Position {
    let created = shop.orders().create_order(draft(id, "A1")).await.expect("accepted").into_inner();
    created.position.expect("a position")
}

pub async fn cancel(shop: &TestShop, id: &str) {
    let (request_id, order_id) = (format!("cancel-{id}"), format!("ord_{id}"));
    let request = CancelOrderRequest { request_id, order_id, ..CancelOrderRequest::default() };
    shop.orders().cancel_order(request).await.expect("cancelled");
}

#[tokio::test]
async fn a_story_is_told_from_its_beginning_to_its_end() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let created = order(&shop, "1").await;
    let request = TrackOrderRequest {
        min_position: vec![created],
        order_id: "ord_1".to_owned(),
        resume_token: String::new(),
    };
    let mut story = shop.orders().track_order(request).await.expect("open").into_inner();
    let first = story.message().await.expect("a message").expect("no end");
    assert_eq!(first.entry.as_ref().map(|entry| entry.event_type.as_str()), Some("OrderDrafted"));
    cancel(&shop, "1").await;
    let last = story.message().await.expect("a message").expect("no end");
    assert_eq!(
        (last.entry.map(|entry| entry.event_type), last.status),
        (Some("OrderCancelled".to_owned()), OrderStatus::Cancelled.into())
    );
    assert_eq!(story.message().await.expect("an end"), None);
}

#[tokio::test]
async fn the_log_is_read_in_ranges_and_followed() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let at = order(&shop, "1").await;
    let all = |request: ReadRequest| async {
        let mut read = shop.log().read(request).await.expect("open").into_inner();
        let mut events = Vec::new();
        while let Some(message) = read.message().await.expect("a message") {
            events.extend(message.events);
        }
        events
    };
    let names: Vec<String> =
        all(ReadRequest::default()).await.into_iter().map(|event| event.event_type).collect();
    for name in ["SkuClaimed", "ProductDrafted", "ProductPublished", "PriceSet", "OrderDrafted"] {
        assert!(names.iter().any(|seen| seen == name), "{name} in {names:?}");
    }
    let range = |from_offset, to_offset| PartitionRange { partition: at.partition, from_offset, to_offset };
    let only =
        all(ReadRequest { partitions: vec![range(at.offset, Some(at.offset + 1))], ..Default::default() })
            .await;
    assert_eq!(only.len(), 1);
    assert_eq!(only[0].stream_id, "default/order/ord_1");
    assert_eq!(all(ReadRequest { max_events: 2, ..Default::default() }).await.len(), 2);

    let partitions = vec![range(at.offset, None)];
    let request = ReadRequest { partitions, follow: true, max_events: 2, ..ReadRequest::default() };
    let mut follow = shop.log().read(request).await.expect("open").into_inner();
    let first = follow.message().await.expect("a message").expect("no end");
    assert_eq!(first.events[0].event_type, "OrderDrafted");
    cancel(&shop, "1").await;
    let second = follow.message().await.expect("a message").expect("no end");
    assert_eq!(second.events[0].event_type, "OrderCancelled");
    assert_eq!(follow.message().await.expect("an end"), None);
}

#[tokio::test]
async fn the_api_can_be_walked_by_reflection_and_asked_for_its_health() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let shop = TestShop::start().await;
    let mut reflection = ServerReflectionClient::new(shop.channel.clone());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers =
        reflection.server_reflection_info(futures::stream::iter([request])).await.expect("open").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one").message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in
        ["shopstream.order.v1.OrderService", "shopstream.event.v1.EventService", "grpc.health.v1.Health"]
    {
        assert!(names.iter().any(|listed| listed == name), "{name} in {names:?}");
    }

    let service = "shopstream.order.v1.OrderService".to_owned();
    let mut health = HealthClient::new(shop.channel.clone());
    let mut watch = health.watch(HealthCheckRequest { service }).await.expect("open").into_inner();
    // What was not looked at yet is not serving; then it is.
    loop {
        let status = watch.message().await.expect("a status").expect("no end").status;
        if status == i32::from(ServingStatus::Serving) {
            break;
        }
    }
}
