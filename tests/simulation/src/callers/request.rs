//! Everything that a caller can ask for.

use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;
use shopstream_domain::{StreamId, StreamKind};
use shopstream_eventlog::Position;
use shopstream_proto::catalog::v1::product_service_client::ProductServiceClient;
use shopstream_proto::catalog::v1::{
    CreateProductRequest, DeleteProductRequest, GetProductRequest, SetPriceRequest, UpdateProductRequest,
};
use shopstream_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use shopstream_proto::inventory::v1::{
    GetStockRequest, ReleaseStockRequest, ReserveStockRequest, UpdateStockRequest,
};
use shopstream_proto::order::v1::order_service_client::OrderServiceClient;
use shopstream_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, GetOrderRequest, UpdateOrderStatusRequest,
};
use shopstream_proto::payment::v1::payment_service_client::PaymentServiceClient;
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, GetPaymentRequest, ProcessPaymentRequest, RecordProviderSignalRequest,
    RefundPaymentRequest,
};
use shopstream_proto::process::v1::ResumeProcessRequest;
use shopstream_proto::process::v1::process_service_client::ProcessServiceClient;
use shopstream_proto::returns::v1::return_service_client::ReturnServiceClient;
use shopstream_proto::returns::v1::{CreateReturnRequest, GetReturnRequest};
use tonic::Status;

use super::Door;

/// Declares [`Request`]: commands with what they are aimed at and whether their key counts in the whole shop, and
/// queries.
macro_rules! requests {
    (
        commands { $($command:ident: $message:ident, $client:ident.$method:ident, $scope:ident, |$of:ident| $target:expr;)+ }
        queries { $($query:ident: $asked:ident, $reader:ident.$ask:ident, |$shown:ident| $place:expr;)+ }
    ) => {
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Request {
            $($command($message),)+
            $($query($asked),)+
        }

        impl Request {
            pub(crate) fn method(&self) -> &'static str {
                match self {
                    $(Self::$command(_) => stringify!($command),)+
                    $(Self::$query(_) => stringify!($query),)+
                }
            }

            /// Its idempotency key; a query has none.
            pub(crate) fn key(&self) -> Option<&str> {
                match self {
                    $(Self::$command(request) => Some(&request.request_id),)+
                    $(Self::$query(_) => None,)+
                }
            }

            fn key_mut(&mut self) -> Option<&mut String> {
                match self {
                    $(Self::$command(request) => Some(&mut request.request_id),)+
                    $(Self::$query(_) => None,)+
                }
            }

            /// What it is aimed at; empty where that has no name yet.
            pub(crate) fn target(&self) -> String {
                match self {
                    $(Self::$command($of) => $target,)+
                    $(Self::$query(_) => String::new(),)+
                }
            }

            /// Where its key counts.
            pub(crate) fn scope(&self) -> Scope {
                match self {
                    $(Self::$command(_) => Scope::$scope,)+
                    $(Self::$query(_) => Scope::Nowhere,)+
                }
            }

            /// Sends it once, in the name of `actor`, and answers with the bytes of the answer and the place of the
            /// log that it names.
            pub(super) async fn send(
                &self,
                door: Door,
                actor: &str,
            ) -> Result<(Vec<u8>, Option<Position>), Status> {
                match self.clone() {
                    $(Self::$command(request) => {
                        let answer = $client::new(door).$method(named(request, actor)?).await?.into_inner();
                        Ok((answer.encode_to_vec(), answer.position.as_ref().and_then(place)))
                    })+
                    $(Self::$query(request) => {
                        let $shown = $reader::new(door).$ask(named(request, actor)?).await?.into_inner();
                        Ok(($shown.encode_to_vec(), $place.and_then(place)))
                    })+
                }
            }
        }
    };
}

/// Where an idempotency key may be used for one thing only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In the whole shop of a tenant.
    Shop,
    /// On one target.
    Target,
    Nowhere,
}

