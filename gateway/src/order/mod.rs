//! OrderService: from a draft to a confirmed or cancelled order, and its story.

use std::sync::Arc;

use shopstream_command_handlers::{CommandEnvelope, Reply};
use shopstream_domain::order::{CancelReason, Command, LineOffer};
use shopstream_domain::{Aggregate, OrderId, Sku, model};
use shopstream_proto::order::v1 as wire;
use shopstream_proto::order::v1::order_service_server::OrderService;
use shopstream_proto::order::v1::{
    CancelOrderRequest, CancelOrderResponse, CreateOrderRequest, CreateOrderResponse, GetOrderRequest,
    GetOrderResponse, GetUserOrdersRequest, GetUserOrdersResponse, ProcessBulkOrdersRequest,
    ProcessBulkOrdersResponse, StreamOrderUpdatesRequest, StreamOrderUpdatesResponse, TrackOrderRequest,
    TrackOrderResponse, UpdateOrderStatusRequest, UpdateOrderStatusResponse,
};
use tonic::{Request, Response, Status, Streaming};

use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::history;
use crate::offers::Offer;
use crate::positions::position;
use crate::shop::Shop;
use crate::stream::Messages;
use crate::wire::{id, int};

mod bulk;
mod queries;
mod submit;
#[cfg(test)]
mod tests;
mod track;
mod updates;
mod view;

pub(crate) use queries::not_found;
use submit::Wanted;
use updates::OrderUpdates;

/// The service.
pub(crate) struct Orders {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl OrderService for Orders {
    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<CreateOrderResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let wanted = Wanted::of(request.into_inner(), &call, self.shop.now())?;
        let reply = self.submit(&call, &wanted).await?;
        Ok(Response::new(CreateOrderResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
            order_id: wanted.order_id.as_str().to_owned(),
        }))
    }

    async fn get_order(
        &self,
        request: Request<GetOrderRequest>,
    ) -> Result<Response<GetOrderResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(queries::order(&self.shop, &call, request.get_ref()).await?))
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<CancelOrderResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let reply = self.shop.submit(&call, cancel(request.into_inner(), &call)?).await?;
        Ok(Response::new(CancelOrderResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn update_order_status(
        &self,
        request: Request<UpdateOrderStatusRequest>,
    ) -> Result<Response<UpdateOrderStatusResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let moved = self.offered(&call, move_on(request.into_inner(), &call)?).await?;
        let reply = self.shop.submit(&call, moved).await?;
        Ok(Response::new(UpdateOrderStatusResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn get_user_orders(
        &self,
        request: Request<GetUserOrdersRequest>,
    ) -> Result<Response<GetUserOrdersResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(queries::user_orders(&self.shop, &call, request.into_inner()).await?))
    }

    async fn process_bulk_orders(
        &self,
        request: Request<Streaming<ProcessBulkOrdersRequest>>,
    ) -> Result<Response<ProcessBulkOrdersResponse>, Status> {
        let call = Call::of(request.metadata())?.unhurried();
        Ok(Response::new(bulk::process(&self.shop, &call, request.into_inner()).await?))
    }

    type StreamOrderUpdatesStream = Messages<StreamOrderUpdatesResponse>;

    async fn stream_order_updates(
        &self,
        request: Request<StreamOrderUpdatesRequest>,
    ) -> Result<Response<Self::StreamOrderUpdatesStream>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(
            crate::updates::stream::<OrderUpdates>(&self.shop, &call, request.into_inner()).await?,
        ))
    }

    type TrackOrderStream = Messages<TrackOrderResponse>;

    async fn track_order(
        &self,
        request: Request<TrackOrderRequest>,
    ) -> Result<Response<Self::TrackOrderStream>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(track::stream(&self.shop, &call, request.into_inner()).await?))
    }
}

