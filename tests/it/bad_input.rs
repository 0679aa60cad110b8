//! Bad input: a clear error that names the field, nothing done, and the process goes on.

use anyhow::{Result, ensure};
use shopstream_proto::admin::v1::SkipParkedEventRequest;
use shopstream_proto::catalog::v1::{CreateProductRequest, NewVariant};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{ReceiveStock, UpdateStockRequest};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, GetOrderRequest, GetUserOrdersRequest,
};
use shopstream_proto::r#type::v1::Money;
use shopstream_tests::requests::{line, money, order, product, sell};
use shopstream_tests::{Refusal, Shared, read_log, refusal, unique};
use tonic::Code;

const INVALID: &str = "REQUEST_INVALID";

/// What `spoil` makes of a good order is refused so, and leaves nothing on the log.
async fn refused_order(
    spoil: impl FnOnce(&mut CreateOrderRequest),
    code: Code,
    reason: &str,
    field: &str,
) -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("BAD-{}", unique());
    sell(&client, &sku, 10).await?;
    let order_id = format!("ord_{sku}");
    let mut bad = order(&order_id, &sku, 1, "tok_bad");
    spoil(&mut bad);
    let refused = refusal(client.shop().orders.create_order(bad).await);
    assert_eq!(refused, Refusal::new(code, reason, field));
    let unknown = GetOrderRequest { order_id: order_id.clone(), ..GetOrderRequest::default() };
    assert_eq!(refusal(client.shop().orders.get_order(unknown).await), unknown_order());
    assert!(
        !read_log(&client).await.contains_key(&format!("default/order/{order_id}")),
        "something is on the log"
    );
    Ok(())
}

fn unknown_order() -> Refusal {
    Refusal::new(Code::NotFound, "ORDER_NOT_FOUND", "")
}

#[tokio::test]
async fn an_unknown_sku() -> Result<()> {
    let spoil = |order: &mut CreateOrderRequest| order.lines.push(line("NOBODY-SELLS-THIS", 1));
    refused_order(spoil, Code::FailedPrecondition, "SKU_UNKNOWN", "lines[1].sku").await
}

#[tokio::test]
async fn a_quantity_of_zero() -> Result<()> {
    refused_order(|order| order.lines[0].quantity = 0, Code::InvalidArgument, INVALID, "lines[0].quantity")
        .await
}

#[tokio::test]
async fn a_negative_quantity() -> Result<()> {
    refused_order(|order| order.lines[0].quantity = -1, Code::InvalidArgument, INVALID, "lines[0].quantity")
        .await
}

#[tokio::test]
async fn the_largest_number_as_a_quantity() -> Result<()> {
    refused_order(
        |order| order.lines[0].quantity = i64::MAX,
        Code::InvalidArgument,
        INVALID,
        "lines[0].quantity",
    )
    .await
}

#[tokio::test]
async fn mixed_currencies() -> Result<()> {
    let pounds = Money { currency_code: "GBP".into(), amount_minor: 100 };
    let spoil = |order: &mut CreateOrderRequest| order.lines[0].unit_price = Some(pounds);
    let field = "lines[0].unit_price.currency_code";
    refused_order(spoil, Code::InvalidArgument, INVALID, field).await
}

#[tokio::test]
async fn a_total_that_overflows() -> Result<()> {
    let spoil = |order: &mut CreateOrderRequest| {
        let mut dear = order.lines[0].clone();
        (dear.unit_price, dear.quantity) = (Some(money(i64::MAX)), 1);
        order.lines.extend([dear.clone(), dear]);
    };
    refused_order(spoil, Code::InvalidArgument, "AMOUNT_OVERFLOW", "lines[1]").await
}

#[tokio::test]
async fn an_order_of_nothing() -> Result<()> {
    refused_order(|order| order.lines.clear(), Code::InvalidArgument, INVALID, "lines").await
}

#[tokio::test]
async fn ten_thousand_lines() -> Result<()> {
    let spoil = |order: &mut CreateOrderRequest| order.lines = vec![order.lines[0].clone(); 10_000];
    refused_order(spoil, Code::InvalidArgument, INVALID, "lines").await
}

#[tokio::test]
async fn a_message_of_five_megabytes() -> Result<()> {
    let spoil = |order: &mut CreateOrderRequest| order.payment_method_token = "x".repeat(5 << 20);
    refused_order(spoil, Code::OutOfRange, "MESSAGE_TOO_LARGE", "").await
}

#[tokio::test]
async fn a_request_id_with_another_body() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("REUSED-{}", unique());
    sell(&client, &sku, 10).await?;
    let first = order(&format!("ord_{sku}"), &sku, 1, "tok_reused");
    client.shop().orders.create_order(first.clone()).await?;
    let second = CreateOrderRequest { lines: vec![line(&sku, 2)], ..first };
    let refused = refusal(client.shop().orders.create_order(second).await);
    assert_eq!(refused, Refusal::new(Code::InvalidArgument, "REQUEST_ID_REUSED", "request_id"));
    let events = &read_log(&client).await[&format!("default/order/ord_{sku}")];
    assert_eq!(events.iter().filter(|event| event.event_type == "OrderSubmitted").count(), 1);
    Ok(())
}

#[tokio::test]
async fn an_order_id_that_is_taken() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("TAKEN-{}", unique());
    sell(&client, &sku, 10).await?;
    let first = order(&format!("ord_{sku}"), &sku, 1, "tok_taken");
    client.shop().orders.create_order(first.clone()).await?;
    let second = CreateOrderRequest { request_id: "another request".into(), ..first };
    let refused = refusal(client.shop().orders.create_order(second).await);
    assert_eq!((refused.code, &*refused.reason), (Code::AlreadyExists, "ORDER_EXISTS"));
    Ok(())
}

