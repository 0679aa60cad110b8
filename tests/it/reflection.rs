//! The API as a stranger finds it, by reflection: list, describe, create, get. That errors are shown by descriptors alone is shown
//! in the tests of the gateway.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use shopstream_proto::FILE_DESCRIPTOR_SET;
use shopstream_proto::catalog::v1::{GetProductRequest, GetProductResponse};
use shopstream_proto::event::v1::GetLogStatusRequest;
use shopstream_server::client::Client;
use shopstream_tests::requests::product;
use shopstream_tests::{Refusal, Shared, refusal, unique};
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn every_service_and_message_is_described() -> Result<()> {
    let shop = Shared::shop();
    let channel = Endpoint::from_shared(shop.url())?.connect().await?;
    let listed = match ask(&channel, MessageRequest::ListServices(String::new())).await? {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name),
        other => panic!("{other:?}"),
    };
    let listed: BTreeSet<String> = listed.collect();
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
    let of_file = |file: &FileDescriptorProto| {
        let name = |service: &str| format!("{}.{service}", file.package());
        file.service.iter().map(|service| name(service.name())).collect::<Vec<_>>()
    };
    let ours: BTreeSet<String> = set.file.iter().flat_map(of_file).collect();
    ensure!(ours.len() >= 7 && ours.is_subset(&listed), "{ours:?} are not all of {listed:?}");
    ensure!(listed.contains("grpc.health.v1.Health"), "{listed:?}");

    for service in &ours {
        let files = match ask(&channel, MessageRequest::FileContainingSymbol(service.clone())).await? {
            MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
            other => panic!("{service}: {other:?}"),
        };
        let file = FileDescriptorProto::decode(&files.first().context("a file")?[..])?;
        ensure!(of_file(&file).contains(service), "{service} is not in {:?}", file.name);
    }
    Ok(())
}

/// Calls by name and bytes, as a program does that knows the descriptors only.
#[tokio::test]
async fn a_product_is_made_and_read_by_name() -> Result<()> {
    let shop = Shared::shop();
    let channel = Endpoint::from_shared(shop.url())?.connect().await?;
    let sku = format!("REFLECT-{}", unique());
    let created: shopstream_proto::catalog::v1::CreateProductResponse =
        call(&channel, "/shopstream.catalog.v1.ProductService/CreateProduct", product(&sku, 100)).await?;
    let get = GetProductRequest {
        min_position: created.position.into_iter().collect(),
        product_id: created.product_id.clone(),
    };
    let path = "/shopstream.catalog.v1.ProductService/GetProduct";
    let seen: GetProductResponse = call(&channel, path, get).await?;
    ensure!(seen.product.context("a product")?.product_id == created.product_id);
    let nobodys = GetProductRequest { product_id: "prd_nobodys".into(), ..GetProductRequest::default() };
    let refused = refusal(call::<_, GetProductResponse>(&channel, path, nobodys).await);
    ensure!(refused == Refusal::new(Code::NotFound, "PRODUCT_NOT_FOUND", ""), "{refused:?}");
    let malformed = GetProductRequest { product_id: "?".into(), ..GetProductRequest::default() };
    let refused = refusal(call::<_, GetProductResponse>(&channel, path, malformed).await);
    ensure!(refused == Refusal::new(Code::InvalidArgument, "REQUEST_INVALID", "product_id"), "{refused:?}");
    let unknown = "/shopstream.catalog.v1.ProductService/Nothing";
    let refused =
        refusal(call::<_, GetProductResponse>(&channel, unknown, GetLogStatusRequest::default()).await);
    ensure!((refused.code, &*refused.reason) == (Code::Unimplemented, "METHOD_UNKNOWN"), "{refused:?}");
    Ok(())
}

/// Law 10 by the API: every read model equals its replay from the log.
#[tokio::test]
async fn every_read_model_equals_its_replay() -> Result<()> {
    use shopstream_proto::admin::v1::VerifyReadModelsRequest;
    use shopstream_proto::admin::v1::verify_read_models_response::Event;
    let shop = Shared::shop();
    let client: Client = shop.client().await;
    let mut answers =
        client.shop().admin.verify_read_models(VerifyReadModelsRequest::default()).await?.into_inner();
    let mut verdicts = BTreeSet::new();
    while let Some(answer) = answers.message().await? {
        if let Some(Event::Verdict(verdict)) = answer.event {
            ensure!(verdict.equal, "{}: {verdict:?}", answer.name);
            verdicts.insert(answer.name);
        }
    }
    for name in
        ["product_view", "stock_level", "order_detail", "orders_by_user", "order_timeline", "payment_view"]
    {
        ensure!(verdicts.contains(name), "{name} is not among {verdicts:?}");
    }
    Ok(())
}

async fn ask(channel: &Channel, question: MessageRequest) -> Result<MessageResponse> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await?;
    let answer = answers.into_inner().message().await?.context("an answer")?;
    answer.message_response.context("a message in the answer")
}

async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A, tonic::Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let (path, codec) = (PathAndQuery::from_static(path), tonic_prost::ProstCodec::<Q, A>::default());
    Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}
