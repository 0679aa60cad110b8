//! Products with their variants, the product of every SKU, and list prices.
//!
//! Products and prices are streams of different partitions, so each has its table; a query brings them together.

use serde::{Deserialize, Serialize};
use shopstream_domain::catalog::{ProductEvent, Variant};
use shopstream_domain::model::Event;
use shopstream_domain::pricing::PriceEvent;
use shopstream_domain::{
    Currency, Partition, ProductId, Sku, StreamId, StreamKind, TenantId, Timestamp, Version,
};
use shopstream_eventlog::Offset;

use crate::column::{Column, words};
use crate::memory::MemoryViews;
use crate::read_models::{SourceOf, look};
use crate::table::{Row as _, columns, read, table};
use crate::view::{Derived, DerivedRows, Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![
        Box::new(EntityRows::<ProductView>::new(schema)),
        Box::new(EntityRows::<ListPrice>::new(schema)),
        Box::new(DerivedRows::<SkuOwner>::new(schema)),
    ]
}

/// Where a product is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductStatus {
    /// Never on sale so far.
    Draft,
    /// On sale.
    Published,
    /// Off sale for a while.
    Unpublished,
    /// Off sale for good.
    Discontinued,
}

words!(ProductStatus);

table! {
    /// A product.
    pub struct ProductView in "product" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Its id.
            product_id: ProductId,
        }
        /// Its name for people.
        title: String,
        /// What it is; may be empty.
        description: String,
        /// Where it is in its life.
        status: ProductStatus,
        /// What of it can be bought, in the order in which it was added.
        variants: Vec<Variant>,
        /// When it was recorded first.
        created_at: Timestamp,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its last event.
        version: Version,
        /// Where that event is.
        partition: Partition,
        /// Where that event is.
        offset: Offset,
    }
}

table! {
    /// The list price of a SKU in one currency.
    pub struct ListPrice in "price" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Of what.
            sku: Sku,
            /// The currency of the amounts.
            currency: Currency,
        }
        /// The price of one unit.
        amount_minor: i64,
        /// For a price that was reduced: the lowest of the 30 days before, to be shown beside it.
        prior_lowest_minor: Option<i64>,
        /// Since when it is in force.
        effective_at: Timestamp,
        /// When it was recorded.
        updated_at: Timestamp,
        /// The version of the price's own stream; orders freeze it.
        version: Version,
        /// Where its last event is.
        partition: Partition,
        /// Where its last event is.
        offset: Offset,
    }
}

table! {
    /// Which product a SKU belongs to.
    pub struct SkuOwner in "sku" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// The SKU.
            sku: Sku,
        }
        /// Its product.
        product_id: ProductId,
    }
}

impl Entity for ProductView {
    const KIND: StreamKind = StreamKind::Product;

    fn key(stream: &StreamId) -> Vec<&str> {
        vec![stream.tenant_str(), stream.id()]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let Event::Product(ProductEvent::Drafted(drafted)) = fact.event else {
            return Err(Poison::no_row(fact.event));
        };
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        Ok(Self {
            tenant_id: fact.stream().tenant(),
            product_id: drafted.product_id.clone(),
            title: drafted.title.clone(),
            description: drafted.description.clone(),
            status: ProductStatus::Draft,
            variants: drafted.variants.clone(),
            created_at: updated_at,
            updated_at,
            version,
            partition,
            offset,
        })
    }

    /// A product that does without a SKU need not exist.
    fn leaves_no_row(event: &Event) -> bool {
        matches!(event, Event::Product(ProductEvent::SkuForgone(_)))
    }

