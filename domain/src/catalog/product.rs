//! A product: its texts, its variants, and whether it is on sale.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Error, ProductCommand, ProductDetailsChanged, ProductDiscontinued, ProductDrafted, ProductEvent,
    ProductPublished, ProductUnpublished, SkuForgone, Variant, VariantPut,
};
use crate::aggregate::cqrs_aggregate;
use crate::text::{DESCRIPTION, TITLE};
use crate::{Aggregate, ProductId, Sku, StreamKind, Timestamp};

const VARIANTS_MAX: usize = 1_000;

/// A product in the catalogue.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Product {
    status: ProductStatus,
    title: String,
    description: String,
    variants: BTreeMap<Sku, String>,
    /// SKUs that it does without, each with the last claim that came to nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    forgone: BTreeMap<Sku, u64>,
}

/// How far a product has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductStatus {
    /// Nobody has created it.
    #[default]
    Missing,
    /// It has never been on sale.
    Draft,
    /// It is on sale.
    Published,
    /// It was on sale and may be again.
    Unpublished,
    /// It will never be on sale again.
    Discontinued,
}

impl Aggregate for Product {
    const KIND: StreamKind = StreamKind::Product;
    type Command = ProductCommand;
    type Event = ProductEvent;
    type Error = Error;

    fn decide(&self, command: &ProductCommand, _now: Timestamp) -> Result<Vec<ProductEvent>, Error> {
        match command {
            ProductCommand::Create { product_id, title, description, variants, publish, claims } => {
                let created = self.create(product_id, title, description, variants, *publish)?;
                let lost = |variant: &Variant| {
                    self.has_lost(&variant.sku, claims.get(&variant.sku).copied().unwrap_or_default())
                };
                match variants.iter().position(lost) {
                    Some(index) => Err(Error::ClaimLost { sku: variants[index].sku.clone(), index }),
                    None => Ok(created),
                }
            }
            ProductCommand::ChangeDetails { title, description } => {
                self.change_details(title.as_deref(), description.as_deref())
            }
            ProductCommand::PutVariant { variant, claim } => self.put_variant(variant, *claim),
            ProductCommand::Forgo { sku, claim } => self.forgo(sku, *claim),
            ProductCommand::Publish => self.publish(),
            ProductCommand::Unpublish => self.unpublish(),
            ProductCommand::Discontinue => self.discontinue(),
        }
    }

    fn evolve(&mut self, event: &ProductEvent) {
        match event {
            ProductEvent::Drafted(drafted) => {
                self.status = ProductStatus::Draft;
                self.title.clone_from(&drafted.title);
                self.description.clone_from(&drafted.description);
                self.variants = drafted.variants.iter().map(|v| (v.sku.clone(), v.title.clone())).collect();
            }
            ProductEvent::DetailsChanged(changed) => {
                if let Some(title) = &changed.title {
                    self.title.clone_from(title);
                }
                if let Some(description) = &changed.description {
                    self.description.clone_from(description);
                }
            }
            ProductEvent::VariantPut(put) => {
                self.variants.insert(put.sku.clone(), put.title.clone());
            }
            ProductEvent::Published(_) => self.status = ProductStatus::Published,
            ProductEvent::Unpublished(_) => self.status = ProductStatus::Unpublished,
            ProductEvent::Discontinued(_) => self.status = ProductStatus::Discontinued,
            ProductEvent::SkuForgone(forgone) => {
                self.forgone.insert(forgone.sku.clone(), forgone.claim);
            }
        }
    }

    fn weight(&self) -> usize {
        const PER_VARIANT: usize = size_of::<(Sku, String)>() + 48;
        let texts = self.variants.values().map(String::len).sum::<usize>();
        size_of::<Self>()
            + self.title.len()
            + self.description.len()
            + (self.variants.len() + self.forgone.len()) * PER_VARIANT
            + texts
    }
}

cqrs_aggregate!(Product, "product");

impl Product {
    /// How far it has come.
    pub fn status(&self) -> ProductStatus {
        self.status
    }

    /// Whether this SKU is one of its variants'.
    pub fn has(&self, sku: &Sku) -> bool {
        self.variants.contains_key(sku)
    }

    /// Whether it did without this SKU after it had been claimed for the `claim`-th time.
    pub fn has_lost(&self, sku: &Sku, claim: u64) -> bool {
        self.forgone.get(sku).is_some_and(|forgone| *forgone >= claim)
    }

    fn forgo(&self, sku: &Sku, claim: u64) -> Result<Vec<ProductEvent>, Error> {
        if self.has(sku) {
            return Err(Error::SkuInUse { sku: sku.clone() });
        }
        if self.has_lost(sku, claim) {
            return Ok(vec![]);
        }
        Ok(vec![ProductEvent::SkuForgone(SkuForgone { sku: sku.clone(), claim })])
    }

