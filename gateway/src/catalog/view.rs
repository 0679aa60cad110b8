//! Products as the catalogue shows them.

use shopstream_eventlog::Position;
use shopstream_projections::catalog::{ListPrice, Product, ProductStatus};
use shopstream_proto::catalog::v1 as wire;

use crate::positions::position;
use crate::wire::{int, money, time};

pub(super) fn product(found: Product) -> wire::Product {
    let Product { product, prices } = found;
    let update_time = prices.iter().map(|price| price.updated_at).chain([product.updated_at]).max();
    wire::Product {
        product_id: product.product_id.into(),
        title: product.title,
        description: product.description,
        status: status(product.status).into(),
        variants: product
            .variants
            .into_iter()
            .map(|variant| wire::Variant { sku: variant.sku.into(), title: variant.title })
            .collect(),
        prices: prices.into_iter().map(price).collect(),
        create_time: Some(time(product.created_at)),
        update_time: update_time.map(time),
        version: int(product.version),
        position: Some(position(Position { partition: product.partition, offset: product.offset })),
    }
}

fn price(price: ListPrice) -> wire::Price {
    wire::Price {
        sku: price.sku.into(),
        list_price: Some(money(price.amount_minor, price.currency)),
        version: int(price.version),
        effective_time: Some(time(price.effective_at)),
    }
}

const fn status(status: ProductStatus) -> wire::ProductStatus {
    match status {
        ProductStatus::Draft => wire::ProductStatus::Draft,
        ProductStatus::Published => wire::ProductStatus::Published,
        ProductStatus::Unpublished => wire::ProductStatus::Unpublished,
        ProductStatus::Discontinued => wire::ProductStatus::Discontinued,
    }
}
