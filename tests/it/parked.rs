//! What cannot be read is set aside, shown, and released: by the verb and by the API, on a running node.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use shopstream_domain::catalog::{
    ProductDrafted, ProductEvent, ProductPublished, SkuClaimEvent, SkuClaimed, Variant,
};
use shopstream_domain::model::Event;
use shopstream_domain::{ProductId, Sku, StreamId, Timestamp};
use shopstream_eventlog::local::{LocalLog, Options as LocalOptions};
use shopstream_eventlog::writer::{Identity, Progress};
use shopstream_eventlog::{CommandId, Commit, Log, PartitionWriter, schema};
use shopstream_projections::Projection;
use shopstream_proto::admin::v1::{
    ExplainParkedAggregateRequest, ListParkedAggregatesRequest, ListSkippedEventsRequest, ParkedAggregate,
    RetryParkedAggregateRequest, SkipParkedEventRequest,
};
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_proto::order::v1::{GetOrderRequest, OrderStatus};
use shopstream_proto::payment::v1::ProcessPaymentRequest;
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{ended, order, sell, stock};
use shopstream_tests::{Database, Refusal, Setup, TestShop, refusal};
use tonic::Code;

const SKU: &str = "PARKED-1";
const STREAM: &str = "default/stock/PARKED-1@main";
const STOCK: &str = "stock_level";

/// A hand in the data, which the program cannot go on from; taken away again, it is mended.
async fn set(database: &Database, statement: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let rows = client.execute(statement, &[]).await?;
    ensure!(rows == 1, "{rows} rows: {statement}");
    Ok(())
}

async fn shift_row(database: &Database, by: i32) -> Result<()> {
    let row = format!("UPDATE stock_level_e1.stock SET version = version + {by} WHERE sku = '{SKU}'");
    set(database, &row).await
}

async fn receive(client: &Client, name: &str, quantity: i64) -> Result<()> {
    let request = stock(name, SKU, quantity);
    client.call(request, async |mut shop, request| shop.inventory.update_stock(request).await).await?;
    Ok(())
}

async fn parked(client: &Client, projection: &str) -> Result<Vec<ParkedAggregate>> {
    let request = ListParkedAggregatesRequest {
        projection: projection.into(),
        ..ListParkedAggregatesRequest::default()
    };
    let listed = client
        .call(request, async |mut shop, request| shop.admin.list_parked_aggregates(request).await)
        .await?;
    Ok(listed.aggregates)
}

/// Waits until a keeper has parked this stream with so many events that wait.
async fn parks(client: &Client, projection: &str, stream: &str, waiting: i64) -> Result<ParkedAggregate> {
    until(async || {
        let parked = parked(client, projection).await?;
        Ok(parked.into_iter().find(|parked| parked.stream_id == stream && parked.waiting_count == waiting))
    })
    .await
    .with_context(|| format!("{stream} is not parked with {waiting} waiting"))
}

async fn on_hand(client: &Client) -> Result<i64> {
    let get = GetStockRequest { sku: SKU.into(), ..GetStockRequest::default() };
    let seen = client.call(get, async |mut shop, request| shop.inventory.get_stock(request).await).await?;
    Ok(seen.stock.context("an answer without stock")?.on_hand)
}

async fn retry(client: &Client, projection: &str, stream: &str) -> Result<Option<ParkedAggregate>> {
    let request = RetryParkedAggregateRequest { projection: projection.into(), stream_id: stream.to_owned() };
    let retried = client
        .call(request, async |mut shop, request| shop.admin.retry_parked_aggregate(request).await)
        .await?;
    Ok(retried.parked)
}

fn skip(version: i64) -> SkipParkedEventRequest {
    SkipParkedEventRequest {
        projection: STOCK.into(),
        stream_id: STREAM.into(),
        version,
        reason: "counted by hand".into(),
        skipped_by: "ann".into(),
    }
}

