//! Every bad input gets a clear error that names the field or the way out, and leaves nothing behind.

use shopstream_proto::catalog::v1::CreateProductRequest;
use shopstream_proto::order::v1::{
    CreateOrderRequest, GetOrderRequest, GetUserOrdersRequest, UpdateOrderStatusRequest,
};
use shopstream_proto::r#type::v1::Position;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::shop::{TestShop, draft};

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

#[tokio::test]
async fn a_bad_order_is_told_what_is_wrong_with_it() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let refused = async |request: CreateOrderRequest| {
        said(&shop.orders().create_order(request).await.expect_err("to be refused"))
    };
    shop.orders().create_order(draft("1", "A1")).await.expect("accepted");

    let unknown_sku = is(Code::FailedPrecondition, "SKU_UNKNOWN", "lines[0].sku");
    assert_eq!(refused(draft("2", "B2")).await, unknown_sku);
    let other_body = CreateOrderRequest { customer_id: "c2".to_owned(), ..draft("1", "A1") };
    assert_eq!(refused(other_body).await, is(Code::InvalidArgument, "REQUEST_ID_REUSED", "request_id"));
    let other_request = CreateOrderRequest { request_id: "x".to_owned(), ..draft("1", "A1") };
    assert_eq!(refused(other_request).await.0, Code::AlreadyExists);
    let stale = CreateOrderRequest { expected_version: Some(9), ..draft("3", "A1") };
    assert_eq!(refused(stale).await, is(Code::Aborted, "VERSION_STALE", ""));
    let empty = CreateOrderRequest { lines: Vec::new(), ..draft("4", "A1") };
    assert_eq!(refused(empty).await, is(Code::InvalidArgument, "REQUEST_INVALID", "lines"));
    let many =
        CreateOrderRequest { lines: vec![draft("5", "A1").lines[0].clone(); 10_000], ..draft("5", "A1") };
    assert_eq!(refused(many).await, is(Code::InvalidArgument, "REQUEST_INVALID", "lines"));
}

#[tokio::test]
async fn a_bad_query_is_told_what_is_wrong_with_it() {
    let shop = TestShop::start().await;
    let unknown = GetOrderRequest { order_id: "ord_none".to_owned(), ..GetOrderRequest::default() };
    let status = shop.orders().get_order(unknown).await.expect_err("unknown");
    assert_eq!(said(&status), is(Code::NotFound, "ORDER_NOT_FOUND", ""));

    let page_token = "malformed".to_owned();
    let page = GetUserOrdersRequest { customer_id: "c1".to_owned(), page_token, ..Default::default() };
    let status = shop.orders().get_user_orders(page).await.expect_err("malformed");
    assert_eq!(said(&status), is(Code::InvalidArgument, "REQUEST_INVALID", "page_token"));

    let min_position = vec![Position { log: "core".to_owned(), partition: 99, ..Position::default() }];
    let elsewhere = GetOrderRequest { min_position, order_id: "ord_1".to_owned() };
    let status = shop.orders().get_order(elsewhere).await.expect_err("no such partition");
    assert_eq!(said(&status), is(Code::InvalidArgument, "REQUEST_INVALID", "min_position[0].partition"));
}

#[tokio::test]
async fn a_read_model_that_is_behind_says_so_before_the_deadline() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let held = shop.hold("order_detail_e1.orders").await;
    let order = shop.orders().create_order(draft("1", "A1")).await.expect("accepted").into_inner();
    let (min_position, order_id) = (order.position.into_iter().collect(), order.order_id);
    let mut ahead = Request::new(GetOrderRequest { min_position, order_id });
    ahead.set_timeout(std::time::Duration::from_secs(1));
    let status = shop.orders().get_order(ahead).await.expect_err("not there");
    drop(held);
    assert_eq!(said(&status), is(Code::Unavailable, "READ_MODEL_BEHIND", ""));
    assert!(status.get_error_details().retry_info().is_some());
}

