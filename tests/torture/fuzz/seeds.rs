//! A valid request for every method, from things that the running shop really has.

use anyhow::{Context as _, Result};
use prost::Message;
use prost_types::FieldMask;
use shopstream_proto::admin::v1::{
    DescribeNodeRequest, ExplainParkedAggregateRequest, ListParkedAggregatesRequest,
    ListSkippedEventsRequest, RetryParkedAggregateRequest, SkipParkedEventRequest, VerifyReadModelsRequest,
};
use shopstream_proto::catalog::v1::{
    CreateProductRequest, CreateProductResponse, DeleteProductRequest, GetProductRequest, NewVariant,
    SetPriceRequest, UpdateProductRequest,
};
use shopstream_proto::event::v1::{GetLogStatusRequest, GetLogStatusResponse, PartitionRange, ReadRequest};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{
    GetStockRequest, ReceiveStock, ReleaseStockRequest, ReleaseStockResponse, ReservationLine,
    ReserveStockRequest, ReserveStockResponse, StreamStockUpdatesRequest, StreamStockUpdatesResponse,
    UpdateStockRequest, UpdateStockResponse,
};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, CreateOrderResponse, GetOrderRequest, GetOrderResponse,
    GetUserOrdersRequest, GetUserOrdersResponse, OrderStatus, ProcessBulkOrdersRequest,
    StreamOrderUpdatesRequest, StreamOrderUpdatesResponse, TrackOrderRequest, TrackOrderResponse,
    UpdateOrderStatusRequest,
};
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, GetPaymentRequest, ProcessPaymentRequest, ProviderSignalKind,
    RecordProviderSignalRequest, RefundPaymentRequest,
};
use shopstream_proto::process::v1::{
    ListStoppedProcessesRequest, ProcessResolution, ResumeProcessRequest, SettleProcessRequest,
};
use shopstream_proto::returns::v1::{
    CreateReturnRequest, CreateReturnResponse, GetReturnRequest, NewReturnLine,
};
use shopstream_proto::r#type::v1::Position;
use shopstream_tests::requests::{line, money};

use super::call::Wire;
use super::values::Strangers;
use super::wire::{Method, Schema};

/// Whose shop it is that is fuzzed.
pub(crate) const TENANT: &str = "fuzz";
/// Somebody else's, with things of its own.
const OTHER: &str = "fuzz-other";
const SKUS: u64 = 8;
const ORDERS: u64 = 16;

/// What the shop has.
pub(crate) struct Catalogue {
    /// Confirmed, unless they were spoilt since.
    orders: Vec<String>,
    drafts: Vec<String>,
    payments: Vec<String>,
    reservations: Vec<String>,
    returns: Vec<String>,
    pub(crate) strangers: Strangers,
}

fn sku(n: u64) -> String {
    format!("FUZZ-{}", n % SKUS)
}

fn pick(from: &[String], n: u64) -> String {
    from.get(n as usize % from.len().max(1)).cloned().unwrap_or_default()
}

