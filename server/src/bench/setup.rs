//! What the shop sells before it is measured.

use anyhow::Context as _;
use futures::{StreamExt, TryStreamExt, stream};
use shopstream_proto::catalog::v1::{CreateProductRequest, GetProductRequest, NewVariant};
use shopstream_proto::r#type::v1::Money;

use super::calls::{CURRENCY, HOT_SKU, Numbers, SKUS};
use crate::client::Client;

const PRICE: i64 = 1295;

/// Publishes a product with every SKU, waits until orders can name it, and receives `units` of each SKU: one receipt
/// of the hot one.
///
/// # Errors
/// The shop refuses.
pub(super) async fn stock_up(client: &Client, numbers: &Numbers, units: i64) -> anyhow::Result<()> {
    let skus = || SKUS.into_iter().chain([HOT_SKU]);
    let variant = |sku: &str| NewVariant {
        sku: sku.into(),
        title: "Mug".into(),
        list_price: Some(Money { currency_code: CURRENCY.into(), amount_minor: PRICE }),
    };
    let product = CreateProductRequest {
        request_id: format!("bench-{}-product", numbers.run()),
        product_id: Some(format!("prd_bench-{}", numbers.run())),
        title: "A mug for benchmarks".into(),
        variants: skus().map(variant).collect(),
        ..CreateProductRequest::default()
    };
    let made = client
        .call(product, async |mut shop, request| shop.products.create_product(request).await)
        .await
        .context("making the product")?;
    let seen =
        GetProductRequest { product_id: made.product_id, min_position: made.position.into_iter().collect() };
    client.call(seen, async |mut shop, request| shop.products.get_product(request).await).await?;
    let skus: Vec<&str> = skus().collect();
    stream::iter(skus)
        .map(async |sku| {
            let receive = numbers.receive(numbers.next(), sku, units);
            client.call(receive, async |mut shop, request| shop.inventory.update_stock(request).await).await
        })
        .buffer_unordered(SKUS.len() + 1)
        .try_for_each(async |_received| Ok(()))
        .await
        .context("receiving stock")
}