requests! {
    commands {
        CreateProduct: CreateProductRequest, ProductServiceClient.create_product, Shop,
            |it| it.product_id.clone().unwrap_or_default();
        UpdateProduct: UpdateProductRequest, ProductServiceClient.update_product, Target, |it| it.product_id.clone();
        DeleteProduct: DeleteProductRequest, ProductServiceClient.delete_product, Target, |it| it.product_id.clone();
        SetPrice: SetPriceRequest, ProductServiceClient.set_price, Target, |it| format!("price {}", it.sku);
        UpdateStock: UpdateStockRequest, InventoryServiceClient.update_stock, Target,
            |it| format!("stock {}@{}", it.sku, it.location);
        ReserveStock: ReserveStockRequest, InventoryServiceClient.reserve_stock, Shop,
            |it| it.reservation_id.clone().unwrap_or_default();
        ReleaseStock: ReleaseStockRequest, InventoryServiceClient.release_stock, Target, |it| it.reservation_id.clone();
        CreateOrder: CreateOrderRequest, OrderServiceClient.create_order, Shop,
            |it| it.order_id.clone().unwrap_or_default();
        CancelOrder: CancelOrderRequest, OrderServiceClient.cancel_order, Target, |it| it.order_id.clone();
        UpdateOrderStatus: UpdateOrderStatusRequest, OrderServiceClient.update_order_status, Target,
            |it| it.order_id.clone();
        ProcessPayment: ProcessPaymentRequest, PaymentServiceClient.process_payment, Shop, |it| it.order_id.clone();
        CapturePayment: CapturePaymentRequest, PaymentServiceClient.capture_payment, Shop, |it| it.payment_id.clone();
        RefundPayment: RefundPaymentRequest, PaymentServiceClient.refund_payment, Shop, |it| it.payment_id.clone();
        RecordProviderSignal: RecordProviderSignalRequest, PaymentServiceClient.record_provider_signal, Target,
            |it| it.payment_id.clone();
        CreateReturn: CreateReturnRequest, ReturnServiceClient.create_return, Shop,
            |it| it.return_id.clone().unwrap_or_default();
        ResumeProcess: ResumeProcessRequest, ProcessServiceClient.resume_process, Target, |it| it.process_id.clone();
    }
    queries {
        GetProduct: GetProductRequest, ProductServiceClient.get_product,
            |it| it.product.as_ref().and_then(|product| product.position.as_ref());
        GetStock: GetStockRequest, InventoryServiceClient.get_stock,
            |it| it.stock.as_ref().and_then(|stock| stock.position.as_ref());
        GetOrder: GetOrderRequest, OrderServiceClient.get_order, |it| it.position.as_ref();
        GetPayment: GetPaymentRequest, PaymentServiceClient.get_payment,
            |it| it.payment.as_ref().and_then(|payment| payment.position.as_ref());
        GetReturn: GetReturnRequest, ReturnServiceClient.get_return,
            |it| it.return_view.as_ref().and_then(|goods| goods.position.as_ref());
    }
}

impl Request {
    /// Asks for what this request is about; `None` where it has no name yet, or nobody can ask for it.
    pub(super) fn look(&self) -> Option<Self> {
        let order = |order_id: &str| {
            let order_id = order_id.to_owned();
            Self::GetOrder(GetOrderRequest { order_id, ..GetOrderRequest::default() })
        };
        let product = |product_id: &str| {
            let product_id = product_id.to_owned();
            Self::GetProduct(GetProductRequest { product_id, ..GetProductRequest::default() })
        };
        let payment = |payment_id: &str| {
            let payment_id = payment_id.to_owned();
            Self::GetPayment(GetPaymentRequest { payment_id, ..GetPaymentRequest::default() })
        };
        Some(match self {
            Self::CreateProduct(request) => product(request.product_id.as_ref()?),
            Self::UpdateProduct(request) => product(&request.product_id),
            Self::DeleteProduct(request) => product(&request.product_id),
            Self::UpdateStock(request) => {
                let sku = request.sku.clone();
                Self::GetStock(GetStockRequest { sku, ..GetStockRequest::default() })
            }
            Self::CreateOrder(request) => order(request.order_id.as_ref()?),
            Self::CancelOrder(request) => order(&request.order_id),
            Self::UpdateOrderStatus(request) => order(&request.order_id),
            Self::ProcessPayment(request) => order(&request.order_id),
            Self::CapturePayment(request) => payment(&request.payment_id),
            Self::RefundPayment(request) => payment(&request.payment_id),
            Self::RecordProviderSignal(request) => payment(&request.payment_id),
            Self::CreateReturn(request) => {
                let return_id = request.return_id.clone()?;
                Self::GetReturn(GetReturnRequest { return_id, ..GetReturnRequest::default() })
            }
            // Another view of what was just seen in one.
            Self::GetOrder(request) => payment(&format!("pay_{}.1", request.order_id.strip_prefix("ord_")?)),
            Self::GetPayment(request) => {
                let (root, _) = request.payment_id.strip_prefix("pay_")?.rsplit_once('.')?;
                order(&format!("ord_{root}"))
            }
            Self::SetPrice(_)
            | Self::ReserveStock(_)
            | Self::ReleaseStock(_)
            | Self::ResumeProcess(_)
            | Self::GetProduct(_)
            | Self::GetStock(_)
            | Self::GetReturn(_) => return None,
        })
    }

