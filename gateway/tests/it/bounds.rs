//! What is too much is refused before anything is done for it, with the reason and the way out.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::StreamExt;
use futures::future::join_all;
use shopstream_gateway::Policy;
use shopstream_proto::admin::v1::VerifyReadModelsRequest;
use shopstream_proto::admin::v1::admin_service_client::AdminServiceClient;
use shopstream_proto::admin::v1::verify_read_models_response::Event as Replay;
use shopstream_proto::catalog::v1::{CreateProductRequest, SetPriceRequest, UpdateProductRequest};
use shopstream_proto::event::v1::{GetLogStatusRequest, ReadRequest};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{AdjustReason, AdjustStock, UpdateStockRequest};
use shopstream_proto::order::v1::{GetOrderRequest, ProcessBulkOrdersRequest, StreamOrderUpdatesRequest};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::shop::{PATIENCE, TestShop, draft, gbp};

/// Code, reason and first field of an error.
fn said(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let field = details.bad_request().and_then(|bad| bad.field_violations.first()).map(|v| v.field.clone());
    (status.code(), reason, field.unwrap_or_default())
}

fn is(code: Code, reason: &str, field: &str) -> (Code, String, String) {
    (code, reason.to_owned(), field.to_owned())
}

/// Sends and receives bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The answer to bytes that nobody's library would send, compressed as a hostile client does.
async fn answer(channel: &Channel, path: &'static str, body: Vec<u8>) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::from_static(path);
    let answered = grpc.server_streaming(Request::new(Bytes::from(body)), path, Raw).await;
    match answered {
        Err(status) => status,
        Ok(answers) => answers.into_inner().message().await.expect_err("to be refused"),
    }
}

/// Four kilobytes on the wire, each time: two million entries that are all wrong.
#[tokio::test]
async fn two_million_bad_entries_are_one_complaint() {
    let shop = TestShop::start().await;
    // Whoever changes something says under which key.
    let key = [0x0a, 2, b'a', b'b'];
    for (path, list, field) in [
        ("/shopstream.inventory.v1.InventoryService/ReserveStock", [0x22, 0], "lines"),
        ("/shopstream.inventory.v1.InventoryService/GetStock", [0x0a, 0], "min_position"),
        ("/shopstream.order.v1.OrderService/CreateOrder", [0x32, 0], "lines"),
        ("/shopstream.order.v1.OrderService/StreamOrderUpdates", [0x12, 0], "order_ids"),
        ("/shopstream.returns.v1.ReturnService/CreateReturn", [0x2a, 0], "lines"),
        ("/shopstream.catalog.v1.ProductService/CreateProduct", [0x32, 0], "variants"),
        ("/shopstream.event.v1.EventService/Read", [0x1a, 0], "tenants"),
        ("/shopstream.admin.v1.AdminService/VerifyReadModels", [0x0a, 0], "names"),
        ("/shopstream.order.v1.OrderService/ProcessBulkOrders", [0x0a, 0], "orders"),
    ] {
        let is_command = ["Reserve", "Create"].iter().any(|verb| path.contains(verb));
        let body = [if is_command { &key[..] } else { &[] }, &list.repeat(2_000_000)].concat();
        let refused = answer(&shop.channel, path, body).await;
        assert_eq!(said(&refused), is(Code::InvalidArgument, "REQUEST_INVALID", field), "{path}");
        let named = refused.get_error_details().bad_request().map_or(0, |bad| bad.field_violations.len());
        assert_eq!(named, 1, "{path}: no entry was looked at");
    }
    // A mask within a message.
    let paths = [0x0a, 0].repeat(1_000_000);
    let mut body = key.to_vec();
    body.push(0x22);
    prost::encoding::encode_varint(paths.len() as u64, &mut body);
    body.extend(paths);
    let path = "/shopstream.catalog.v1.ProductService/UpdateProduct";
    let refused = answer(&shop.channel, path, body).await;
    assert_eq!(said(&refused), is(Code::InvalidArgument, "REQUEST_INVALID", "update_mask.paths"));
}

