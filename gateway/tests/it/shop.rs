//! A gateway on a real port, over real shards, a log in memory and a real Postgres. Only the sagas are missing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prost_types::FieldMask;
use shopstream_command_handlers::coordinator::Static;
use shopstream_command_handlers::{
    Clock, CommandEnvelope, Commands, NoPeers, Options, Origin, SNAPSHOT_EVERY, Shards, SystemClock,
    body_hash,
};
use shopstream_domain::catalog::SkuClaimCommand;
use shopstream_domain::inventory::{Allocation, ReleaseReason, ReservationCommand};
use shopstream_domain::model::Command;
use shopstream_domain::{ProductId, ReservationId, Sku, StreamId, TenantId};
use shopstream_eventlog::raw::RawLog;
use shopstream_eventlog::sim::SimLog;
use shopstream_eventlog::{CommandId, Identity, Journal, Log, LogId, Position as LogPosition};
use shopstream_gateway::{Gateway, Hold, Means, Policy, ReservationError, StockReservations};
use shopstream_projections::journal::PostgresJournal;
use shopstream_projections::{Projection, Projector, ReadModels};
use shopstream_proto::admin::v1::DescribeNodeResponse;
use shopstream_proto::catalog::v1::product_service_client::ProductServiceClient;
use shopstream_proto::catalog::v1::{CreateProductRequest, NewVariant, ProductStatus, UpdateProductRequest};
use shopstream_proto::event::v1::event_service_client::EventServiceClient;
use shopstream_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use shopstream_proto::order::v1::order_service_client::OrderServiceClient;
use shopstream_proto::order::v1::{CreateOrderRequest, NewOrderLine};
use shopstream_proto::r#type::v1::{Money, Position};
use shopstream_test_servers::postgres::{TestDatabase, database};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

pub const PARTITIONS: u16 = 4;
/// Longer than anything here takes; only a failure waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The shop, and the way to it.
pub struct TestShop {
    pub channel: Channel,
    pub address: SocketAddr,
    pub sim: SimLog,
    log: Log,
    database: TestDatabase,
    projector: Projector,
    shards: Shards,
    _stop: DropGuard,
}

impl TestShop {
    pub async fn start() -> Self {
        let sim = SimLog::new(PARTITIONS);
        let raw: Arc<dyn RawLog> = Arc::new(sim.clone());
        let log = Log::create(raw, LogId(Uuid::new_v4()), 1).await.expect("a log in memory");
        Self::over(sim, log).await
    }

    /// With room for so many calls at once.
    pub async fn start_with_places(calls_max: usize) -> Self {
        Self::with(Policy { calls_max, ..Policy::default() }).await
    }

    /// With other bounds than a node has by default.
    pub async fn with(policy: Policy) -> Self {
        let sim = SimLog::new(PARTITIONS);
        let raw: Arc<dyn RawLog> = Arc::new(sim.clone());
        let log = Log::create(raw, LogId(Uuid::new_v4()), 1).await.expect("a log in memory");
        Self::over_with(sim, log, policy).await
    }

    /// On a log that has a history already, whose writers are gone.
    pub async fn over(sim: SimLog, log: Log) -> Self {
        Self::over_with(sim, log, Policy::default()).await
    }

