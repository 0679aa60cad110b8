//! What the requests about products, SKUs and prices mean.

use shopstream_command_handlers::CommandEnvelope;
use shopstream_domain::catalog::{ProductCommand, Variant};
use shopstream_domain::pricing::PriceCommand;
use shopstream_domain::{Currency, ProductId, Sku};
use shopstream_proto::catalog::v1 as wire;
use shopstream_proto::catalog::v1::{
    CreateProductRequest, DeleteProductRequest, ProductStatus, SetPriceRequest, UpdateProductRequest,
};

use super::claims::Claims;
use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::offers::Offer;
use crate::wire::{id, money_of};

/// A product as a request wants it.
#[derive(Debug)]
pub(super) struct NewProduct {
    pub(super) asked: Asked,
    pub(super) product_id: ProductId,
    title: String,
    description: String,
    pub(super) variants: Vec<NewVariant>,
    draft: bool,
}

#[derive(Debug)]
pub(super) struct NewVariant {
    pub(super) sku: Sku,
    title: String,
    price: Option<(Currency, i64)>,
}

impl NewProduct {
    pub(super) fn of(mut request: CreateProductRequest, call: &Call) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        if request.variants.is_empty() && !request.draft {
            return Err(Failure::invalid("variants", "at least one unless the product is a draft"));
        }
        let product_id =
            request.product_id.unwrap_or_else(|| asked.derived_id(call, "CreateProduct", "prd_"));
        let mut variants = Vec::with_capacity(request.variants.len());
        for (i, variant) in request.variants.into_iter().enumerate() {
            let parsed =
                NewVariant::of(variant).map_err(|failure| failure.inside(&format!("variants[{i}]")))?;
            if variants.iter().any(|earlier: &NewVariant| earlier.sku == parsed.sku) {
                return Err(Failure::invalid(format!("variants[{i}].sku"), "this SKU stands here twice"));
            }
            variants.push(parsed);
        }
        Ok(Self {
            product_id: id(ProductId::new(&product_id), "product_id")?,
            title: request.title,
            description: request.description,
            draft: request.draft,
            variants,
            asked,
        })
    }

    pub(super) fn skus(&self) -> Vec<&Sku> {
        self.variants.iter().map(|variant| &variant.sku).collect()
    }

    /// The command, with the claims that were made for it; without them for a rehearsal.
    pub(super) fn create(&self, call: &Call, claims: Option<&Claims>) -> CommandEnvelope {
        let variant = |v: &NewVariant| Variant { sku: v.sku.clone(), title: v.title.clone() };
        let command = ProductCommand::Create {
            product_id: self.product_id.clone(),
            title: self.title.clone(),
            description: self.description.clone(),
            variants: self.variants.iter().map(variant).collect(),
            publish: !self.draft,
            claims: self.variants.iter().map(|v| (v.sku.clone(), claim_on(&v.sku, claims))).collect(),
        };
        self.asked.envelope(call, self.product_id.stream(&call.tenant), command)
    }

    /// Asks what became of this product when it was asked for before.
    pub(super) fn recall(&self, call: &Call) -> CommandEnvelope {
        self.asked.recall(call, self.product_id.stream(&call.tenant))
    }

    pub(super) fn prices(&self, call: &Call) -> Vec<CommandEnvelope> {
        let price = |variant: &NewVariant| {
            let (currency, amount_minor) = variant.price?;
            let sku = variant.sku.clone();
            let stream = sku.price_stream(&call.tenant, currency);
            let command = PriceCommand::Set { sku, amount_minor, currency, reason: None };
            Some(self.asked.further(call, stream, 0, command))
        };
        self.variants.iter().filter_map(price).collect()
    }
}

impl NewVariant {
    pub(super) fn of(variant: wire::NewVariant) -> Result<Self, Failure> {
        Ok(Self {
            sku: id(Sku::new(&variant.sku), "sku")?,
            title: variant.title,
            price: variant.list_price.as_ref().map(|price| money_of(price, "list_price")).transpose()?,
        })
    }
}

/// In a rehearsal every claim is a good one: they are made after it.
fn claim_on(sku: &Sku, claims: Option<&Claims>) -> u64 {
    claims.map_or(u64::MAX, |claims| claims.get(sku).copied().unwrap_or_default())
}

/// What a mask may name.
const WHOLE: [&str; 4] = ["title", "description", "variants", "status"];

/// What an update changes.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) asked: Asked,
    pub(super) product_id: ProductId,
    title: Option<String>,
    description: Option<String>,
    variants: Vec<Variant>,
    publish: Option<bool>,
}

