//! What happened to products and SKUs.

use serde::{Deserialize, Serialize};

use crate::aggregate::events;
use crate::{ProductId, Sku};

/// One form of a product that can be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its stock keeping unit.
    pub sku: Sku,
    /// What sets it apart from the other variants, such as `blue, XL`; empty where there is but one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
}

events! {
    /// What happened to a product.
    pub enum ProductEvent {
        /// It was added.
        Drafted(ProductDrafted) = 1,
        /// Its texts changed.
        DetailsChanged(ProductDetailsChanged) = 1,
        /// A variant was added or changed.
        VariantPut(VariantPut) = 1,
        /// It went on sale.
        Published(ProductPublished) = 1,
        /// It went off sale for a while.
        Unpublished(ProductUnpublished) = 1,
        /// It went off sale for good.
        Discontinued(ProductDiscontinued) = 1,
        /// It does without a SKU.
        SkuForgone(SkuForgone) = 1,
    }
}

/// A product was added to the catalogue, not yet on sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDrafted {
    /// Its id.
    pub product_id: ProductId,
    /// Its name for people.
    pub title: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What of it can be bought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// A product's texts changed; an absent one stayed as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDetailsChanged {
    /// The new title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The new description, which may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The variant of this SKU was added or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantPut {
    /// Its stock keeping unit.
    pub sku: Sku,
    /// What sets it apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
}

/// The product went on sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPublished {}

/// The product went off sale for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductUnpublished {}

/// The product went off sale for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDiscontinued {}

/// Claims on a SKU came to nothing: the product never had it, and never will by one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuForgone {
    /// The SKU.
    pub sku: Sku,
    /// The last of the claims.
    pub claim: u64,
}

events! {
    /// What happened to a SKU.
    pub enum SkuClaimEvent {
        /// A product took it.
        Claimed(SkuClaimed) = 1,
        /// A product gave it back.
        GivenBack(SkuGivenBack) = 1,
    }
}

/// The SKU is nobody's again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuGivenBack {
    /// The SKU.
    pub sku: Sku,
    /// Whose it was.
    pub product_id: ProductId,
}

/// The SKU is this product's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkuClaimed {
    /// The SKU.
    pub sku: Sku,
    /// Its owner.
    pub product_id: ProductId,
}
