//! The requests that most tests begin with.

use anyhow::Context as _;
use shopstream_proto::catalog::v1::{CreateProductRequest, GetProductRequest, NewVariant};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{GetStockRequest, ReceiveStock, UpdateStockRequest};
use shopstream_proto::order::v1::{
    CreateOrderRequest, GetOrderRequest, NewOrderLine, Order, TrackOrderRequest,
};
use shopstream_proto::r#type::v1::{Money, Position};
use shopstream_server::client::{Client, Shop};
use tonic::Response;

/// The currency of all of them.
pub const CURRENCY: &str = "EUR";

/// `amount_minor` of it.
pub fn money(amount_minor: i64) -> Money {
    Money { currency_code: CURRENCY.into(), amount_minor }
}

/// A product of one SKU at a list price.
pub fn product(sku: &str, price: i64) -> CreateProductRequest {
    let variant = NewVariant { sku: sku.into(), title: sku.into(), list_price: Some(money(price)) };
    CreateProductRequest {
        request_id: format!("product:{sku}"),
        product_id: Some(format!("prd_{sku}")),
        title: sku.into(),
        variants: vec![variant],
        ..CreateProductRequest::default()
    }
}

/// `quantity` units come in.
pub fn stock(request_id: &str, sku: &str, quantity: i64) -> UpdateStockRequest {
    UpdateStockRequest {
        request_id: request_id.into(),
        sku: sku.into(),
        location: "main".into(),
        change: Some(Change::Receive(ReceiveStock { quantity })),
        ..UpdateStockRequest::default()
    }
}

/// An order of `quantity` units at the list price.
pub fn order(order_id: &str, sku: &str, quantity: i64, token: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        request_id: format!("create:{order_id}"),
        order_id: Some(order_id.into()),
        customer_id: "cus_test".into(),
        currency_code: CURRENCY.into(),
        lines: vec![line(sku, quantity)],
        payment_method_token: token.into(),
        ..CreateOrderRequest::default()
    }
}

/// An id with this prefix and name, as long as one may be: what derives from it is longer still.
pub fn longest(prefix: &str, name: &str) -> String {
    format!("{prefix}{name:_<60}")
}

/// One line at the list price.
pub fn line(sku: &str, quantity: i64) -> NewOrderLine {
    NewOrderLine { sku: sku.into(), quantity, unit_price: None }
}

/// Makes a product at 500 with units in stock, and waits until both are seen.
///
/// # Errors
/// The shop refuses.
pub async fn sell(client: &Client, sku: &str, units: i64) -> anyhow::Result<()> {
    let made = product(sku, 500);
    let made =
        client.call(made, async |mut shop, request| shop.products.create_product(request).await).await?;
    let (min_position, product_id) = (made.position.into_iter().collect(), made.product_id);
    let seen = GetProductRequest { min_position, product_id };
    client.call(seen, async |mut shop, request| shop.products.get_product(request).await).await?;
    let stock = stock(&format!("stock:{sku}"), sku, units);
    let received =
        client.call(stock, async |mut shop, request| shop.inventory.update_stock(request).await).await?;
    let (min_position, location) = (received.position.into_iter().collect(), String::new());
    let seen = GetStockRequest { min_position, sku: sku.into(), location };
    client.call(seen, async |mut shop, request| shop.inventory.get_stock(request).await).await?;
    Ok(())
}

/// Follows an order until it is confirmed or cancelled and its checkout has nothing left to do.
///
/// # Errors
/// The shop does not tell, or the order does not end.
pub async fn ended(client: &Client, order_id: &str, position: Option<Position>) -> anyhow::Result<Order> {
    let min_position: Vec<_> = position.into_iter().collect();
    let (order_id, resume_token) = (order_id.to_owned(), String::new());
    let track =
        TrackOrderRequest { min_position: min_position.clone(), order_id: order_id.clone(), resume_token };
    let follow = async |mut shop: Shop, request| {
        let mut story = shop.orders.track_order(request).await?.into_inner();
        let mut last = None;
        while let Some(chapter) = story.message().await? {
            last = chapter.entry.and_then(|entry| entry.position).or(last);
        }
        Ok(Response::new(last))
    };
    let last = client.call(track, follow).await?;
    let min_position = last.into_iter().chain(min_position).collect();
    let get = GetOrderRequest { min_position, order_id };
    let answer = client.call(get, async |mut shop, request| shop.orders.get_order(request).await).await?;
    answer.order.context("an answer without an order")
}

/// Places an order and follows it to its end.
///
/// # Errors
/// See [`ended`].
pub async fn place(client: &Client, order: CreateOrderRequest) -> anyhow::Result<Order> {
    let placed =
        client.call(order, async |mut shop, request| shop.orders.create_order(request).await).await?;
    ended(client, &placed.order_id, placed.position).await
}
