//! `shopstream demo`: one product, one order, its timeline.

use anyhow::{Context as _, ensure};
use shopstream_proto::catalog::v1::{CreateProductRequest, GetProductRequest, NewVariant};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{ReceiveStock, UpdateStockRequest};
use shopstream_proto::order::v1::{
    CreateOrderRequest, GetOrderRequest, NewOrderLine, OrderStatus, TrackOrderRequest,
};
use shopstream_proto::r#type::v1::Money;

use super::Connected;
use crate::client::{Client, until};
use crate::config::Config;
use crate::output::{note, say};

const SKU: &str = "DEMO-MUG-1";
const PRICE: i64 = 1295;

/// Places an order of two mugs and prints what becomes of it.
///
/// # Errors
/// The shop does not answer, or the order does not end confirmed.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let connected = Connected::open_or_make(config).await?;
    let placed = place(&connected.client).await;
    connected.close().await?;
    placed
}

async fn place(client: &Client) -> anyhow::Result<()> {
    let run = uuid::Uuid::now_v7().simple().to_string();
    let product = client
        .call(product(), async |mut shop, request| shop.products.create_product(request).await)
        .await
        .context("making the demo product")?;
    let seen = GetProductRequest {
        product_id: product.product_id,
        min_position: product.position.into_iter().collect(),
    };
    client.call(seen, async |mut shop, request| shop.products.get_product(request).await).await?;
    let stock = UpdateStockRequest {
        request_id: format!("demo:stock:{run}"),
        sku: SKU.into(),
        location: "main".into(),
        change: Some(Change::Receive(ReceiveStock { quantity: 2 })),
        ..UpdateStockRequest::default()
    };
    client.call(stock, async |mut shop, request| shop.inventory.update_stock(request).await).await?;

    let order = CreateOrderRequest {
        request_id: format!("demo:order:{run}"),
        customer_id: "demo".into(),
        currency_code: "EUR".into(),
        lines: vec![NewOrderLine { sku: SKU.into(), quantity: 2, unit_price: None }],
        payment_method_token: "tok_demo".into(),
        ..CreateOrderRequest::default()
    };
    let created =
        client.call(order, async |mut shop, request| shop.orders.create_order(request).await).await?;
    say!("order {}", created.order_id)?;
    let track = TrackOrderRequest {
        min_position: created.position.into_iter().collect(),
        order_id: created.order_id.clone(),
        ..TrackOrderRequest::default()
    };
    client
        .call(track, async |mut shop, request| {
            let mut updates = shop.orders.track_order(request).await?.into_inner();
            while let Some(update) = updates.message().await? {
                if let Some(entry) = &update.entry {
                    note!("  {:>3}  {}", entry.version, entry.event_type);
                }
            }
            Ok(tonic::Response::new(()))
        })
        .await?;
    let get = GetOrderRequest { order_id: created.order_id.clone(), ..GetOrderRequest::default() };
    let order = until(async || {
        let answer = client.call(get.clone(), async |mut shop, request| shop.orders.get_order(request).await);
        let order = answer.await?.order.context("the answer to GetOrder has no order")?;
        Ok(matches!(order.status(), OrderStatus::Confirmed | OrderStatus::Cancelled).then_some(order))
    })
    .await?;
    let total =
        order.totals.as_ref().and_then(|totals| totals.total.as_ref()).map_or(0, |total| total.amount_minor);
    say!(
        "{} {}, total {}.{:02} EUR",
        order.order_id,
        order.status().as_str_name(),
        total / 100,
        total % 100
    )?;
    ensure!(
        order.status() == OrderStatus::Confirmed,
        "the demo order was cancelled: {}",
        order.cancel_reason().as_str_name()
    );
    Ok(())
}

/// The same at every run: the request id makes the second one a repeat.
fn product() -> CreateProductRequest {
    CreateProductRequest {
        request_id: "demo:product".into(),
        product_id: Some("prd_demo-mug".into()),
        title: "A mug for demonstrations".into(),
        variants: vec![NewVariant {
            sku: SKU.into(),
            title: "Mug".into(),
            list_price: Some(Money { currency_code: "EUR".into(), amount_minor: PRICE }),
        }],
        ..CreateProductRequest::default()
    }
}
