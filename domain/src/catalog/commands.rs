//! What may be asked of the catalogue.

use std::collections::BTreeMap;

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
        /// Which claim on each SKU it has.
        #[serde(default)]
        claims: BTreeMap<Sku, u64>,
    },
    /// Says it better; what is absent stays as it is.
    ChangeDetails {
        /// The new title.
        title: Option<String>,
        /// The new description.
        description: Option<String>,
    },
    /// Adds the variant of this SKU, or changes it. Variants are never removed: they may have been sold.
    PutVariant {
        /// The variant.
        variant: Variant,
        /// Which claim on its SKU the product has.
        claim: u64,
    },
    /// Does without this SKU, unless it is a variant's already: claims on it up to this one come to nothing here, also
    /// where somebody is still at work with them. The product need not exist.
    Forgo {
        /// The SKU.
        sku: Sku,
        /// The last claim that is given up.
        claim: u64,
    },
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
    /// Makes the SKU this product's, if it is nobody's.
    Claim {
        /// The SKU whose stream this is.
        sku: Sku,
        /// The product that wants it.
        product_id: ProductId,
    },
    /// Makes the SKU this product's in place of another, which does without it: see [`ProductCommand::Forgo`].
    TakeOver {
        /// The SKU whose stream this is.
        sku: Sku,
        /// The product that wants it.
        product_id: ProductId,
        /// The product that does without it.
        from: ProductId,
        /// The claim that came to nothing there.
        claim: u64,
    },
    /// The product does without the SKU: it is anybody's again.
    GiveBack {
        /// The SKU whose stream this is.
        sku: Sku,
        /// The product that has it.
        product_id: ProductId,
        /// The claim that came to nothing there.
        claim: u64,
    },
}