impl Catalogue {
    /// Makes it, and waits until all of it is seen.
    pub(crate) async fn stock(wire: &Wire, schema: &Schema) -> Result<Self> {
        let asker = Asker { wire, schema };
        let (mut ids, mut tokens) = (Vec::new(), Vec::new());
        for tenant in [TENANT, OTHER] {
            for n in 0..SKUS {
                let made: CreateProductResponse =
                    asker.ask("CreateProduct", product(&sku(n), n), tenant).await?;
                ids.push(made.product_id);
                let _: UpdateStockResponse = asker
                    .ask("UpdateStock", receive(&format!("stock-{n}"), &sku(n), 1_000_000), tenant)
                    .await?;
            }
        }
        let (mut orders, mut payments) = (Vec::new(), Vec::new());
        let mut last = None;
        for (tenant, count) in [(OTHER, 2), (TENANT, ORDERS)] {
            for n in 0..count {
                let made: CreateOrderResponse =
                    asker.ask("CreateOrder", order(&format!("seed-{n}"), n, false), tenant).await?;
                last = made.position.or(last);
                orders.push(made.order_id);
            }
        }
        let others: Vec<_> = orders.drain(..2).collect();
        for order_id in &orders {
            payments.push(paid(&asker, order_id).await?);
        }
        let mut drafts = Vec::new();
        for n in 0..ORDERS {
            let made: CreateOrderResponse =
                asker.ask("CreateOrder", order(&format!("draft-{n}"), n, true), TENANT).await?;
            drafts.push(made.order_id);
        }
        let mut reservations = Vec::new();
        for n in 0..ORDERS {
            let made: ReserveStockResponse =
                asker.ask("ReserveStock", reserve(&format!("hold-{n}"), n), TENANT).await?;
            reservations.push(made.reservation_id);
        }
        let mut returns = Vec::new();
        for n in 0..4 {
            let request = goods_return(&format!("return-{n}"), &orders[n as usize], None);
            let made: CreateReturnResponse = asker.ask("CreateReturn", request, TENANT).await?;
            returns.push(made.return_id);
        }
        let page =
            GetUserOrdersRequest { customer_id: "cus_fuzz".into(), page_size: 1, ..Default::default() };
        let page: GetUserOrdersResponse = asker.ask("GetUserOrders", page, TENANT).await?;
        tokens.push(page.next_page_token);
        let first: TrackOrderResponse = asker.ask("TrackOrder", track(&orders[0]), TENANT).await?;
        tokens.push(first.resume_token);
        let updates = StreamOrderUpdatesRequest { order_ids: vec![orders[0].clone()], ..Default::default() };
        let first: StreamOrderUpdatesResponse = asker.ask("StreamOrderUpdates", updates, TENANT).await?;
        tokens.push(first.resume_token);
        let updates = StreamStockUpdatesRequest { skus: vec![sku(0)], ..Default::default() };
        let first: StreamStockUpdatesResponse = asker.ask("StreamStockUpdates", updates, TENANT).await?;
        tokens.push(first.resume_token);
        ids.extend(others);
        for of in [&orders, &drafts, &payments, &reservations, &returns] {
            ids.extend(of.iter().take(1).cloned());
        }
        ids.push(orders[0].replace("ord_", "chk_"));
        tokens.retain(|token| !token.is_empty());
        let strangers = Strangers { ids, tokens };
        Ok(Self { orders, drafts, payments, reservations, returns, strangers })
    }

    /// Releases these reservations and its own; those that are gone or sold are nobody's concern.
    pub(crate) async fn give_back(&self, wire: &Wire, schema: &Schema, held: Vec<String>) -> Result<()> {
        let asker = Asker { wire, schema };
        for (n, reservation_id) in held.into_iter().chain(self.reservations.iter().cloned()).enumerate() {
            let request_id = format!("give-back-{n}");
            let release = ReleaseStockRequest { request_id, reservation_id, ..Default::default() };
            let _: Result<ReleaseStockResponse> = asker.ask("ReleaseStock", release, TENANT).await;
        }
        Ok(())
    }

