//! What a program learns that has nothing but the address.

use std::collections::BTreeSet;

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use prost_reflect::{DescriptorPool, DynamicMessage};
use shopstream_proto::order::v1::GetOrderRequest;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::shop::TestShop;

async fn ask(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.expect("a stream");
    let answer = answers.into_inner().message().await.expect("an answer").expect("an answer");
    answer.message_response.expect("a message")
}

/// The files that define a symbol and all that they import, as grpcurl gathers them.
async fn pool_of(channel: &Channel, symbol: &str) -> DescriptorPool {
    let mut files: Vec<FileDescriptorProto> = Vec::new();
    let mut wanted = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
    while let Some(question) = wanted.pop() {
        let MessageResponse::FileDescriptorResponse(found) = ask(channel, question.clone()).await else {
            panic!("{question:?} is not in the reflection");
        };
        for bytes in found.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&bytes[..]).expect("a file");
            if files.iter().any(|known| known.name == file.name) {
                continue;
            }
            wanted.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
            files.push(file);
        }
    }
    DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: files }).expect("they fit together")
}

/// As grpcurl does it: no compiled type of ours or of Google's has a part in this.
#[tokio::test]
async fn an_error_is_shown_by_descriptors_alone() {
    let shop = TestShop::start().await;
    let request = GetOrderRequest { order_id: "?".to_owned(), ..GetOrderRequest::default() };
    let refused = shop.orders().get_order(request).await.expect_err("no order id");
    assert_eq!(refused.code(), Code::InvalidArgument);

    let status = pool_of(&shop.channel, "google.rpc.Status").await;
    let status = status.get_message_by_name("google.rpc.Status").expect("described");
    let status = DynamicMessage::decode(status, refused.details()).expect("a status");
    let mut shown = Vec::new();
    for detail in status.get_field_by_name("details").expect("details").as_list().expect("a list") {
        let detail = detail.as_message().expect("an Any");
        let text = |field: &str| detail.get_field_by_name(field).expect("a field").into_owned();
        let name = text("type_url").as_str().expect("text").rsplit('/').next().unwrap_or("").to_owned();
        let pool = pool_of(&shop.channel, &name).await;
        let described = pool.get_message_by_name(&name).expect("described");
        let value = text("value").as_bytes().expect("bytes").clone();
        shown.push(DynamicMessage::decode(described, value).expect("what its name says").to_string());
    }
    let shown = shown.join("\n");
    for part in ["REQUEST_INVALID", "shopstream", "order_id", "must be `ord_`"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[tokio::test]
async fn health_knows_every_service() {
    let shop = TestShop::start().await;
    let listed = match ask(&shop.channel, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => list.service,
        other => panic!("{other:?}"),
    };
    let ours: BTreeSet<String> = listed.into_iter().map(|service| service.name).collect();
    let ours: BTreeSet<&String> = ours.iter().filter(|name| name.starts_with("shopstream.")).collect();
    assert!(ours.len() >= 8, "{ours:?}");
    for service in ours {
        let mut health = HealthClient::new(shop.channel.clone());
        let answer = health.check(HealthCheckRequest { service: service.clone() }).await;
        assert!(answer.is_ok(), "{service}: {answer:?}");
    }
}