#[tokio::test]
async fn an_order_among_many_that_has_too_much_is_one_failure() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let mut large = draft("2", "A1");
    large.lines = vec![large.lines[0].clone(); 10_000];
    let message = ProcessBulkOrdersRequest { orders: vec![draft("1", "A1"), large] };
    let answer = shop.orders().process_bulk_orders(tokio_stream::once(message)).await.expect("an account");
    let answer = answer.into_inner();
    assert_eq!((answer.accepted_count, answer.failed_count), (1, 1));
    assert_eq!(answer.failures[0].field, "lines");
    let many = ProcessBulkOrdersRequest { orders: vec![draft("3", "A1"); 1_001] };
    let refused = shop.orders().process_bulk_orders(tokio_stream::once(many)).await.expect_err("too many");
    assert_eq!(said(&refused), is(Code::InvalidArgument, "REQUEST_INVALID", "orders"));
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_fault() {
    let shop = TestShop::start().await;
    for path in [
        "/shopstream.order.v1.OrderService/GetOrder",
        "/shopstream.order.v1.OrderService/ProcessBulkOrders",
        "/shopstream.event.v1.EventService/Read",
    ] {
        for body in [vec![0x0a, 5, 1], vec![0xff; 12], vec![0x0a, 2, 0xff, 0xfe]] {
            let refused = answer(&shop.channel, path, body.clone()).await;
            let expected = is(Code::InvalidArgument, "REQUEST_MALFORMED", "");
            assert_eq!(said(&refused), expected, "{path} {body:?}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn what_a_call_says_of_itself_is_said_once_and_briefly() {
    let shop = TestShop::start().await;
    let order = || Request::new(GetOrderRequest { order_id: "ord_1".to_owned(), ..Default::default() });
    let refused = async |request| said(&shop.orders().get_order(request).await.expect_err("to be refused"));
    for key in ["shopstream-tenant", "shopstream-actor", "traceparent"] {
        let mut twice = order();
        for value in ["mine", "theirs"] {
            twice.metadata_mut().append(key, value.parse().expect("ASCII"));
        }
        assert_eq!(refused(twice).await, is(Code::InvalidArgument, "REQUEST_INVALID", key));
    }
    let mut long = order();
    long.metadata_mut().insert("shopstream-tenant", "x".repeat(4_000).parse().expect("ASCII"));
    let status = shop.orders().get_order(long).await.expect_err("to be refused");
    assert_eq!(said(&status), is(Code::InvalidArgument, "REQUEST_INVALID", "shopstream-tenant"));
    assert!(status.message().len() < 300 && status.details().len() < 1_000, "{status:?}");

    let mut much = order();
    much.metadata_mut().insert("x-much", "x".repeat(20_000).parse().expect("ASCII"));
    assert_eq!(refused(much).await, is(Code::ResourceExhausted, "METADATA_TOO_LARGE", ""));
}

#[tokio::test]
async fn what_would_be_ignored_is_refused() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let price = SetPriceRequest {
        request_id: "earlier".to_owned(),
        sku: "A1".to_owned(),
        price: Some(gbp(1)),
        effective_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        ..SetPriceRequest::default()
    };
    let refused = shop.products().set_price(price).await.expect_err("to be refused");
    assert_eq!(said(&refused), is(Code::InvalidArgument, "REQUEST_INVALID", "effective_time"));

    let update = UpdateProductRequest {
        request_id: "a part".to_owned(),
        product_id: "prd_1".to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["variants.title".to_owned()] }),
        ..UpdateProductRequest::default()
    };
    let refused = shop.products().update_product(update).await.expect_err("to be refused");
    assert_eq!(said(&refused), is(Code::InvalidArgument, "REQUEST_INVALID", "update_mask"));
}

#[tokio::test]
async fn a_change_of_stock_names_its_field_where_it_stands() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let adjust = AdjustStock { delta: -5, reason: AdjustReason::Damage.into() };
    let request = UpdateStockRequest {
        request_id: "less than nothing".to_owned(),
        sku: "A1".to_owned(),
        change: Some(Change::Adjust(adjust)),
        ..UpdateStockRequest::default()
    };
    let refused = shop.stock().update_stock(request).await.expect_err("to be refused");
    assert_eq!(said(&refused).2, "adjust.delta", "{refused:?}");
}

#[tokio::test]
async fn currencies_are_those_of_iso_4217() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    for code in ["ZZZ", "XXX", "QQQ"] {
        let order = shopstream_proto::order::v1::CreateOrderRequest {
            currency_code: code.to_owned(),
            ..draft("odd", "A1")
        };
        let refused = shop.orders().create_order(order).await.expect_err("to be refused");
        assert_eq!(said(&refused), is(Code::InvalidArgument, "REQUEST_INVALID", "currency_code"), "{code}");
    }
}