    /// A valid request, another one for every `n`; `None` where nobody has said yet what is valid.
    pub(crate) fn valid(&self, method: &Method, n: u64) -> Option<Vec<u8>> {
        let name = method.path.rsplit('/').next()?;
        let request_id = format!("fuzz-{n}");
        // The first one of a partition: passed long ago.
        let min_position = vec![Position { log: "core".into(), ..Default::default() }];
        let order_id = pick(&self.orders, n);
        let payment_id = pick(&self.payments, n);
        let product_id = format!("prd_fuzz_{}", n % SKUS);
        let (projection, stream_id) = ("order_detail".to_owned(), format!("{TENANT}/order/{order_id}"));
        let reason = "tried on purpose".to_owned();
        let page_token = String::new();
        let bytes = match name {
            "CreateProduct" => product(&format!("FUZZED-{n}"), SKUS + n).encode_to_vec(),
            "GetProduct" => GetProductRequest { min_position, product_id }.encode_to_vec(),
            "UpdateProduct" => UpdateProductRequest {
                request_id,
                product_id,
                update_mask: Some(FieldMask { paths: vec!["title".into(), "description".into()] }),
                title: format!("Title {n}"),
                description: "Described".into(),
                ..Default::default()
            }
            .encode_to_vec(),
            // One that nobody sells, lest nothing is left to order.
            "DeleteProduct" => DeleteProductRequest {
                request_id,
                product_id: format!("prd_fuzz_{}", SKUS + n / 2),
                ..Default::default()
            }
            .encode_to_vec(),
            "SetPrice" => {
                SetPriceRequest { request_id, sku: sku(n), price: Some(money(500)), ..Default::default() }
                    .encode_to_vec()
            }
            "GetStock" => {
                GetStockRequest { min_position, sku: sku(n), location: "main".into() }.encode_to_vec()
            }
            "UpdateStock" => receive(&request_id, &sku(n), 10).encode_to_vec(),
            "ReserveStock" => reserve(&request_id, n).encode_to_vec(),
            "ReleaseStock" => ReleaseStockRequest {
                request_id,
                reservation_id: pick(&self.reservations, n),
                ..Default::default()
            }
            .encode_to_vec(),
            "StreamStockUpdates" => StreamStockUpdatesRequest {
                skus: vec![sku(n)],
                locations: vec!["main".into()],
                ..Default::default()
            }
            .encode_to_vec(),
            "CreateOrder" => order(&request_id, n, n.is_multiple_of(2)).encode_to_vec(),
            "GetOrder" => GetOrderRequest { min_position, order_id }.encode_to_vec(),
            "CancelOrder" => {
                CancelOrderRequest { request_id, order_id: pick(&self.drafts, n), ..Default::default() }
                    .encode_to_vec()
            }
            "UpdateOrderStatus" => UpdateOrderStatusRequest {
                request_id,
                order_id: pick(&self.drafts, n),
                status: OrderStatus::Submitted.into(),
                payment_method_token: "tok_fuzz".into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "GetUserOrders" => GetUserOrdersRequest {
                min_position,
                customer_id: "cus_fuzz".into(),
                page_size: 5,
                page_token,
            }
            .encode_to_vec(),
            "ProcessBulkOrders" => {
                ProcessBulkOrdersRequest { orders: vec![order(&request_id, n, true)] }.encode_to_vec()
            }
            "StreamOrderUpdates" => {
                StreamOrderUpdatesRequest { order_ids: vec![order_id], ..Default::default() }.encode_to_vec()
            }
            "TrackOrder" => track(&order_id).encode_to_vec(),
            "ProcessPayment" => ProcessPaymentRequest {
                request_id,
                order_id,
                payment_method_token: "tok_fuzz".into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "CapturePayment" => {
                CapturePaymentRequest { request_id, payment_id, amount: Some(money(1)), ..Default::default() }
                    .encode_to_vec()
            }
            "RefundPayment" => {
                RefundPaymentRequest { request_id, payment_id, amount: Some(money(1)), ..Default::default() }
                    .encode_to_vec()
            }
            "GetPayment" => GetPaymentRequest { min_position, payment_id }.encode_to_vec(),
            "RecordProviderSignal" => RecordProviderSignalRequest {
                request_id,
                provider_event_id: format!("evt-{n}"),
                kind: ProviderSignalKind::Authorized.into(),
                provider_key: format!("{payment_id}:authorize:1"),
                payment_id,
                amount: Some(money(1_000)),
                provider_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
                ..Default::default()
            }
            .encode_to_vec(),
            "ListStoppedProcesses" => {
                ListStoppedProcessesRequest { min_position, page_size: 5, page_token }.encode_to_vec()
            }
            "ResumeProcess" => ResumeProcessRequest {
                request_id,
                process_id: order_id.replace("ord_", "chk_"),
                reason,
                ..Default::default()
            }
            .encode_to_vec(),
            "SettleProcess" => SettleProcessRequest {
                request_id,
                process_id: order_id.replace("ord_", "chk_"),
                resolution: ProcessResolution::AllByHand.into(),
                reason,
                ..Default::default()
            }
            .encode_to_vec(),
            "DescribeNode" => DescribeNodeRequest::default().encode_to_vec(),
            "CreateReturn" => goods_return(&request_id, &order_id, Some(n)).encode_to_vec(),
            "GetReturn" => {
                GetReturnRequest { min_position, return_id: pick(&self.returns, n) }.encode_to_vec()
            }
            "Read" => ReadRequest {
                partitions: vec![PartitionRange { partition: (n % 4) as u32, ..Default::default() }],
                max_events: 5,
                ..Default::default()
            }
            .encode_to_vec(),
            "GetLogStatus" => GetLogStatusRequest::default().encode_to_vec(),
            "VerifyReadModels" => {
                VerifyReadModelsRequest { names: vec![projection], ..Default::default() }.encode_to_vec()
            }
            "ListParkedAggregates" => {
                ListParkedAggregatesRequest { page_size: 5, ..Default::default() }.encode_to_vec()
            }
            "ExplainParkedAggregate" => {
                ExplainParkedAggregateRequest { projection, stream_id }.encode_to_vec()
            }
            "RetryParkedAggregate" => RetryParkedAggregateRequest { projection, stream_id }.encode_to_vec(),
            "SkipParkedEvent" => SkipParkedEventRequest {
                projection,
                stream_id,
                version: 1,
                reason,
                skipped_by: "fuzz".into(),
            }
            .encode_to_vec(),
            "ListSkippedEvents" => {
                ListSkippedEventsRequest { page_size: 5, ..Default::default() }.encode_to_vec()
            }
            _ => return None,
        };
        Some(bytes)
    }
}

/// Waits until an order of the seeds has its payment, and answers its id.
async fn paid(asker: &Asker<'_>, order_id: &str) -> Result<String> {
    for _ in 0..600 {
        let get = GetOrderRequest { order_id: order_id.to_owned(), ..Default::default() };
        let asked: Result<GetOrderResponse> = asker.ask("GetOrder", get, TENANT).await;
        // Not seen yet.
        let order = asked.ok().and_then(|answer| answer.order);
        if let Some(order) = order
            && order.status() == OrderStatus::Confirmed
            && let Some(payment_id) = order.payment_ids.first()
        {
            return Ok(payment_id.clone());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("{order_id} is not confirmed within a minute")
}

/// Where the log ends, partition by partition.
pub(crate) async fn ends(wire: &Wire, schema: &Schema) -> Result<Vec<Position>> {
    let asker = Asker { wire, schema };
    let status: GetLogStatusResponse =
        asker.ask("GetLogStatus", GetLogStatusRequest::default(), TENANT).await?;
    let filled = status.partitions.into_iter().filter(|partition| partition.end_offset > 0);
    Ok(filled
        .map(|it| Position {
            log: "core".into(),
            partition: it.partition,
            offset: it.end_offset - 1,
            ..Position::default()
        })
        .collect())
}

/// Calls methods by their short names.
struct Asker<'a> {
    wire: &'a Wire,
    schema: &'a Schema,
}

impl Asker<'_> {
    async fn ask<A: Message + Default>(&self, name: &str, request: impl Message, tenant: &str) -> Result<A> {
        let method = self.schema.methods.iter().find(|method| method.path.ends_with(&format!("/{name}")));
        self.wire.ask(method.context("a method")?, &request.encode_to_vec(), tenant).await
    }
}

fn product(sku: &str, n: u64) -> CreateProductRequest {
    CreateProductRequest {
        request_id: format!("product-{n}"),
        product_id: Some(format!("prd_fuzz_{n}")),
        title: sku.into(),
        description: "Something to order".into(),
        variants: vec![NewVariant { sku: sku.into(), title: sku.into(), list_price: Some(money(500)) }],
        ..Default::default()
    }
}

fn receive(request_id: &str, sku: &str, quantity: i64) -> UpdateStockRequest {
    UpdateStockRequest {
        request_id: request_id.into(),
        sku: sku.into(),
        location: "main".into(),
        change: Some(Change::Receive(ReceiveStock { quantity })),
        ..Default::default()
    }
}

fn order(request_id: &str, n: u64, draft: bool) -> CreateOrderRequest {
    CreateOrderRequest {
        request_id: request_id.into(),
        order_id: Some(format!("ord_fuzz_{request_id}")),
        customer_id: "cus_fuzz".into(),
        currency_code: "EUR".into(),
        lines: vec![line(&sku(n), 2)],
        payment_method_token: "tok_fuzz".into(),
        effective_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        draft,
        ..Default::default()
    }
}

fn reserve(request_id: &str, n: u64) -> ReserveStockRequest {
    ReserveStockRequest {
        request_id: request_id.into(),
        lines: vec![ReservationLine { sku: sku(n), location: "main".into(), quantity: 1 }],
        hold_seconds: 600,
        ..Default::default()
    }
}

fn track(order_id: &str) -> TrackOrderRequest {
    TrackOrderRequest { order_id: order_id.to_owned(), ..Default::default() }
}

fn goods_return(request_id: &str, order_id: &str, n: Option<u64>) -> CreateReturnRequest {
    CreateReturnRequest {
        request_id: request_id.into(),
        return_id: n.map(|n| format!("ret_fuzz_{n}")),
        order_id: order_id.into(),
        lines: vec![NewReturnLine { line_index: 0, quantity: 1 }],
        ..Default::default()
    }
}
