//! The bare echo: the same messages over the same gRPC library, and no work behind them. What it reaches is what the
//! machine could reach at all.

use std::net::SocketAddr;

use anyhow::Context as _;
use futures::stream::Pending;
use shopstream_proto::order::v1::order_service_server::{OrderService, OrderServiceServer};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CancelOrderResponse, CreateOrderRequest, CreateOrderResponse, GetOrderRequest,
    GetOrderResponse, GetUserOrdersRequest, GetUserOrdersResponse, ProcessBulkOrdersRequest,
    ProcessBulkOrdersResponse, StreamOrderUpdatesRequest, StreamOrderUpdatesResponse, TrackOrderRequest,
    TrackOrderResponse, UpdateOrderStatusRequest, UpdateOrderStatusResponse,
};
use shopstream_proto::r#type::v1::Position;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::node::asked_to_stop;
use crate::output::note;

/// Serves the echo until it is asked to stop; says where, and `ready`, as a node does.
///
/// # Errors
/// The port is taken.
pub(super) async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    // Heard before anybody is told that this is ready.
    let stop = asked_to_stop();
    note!("grpc      http://{}", listener.local_addr()?);
    note!("ready");
    tonic::transport::Server::builder()
        .add_service(OrderServiceServer::new(Echo))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
        .await?;
    Ok(())
}

struct Echo;

#[tonic::async_trait]
impl OrderService for Echo {
    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<CreateOrderResponse>, Status> {
        // Of the size that a node answers with, in the middle of a benchmark.
        let position =
            Position { log: "core".into(), partition: 7, offset: 123_456, log_id: "0123abcd.1".into() };
        let order_id = request.into_inner().order_id.unwrap_or_default();
        Ok(Response::new(CreateOrderResponse { version: 1, position: Some(position), order_id }))
    }

    async fn process_bulk_orders(
        &self,
        request: Request<Streaming<ProcessBulkOrdersRequest>>,
    ) -> Result<Response<ProcessBulkOrdersResponse>, Status> {
        let mut stream = request.into_inner();
        let mut answer = ProcessBulkOrdersResponse::default();
        while let Some(message) = stream.message().await? {
            answer.received_count += message.orders.len() as i64;
        }
        answer.accepted_count = answer.received_count;
        Ok(Response::new(answer))
    }

    async fn get_order(&self, _: Request<GetOrderRequest>) -> Result<Response<GetOrderResponse>, Status> {
        Err(not_here())
    }

    async fn cancel_order(
        &self,
        _: Request<CancelOrderRequest>,
    ) -> Result<Response<CancelOrderResponse>, Status> {
        Err(not_here())
    }

    async fn update_order_status(
        &self,
        _: Request<UpdateOrderStatusRequest>,
    ) -> Result<Response<UpdateOrderStatusResponse>, Status> {
        Err(not_here())
    }

    async fn get_user_orders(
        &self,
        _: Request<GetUserOrdersRequest>,
    ) -> Result<Response<GetUserOrdersResponse>, Status> {
        Err(not_here())
    }

    type StreamOrderUpdatesStream = Pending<Result<StreamOrderUpdatesResponse, Status>>;

    async fn stream_order_updates(
        &self,
        _: Request<StreamOrderUpdatesRequest>,
    ) -> Result<Response<Self::StreamOrderUpdatesStream>, Status> {
        Err(not_here())
    }

    type TrackOrderStream = Pending<Result<TrackOrderResponse, Status>>;

    async fn track_order(
        &self,
        _: Request<TrackOrderRequest>,
    ) -> Result<Response<Self::TrackOrderStream>, Status> {
        Err(not_here())
    }
}

fn not_here() -> Status {
    Status::unimplemented("the echo of the benchmark answers CreateOrder and ProcessBulkOrders only")
}
