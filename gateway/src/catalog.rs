//! ProductService: products, their variants, and list prices (the context `pricing` has no service of its own).

use futures::future::try_join_all;
use shopstream_command_handlers::{CommandEnvelope, Reply};
use shopstream_domain::ProductId;
use shopstream_projections::Projection;
use shopstream_proto::Validate;
use shopstream_proto::catalog::v1 as wire;
use shopstream_proto::catalog::v1::product_service_server::ProductService;
use shopstream_proto::catalog::v1::{
    CreateProductRequest, CreateProductResponse, DeleteProductRequest, DeleteProductResponse,
    GetProductRequest, GetProductResponse, SetPriceRequest, SetPriceResponse, UpdateProductRequest,
    UpdateProductResponse,
};
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::failure::Failure;
use crate::positions::position;
use crate::shop::Shop;
use crate::wire::{id, int};

mod rehearsal;
mod requests;
#[cfg(test)]
mod tests;
mod view;

use requests::{NewPrice, NewProduct, Update, delete};

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
        let price = NewPrice::of(request.into_inner(), &call)?;
        let reply = match self.check_price(&call, &price).await {
            Ok(()) => self.shop.submit_offer(&call, price.command).await?,
            Err(refused) => self.shop.recalled_or(&call, price.command.recalling(), refused).await?,
        };
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
        let (claims, create) = (new.claims(call), new.create(call));
        // A repeat is not rehearsed: what is stored wins over what the state says now.
        if self.shop.recall(call, new.recall(call)).await?.is_none() {
            self.rehearse(call, &claims, std::slice::from_ref(&create)).await?;
        }
        let create = self.shop.claimed(call, create).await?;
        self.claim(call, claims).await?;
        let reply = self.shop.submit_offer(call, create).await?;
        try_join_all(new.prices(call).into_iter().map(|price| self.shop.submit_offer(call, price))).await?;
        Ok(reply)
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
        // A product is shown with its prices, which have streams of their own.
        self.shop.see_own_offers(call).await?;
        let stream = product_id.stream(&call.tenant);
        let read = || async { Ok(self.shop.reads().product(&call.tenant, &product_id).await?) };
        match self.shop.find(call, &[Projection::ProductView], &stream, &request.min_position, read).await? {
            Some(product) => Ok(view::product(product)),
            None => Err(Failure::not_found("PRODUCT_NOT_FOUND", format!("there is no product {product_id}"))),
        }
    }

    async fn update(&self, call: &Call, update: Update) -> Result<Reply, Failure> {
        let (claims, mut commands) = (update.claims(call), update.commands(call));
        if !claims.is_empty() || commands.len() > 1 {
            if self.shop.recall(call, update.recall(call)).await?.is_none() {
                self.rehearse(call, &claims, &commands).await?;
            }
            if let Some(first) = commands.first_mut() {
                *first = self.shop.claimed(call, first.clone()).await?;
            }
        }
        self.claim(call, claims).await?;
        let mut last = None;
        for command in commands {
            last = Some(self.shop.submit_offer(call, command).await?);
        }
        last.ok_or_else(|| Failure::Internal("an update without a command".to_owned()))
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