#[tokio::test]
async fn a_parked_aggregate_is_listed_explained_retried_and_skipped() -> Result<()> {
    let Some(database) = Database::start() else { return Ok(()) };
    let mut shop = TestShop::start_with(Setup::default().reading_from(database.url()));
    let client = shop.client().await;
    let said = shop.verb(&["parked", "list"]);
    ensure!(said.status.success() && said.out.contains("nothing is parked"), "{said:?}");
    sell(&client, SKU, 5).await?;
    shift_row(&database, 70).await?;
    receive(&client, "two", 1).await?;
    receive(&client, "three", 1).await?;
    let listed = parks(&client, STOCK, STREAM, 2).await?;
    ensure!(
        (listed.version, &*listed.event_stream_id, listed.wish_waits) == (2, STREAM, false),
        "{listed:?}"
    );
    ensure!(listed.reason.contains("71") && listed.parked_time.is_some(), "{listed:?}");
    let said = shop.verb(&["parked", "list", STOCK]);
    ensure!(!said.status.success() && said.out.contains(STREAM) && said.out.contains("71"), "{said:?}");

    let explain = ExplainParkedAggregateRequest { projection: STOCK.into(), stream_id: STREAM.into() };
    let explained = client.shop().admin.explain_parked_aggregate(explain).await?.into_inner();
    let versions: Vec<i64> = explained.waiting.iter().map(|event| event.version).collect();
    ensure!(versions == [2, 3] && explained.waiting[0].payload_json.contains(SKU), "{explained:?}");
    let said = shop.verb(&["parked", "explain", STOCK, STREAM]);
    ensure!(said.out.contains("in the way") && said.out.contains("StockReceived"), "{said:?}");

    // Not mended, and mended.
    let still = retry(&client, STOCK, STREAM).await?.context("released, though nothing is mended")?;
    ensure!((still.version, still.waiting_count) == (2, 2), "{still:?}");
    shift_row(&database, -70).await?;
    let said = shop.verb(&["parked", "retry", STOCK, STREAM]);
    ensure!(said.status.success() && said.out.contains("is released"), "{said:?}");
    ensure!(on_hand(&client).await? == 7 && parked(&client, "").await?.is_empty());
    let gone = shop.verb(&["parked", "retry", STOCK, STREAM]);
    ensure!(!gone.status.success() && gone.err.contains("NOT_PARKED"), "{gone:?}");

    // One event is left out, the one named, and the next is not.
    shift_row(&database, 70).await?;
    receive(&client, "four", 100).await?;
    receive(&client, "five", 10).await?;
    parks(&client, STOCK, STREAM, 2).await?;
    shift_row(&database, -70).await?;
    let elsewhere = refusal(client.shop().admin.skip_parked_event(skip(5)).await);
    ensure!(
        elsewhere == Refusal::new(Code::FailedPrecondition, "PARKED_ELSEWHERE", "version"),
        "{elsewhere:?}"
    );
    let skipping = ["parked", "skip", STOCK, STREAM, "4", "--reason", "counted by hand", "--by", "ann"];
    let said = shop.verb(&skipping);
    ensure!(said.status.success() && said.out.contains("is released"), "{said:?}");
    ensure!(on_hand(&client).await? == 17);
    // As a client does whose answer was lost.
    let again = client.shop().admin.skip_parked_event(skip(4)).await?.into_inner();
    ensure!(again.parked.is_none(), "{again:?}");
    let skipped = client
        .shop()
        .admin
        .list_skipped_events(ListSkippedEventsRequest::default())
        .await?
        .into_inner()
        .events;
    ensure!(skipped.len() == 1 && (skipped[0].version, &*skipped[0].skipped_by) == (4, "ann"), "{skipped:?}");
    let said = shop.verb(&["parked", "list", "--skipped"]);
    ensure!(said.out.contains("counted by hand") && said.out.contains(STREAM), "{said:?}");

    // The replay leaves it out too; and the next life goes on behind it.
    shop.verify();
    shop.stop();
    shop.restart();
    let client = shop.client().await;
    receive(&client, "six", 1).await?;
    until(async || Ok((on_hand(&client).await? == 18).then_some(()))).await?;
    shop.verify();
    shop.stop();
    Ok(())
}

