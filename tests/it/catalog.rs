//! Products and prices.

use anyhow::{Context as _, Result, ensure};
use prost_types::FieldMask;
use shopstream_proto::catalog::v1::{
    DeleteProductRequest, GetProductRequest, ProductStatus, SetPriceRequest, UpdateProductRequest,
};
use shopstream_proto::order::v1::OrderStatus;
use shopstream_tests::requests::{money, order, place, sell};
use shopstream_tests::{Refusal, Shared, refusal, unique};
use tonic::Code;

#[tokio::test]
async fn a_product_is_changed_priced_and_taken_off_sale() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("CHANGE-{}", unique());
    sell(&client, &sku, 10).await?;
    let product_id = format!("prd_{sku}");

    let retitle = UpdateProductRequest {
        request_id: "retitle".into(),
        product_id: product_id.clone(),
        update_mask: Some(FieldMask { paths: vec!["title".into()] }),
        title: "Another title".into(),
        ..UpdateProductRequest::default()
    };
    let updated = client.shop().products.update_product(retitle).await?.into_inner();
    let min_position = updated.position.into_iter().collect();
    let get = GetProductRequest { min_position, product_id: product_id.clone() };
    let product = client.shop().products.get_product(get).await?.into_inner().product.context("a product")?;
    ensure!(product.title == "Another title" && product.version == updated.version, "{product:?}");

    let price = SetPriceRequest {
        request_id: "reprice".into(),
        sku: sku.clone(),
        price: Some(money(700)),
        ..SetPriceRequest::default()
    };
    client.shop().products.set_price(price).await?;
    let bought = place(&client, order(&format!("ord_{sku}"), &sku, 2, "tok_change")).await?;
    ensure!(bought.status() == OrderStatus::Confirmed, "{bought:?}");
    let total = bought.totals.and_then(|totals| totals.total);
    ensure!(total == Some(money(1400)), "the new price holds for the next order: {total:?}");

    let delete = DeleteProductRequest {
        request_id: "delete".into(),
        product_id: product_id.clone(),
        ..DeleteProductRequest::default()
    };
    let deleted = client.shop().products.delete_product(delete).await?.into_inner();
    let get = GetProductRequest { min_position: deleted.position.into_iter().collect(), product_id };
    let product = client.shop().products.get_product(get).await?.into_inner().product.context("a product")?;
    ensure!(product.status() == ProductStatus::Discontinued, "{product:?}");
    let refused = refusal(client.shop().orders.create_order(order("ord_too-late", &sku, 1, "tok")).await);
    ensure!(
        refused == Refusal::new(Code::FailedPrecondition, "SKU_NOT_ON_SALE", "lines[0].sku"),
        "{refused:?}"
    );
    Ok(())
}
