//! Why the catalogue refuses.

use crate::text::TextError;
use crate::{ProductId, Refusal, RefusalFamily, Sku};

/// The fact that stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody has created it.
    #[error("the product does not exist")]
    NotFound,
    /// Somebody has created it before.
    #[error("product {product_id} exists already")]
    Exists {
        /// The id that is taken.
        product_id: ProductId,
    },
    /// It has gone off sale for good and no longer changes.
    #[error("the product is discontinued")]
    Discontinued,
    /// It has never been on sale.
    #[error("the product has never been published, so it cannot be taken off sale")]
    NeverPublished,
    /// There is nothing of it to sell.
    #[error("the product has no variant, so it cannot be published")]
    NoVariants,
    /// It was to be created on sale, with nothing of it to sell.
    #[error("a product that is published at once needs a variant")]
    VariantsMissing,
    /// One product with too many forms.
    #[error("{found} variants are more than {limit}")]
    TooManyVariants {
        /// How many there would be.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// One SKU twice in one request.
    #[error("SKU {sku} appears twice")]
    DuplicateSku {
        /// The SKU.
        sku: Sku,
        /// Where the second one stands.
        index: usize,
    },
    /// A text that cannot be kept.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What is one of its variants it does not do without.
    #[error("SKU {sku} is one of the product's variants")]
    SkuInUse {
        /// The SKU.
        sku: Sku,
    },
    /// The request took so long that another product has the SKU by now.
    #[error("SKU {sku} was claimed for another product meanwhile")]
    ClaimLost {
        /// The SKU.
        sku: Sku,
        /// Where it stands in the request.
        index: usize,
    },
    /// Another product sells under this SKU.
    #[error("SKU {sku} belongs to {owner}")]
    SkuTaken {
        /// The SKU.
        sku: Sku,
        /// Whose it is.
        owner: ProductId,
    },
}

impl Refusal for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "PRODUCT_NOT_FOUND",
            Self::Exists { .. } => "PRODUCT_EXISTS",
            Self::Discontinued => "PRODUCT_DISCONTINUED",
            Self::NeverPublished => "PRODUCT_NEVER_PUBLISHED",
            Self::NoVariants => "PRODUCT_HAS_NO_VARIANTS",
            Self::SkuInUse { .. } => "SKU_IN_USE",
            Self::VariantsMissing => "VARIANTS_MISSING",
            Self::TooManyVariants { .. } => "TOO_MANY_VARIANTS",
            Self::DuplicateSku { .. } => "DUPLICATE_SKU",
            Self::Text(error) => error.reason(),
            Self::ClaimLost { .. } | Self::SkuTaken { .. } => "SKU_TAKEN",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::NotFound => RefusalFamily::NotFound,
            Self::Exists { .. } | Self::ClaimLost { .. } | Self::SkuTaken { .. } => {
                RefusalFamily::AlreadyExists
            }
            Self::Discontinued | Self::NeverPublished | Self::NoVariants | Self::SkuInUse { .. } => {
                RefusalFamily::Precondition
            }
            Self::VariantsMissing | Self::TooManyVariants { .. } | Self::DuplicateSku { .. } => {
                RefusalFamily::Invalid
            }
            Self::Text(error) => error.family(),
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::NotFound | Self::Discontinued | Self::NoVariants => None,
            Self::NeverPublished => Some("status".to_owned()),
            Self::Exists { .. } => Some("product_id".to_owned()),
            Self::VariantsMissing | Self::TooManyVariants { .. } => Some("variants".to_owned()),
            Self::DuplicateSku { index, .. } | Self::ClaimLost { index, .. } => {
                Some(format!("variants[{index}].sku"))
            }
            Self::Text(error) => error.field(),
            Self::SkuInUse { .. } | Self::SkuTaken { .. } => Some("sku".to_owned()),
        }
    }
}
