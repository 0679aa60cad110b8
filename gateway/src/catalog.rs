//! ProductService: products, their variants, and list prices (the context `pricing` has no service of its own).

use futures::future::try_join_all;
use shopstream_command_handlers::{CommandEnvelope, CommandError, Reply};
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
use tokio::task::JoinError;
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::failure::Failure;
use crate::positions::position;
use crate::shop::Shop;
use crate::wire::{id, int};

mod claims;
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
        let product_id = new.product_id.as_str().to_owned();
        let reply = self.to_the_end(&call, async move |this, call| this.create(&call, &new).await).await?;
        Ok(Response::new(CreateProductResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
            product_id,
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
        let update = Update::of(request.into_inner())?;
        let reply = self.to_the_end(&call, async move |this, call| this.update(&call, update).await).await?;
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
        self.rehearse_new(call, new.recall(call), std::slice::from_ref(&new.create(call, None))).await?;
        let create = self.shop.claimed(call, new.create(call, None)).await?;
        let claims = self.claim(call, &new.asked, &new.product_id, &new.skus()).await?;
        let create = CommandEnvelope { command: new.create(call, Some(&claims)).command, ..create };
        let created = self.shop.submit_offer(call, create).await;
        if created.as_ref().is_err_and(is_final) {
            self.give_back(call, &new.asked, &new.product_id, &claims).await;
        }
        let reply = created?;
        try_join_all(new.prices(call).into_iter().map(|price| self.shop.submit_offer(call, price))).await?;
        Ok(reply)
    }

    /// Rehearses what is not a repeat, which `recall` asks for: what is stored wins over what the state says now, also where
    /// it is stored while this looks.
    async fn rehearse_new(
        &self,
        call: &Call,
        recall: CommandEnvelope,
        commands: &[CommandEnvelope],
    ) -> Result<(), Failure> {
        if self.shop.recall(call, recall.clone()).await?.is_some() {
            return Ok(());
        }
        match self.rehearse(call, commands).await {
            Ok(()) => Ok(()),
            Err(refused) => self.shop.recalled_or(call, recall, refused).await.map(drop),
        }
    }

    /// Goes on where the caller leaves: what is done in several steps is not left half done by that.
    async fn to_the_end<W>(
        &self,
        call: &Call,
        work: impl FnOnce(Self, Call) -> W + Send + 'static,
    ) -> Result<Reply, Failure>
    where
        W: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        let (this, outliving) = (Self { shop: self.shop.clone() }, call.outliving());
        let working = tokio::spawn(work(this, outliving));
        let ended = |error: JoinError| Failure::Internal(error.to_string());
        call.within(async { working.await.map_err(ended)? }).await
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
        let (skus, rehearsed) = (update.skus(), update.commands(call, None));
        let mut claimed = None;
        if !skus.is_empty() || rehearsed.len() > 1 {
            self.rehearse_new(call, update.recall(call), &rehearsed).await?;
            if let Some(first) = rehearsed.into_iter().next() {
                claimed = Some(self.shop.claimed(call, first).await?.request);
            }
        }
        let claims = self.claim(call, &update.asked, &update.product_id, &skus).await?;
        let mut commands = update.commands(call, Some(&claims));
        if let (Some(request), Some(first)) = (claimed, commands.first_mut()) {
            first.request = request;
        }
        let mut last = Err(Failure::Internal("an update without a command".to_owned()));
        for command in commands {
            last = self.shop.submit_offer(call, command).await;
            if last.is_err() {
                break;
            }
        }
        if last.as_ref().is_err_and(is_final) {
            self.give_back(call, &update.asked, &update.product_id, &claims).await;
        }
        last
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

/// Whether a command of a request was refused for good, so that nothing comes of what the request has claimed.
fn is_final(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Refused(_)
            | Failure::Command(CommandError::StaleVersion { .. } | CommandError::RequestReused { .. })
    )
}