    fn create(
        &self,
        product_id: &ProductId,
        title: &str,
        description: &str,
        variants: &[Variant],
        publish: bool,
    ) -> Result<Vec<ProductEvent>, Error> {
        if self.status != ProductStatus::Missing {
            return Err(Error::Exists { product_id: product_id.clone() });
        }
        TITLE.check_present("title", title)?;
        DESCRIPTION.check("description", description)?;
        check_variants(variants)?;
        if publish && variants.is_empty() {
            return Err(Error::VariantsMissing);
        }
        let drafted = ProductEvent::Drafted(ProductDrafted {
            product_id: product_id.clone(),
            title: title.to_owned(),
            description: description.to_owned(),
            variants: variants.to_vec(),
        });
        let published = publish.then_some(ProductEvent::Published(ProductPublished {}));
        Ok([drafted].into_iter().chain(published).collect())
    }

    fn change_details(
        &self,
        title: Option<&str>,
        description: Option<&str>,
    ) -> Result<Vec<ProductEvent>, Error> {
        self.must_be_alive()?;
        title.map_or(Ok(()), |title| TITLE.check_present("title", title))?;
        description.map_or(Ok(()), |text| DESCRIPTION.check("description", text))?;
        let title = title.filter(|title| *title != self.title).map(str::to_owned);
        let description = description.filter(|text| *text != self.description).map(str::to_owned);
        if title.is_none() && description.is_none() {
            return Ok(vec![]);
        }
        Ok(vec![ProductEvent::DetailsChanged(ProductDetailsChanged { title, description })])
    }

    fn put_variant(&self, variant: &Variant, claim: u64) -> Result<Vec<ProductEvent>, Error> {
        self.must_be_alive()?;
        TITLE.check("title", &variant.title)?;
        match self.variants.get(&variant.sku) {
            Some(title) if *title == variant.title => return Ok(vec![]),
            Some(_) => {}
            None if self.has_lost(&variant.sku, claim) => {
                return Err(Error::ClaimLost { sku: variant.sku.clone(), index: 0 });
            }
            None => check_count(self.variants.len() + 1)?,
        }
        let put = VariantPut { sku: variant.sku.clone(), title: variant.title.clone() };
        Ok(vec![ProductEvent::VariantPut(put)])
    }

    fn publish(&self) -> Result<Vec<ProductEvent>, Error> {
        self.must_be_alive()?;
        if self.status == ProductStatus::Published {
            return Ok(vec![]);
        }
        if self.variants.is_empty() {
            return Err(Error::NoVariants);
        }
        Ok(vec![ProductEvent::Published(ProductPublished {})])
    }

    fn unpublish(&self) -> Result<Vec<ProductEvent>, Error> {
        match self.status {
            ProductStatus::Missing => Err(Error::NotFound),
            ProductStatus::Published => Ok(vec![ProductEvent::Unpublished(ProductUnpublished {})]),
            ProductStatus::Draft => Err(Error::NeverPublished),
            ProductStatus::Unpublished => Ok(vec![]),
            ProductStatus::Discontinued => Err(Error::Discontinued),
        }
    }

    fn discontinue(&self) -> Result<Vec<ProductEvent>, Error> {
        match self.status {
            ProductStatus::Missing => Err(Error::NotFound),
            ProductStatus::Draft | ProductStatus::Published | ProductStatus::Unpublished => {
                Ok(vec![ProductEvent::Discontinued(ProductDiscontinued {})])
            }
            ProductStatus::Discontinued => Ok(vec![]),
        }
    }

    fn must_be_alive(&self) -> Result<(), Error> {
        match self.status {
            ProductStatus::Missing => Err(Error::NotFound),
            ProductStatus::Draft | ProductStatus::Published | ProductStatus::Unpublished => Ok(()),
            ProductStatus::Discontinued => Err(Error::Discontinued),
        }
    }
}

fn check_count(found: usize) -> Result<(), Error> {
    if found > VARIANTS_MAX { Err(Error::TooManyVariants { found, limit: VARIANTS_MAX }) } else { Ok(()) }
}

fn check_variants(variants: &[Variant]) -> Result<(), Error> {
    check_count(variants.len())?;
    let mut seen = BTreeSet::new();
    for (index, variant) in variants.iter().enumerate() {
        if !seen.insert(&variant.sku) {
            return Err(Error::DuplicateSku { sku: variant.sku.clone(), index });
        }
        TITLE.check(&format!("variants[{index}].title"), &variant.title)?;
    }
    Ok(())
}