    fn begins(event: &Event) -> bool {
        matches!(event, Event::Nothing(_) | Event::Product(ProductEvent::Drafted(_)))
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Product(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        match event {
            ProductEvent::Drafted(_) => return Err(Poison::repeated(fact.event)),
            ProductEvent::DetailsChanged(changed) => {
                if let Some(title) = &changed.title {
                    self.title.clone_from(title);
                }
                if let Some(description) = &changed.description {
                    self.description.clone_from(description);
                }
            }
            ProductEvent::VariantPut(put) => {
                match self.variants.iter_mut().find(|variant| variant.sku == put.sku) {
                    Some(variant) => variant.title.clone_from(&put.title),
                    None => self.variants.push(Variant { sku: put.sku.clone(), title: put.title.clone() }),
                }
            }
            ProductEvent::Published(_) => self.status = ProductStatus::Published,
            ProductEvent::Unpublished(_) => self.status = ProductStatus::Unpublished,
            ProductEvent::Discontinued(_) => self.status = ProductStatus::Discontinued,
            ProductEvent::SkuForgone(_) => {}
        }
        Ok(())
    }

    marked!();
}

impl Entity for ListPrice {
    const KIND: StreamKind = StreamKind::Price;

    fn key(stream: &StreamId) -> Vec<&str> {
        let id = stream.id();
        let (sku, currency) = id.rsplit_once('.').unwrap_or((id, ""));
        vec![stream.tenant_str(), sku, currency]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let Event::Price(PriceEvent::Set(set)) = fact.event else { return Err(Poison::no_row(fact.event)) };
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        Ok(Self {
            tenant_id: fact.stream().tenant(),
            sku: set.sku.clone(),
            currency: set.currency,
            amount_minor: set.amount_minor,
            prior_lowest_minor: None,
            effective_at: set.at,
            updated_at,
            version,
            partition,
            offset,
        })
    }

    fn begins(event: &Event) -> bool {
        matches!(event, Event::Nothing(_) | Event::Price(PriceEvent::Set(_)))
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Price(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        match event {
            PriceEvent::Set(_) => return Err(Poison::repeated(fact.event)),
            PriceEvent::Changed(changed) => {
                self.amount_minor = changed.new_minor;
                self.prior_lowest_minor = changed.prior_lowest_minor;
                self.effective_at = changed.at;
            }
        }
        Ok(())
    }

    marked!();
}

impl Derived for SkuOwner {
    const KINDS: &'static [StreamKind] = &[StreamKind::Product];
    type Key = (TenantId, Sku);

    fn key(&self) -> Self::Key {
        (self.tenant_id.clone(), self.sku.clone())
    }

