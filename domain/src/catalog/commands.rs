//! What may be asked of the catalogue.

use serde::{Deserialize, Serialize};

use super::Variant;
use crate::{ProductId, Sku};

/// What may be asked of a product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ProductCommand {
    /// Adds a product to the catalogue.
    Create {
        /// Its id.
        product_id: ProductId,
        /// Its name for people.
        title: String,
        /// What it is; may be empty.
        description: String,
        /// What of it can be bought.
        variants: Vec<Variant>,
        /// Whether it goes on sale at once; then it needs a variant.
        publish: bool,
    },
    /// Says it better; what is absent stays as it is.
    ChangeDetails {
        /// The new title.
        title: Option<String>,
        /// The new description.
        description: Option<String>,
    },
    /// Adds the variant of this SKU, or changes it. Variants are never removed: they may have been sold.
    PutVariant(Variant),
    /// Puts it on sale.
    Publish,
    /// Takes it off sale for a while.
    Unpublish,
    /// Takes it off sale for good.
    Discontinue,
}

/// What may be asked of a SKU's claim stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SkuClaimCommand {
    /// Makes the SKU this product's, for ever.
    Claim {
        /// The SKU whose stream this is.
        sku: Sku,
        /// The product that wants it.
        product_id: ProductId,
    },
}