#[tokio::test]
async fn a_wrong_request_names_its_field() -> Result<()> {
    let shop = shopstream_tests::Shared::shop();
    let client = shop.client().await;
    let admin = || client.shop().admin;
    let refused = |field: &str| Refusal::new(Code::InvalidArgument, "REQUEST_INVALID", field);
    for (request, field) in [
        (SkipParkedEventRequest { reason: " ".into(), ..skip(1) }, "reason"),
        (SkipParkedEventRequest { skipped_by: String::new(), ..skip(1) }, "skipped_by"),
        (SkipParkedEventRequest { version: 0, ..skip(1) }, "version"),
        (SkipParkedEventRequest { stream_id: "stock".into(), ..skip(1) }, "stream_id"),
        (SkipParkedEventRequest { projection: "journal".into(), ..skip(1) }, "projection"),
        (SkipParkedEventRequest { projection: "sagas".into(), ..skip(1) }, "projection"),
        (SkipParkedEventRequest { reason: "x".repeat(1_001), ..skip(1) }, "reason"),
    ] {
        let answer = refusal(admin().skip_parked_event(request).await);
        ensure!(answer == refused(field), "{answer:?} for {field}");
    }
    let nobody =
        ListParkedAggregatesRequest { projection: "?".into(), ..ListParkedAggregatesRequest::default() };
    ensure!(refusal(admin().list_parked_aggregates(nobody).await) == refused("projection"));
    let token = ListSkippedEventsRequest { page_token: "?".into(), ..ListSkippedEventsRequest::default() };
    ensure!(refusal(admin().list_skipped_events(token).await) == refused("page_token"));
    for name in Projection::views().map(Projection::name).chain(["sagas"]) {
        let explain = ExplainParkedAggregateRequest {
            projection: name.into(),
            stream_id: "default/order/ord_never".into(),
        };
        let answer = refusal(admin().explain_parked_aggregate(explain).await);
        ensure!(answer == Refusal::new(Code::NotFound, "NOT_PARKED", ""), "{name}: {answer:?}");
    }
    Ok(())
}

/// A process that cannot read its order does nothing about it, and does it once it can.
#[tokio::test]
async fn a_parked_process_goes_on_after_a_retry() -> Result<()> {
    let Some(database) = Database::start() else { return Ok(()) };
    let shop = TestShop::start_with(Setup::default().reading_from(database.url()));
    let client = shop.client().await;
    sell(&client, SKU, 5).await?;
    let wanted = order("ord_blind", SKU, 2, "tok_decline_retryable");
    let placed = client.shop().orders.create_order(wanted).await?.into_inner();
    let get = GetOrderRequest {
        min_position: placed.position.clone().into_iter().collect(),
        order_id: placed.order_id.clone(),
    };
    until(async || {
        let seen = client.shop().orders.get_order(get.clone()).await?.into_inner().order;
        Ok(seen.filter(|order| order.status() == OrderStatus::AwaitingPayment).map(drop))
    })
    .await?;
    let shape = |version: i32| {
        format!(
            "UPDATE journal SET schema_version = {version} WHERE stream_id = 'default/order/ord_blind' AND version = 1"
        )
    };
    set(&database, &shape(99)).await?;
    let pay = ProcessPaymentRequest {
        request_id: "again".into(),
        order_id: placed.order_id.clone(),
        payment_method_token: "tok_approve".into(),
        ..ProcessPaymentRequest::default()
    };
    client.shop().payments.process_payment(pay).await?;

    let found = until(async || Ok(parked(&client, "sagas").await?.into_iter().next())).await?;
    ensure!(found.event_stream_id == "default/order/ord_blind" && found.version == 1, "{found:?}");
    ensure!(found.stream_id == "default/checkout/chk_blind", "{found:?}");
    let still = retry(&client, "sagas", &found.stream_id).await?.context("goes on unread")?;
    ensure!(still.reason.contains("99"), "{still:?}");
    set(&database, &shape(1)).await?;
    ensure!(retry(&client, "sagas", &found.stream_id).await?.is_none());
    let done = ended(&client, &placed.order_id, placed.position).await?;
    ensure!(done.status() == OrderStatus::Confirmed, "{done:?}");
    ensure!(parked(&client, "").await?.is_empty());
    shop.finish();
    Ok(())
}