    fn derive(fact: &Fact<'_>, mut row: impl FnMut(Self)) -> Result<(), Poison> {
        let Event::Product(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        let variants: Vec<&Sku> = match event {
            ProductEvent::Drafted(drafted) => drafted.variants.iter().map(|variant| &variant.sku).collect(),
            ProductEvent::VariantPut(put) => vec![&put.sku],
            ProductEvent::DetailsChanged(_)
            | ProductEvent::Published(_)
            | ProductEvent::Unpublished(_)
            | ProductEvent::Discontinued(_)
            | ProductEvent::SkuForgone(_) => return Ok(()),
        };
        let product_id = ProductId::new(fact.stream().id())
            .map_err(|_| Poison::Id { kind: "product", id: fact.stream().id().to_owned() })?;
        for sku in variants {
            row(Self { tenant_id: fact.stream().tenant(), sku: sku.clone(), product_id: product_id.clone() });
        }
        Ok(())
    }
}

/// A product with the list prices of its variants.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The product.
    pub product: ProductView,
    /// The prices, ordered by SKU and currency.
    pub prices: Vec<ListPrice>,
}

/// What can be said about a SKU that somebody wants to order.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The SKU.
    pub sku: Sku,
    /// Its product.
    pub product_id: ProductId,
    /// Whether it is on sale.
    pub status: ProductStatus,
    /// Its list price in each currency that it has one in.
    pub prices: Vec<ListPrice>,
}

/// The SKUs that belong to a product.
fn skus_of(views: &MemoryViews, product: &ProductView) -> Vec<SkuOwner> {
    let belongs = |row: &SkuOwner| row.tenant_id == product.tenant_id && row.product_id == product.product_id;
    views.find(belongs)
}

/// Their prices, ordered by SKU and currency.
fn prices_of(views: &MemoryViews, owners: &[SkuOwner]) -> Vec<ListPrice> {
    let is_theirs =
        |row: &ListPrice| owners.iter().any(|owner| owner.tenant_id == row.tenant_id && owner.sku == row.sku);
    views.page(is_theirs, |row| (row.sku.clone(), row.currency.to_string()), u32::MAX)
}

fn offers_in(views: &MemoryViews, tenant: &TenantId, skus: &[Sku]) -> Vec<Offer> {
    let is_wanted = |row: &SkuOwner| row.tenant_id == *tenant && skus.contains(&row.sku);
    let owners = views.page(is_wanted, |row| row.sku.clone(), u32::MAX);
    let offer = |owner: SkuOwner| {
        let is_its = |row: &ProductView| row.tenant_id == *tenant && row.product_id == owner.product_id;
        let status = views.find(is_its).pop()?.status;
        let prices = prices_of(views, std::slice::from_ref(&owner));
        Some(Offer { sku: owner.sku, product_id: owner.product_id, status, prices })
    };
    owners.into_iter().filter_map(offer).collect()
}

impl ReadModels {
    /// A product, discontinued ones included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn product(
        &self,
        tenant: &TenantId,
        product: &ProductId,
    ) -> Result<Option<Product>, DatabaseError> {
        let key: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&tenant.as_str(), &product.as_str()];
        let tables = match self.source() {
            SourceOf::Postgres(tables) => tables,
            SourceOf::Memory(store) => {
                return look(store, Projection::ProductView, |views| {
                    let is_it = |row: &ProductView| row.tenant_id == *tenant && row.product_id == *product;
                    let product = views.find(is_it).pop()?;
                    Some(Product { prices: prices_of(views, &skus_of(views, &product)), product })
                });
            }
        };
        let rest = "WHERE t.tenant_id = $1 AND t.product_id = $2";
        let prices = format!(
            "JOIN {} AS s USING (tenant_id, sku) WHERE s.tenant_id = $1 AND s.product_id = $2 \
             ORDER BY t.sku, t.currency",
            tables.table(Projection::ProductView, SkuOwner::NAME)
        );
        let (product, prices) = futures::try_join!(
            tables.select::<ProductView>(Projection::ProductView, rest, &key),
            tables.select::<ListPrice>(Projection::ProductView, &prices, &key),
        )?;
        Ok(product.into_iter().next().map(|product| Product { product, prices }))
    }

    /// The offers of these SKUs, in no order; those that no product has are left out.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn offers(&self, tenant: &TenantId, skus: &[Sku]) -> Result<Vec<Offer>, DatabaseError> {
        let tables = match self.source() {
            SourceOf::Postgres(tables) => tables,
            SourceOf::Memory(store) => {
                return look(store, Projection::ProductView, |views| offers_in(views, tenant, skus));
            }
        };
        let table = |name| tables.table(Projection::ProductView, name);
        let sql = format!(
            "SELECT s.sku, s.product_id, p.status, l.sku IS NOT NULL, {} FROM {} AS s \
             JOIN {} AS p USING (tenant_id, product_id) \
             LEFT JOIN {} AS l ON l.tenant_id = s.tenant_id AND l.sku = s.sku \
             WHERE s.tenant_id = $1 AND s.sku = ANY($2::text[]) ORDER BY s.sku, l.currency",
            columns::<ListPrice>("l."),
            table(SkuOwner::NAME),
            table(ProductView::NAME),
            table(ListPrice::NAME),
        );
        let wanted: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        let mut offers: Vec<Offer> = Vec::with_capacity(skus.len());
        for row in tables.query(Projection::ProductView, &sql, &[&tenant.as_str(), &wanted]).await? {
            let unreadable = |source| DatabaseError::Unreadable { table: "sku", source };
            let sku = Sku::read(row.try_get(0)?).map_err(unreadable)?;
            // Ordered by SKU, so the prices of one come together.
            if offers.last().is_none_or(|offer| offer.sku != sku) {
                offers.push(Offer {
                    sku,
                    product_id: ProductId::read(row.try_get(1)?).map_err(unreadable)?,
                    status: ProductStatus::read(row.try_get(2)?).map_err(unreadable)?,
                    prices: Vec::new(),
                });
            }
            if let (true, Some(offer)) = (row.try_get(3)?, offers.last_mut()) {
                offer.prices.push(read(&row, 4)?);
            }
        }
        Ok(offers)
    }
}
