//! Catalogue: what the shop sells and under which SKUs. It knows neither stock nor prices.

mod commands;
mod error;
mod events;
mod product;
mod sku_claim;
#[cfg(test)]
mod tests;

pub use commands::{ProductCommand, SkuClaimCommand};
pub use error::Error;
pub use events::{
    ProductDetailsChanged, ProductDiscontinued, ProductDrafted, ProductEvent, ProductPublished,
    ProductUnpublished, SkuClaimEvent, SkuClaimed, SkuForgone, SkuGivenBack, Variant, VariantPut,
};
pub use product::{Product, ProductStatus};
pub use sku_claim::SkuClaim;
