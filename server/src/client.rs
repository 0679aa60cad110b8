//! The verbs' way to a node: the public API, with the patience of a good client.

use std::time::Duration;

use anyhow::Context as _;
use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use shopstream_gateway::CONNECTION_WINDOW;
use shopstream_proto::admin::v1::admin_service_client::AdminServiceClient;
use shopstream_proto::catalog::v1::product_service_client::ProductServiceClient;
use shopstream_proto::event::v1::event_service_client::EventServiceClient;
use shopstream_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use shopstream_proto::order::v1::order_service_client::OrderServiceClient;
use shopstream_proto::payment::v1::payment_service_client::PaymentServiceClient;
use shopstream_proto::process::v1::process_service_client::ProcessServiceClient;
use shopstream_proto::returns::v1::return_service_client::ReturnServiceClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

/// Connections of one client: one HTTP/2 connection is one lock.
const CONNECTIONS: usize = 4;
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a call is made again.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the last of these tries has at least.
const LAST_TRY: Duration = Duration::from_secs(1);

/// Every service of a node. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shops: Arc<[Shop]>,
    next: Arc<AtomicUsize>,
    /// Whose shop every [`Client::call`] is about; `None`: the default tenant's.
    tenant: Option<MetadataValue<Ascii>>,
}

/// The services over one connection.
#[derive(Clone)]
pub struct Shop {
    /// Products and prices.
    pub products: ProductServiceClient<Channel>,
    /// Stock.
    pub inventory: InventoryServiceClient<Channel>,
    /// Orders.
    pub orders: OrderServiceClient<Channel>,
    /// Payments.
    pub payments: PaymentServiceClient<Channel>,
    /// Returns.
    pub returns: ReturnServiceClient<Channel>,
    /// Processes that need a person.
    pub processes: ProcessServiceClient<Channel>,
    /// The log.
    pub events: EventServiceClient<Channel>,
    /// What operators ask.
    pub admin: AdminServiceClient<Channel>,
}

impl Client {
    /// Connects to the node at `url`.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| format!("{url:?} is not a URL such as http://127.0.0.1:50051"))?
            .connect_timeout(Duration::from_secs(5))
            // For many small answers at once, as at the gateway's door (`docs/decisions/0007`).
            .initial_connection_window_size(CONNECTION_WINDOW)
            .tcp_nodelay(true);
        let mut shops = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            // The first shows that somebody answers. The others are made when they are used: a node does not keep a
            // connection that asks for nothing.
            let channel = if shops.is_empty() {
                let connected = endpoint.connect().await;
                connected
                    .with_context(|| format!("no node answers at {url}: start one with `shopstream serve`"))?
            } else {
                endpoint.connect_lazy()
            };
            shops.push(Shop {
                products: ProductServiceClient::new(channel.clone()),
                inventory: InventoryServiceClient::new(channel.clone()),
                orders: OrderServiceClient::new(channel.clone()),
                payments: PaymentServiceClient::new(channel.clone()),
                returns: ReturnServiceClient::new(channel.clone()),
                processes: ProcessServiceClient::new(channel.clone()),
                events: EventServiceClient::new(channel.clone()),
                admin: AdminServiceClient::new(channel),
            });
        }
        Ok(Self { shops: shops.into(), next: Arc::default(), tenant: None })
    }

    /// The same client, where every [`Client::call`] is about this tenant's shop.
    pub fn of_tenant(&self, tenant: MetadataValue<Ascii>) -> Self {
        Self { tenant: Some(tenant), ..self.clone() }
    }

    /// The services, over the next connection in turn.
    pub fn shop(&self) -> Shop {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.shops[turn % self.shops.len()].clone()
    }

    /// Makes a call, and makes it again with the same request while the node says that it may, for two minutes in all:
    /// long enough for a restart.
    ///
    /// # Errors
    /// The last answer.
    pub async fn call<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(Shop, Request<Q>) -> Result<Response<A>, Status>,
    ) -> anyhow::Result<A> {
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(2))
            .with_jitter()
            .without_max_times();
        let end = Instant::now() + PATIENCE;
        let attempt = || async {
            let mut request = Request::new(request.clone());
            request.set_timeout(DEADLINE.min(end.saturating_duration_since(Instant::now()).max(LAST_TRY)));
            if let Some(tenant) = &self.tenant {
                request.metadata_mut().insert("shopstream-tenant", tenant.clone());
            }
            call(self.shop(), request).await
        };
        let answer =
            attempt.retry(patience).when(|status| is_temporary(status) && Instant::now() < end).await;
        answer.map(Response::into_inner).map_err(|status| anyhow::anyhow!(describe(&status)))
    }
}

/// Whether the same request may be sent again: the node says not now, or did not answer.
fn is_temporary(status: &Status) -> bool {
    match status.code() {
        // `Unknown` and `Cancelled` are what tonic makes of a connection that broke.
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded => true,
        _ => status.get_details_retry_info().is_some(),
    }
}

/// The error as a person wants to read it: what, why, and which field.
pub fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    if let Some(info) = status.get_details_error_info() {
        text.push_str(&format!(" [{}]", info.reason));
    }
    for violation in status.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations) {
        text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
    }
    text
}

/// Asks until there is an answer; an error ends it. For facts that a read model will show soon.
///
/// # Errors
/// What `ask` says, or that the fact did not come within two minutes.
pub async fn until<A>(ask: impl AsyncFn() -> anyhow::Result<Option<A>>) -> anyhow::Result<A> {
    enum Not {
        Yet,
        Ever(anyhow::Error),
    }
    let patience = ConstantBuilder::default().with_delay(Duration::from_millis(20)).with_max_times(6000);
    let attempt = || async {
        match ask().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Not::Yet),
            Err(error) => Err(Not::Ever(error)),
        }
    };
    attempt.retry(patience).when(|not| matches!(not, Not::Yet)).await.map_err(|not| match not {
        Not::Yet => anyhow::anyhow!("waited two minutes in vain"),
        Not::Ever(error) => error,
    })
}