impl Update {
    pub(super) fn of(mut request: UpdateProductRequest) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let mask = request.update_mask.take().unwrap_or_default();
        // What the rules let through as a part of one of these would otherwise be nothing.
        if let Some(part) = mask.paths.iter().find(|path| !WHOLE.contains(&path.as_str())) {
            let part: String = part.chars().take(80).collect();
            let description = format!("{part:?} is none of {}", WHOLE.join(", "));
            return Err(Failure::invalid("update_mask", description));
        }
        let named = |field: &str| mask.paths.iter().any(|path| path == field);
        if named("title") && request.title.is_empty() {
            return Err(Failure::invalid("title", "a title cannot be cleared"));
        }
        let publish = match (named("status"), request.status()) {
            (false, _) => None,
            (true, ProductStatus::Published) => Some(true),
            (true, ProductStatus::Unpublished) => Some(false),
            (true, ProductStatus::Unspecified | ProductStatus::Draft | ProductStatus::Discontinued) => {
                return Err(Failure::invalid(
                    "status",
                    "a product is moved to PUBLISHED or UNPUBLISHED only",
                ));
            }
        };
        Ok(Self {
            product_id: id(ProductId::new(&request.product_id), "product_id")?,
            title: named("title").then_some(request.title),
            description: named("description").then_some(request.description),
            variants: if named("variants") { variants(request.variants)? } else { Vec::new() },
            publish,
            asked,
        })
    }

    pub(super) fn skus(&self) -> Vec<&Sku> {
        self.variants.iter().map(|variant| &variant.sku).collect()
    }

    /// In the order in which they are given, with the claims that were made for them; without those for a rehearsal. The
    /// first carries the version that the caller expects.
    pub(super) fn commands(&self, call: &Call, claims: Option<&Claims>) -> Vec<CommandEnvelope> {
        let put = |variant: &Variant| ProductCommand::PutVariant {
            variant: variant.clone(),
            claim: claim_on(&variant.sku, claims),
        };
        let mut wanted: Vec<ProductCommand> = self.variants.iter().map(put).collect();
        wanted.extend(
            self.publish.map(|on| if on { ProductCommand::Publish } else { ProductCommand::Unpublish }),
        );
        // An empty mask still asks whether the product is there, and at that version.
        if self.title.is_some() || self.description.is_some() || wanted.is_empty() {
            let (title, description) = (self.title.clone(), self.description.clone());
            wanted.insert(0, ProductCommand::ChangeDetails { title, description });
        }
        let stream = self.product_id.stream(&call.tenant);
        let envelope = |(step, command)| match step {
            0 => self.asked.envelope(call, stream.clone(), command),
            _ => self.asked.further(call, stream.clone(), step, command),
        };
        wanted.into_iter().enumerate().map(envelope).collect()
    }

    /// Asks what became of this update when it was asked for before.
    pub(super) fn recall(&self, call: &Call) -> CommandEnvelope {
        self.asked.recall(call, self.product_id.stream(&call.tenant))
    }
}

fn variants(given: Vec<wire::Variant>) -> Result<Vec<Variant>, Failure> {
    let mut variants: Vec<Variant> = Vec::with_capacity(given.len());
    for (i, variant) in given.into_iter().enumerate() {
        let sku =
            id(Sku::new(&variant.sku), "sku").map_err(|failure| failure.inside(&format!("variants[{i}]")))?;
        if variants.iter().any(|earlier| earlier.sku == sku) {
            return Err(Failure::invalid(format!("variants[{i}].sku"), "this SKU stands here twice"));
        }
        variants.push(Variant { sku, title: variant.title });
    }
    Ok(variants)
}

pub(super) fn delete(mut request: DeleteProductRequest, call: &Call) -> Result<CommandEnvelope, Failure> {
    let asked = Asked::of(&mut request)?;
    let product_id = id(ProductId::new(&request.product_id), "product_id")?;
    Ok(asked.envelope(call, product_id.stream(&call.tenant), ProductCommand::Discontinue))
}

/// A list price as a request wants it.
#[derive(Debug)]
pub(super) struct NewPrice {
    pub(super) sku: Sku,
    currency: Currency,
    pub(super) command: CommandEnvelope,
}

impl NewPrice {
    pub(super) fn of(mut request: SetPriceRequest, call: &Call) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let sku = id(Sku::new(&request.sku), "sku")?;
        let (currency, amount_minor) = money_of(&request.price.unwrap_or_default(), "price")?;
        if request.effective_time.is_some() {
            let description = "a list price holds from when it is recorded: leave this out";
            return Err(Failure::invalid("effective_time", description));
        }
        let stream = sku.price_stream(&call.tenant, currency);
        let set = PriceCommand::Set { sku: sku.clone(), amount_minor, currency, reason: None };
        Ok(Self { sku, currency, command: asked.envelope(call, stream, set) })
    }

    pub(super) fn allowed_by(&self, offer: Option<&Offer>) -> Result<(), Failure> {
        let Some(offer) = offer else {
            return Err(Failure::not_found("SKU_UNKNOWN", format!("no product has the SKU {}", self.sku)));
        };
        match offer.prices.iter().find(|price| price.currency != self.currency) {
            Some(other) => {
                let detail = format!("SKU {} is priced in {}", self.sku, other.currency);
                Err(Failure::precondition("CURRENCY_MIXED", "price.currency_code", detail))
            }
            None => Ok(()),
        }
    }
}