#[tokio::test]
async fn the_numbers_of_the_protos_are_those_of_the_domain() {
    use shopstream_domain::catalog::{Product, ProductCommand, Variant};
    use shopstream_domain::payment::{METHOD_TOKEN_MAX, PROVIDER_TEXT_MAX, is_method_token};
    use shopstream_domain::{Aggregate, ProductId, Sku, Timestamp};
    let most = |field: &str| {
        let bound = shopstream_proto::bound_of(field).unwrap_or_else(|| panic!("there is no field {field}"));
        bound.max_len.or(bound.max_items).unwrap_or_else(|| panic!("{field} has no bound")) as usize
    };
    let takes = |title: usize, description: usize, variant: usize| {
        let create = ProductCommand::Create {
            product_id: ProductId::new("prd_1").expect("valid"),
            title: "t".repeat(title),
            description: "d".repeat(description),
            variants: vec![Variant { sku: Sku::new("A1").expect("valid"), title: "v".repeat(variant) }],
            publish: true,
            claims: [(Sku::new("A1").expect("valid"), 1)].into(),
        };
        Product::default().decide(&create, Timestamp::from_seconds(0)).is_ok()
    };
    for request in ["CreateProductRequest", "UpdateProductRequest"] {
        let title = most(&format!("shopstream.catalog.v1.{request}.title"));
        let description = most(&format!("shopstream.catalog.v1.{request}.description"));
        assert!(takes(title, description, 1) && !takes(title + 1, 1, 1) && !takes(1, description + 1, 1));
    }
    for message in ["Variant", "NewVariant"] {
        let variant = most(&format!("shopstream.catalog.v1.{message}.title"));
        assert!(takes(1, 1, variant) && !takes(1, 1, variant + 1), "{message}");
    }
    for field in [
        "order.v1.CreateOrderRequest.payment_method_token",
        "order.v1.UpdateOrderStatusRequest.payment_method_token",
        "payment.v1.ProcessPaymentRequest.payment_method_token",
    ] {
        assert_eq!(most(&format!("shopstream.{field}")), METHOD_TOKEN_MAX, "{field}");
    }
    assert!(is_method_token(&"x".repeat(METHOD_TOKEN_MAX)));
    for field in ["provider_key", "provider_event_id"] {
        let field = format!("shopstream.payment.v1.RecordProviderSignalRequest.{field}");
        assert_eq!(most(&field), PROVIDER_TEXT_MAX, "{field}");
    }
    for field in ["order.v1.CreateOrderRequest.lines", "returns.v1.CreateReturnRequest.lines"] {
        assert_eq!(most(&format!("shopstream.{field}")), shopstream_domain::order::LINES_MAX, "{field}");
    }
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let shop = TestShop::start().await;
    let mut silent = TcpStream::connect(shop.address).await.expect("the gateway listens");
    let mut half = TcpStream::connect(shop.address).await.expect("the gateway listens");
    tokio::io::AsyncWriteExt::write_all(&mut half, b"PRI * HTTP/2.0\r\n").await.expect("taken");
    for connection in [&mut silent, &mut half] {
        let read = async {
            let mut bytes = Vec::new();
            // An end or an error: it is closed either way.
            let _ = connection.read_to_end(&mut bytes).await;
        };
        timeout(PATIENCE, read).await.expect("closed");
    }
    shop.log().get_log_status(GetLogStatusRequest::default()).await.expect("others go on");
}