    /// Whether `stream` is one of those that the answer to this query is made of.
    pub(crate) fn shows(&self, stream: &StreamId) -> bool {
        match self {
            Self::GetProduct(request) => {
                stream.kind() == StreamKind::Product && stream.id() == request.product_id
            }
            Self::GetStock(request) => {
                stream.kind() == StreamKind::Stock && stream.id() == format!("{}@main", request.sku)
            }
            Self::GetOrder(request) => {
                matches!(stream.kind(), StreamKind::Order | StreamKind::Checkout | StreamKind::Payment)
                    && request.order_id.strip_prefix("ord_") == Some(stream.root())
            }
            Self::GetPayment(request) => {
                stream.kind() == StreamKind::Payment && stream.id() == request.payment_id
            }
            Self::GetReturn(request) => {
                stream.kind() == StreamKind::Return && stream.id() == request.return_id
            }
            _ => false,
        }
    }

    /// This request under the key of another one, as careless clients send it.
    pub(super) fn under_key_of(self, other: &Self) -> Self {
        match other.key() {
            Some(key) => self.under(key),
            None => self,
        }
    }

    /// This request under another key.
    pub(super) fn under(mut self, key: &str) -> Self {
        if let Some(own) = self.key_mut() {
            key.clone_into(own);
        }
        self
    }

    /// The same request under the same key with something else in it; `None` where nothing comes to mind.
    pub(super) fn changed(mut self, random: &mut StdRng) -> Option<Self> {
        let some = random.random_range(0..1_000_000_u32);
        match &mut self {
            Self::CreateOrder(request) => request.order_id = Some(format!("ord_again{some}")),
            Self::CreateReturn(request) => request.return_id = Some(format!("ret_again{some}")),
            Self::CreateProduct(request) => request.product_id = Some(format!("prd_again{some}")),
            Self::ReserveStock(request) => request.lines.first_mut()?.quantity += 1,
            // The other method with the same bytes.
            Self::RefundPayment(request) if some % 2 == 0 => {
                let RefundPaymentRequest { request_id, payment_id, amount, expected_version } =
                    request.clone();
                let capture = CapturePaymentRequest { request_id, payment_id, amount, expected_version };
                return Some(Self::CapturePayment(capture));
            }
            Self::CapturePayment(request) if some % 2 == 0 => {
                let CapturePaymentRequest { request_id, payment_id, amount, expected_version } =
                    request.clone();
                let refund = RefundPaymentRequest { request_id, payment_id, amount, expected_version };
                return Some(Self::RefundPayment(refund));
            }
            Self::RefundPayment(request) => request.amount.as_mut()?.amount_minor += 1,
            Self::CapturePayment(request) => request.amount.as_mut()?.amount_minor += 1,
            Self::SetPrice(request) => request.price.as_mut()?.amount_minor += 1,
            Self::UpdateProduct(request) => request.title.push('!'),
            _ => return None,
        }
        Some(self)
    }
}

/// A place of the log, as the checkers know it.
fn place(position: &shopstream_proto::r#type::v1::Position) -> Option<Position> {
    let partition = position.partition.try_into().ok()?;
    Some(Position { partition, offset: position.offset.try_into().ok()? })
}

/// A request in somebody's name.
fn named<T>(message: T, actor: &str) -> Result<tonic::Request<T>, Status> {
    let mut request = tonic::Request::new(message);
    let actor = actor.parse().map_err(|_| Status::internal("an actor is plain text"))?;
    request.metadata_mut().insert("shopstream-actor", actor);
    Ok(request)
}