#[tokio::test]
async fn a_command_in_doubt_says_so_before_the_deadline_and_succeeds_when_asked_again() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    shop.orders().create_order(draft("0", "A1")).await.expect("the offer is at hand");
    for partition in 0..crate::shop::PARTITIONS {
        shop.sim.faults().pause(partition);
    }
    let mut request = Request::new(draft("1", "A1"));
    request.set_timeout(std::time::Duration::from_secs(1));
    let status = shop.orders().create_order(request).await.expect_err("nothing arrives");
    assert_eq!(said(&status), is(Code::Unavailable, "OUTCOME_UNKNOWN", ""));
    assert!(status.get_error_details().retry_info().is_some());
    for partition in 0..crate::shop::PARTITIONS {
        shop.sim.faults().resume(partition);
    }
    let version = shop.orders().create_order(draft("1", "A1")).await.expect("once").into_inner().version;
    assert_eq!(version, 1);
}

#[tokio::test]
async fn what_tonic_refuses_by_itself_is_explained_too() {
    let shop = TestShop::start().await;
    let description = "x".repeat(5_000_000);
    let large = CreateProductRequest { description, ..CreateProductRequest::default() };
    let status = shop.products().create_product(large).await.expect_err("too large");
    assert_eq!(said(&status), is(Code::OutOfRange, "MESSAGE_TOO_LARGE", ""));

    let mut unknown = Request::new(GetOrderRequest::default());
    unknown.metadata_mut().insert("shopstream-tenant", "a/b".parse().expect("ASCII"));
    let status = shop.orders().get_order(unknown).await.expect_err("no tenant");
    assert_eq!(said(&status), is(Code::InvalidArgument, "REQUEST_INVALID", "shopstream-tenant"));
}

/// On every way in: a stream's metadata are those of its opening.
#[tokio::test]
async fn nobody_speaks_in_the_name_of_a_process() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    for name in ["process:checkout", "effect:payment"] {
        let named = |mut metadata: tonic::metadata::MetadataMap| {
            metadata.insert("shopstream-actor", name.parse().expect("ASCII"));
            metadata
        };
        let mut order = Request::new(draft("1", "A1"));
        *order.metadata_mut() = named(order.metadata().clone());
        let status = shop.orders().create_order(order).await.expect_err("refused");
        assert_eq!(said(&status), is(Code::InvalidArgument, "REQUEST_INVALID", "shopstream-actor"));
        let mut orders = Request::new(futures::stream::empty());
        *orders.metadata_mut() = named(orders.metadata().clone());
        let status = shop.orders().process_bulk_orders(orders).await.expect_err("refused");
        assert_eq!(said(&status), is(Code::InvalidArgument, "REQUEST_INVALID", "shopstream-actor"));
    }
}

#[tokio::test]
async fn an_order_that_is_not_there_cannot_be_moved() {
    let shop = TestShop::start().await;
    let (request_id, order_id) = ("r".to_owned(), "ord_none".to_owned());
    let status = shopstream_proto::order::v1::OrderStatus::Cancelled.into();
    let request = UpdateOrderStatusRequest { request_id, order_id, status, ..Default::default() };
    let status = shop.orders().update_order_status(request).await.expect_err("unknown");
    assert_eq!(said(&status), is(Code::NotFound, "ORDER_NOT_FOUND", ""));
}

#[tokio::test]
async fn one_tenant_sees_nothing_of_another() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    let order = shop.orders().create_order(draft("1", "A1")).await.expect("accepted").into_inner();
    let order_id = order.order_id;
    let mut other =
        Request::new(GetOrderRequest { min_position: order.position.into_iter().collect(), order_id });
    other.metadata_mut().insert("shopstream-tenant", "other".parse().expect("ASCII"));
    assert_eq!(shop.orders().get_order(other).await.expect_err("not theirs").code(), Code::NotFound);
}
