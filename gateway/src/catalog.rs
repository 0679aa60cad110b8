//! ProductService: products, their variants, and list prices (the context `pricing` has no service of its own).

use futures::future::try_join_all;
use shopstream_command_handlers::{CommandEnvelope, Reply};
use shopstream_domain::catalog::{ProductCommand, SkuClaimCommand, Variant};
use shopstream_domain::pricing::PriceCommand;
use shopstream_domain::{Currency, ProductId, Sku, model};
use shopstream_projections::Projection;
use shopstream_proto::Validate;
use shopstream_proto::catalog::v1 as wire;
use shopstream_proto::catalog::v1::product_service_server::ProductService;
use shopstream_proto::catalog::v1::{
    CreateProductRequest, CreateProductResponse, DeleteProductRequest, DeleteProductResponse,
    GetProductRequest, GetProductResponse, ProductStatus, SetPriceRequest, SetPriceResponse,
    UpdateProductRequest, UpdateProductResponse,
};
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::command::{Asked, effective_time};
use crate::failure::Failure;
use crate::positions::position;
use crate::shop::Shop;
use crate::wire::{id, int, money_of};

#[cfg(test)]
mod tests;
mod view;

/// The service.
pub(crate) struct Catalog {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl ProductService for Catalog {
    async fn create_product(
        &self,
        request: Request<CreateProductRequest>,
    ) -> Result<Response<CreateProductResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let new = NewProduct::of(request.into_inner(), &call)?;
        let reply = self.create(&call, &new).await?;
        Ok(Response::new(CreateProductResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
            product_id: new.product_id.as_str().to_owned(),
        }))
    }

    async fn get_product(
        &self,
        request: Request<GetProductRequest>,
    ) -> Result<Response<GetProductResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let product = self.product(&call, request.get_ref()).await?;
        Ok(Response::new(GetProductResponse { product: Some(product) }))
    }

    async fn update_product(
        &self,
        request: Request<UpdateProductRequest>,
    ) -> Result<Response<UpdateProductResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let reply = self.update(&call, Update::of(request.into_inner())?).await?;
        Ok(Response::new(UpdateProductResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn delete_product(
        &self,
        request: Request<DeleteProductRequest>,
    ) -> Result<Response<DeleteProductResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let reply = self.shop.submit_offer(&call, delete(request.into_inner(), &call)?).await?;
        Ok(Response::new(DeleteProductResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn set_price(
        &self,
        request: Request<SetPriceRequest>,
    ) -> Result<Response<SetPriceResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let price = NewPrice::of(request.into_inner(), &call, self.shop.now())?;
        self.check_price(&call, &price).await?;
        let reply = self.shop.submit_offer(&call, price.command).await?;
        Ok(Response::new(SetPriceResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }
}

impl Catalog {
    /// Claims the SKUs, then creates, then prices (`rulings.md` 14). Every step may be repeated, so a repeat of the
    /// request finishes what a crash interrupted.
    async fn create(&self, call: &Call, new: &NewProduct) -> Result<Reply, Failure> {
        self.refuse_taken(call, new).await?;
        self.claim(call, new.claims(call)).await?;
        let reply = self.shop.submit_offer(call, new.create(call)).await?;
        try_join_all(new.prices(call).into_iter().map(|price| self.shop.submit_offer(call, price))).await?;
        Ok(reply)
    }

    /// A claim is for ever, so nothing is claimed for a product that will surely not be. The claims themselves decide;
    /// this only keeps most refusals from leaving any behind.
    async fn refuse_taken(&self, call: &Call, new: &NewProduct) -> Result<(), Failure> {
        let skus: Vec<Sku> = new.variants.iter().map(|variant| variant.sku.clone()).collect();
        let offers = self.shop.offers(call, &skus).await?;
        for (i, (sku, offer)) in skus.into_iter().zip(offers).enumerate() {
            if let Some(owner) =
                offer.map(|offer| offer.product_id.clone()).filter(|owner| *owner != new.product_id)
            {
                let taken = shopstream_domain::catalog::Error::SkuTaken { sku, owner };
                return Err(Failure::refused(&taken).inside(&format!("variants[{i}]")));
            }
        }
        Ok(())
    }

    async fn claim(&self, call: &Call, claims: Vec<CommandEnvelope>) -> Result<(), Failure> {
        for (i, claimed) in self.shop.submit_all(call, claims).await?.into_iter().enumerate() {
            claimed.map_err(|failure| failure.inside(&format!("variants[{i}]")))?;
        }
        Ok(())
    }

    async fn product(&self, call: &Call, request: &GetProductRequest) -> Result<wire::Product, Failure> {
        request.validate()?;
        let product_id = id(ProductId::new(&request.product_id), "product_id")?;
        self.shop.see(call, Projection::ProductView, &request.min_position).await?;
        let found = async { Ok(self.shop.reads().product(&call.tenant, &product_id).await?) };
        match call.read_within(found).await? {
            Some(product) => Ok(view::product(product)),
            None => Err(Failure::not_found("PRODUCT_NOT_FOUND", format!("there is no product {product_id}"))),
        }
    }

    async fn update(&self, call: &Call, update: Update) -> Result<Reply, Failure> {
        let commands = update.commands(call);
        if commands.len() > 1 {
            self.rehearse(call, &commands).await?;
        }
        self.claim(call, update.claims(call)).await?;
        let mut last = None;
        for command in commands {
            last = Some(self.shop.submit_offer(call, command).await?);
        }
        last.ok_or_else(|| Failure::Internal("an update without a command".to_owned()))
    }

    /// An update may take several commands, and a refused one would leave those before it done. So all of them are
    /// decided here first, on the history so far; only a change at this very moment still gets between.
    async fn rehearse(&self, call: &Call, commands: &[CommandEnvelope]) -> Result<(), Failure> {
        let Some(first) = commands.first() else { return Ok(()) };
        self.shop.catch_up_on(call, Projection::Journal, &first.stream).await?;
        let journal = &self.shop.means.journal;
        let loaded = async { Ok(journal.load(std::slice::from_ref(&first.stream)).await?) };
        let history = call.read_within(loaded).await?.pop().unwrap_or_default();
        if history.iter().any(|record| record.commit.command_id == first.command_id) {
            // A repeat: what is stored wins over what the state says now.
            return Ok(());
        }
        let mut state = model::State::empty(first.stream.kind());
        for event in history.iter().flat_map(|record| &record.commit.events) {
            let event = shopstream_eventlog::schema::decode(first.stream.kind(), event);
            state.evolve(&event.map_err(|error| Failure::Internal(error.to_string()))?);
        }
        for command in commands {
            let events = state.decide(&command.command, self.shop.now()).map_err(Failure::Refused)?;
            events.iter().for_each(|event| state.evolve(event));
        }
        Ok(())
    }

    /// A price is for a SKU that somebody sells, in the currency that it is sold in.
    async fn check_price(&self, call: &Call, price: &NewPrice) -> Result<(), Failure> {
        let skus = std::slice::from_ref(&price.sku);
        let mut checked = price.allowed_by(self.shop.offers(call, skus).await?.pop().flatten().as_deref());
        if checked.is_err() {
            checked = price.allowed_by(self.shop.offers_now(call, skus).await?.pop().flatten().as_deref());
        }
        checked
    }
}

/// A product as a request wants it.
#[derive(Debug)]
struct NewProduct {
    asked: Asked,
    product_id: ProductId,
    title: String,
    description: String,
    variants: Vec<NewVariant>,
    draft: bool,
}

#[derive(Debug)]
struct NewVariant {
    sku: Sku,
    title: String,
    price: Option<(Currency, i64)>,
}

impl NewProduct {
    fn of(mut request: CreateProductRequest, call: &Call) -> Result<Self, Failure> {
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

    fn claims(&self, call: &Call) -> Vec<CommandEnvelope> {
        let claim = |variant: &NewVariant| claim(&self.asked, call, &variant.sku, &self.product_id);
        self.variants.iter().map(claim).collect()
    }

    fn create(&self, call: &Call) -> CommandEnvelope {
        let variant = |v: &NewVariant| Variant { sku: v.sku.clone(), title: v.title.clone() };
        let command = ProductCommand::Create {
            product_id: self.product_id.clone(),
            title: self.title.clone(),
            description: self.description.clone(),
            variants: self.variants.iter().map(variant).collect(),
            publish: !self.draft,
        };
        self.asked.envelope(call, self.product_id.stream(&call.tenant), command)
    }

    fn prices(&self, call: &Call) -> Vec<CommandEnvelope> {
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
    fn of(variant: wire::NewVariant) -> Result<Self, Failure> {
        Ok(Self {
            sku: id(Sku::new(&variant.sku), "sku")?,
            title: variant.title,
            price: variant.list_price.as_ref().map(|price| money_of(price, "list_price")).transpose()?,
        })
    }
}

fn claim(asked: &Asked, call: &Call, sku: &Sku, product_id: &ProductId) -> CommandEnvelope {
    let command = SkuClaimCommand::Claim { sku: sku.clone(), product_id: product_id.clone() };
    asked.further(call, sku.claim_stream(&call.tenant), 0, command)
}

/// What an update changes.
#[derive(Debug)]
struct Update {
    asked: Asked,
    product_id: ProductId,
    title: Option<String>,
    description: Option<String>,
    variants: Vec<Variant>,
    publish: Option<bool>,
}

impl Update {
    fn of(mut request: UpdateProductRequest) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let mask = request.update_mask.take().unwrap_or_default();
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

    fn claims(&self, call: &Call) -> Vec<CommandEnvelope> {
        self.variants.iter().map(|variant| claim(&self.asked, call, &variant.sku, &self.product_id)).collect()
    }

    /// In the order in which they are given. The first carries the version that the caller expects.
    fn commands(&self, call: &Call) -> Vec<CommandEnvelope> {
        let mut wanted: Vec<ProductCommand> =
            self.variants.iter().cloned().map(ProductCommand::PutVariant).collect();
        wanted.extend(
            self.publish.map(|on| if on { ProductCommand::Publish } else { ProductCommand::Unpublish }),
        );
        // An empty mask still asks whether the product is there, and at that version.
        if self.title.is_some() || self.description.is_some() || wanted.is_empty() {
            let (title, description) = (self.title.clone(), self.description.clone());
            wanted.insert(0, ProductCommand::ChangeDetails { title, description });
        }
        let stream = self.product_id.stream(&call.tenant);
        let envelope = |(step, command)| CommandEnvelope {
            expected_version: self.asked.expected_version.filter(|_| step == 0),
            ..self.asked.further(call, stream.clone(), step, command)
        };
        wanted.into_iter().enumerate().map(envelope).collect()
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

fn delete(mut request: DeleteProductRequest, call: &Call) -> Result<CommandEnvelope, Failure> {
    let asked = Asked::of(&mut request)?;
    let product_id = id(ProductId::new(&request.product_id), "product_id")?;
    Ok(asked.envelope(call, product_id.stream(&call.tenant), ProductCommand::Discontinue))
}

/// A list price as a request wants it.
#[derive(Debug)]
struct NewPrice {
    sku: Sku,
    currency: Currency,
    command: CommandEnvelope,
}

impl NewPrice {
    fn of(
        mut request: SetPriceRequest,
        call: &Call,
        now: shopstream_domain::Timestamp,
    ) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let sku = id(Sku::new(&request.sku), "sku")?;
        let (currency, amount_minor) = money_of(&request.price.unwrap_or_default(), "price")?;
        let effective_at = effective_time(request.effective_time.as_ref(), now)?;
        let stream = sku.price_stream(&call.tenant, currency);
        let set = PriceCommand::Set { sku: sku.clone(), amount_minor, currency, reason: None };
        let command = CommandEnvelope { effective_at, ..asked.envelope(call, stream, set) };
        Ok(Self { sku, currency, command })
    }

    fn allowed_by(&self, offer: Option<&crate::offers::Offer>) -> Result<(), Failure> {
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