    async fn over_with(sim: SimLog, log: Log, policy: Policy) -> Self {
        let database = database().await;
        let now = || SystemClock.now();
        let projector = Projector::start(log.clone(), database.database.clone(), now).await.expect("tables");
        let progress = projector.progress();
        let journal: Arc<dyn Journal> =
            Arc::new(PostgresJournal::new(database.database.clone(), progress.clone()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = Identity { node: "test".to_owned(), address: String::new() };
        let shards = Shards::start(&log, &journal, &clock, &identity, &options());
        // On a busy machine the database may not be reached at first; the shards try again.
        let begun = Instant::now();
        loop {
            let idle = shards.ready().await;
            if idle.is_empty() {
                break;
            }
            assert!(begun.elapsed() < 4 * PATIENCE, "{idle:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }

        let stop = CancellationToken::new();
        let commands = shards.commands();
        let means = Means {
            reservations: Arc::new(AlwaysHeld { commands: commands.clone() }),
            database: Some(database.database.clone()),
            reads: ReadModels::open(database.database.clone(), progress).await.expect("views"),
            read_side: Arc::new(|| true),
            describe: Arc::new(DescribeNodeResponse::default),
            policy,
            takes_calls: true,
            has_peers: false,
            stop: stop.clone(),
            backend: "sim",
            commands,
            journal,
            clock,
            log: log.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(Gateway::new(means).expect("services").serve(listener));
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URL").connect().await;
        Self {
            channel: channel.expect("the gateway listens"),
            address,
            sim,
            log,
            database,
            projector,
            shards,
            _stop: stop.drop_guard(),
        }
    }

    pub fn products(&self) -> ProductServiceClient<Channel> {
        ProductServiceClient::new(self.channel.clone())
    }

    pub fn stock(&self) -> InventoryServiceClient<Channel> {
        InventoryServiceClient::new(self.channel.clone())
    }

    pub fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel.clone())
    }

    pub fn log(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    /// Waits until every projection holds what is on the log now.
    pub async fn caught_up(&self) {
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            let end = self.log.end(partition).await.expect("a log in memory");
            ends.push(LogPosition { partition, offset: end - 1 });
        }
        for projection in Projection::ALL {
            let deadline = Instant::now() + PATIENCE;
            self.projector.progress().wait_for(projection, &ends, deadline).await.expect("caught up");
        }
    }

    /// Lets nobody write to a table until what this answers is dropped. Reading goes on.
    pub async fn hold(&self, table: &str) -> tokio_postgres::Client {
        let connected = tokio_postgres::connect(&self.database.url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the database answers");
        tokio::spawn(connection);
        let lock = format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE");
        client.batch_execute(&lock).await.expect("a table");
        client
    }

    /// Does something to the database, and answers to how many rows.
    pub async fn execute(&self, sql: &str) -> u64 {
        let connected = tokio_postgres::connect(&self.database.url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the database answers");
        tokio::spawn(connection);
        client.execute(sql, &[]).await.expect("SQL")
    }

    /// A product on sale with one SKU at 2.50 GBP.
    pub async fn sell(&self, product_id: &str, sku: &str) -> Position {
        let list_price = Some(gbp(250));
        let variant = NewVariant { sku: sku.to_owned(), title: String::new(), list_price };
        let request = CreateProductRequest {
            request_id: format!("create-{product_id}"),
            product_id: Some(product_id.to_owned()),
            title: "Lamp".to_owned(),
            variants: vec![variant],
            ..CreateProductRequest::default()
        };
        let created = self.products().create_product(request).await.expect("created").into_inner();
        created.position.expect("a position")
    }

    /// Claims a SKU for a product, as a request whose node then ended.
    pub async fn claim(&self, product_id: &str, sku: &str) {
        let (sku, product_id) = (Sku::new(sku).expect("a SKU"), ProductId::new(product_id).expect("an id"));
        let stream = sku.claim_stream(&TenantId::default_tenant());
        let origin = Origin {
            actor: "test".into(),
            correlation_id: "".into(),
            causation_id: "".into(),
            traceparent: "".into(),
        };
        let claim = SkuClaimCommand::Claim { sku, product_id };
        let claimed = self.shards.commands().submit(envelope(stream, claim.into(), origin)).await;
        claimed.expect("claimed");
    }

    /// Takes a product off sale.
    pub async fn withdraw(&self, product_id: &str) {
        let request = UpdateProductRequest {
            request_id: format!("withdraw-{product_id}"),
            product_id: product_id.to_owned(),
            update_mask: Some(FieldMask { paths: vec!["status".to_owned()] }),
            status: ProductStatus::Unpublished.into(),
            ..UpdateProductRequest::default()
        };
        self.products().update_product(request).await.expect("withdrawn");
    }
}

pub fn gbp(amount_minor: i64) -> Money {
    Money { currency_code: "GBP".to_owned(), amount_minor }
}

/// A draft of one unit at the list price: drafts need neither stock nor payment.
pub fn draft(request_id: &str, sku: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        request_id: request_id.to_owned(),
        order_id: Some(format!("ord_{request_id}")),
        customer_id: "c1".to_owned(),
        currency_code: "GBP".to_owned(),
        lines: vec![NewOrderLine { sku: sku.to_owned(), quantity: 1, unit_price: None }],
        draft: true,
        ..CreateOrderRequest::default()
    }
}

fn options() -> Options {
    Options {
        queue: 1_000,
        cache_bytes: 16 << 20,
        tail_bytes: 16 << 20,
        snapshot_every: SNAPSHOT_EVERY,
        coordinator: Arc::new(Static::alone()),
        peers: Arc::new(NoPeers),
        nonces: Arc::new(|| Uuid::new_v4().as_u64_pair().0),
    }
}

/// A command of the test's own, once per stream.
fn envelope(stream: StreamId, command: Command, origin: Origin) -> CommandEnvelope {
    CommandEnvelope {
        command_id: CommandId::derive(&["test", stream.as_str()]),
        body_hash: body_hash(b"test"),
        expected_version: None,
        effective_at: None,
        command,
        stream,
        origin,
        request: None,
    }
}

/// Stands in for the saga: records every hold as given, and asks no stock.
struct AlwaysHeld {
    commands: Commands,
}

#[async_trait]
impl StockReservations for AlwaysHeld {
    async fn reserve(&self, hold: Hold, origin: Origin) -> Result<Allocation, ReservationError> {
        let stream = hold.reservation_id.stream(&hold.tenant);
        let held = ReservationCommand::RecordAllocation(Allocation::Held);
        self.commands.submit(envelope(stream, held.into(), origin)).await.expect("held");
        Ok(Allocation::Held)
    }

    async fn release(
        &self,
        _tenant: TenantId,
        _reservation_id: ReservationId,
        _reason: ReleaseReason,
        _origin: Origin,
    ) -> Result<(), ReservationError> {
        Ok(())
    }
}