impl Orders {
    /// A draft is submitted with what its SKUs are sold for now, from where a new order has it. That is for its own lines,
    /// which never change; whether they can be sold so, the order decides.
    async fn offered(&self, call: &Call, mut moved: CommandEnvelope) -> Result<CommandEnvelope, Failure> {
        let model::Command::Order(Command::Place { offers, .. }) = &mut moved.command else {
            return Ok(moved);
        };
        let stream = &moved.stream;
        let history = history::load(&self.shop, call, stream).await?;
        let model::State::Order(order) = history::fold(stream.kind(), &history)? else { return Ok(moved) };
        // No draft: the order says so, or what the same request was answered before.
        let Some(draft) = order.draft() else { return Ok(moved) };
        let mut skus: Vec<Sku> = draft.lines.iter().map(|line| line.sku.clone()).collect();
        skus.sort_unstable();
        skus.dedup();
        let of = |found: Vec<Option<Arc<Offer>>>| -> Vec<LineOffer> {
            let known = skus.iter().zip(found).filter_map(|(sku, offer)| Some((sku, offer?)));
            known.map(|(sku, offer)| offer.for_line(sku, draft.currency)).collect()
        };
        *offers = of(self.shop.offers(call, &skus).await?);
        // Looks twice before an order is refused: the catalogue may have been behind.
        if let model::Command::Order(command) = &moved.command
            && order.decide(command, self.shop.now()).is_err()
            && let found = of(self.shop.offers_now(call, &skus).await?)
            && let model::Command::Order(Command::Place { offers, .. }) = &mut moved.command
        {
            *offers = found;
        }
        Ok(moved)
    }

    async fn submit(&self, call: &Call, wanted: &Wanted) -> Result<Reply, Failure> {
        let skus: Vec<_> = wanted.skus().cloned().collect();
        let command = match self.command(call, wanted, &skus).await {
            Ok(command) => command,
            // A repeat of what once succeeded is answered as it was then, whatever is for sale now.
            Err(refused) => return self.shop.recalled_or(call, wanted.recall(call), refused).await,
        };
        let reply = self.shop.submit(call, wanted.envelope(call, command)).await?;
        self.shop.note(queries::orders_of(call, wanted.customer()), reply.position);
        Ok(reply)
    }

    /// Looks twice before an order is refused: the catalogue may have been behind.
    async fn command(
        &self,
        call: &Call,
        wanted: &Wanted,
        skus: &[shopstream_domain::Sku],
    ) -> Result<Command, Failure> {
        match wanted.command(&self.shop.offers(call, skus).await?) {
            Err(Failure::Refused(_)) => wanted.command(&self.shop.offers_now(call, skus).await?),
            settled => settled,
        }
    }
}

fn cancel(mut request: CancelOrderRequest, call: &Call) -> Result<CommandEnvelope, Failure> {
    let asked = Asked::of(&mut request)?;
    let order_id = id(OrderId::new(&request.order_id), "order_id")?;
    let reason = match request.reason() {
        wire::CancelReason::Unspecified | wire::CancelReason::Customer => CancelReason::Customer,
        wire::CancelReason::Staff => CancelReason::Staff,
        wire::CancelReason::OutOfStock
        | wire::CancelReason::OutOfStockAfterPayment
        | wire::CancelReason::PaymentDeclined
        | wire::CancelReason::PaymentTimeout
        | wire::CancelReason::Timeout => {
            return Err(Failure::invalid("reason", "CUSTOMER or STAFF; the others are the system's own"));
        }
    };
    Ok(asked.envelope(call, order_id.stream(&call.tenant), Command::RequestCancellation { reason }))
}

fn move_on(mut request: UpdateOrderStatusRequest, call: &Call) -> Result<CommandEnvelope, Failure> {
    let asked = Asked::of(&mut request)?;
    let order_id = id(OrderId::new(&request.order_id), "order_id")?;
    let command = match request.status() {
        wire::OrderStatus::Submitted => Command::Place {
            payment_method_token: Some(request.payment_method_token).filter(|t| !t.is_empty()),
            offers: Vec::new(),
        },
        wire::OrderStatus::Cancelled => Command::RequestCancellation { reason: CancelReason::Customer },
        other @ (wire::OrderStatus::Unspecified
        | wire::OrderStatus::Draft
        | wire::OrderStatus::AwaitingPayment
        | wire::OrderStatus::PaymentUnknown
        | wire::OrderStatus::Confirmed
        | wire::OrderStatus::Cancelling) => {
            let detail = format!(
                "an order comes to {} by itself; a caller may move a draft to ORDER_STATUS_SUBMITTED, and any order \
                 to ORDER_STATUS_CANCELLED",
                other.as_str_name()
            );
            return Err(Failure::precondition("STATUS_NOT_WRITABLE", "status", detail));
        }
    };
    Ok(asked.envelope(call, order_id.stream(&call.tenant), command))
}