#[tokio::test]
async fn a_stale_expected_version() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("STALE-{}", unique());
    sell(&client, &sku, 10).await?;
    let mut draft = order(&format!("ord_{sku}"), &sku, 1, "");
    draft.draft = true;
    let drafted = client.shop().orders.create_order(draft).await?.into_inner();
    let cancel = CancelOrderRequest {
        request_id: "stale".into(),
        expected_version: Some(drafted.version + 1),
        order_id: drafted.order_id,
        ..CancelOrderRequest::default()
    };
    let refused = refusal(client.shop().orders.cancel_order(cancel).await);
    assert_eq!(refused, Refusal::new(Code::Aborted, "VERSION_STALE", ""));
    Ok(())
}

#[tokio::test]
async fn an_unknown_order() {
    let shop = Shared::shop();
    let client = shop.client().await;
    let get = GetOrderRequest { order_id: "ord_nobody-placed-this".into(), ..GetOrderRequest::default() };
    assert_eq!(refusal(client.shop().orders.get_order(get).await), unknown_order());
    let cancel = CancelOrderRequest {
        request_id: "cancel:nobody".into(),
        order_id: "ord_nobody-placed-this".into(),
        ..CancelOrderRequest::default()
    };
    assert_eq!(refusal(client.shop().orders.cancel_order(cancel).await), unknown_order());
}

#[tokio::test]
async fn a_malformed_page_token() {
    let shop = Shared::shop();
    let client = shop.client().await;
    for page_token in ["x", "AAAAAAAAAAAAAAAA", "%"] {
        let request = GetUserOrdersRequest {
            customer_id: "cus_1".into(),
            page_token: page_token.into(),
            ..GetUserOrdersRequest::default()
        };
        let refused = refusal(client.shop().orders.get_user_orders(request).await);
        assert_eq!(refused, Refusal::new(Code::InvalidArgument, INVALID, "page_token"), "{page_token}");
    }
}

#[tokio::test]
async fn a_product_that_sells_what_another_sells() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("MINE-{}", unique());
    sell(&client, &sku, 1).await?;
    let mut other = product(&sku, 100);
    (other.product_id, other.request_id) = (Some(format!("prd_{sku}-other")), format!("other:{sku}"));
    let refused = refusal(client.shop().products.create_product(other).await);
    assert_eq!((refused.code, &*refused.reason), (Code::AlreadyExists, "SKU_TAKEN"));
    Ok(())
}

#[tokio::test]
async fn stock_of_what_nobody_sells_and_changes_that_are_none() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("STOCK-{}", unique());
    sell(&client, &sku, 1).await?;
    let receive = |sku: &str, quantity| UpdateStockRequest {
        request_id: "bad stock".into(),
        sku: sku.into(),
        location: "main".into(),
        change: Some(Change::Receive(ReceiveStock { quantity })),
        ..UpdateStockRequest::default()
    };
    let unknown = refusal(client.shop().inventory.update_stock(receive("NOBODY-SELLS-THIS", 1)).await);
    assert_eq!((unknown.code, &*unknown.reason), (Code::NotFound, "SKU_UNKNOWN"));
    let nothing = refusal(client.shop().inventory.update_stock(receive(&sku, 0)).await);
    assert_eq!(nothing, Refusal::new(Code::InvalidArgument, INVALID, "receive.quantity"));
    let empty = UpdateStockRequest { change: None, ..receive(&sku, 1) };
    let missing = refusal(client.shop().inventory.update_stock(empty).await);
    assert_eq!(missing, Refusal::new(Code::InvalidArgument, INVALID, "change"));
    Ok(())
}

/// What some reader of the log could not hold or show is refused on its field, and nothing stops.
#[tokio::test]
async fn texts_that_nobody_can_keep() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("TEXT-{}", unique());
    let product = || CreateProductRequest {
        request_id: unique().to_string(),
        title: "a cup".into(),
        variants: vec![NewVariant { sku: sku.clone(), title: "red".into(), list_price: None }],
        ..CreateProductRequest::default()
    };
    for character in ['\0', '\u{1B}', '\u{9B}', '\u{202E}'] {
        let text = format!("a{character}b");
        let create = async |request| refusal(client.shop().products.create_product(request).await);
        let wrong = |field: &str| Refusal::new(Code::InvalidArgument, "TEXT_INVALID", field);
        ensure!(create(CreateProductRequest { title: text.clone(), ..product() }).await == wrong("title"));
        let described = CreateProductRequest { description: text.clone(), ..product() };
        ensure!(create(described).await == wrong("description"));
        let mut variant = product();
        variant.variants[0].title.clone_from(&text);
        ensure!(create(variant).await == wrong("variants[0].title"));
        let skip = SkipParkedEventRequest {
            projection: "stock_level".into(),
            stream_id: "default/stock/A@main".into(),
            version: 1,
            reason: text.clone(),
            skipped_by: "ann".into(),
        };
        let by = SkipParkedEventRequest { skipped_by: text.clone(), reason: "so".into(), ..skip.clone() };
        ensure!(refusal(client.shop().admin.skip_parked_event(skip).await) == wrong("reason"));
        ensure!(refusal(client.shop().admin.skip_parked_event(by).await) == wrong("skipped_by"));
    }
    client.shop().products.create_product(product()).await?;
    Ok(())
}