#[tokio::test]
async fn one_address_has_its_share_of_connections() {
    // The shop's own channel is the first of two.
    let shop = TestShop::with(Policy { connections_max: 4, ..Policy::default() }).await;
    let second = TcpStream::connect(shop.address).await.expect("the gateway listens");
    let mut third = TcpStream::connect(shop.address).await.expect("the system takes it");
    let mut byte = [0];
    let read = timeout(PATIENCE, third.read(&mut byte)).await.expect("closed at once");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(second);
    // Its place is free once the gateway has seen that it left.
    let again = async {
        loop {
            let endpoint = Endpoint::from_shared(format!("http://{}", shop.address)).expect("a URL");
            if let Ok(channel) = endpoint.connect().await {
                let mut log =
                    shopstream_proto::event::v1::event_service_client::EventServiceClient::new(channel);
                if log.get_log_status(GetLogStatusRequest::default()).await.is_ok() {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, again).await.expect("a place");
    shop.log().get_log_status(GetLogStatusRequest::default()).await.expect("the first goes on");
}

#[tokio::test]
async fn streams_are_counted_and_the_next_one_is_told_to_come_again() {
    let shop = TestShop::with(Policy { streams_max: 4, ..Policy::default() }).await;
    shop.sell("prd_1", "A1").await;
    let open = async || shop.orders().stream_order_updates(StreamOrderUpdatesRequest::default()).await;
    let mut streams = vec![open().await.expect("one"), open().await.expect("two")];
    let refused = open().await.expect_err("one too many");
    assert_eq!(said(&refused), is(Code::ResourceExhausted, "TOO_MANY_STREAMS_OF_PEER", ""));
    assert!(refused.get_error_details().retry_info().is_some());
    // Calls are not streams.
    shop.log().get_log_status(GetLogStatusRequest::default()).await.expect("a call");
    streams.pop();
    let again = async {
        while let Err(refused) = open().await {
            assert_eq!(refused.code(), Code::ResourceExhausted);
        }
    };
    timeout(PATIENCE, again).await.expect("given back");
}

/// A thousand of them once took eleven gigabytes.
#[tokio::test]
async fn streams_over_the_log_are_bounded_by_what_they_hold() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let read = || async {
        let request = ReadRequest { follow: true, ..ReadRequest::default() };
        shop.log().read(request).await.map(tonic::Response::into_inner)
    };
    let opened = join_all((0..200).map(|_| read())).await;
    let (open, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!(open.len(), 64, "half of 1,024 places, eight each");
    for refused in refused.into_iter().filter_map(Result::err) {
        assert_eq!(said(&refused).1, "TOO_MANY_STREAMS_OF_PEER");
    }
}

/// A client that opens a stream and never takes what it sends.
#[tokio::test]
async fn a_stream_that_nobody_reads_is_cut() {
    let shop = TestShop::start().await;
    for i in 0..40 {
        let request = CreateProductRequest {
            request_id: format!("long-{i}"),
            title: "long".to_owned(),
            description: "d".repeat(10_000),
            draft: true,
            ..CreateProductRequest::default()
        };
        shop.products().create_product(request).await.expect("created");
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", shop.address)).expect("a URL");
    let channel = endpoint.initial_stream_window_size(1_024).connect().await.expect("a connection");
    let mut log = shopstream_proto::event::v1::event_service_client::EventServiceClient::new(channel);
    let mut unread = log.read(ReadRequest::default()).await.expect("open").into_inner();
    // Twice what it may wait, less what would end the connection.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let end = async {
        loop {
            match unread.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was told to its end"),
                Err(status) => return status,
            }
        }
    };
    let end = timeout(PATIENCE, end).await.expect("an end");
    assert_eq!(said(&end), is(Code::ResourceExhausted, "SLOW_READER", ""));
    assert!(end.get_error_details().retry_info().is_some());
}

#[tokio::test]
async fn read_models_are_compared_one_after_the_other() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    shop.caught_up().await;
    let compare = || async {
        let mut admin = AdminServiceClient::new(shop.channel.clone());
        let request =
            VerifyReadModelsRequest { names: vec!["product_view".to_owned()], ..Default::default() };
        let mut answers = admin.verify_read_models(request).await?.into_inner();
        let mut equal = false;
        while let Some(answer) = answers.message().await? {
            equal |= matches!(answer.event, Some(Replay::Verdict(verdict)) if verdict.equal);
        }
        Ok::<_, Status>(equal)
    };
    for compared in join_all((0..6).map(|_| compare())).await {
        match compared {
            Ok(equal) => assert!(equal),
            Err(status) => {
                assert_eq!(said(&status), is(Code::ResourceExhausted, "REPLAY_RUNNING", ""));
                assert!(status.get_error_details().retry_info().is_some());
            }
        }
    }
}

/// A call whose client never says that it has ended: half a message, or all of it and no end.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_sent_takes_no_place_of_those_who_have_asked() {
    let shop = TestShop::start_with_places(1).await;
    let half = || {
        let mut grpc = tonic::client::Grpc::new(shop.channel.clone());
        async move {
            grpc.ready().await.expect("a connection");
            let path = PathAndQuery::from_static("/shopstream.event.v1.EventService/GetLogStatus");
            let sent = futures::stream::iter([Bytes::new()]).chain(futures::stream::pending());
            grpc.client_streaming(Request::new(sent), path, Raw).await
        }
    };
    let mut held: Vec<_> = (0..4).map(|_| Box::pin(half())).collect();
    for call in &mut held {
        assert!(timeout(Duration::from_millis(100), call).await.is_err(), "it has not ended");
    }
    let whole = shop.log().get_log_status(GetLogStatusRequest::default()).await;
    assert!(whole.is_ok(), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_half_asked_for_takes_no_place_of_those_who_have_asked() {
    let shop = TestShop::with(Policy { streams_max: 4, ..Policy::default() }).await;
    shop.sell("prd_1", "A1").await;
    let half = || {
        let mut grpc = tonic::client::Grpc::new(shop.channel.clone());
        async move {
            grpc.ready().await.expect("a connection");
            let path = PathAndQuery::from_static("/shopstream.order.v1.OrderService/StreamOrderUpdates");
            let sent = futures::stream::iter([Bytes::new()]).chain(futures::stream::pending());
            grpc.streaming(Request::new(sent), path, Raw).await.map(drop)
        }
    };
    let mut held: Vec<_> = (0..8).map(|_| Box::pin(half())).collect();
    for call in &mut held {
        assert!(timeout(Duration::from_millis(100), call).await.is_err(), "it has not ended");
    }
    let whole = shop.orders().stream_order_updates(StreamOrderUpdatesRequest::default()).await;
    assert!(whole.is_ok(), "{whole:?}");
}