/// Appends events to the log of a shop that is stopped, past everything that asks what is in them: as a program did that
/// asked less.
async fn smuggle(shop: &TestShop, stream: &str, events: &[Event]) -> Result<()> {
    let log = Log::open(Arc::new(LocalLog::open(LocalOptions::new(shop.data().join("log"), 16))?)).await?;
    let stream: StreamId = stream.parse()?;
    let start = log.start(stream.partition(log.partitions()));
    let identity = Identity { node: "older".into(), address: String::new() };
    let mut writer = PartitionWriter::claim(&log, start, identity, 0, 7, |_| {}).await?;
    let commit = Commit {
        command_id: CommandId::derive(&["smuggled", stream.as_str()]),
        stream,
        first_version: 1,
        body_hash: 1,
        actor: "older".into(),
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        recorded_at: Timestamp::from_seconds(1_700_000_000),
        effective_at: None,
        events: events.iter().map(schema::encode).collect(),
    };
    writer.submit(&commit)?;
    loop {
        match writer.progress().await {
            Progress::Confirmed(confirmed) if confirmed.is_empty() => {}
            Progress::Confirmed(_) => break,
            trouble => bail!("{trouble:?}"),
        }
    }
    if let Err(trouble) = writer.release().await {
        bail!("{trouble:?}");
    }
    Ok(())
}

/// The log holds a title that Postgres cannot: the view goes on without that product, and the documented way ends it.
#[tokio::test]
async fn a_title_that_the_database_refuses_is_left_out_and_everything_else_flows() -> Result<()> {
    let mut shop = TestShop::start_with(Setup::default());
    let client = shop.client().await;
    sell(&client, SKU, 5).await?;
    shop.stop();
    let (view, stream) = ("product_view", "default/product/prd_older");
    let (product_id, sku) = (ProductId::new("prd_older")?, Sku::new("OLDER-1")?);
    // Claimed first, as ever: what a product has is its own.
    let claimed = SkuClaimed { sku: sku.clone(), product_id: product_id.clone() };
    smuggle(&shop, "default/sku/OLDER-1", &[Event::Sku(SkuClaimEvent::Claimed(claimed))]).await?;
    let drafted = ProductDrafted {
        product_id,
        title: "a\0cup".into(),
        description: String::new(),
        variants: vec![Variant { sku, title: String::new() }],
    };
    let events = [ProductEvent::Drafted(drafted), ProductEvent::Published(ProductPublished {})];
    smuggle(&shop, stream, &events.map(Event::Product)).await?;
    shop.restart();
    let client = shop.client().await;

    let listed = parks(&client, view, stream, 2).await?;
    ensure!(listed.version == 1 && listed.reason.contains("0x00"), "{listed:?}");
    until(async || Ok(shop.ready().0.then_some(()))).await?;
    sell(&client, "PARKED-2", 5).await?;
    let placed = client.shop().orders.create_order(order("ord_older", "PARKED-2", 1, "tok_approve")).await?;
    let placed = placed.into_inner();
    let done = ended(&client, &placed.order_id, placed.position).await?;
    ensure!(done.status() == OrderStatus::Confirmed, "{done:?}");

    let said = shop.verb(&["parked", "explain", view, stream]);
    ensure!(said.out.contains("in the way") && said.out.contains("ProductDrafted"), "{said:?}");
    let said = shop.verb(&["verify", "--quiesced"]);
    ensure!(!said.status.success() && said.out.contains("parked"), "{said:?}");
    let still = retry(&client, view, stream).await?.context("released, though nothing is mended")?;
    ensure!(still.version == 1, "{still:?}");
    for version in ["1", "2"] {
        let reason = ["--reason", "a title that nobody can keep", "--by", "ann"];
        shop.verb(&[&["parked", "skip", view, stream, version], reason.as_slice()].concat());
    }
    ensure!(parked(&client, "").await?.is_empty());
    shop.verify();
    shop.stop();
    Ok(())
}
