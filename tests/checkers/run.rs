//! A true run: the real program on a real Postgres, killed in the middle, and everything that it leaves behind.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_eventlog::local::{LocalLog, Options};
use shopstream_eventlog::raw::RawLog;
use shopstream_eventlog::{Cursor, Log};
use shopstream_projections::{ConnectOptions, Database as ReadModels, Projection};
use shopstream_proto::catalog::v1::CreateProductResponse;
use shopstream_proto::inventory::v1::{
    GetStockRequest, GetStockResponse, UpdateStockRequest, UpdateStockResponse,
};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CancelOrderResponse, CancelReason, CreateOrderRequest, CreateOrderResponse,
    GetOrderRequest, GetOrderResponse,
};
use shopstream_proto::r#type::v1::Position as WirePosition;
use shopstream_server::client::{Client, Shop};
use shopstream_tests::checkers::dump::Dump;
use shopstream_tests::checkers::history::{Answer, Outcome};
use shopstream_tests::checkers::log::LogImage;
use shopstream_tests::checkers::{Evidence, corpus};
use shopstream_tests::requests::{CURRENCY, ended, order, product, stock};
use shopstream_tests::{Database, Setup, TestShop, calls, records, segments};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::client::{About, Recorder, position_of, with_actor};
use crate::feed;

/// What is sold; of the last there is next to nothing.
const SKUS: [&str; 4] = ["CHECK-1", "CHECK-2", "CHECK-3", "CHECK-SCARCE"];
const PARTITIONS: u16 = 16;
const BUYERS: u64 = 6;
const ORDERS_EACH: u64 = 12;
const STOREKEEPERS: u64 = 3;
const DELIVERIES_EACH: u64 = 15;
/// So few that many streams have a snapshot.
const SNAPSHOT_EVENTS: u64 = 5;
/// The epoch that a new database begins with, and the one for the replay.
const EPOCH: u32 = 1;
const REPLAY: u32 = 2;
/// How often a request is sent again, and after how long: enough for a restart.
const TRIES: u32 = 1200;
const RETRY: Duration = Duration::from_millis(50);

/// What the run left behind; the same for all tests. `None`, after a loud line, where there is no Postgres.
pub fn evidence() -> Option<&'static Evidence> {
    static EVIDENCE: OnceLock<Option<Evidence>> = OnceLock::new();
    let gathered = || {
        let database = Database::start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let evidence = runtime.expect("a runtime").block_on(gather(&database));
        Some(evidence.unwrap_or_else(|error| panic!("{error:?}")))
    };
    EVIDENCE.get_or_init(gathered).as_ref()
}

async fn gather(database: &Database) -> Result<Evidence> {
    let setup = Setup::default().reading_from(database.url()).with_snapshots_every(SNAPSHOT_EVENTS);
    let mut shop = block_in_place(|| TestShop::start_with(setup));
    let client = shop.client().await;
    let recorder = Arc::new(Recorder::new());
    let (over, is_over) = watch::channel(false);
    let subscriber = tokio::spawn(feed::follow(client.clone(), PARTITIONS.into(), is_over));
    open_shop(&recorder, &client).await?;

    let mut work = JoinSet::new();
    for number in 0..BUYERS {
        work.spawn(buy(recorder.clone(), client.clone(), number));
    }
    for number in 0..STOREKEEPERS {
        work.spawn(deliver(recorder.clone(), client.clone(), number));
    }
    kill_halfway(&recorder, &mut shop).await?;
    let mut last = Vec::new();
    while let Some(done) = work.join_next().await {
        last.extend(done??);
    }
    for (order_id, position) in last {
        ended(&client, &order_id, Some(position)).await?;
    }
    block_in_place(|| shop.verify());
    over.send(true)?;
    let subscription = subscriber.await??;
    block_in_place(|| shop.kill9());

    let mut history = recorder.take();
    history.subscriptions.push(subscription);
    let folder = shop.data().join("log");
    let second = segments::read(&folder)?.records;
    let raw: Arc<dyn RawLog> = Arc::new(LocalLog::open(Options::new(&folder, PARTITIONS))?);
    let log = LogImage::fold(&records::read(&*raw).await?)?;
    let dump = Dump::read(database.url(), EPOCH).await?;
    ensure!(!dump.tables.is_empty(), "the database has no read models");
    let replay = replay(database.url(), &Log::open(raw).await?, &log.ends()).await?;
    let (provider, corpus) = (calls(shop.data()), corpus());
    Ok(Evidence { history, log, second, database: dump, replay, provider, corpus, at_rest: true })
}

/// Folds all of the log once more, into tables beside the first.
async fn replay(url: &str, log: &Log, until: &[Cursor]) -> Result<BTreeMap<String, Vec<String>>> {
    let database = ReadModels::connect(url, &ConnectOptions::default()).await?;
    for projection in Projection::views() {
        database.rebuild(log, projection, REPLAY, until, |_| {}).await?;
    }
    Ok(Dump::read(url, REPLAY).await?.tables)
}

/// In the middle of everything, so that calls break off and nobody knows what became of them.
async fn kill_halfway(recorder: &Recorder, shop: &mut TestShop) -> Result<()> {
    let answered = || {
        let history = recorder.history();
        history.commands.iter().filter(|call| call.outcome.answer().is_some()).count() as u64
    };
    for _ in 0..TRIES {
        if answered() > BUYERS * ORDERS_EACH {
            block_in_place(|| {
                shop.kill9();
                shop.restart();
            });
            return Ok(());
        }
        tokio::time::sleep(RETRY).await;
    }
    bail!("the shop is too slow to be killed halfway")
}

async fn open_shop(recorder: &Recorder, client: &Client) -> Result<()> {
    for (sku, units) in SKUS.into_iter().zip([400, 400, 400, 5]) {
        let about = About {
            stream: format!("default/product/prd_{sku}"),
            further: vec![format!("default/sku/{sku}"), format!("default/price/{sku}.{CURRENCY}")],
        };
        let made = recorder.command(
            client,
            &about,
            product(sku, 500),
            async |mut shop, request| shop.products.create_product(request).await,
            |made: &CreateProductResponse| (made.version, made.position.clone()),
        );
        ensure!(made.await.answer().is_some(), "{sku} was not made");
        // The offer may not be seen at once.
        persist(recorder, client, stock(&format!("first:{sku}"), sku, units)).await?;
    }
    Ok(())
}

async fn update(recorder: &Recorder, client: &Client, request: UpdateStockRequest) -> Outcome<Answer> {
    let about = About::one(format!("default/stock/{}@main", request.sku));
    let call = async |mut shop: Shop, request| shop.inventory.update_stock(request).await;
    let answer = |said: &UpdateStockResponse| (said.version, said.position.clone());
    recorder.command(client, &about, request, call, answer).await
}

/// Sends a delivery until it is acknowledged.
async fn persist(recorder: &Recorder, client: &Client, request: UpdateStockRequest) -> Result<Answer> {
    for _ in 0..TRIES {
        if let Outcome::Ok(answer) = update(recorder, client, request.clone()).await {
            return Ok(answer);
        }
        tokio::time::sleep(RETRY).await;
    }
    bail!("{} was never taken", request.request_id)
}

/// Places orders, again where it must, sometimes again where it need not, and sometimes calls one off, before or after
/// it is paid.
async fn buy(recorder: Arc<Recorder>, client: Client, buyer: u64) -> Result<Vec<(String, WirePosition)>> {
    let mut random = StdRng::seed_from_u64(buyer);
    let mut last = Vec::new();
    for number in 0..ORDERS_EACH {
        let id = format!("ord_check-{buyer}-{number}");
        let sku = SKUS[random.random_range(0..SKUS.len())];
        let token = if random.random_bool(0.2) { "tok_decline" } else { "tok_check" };
        let wish = order(&id, sku, random.random_range(1..3), token);
        let mut position = place(&recorder, &client, &wish).await?;
        if random.random_bool(0.4) {
            position = place(&recorder, &client, &wish).await?;
        }
        if random.random_bool(0.4) {
            let mut other = wish.clone();
            other.lines[0].quantity += 7;
            attempt(&recorder, &client, &other).await;
        }
        if random.random_bool(0.3) {
            // Half of them when everything is paid: then the undoing is another.
            if random.random_bool(0.5) {
                ended(&client, &id, Some(position)).await?;
            }
            position = call_off(&recorder, &client, &id).await?;
        }
        look(&recorder, &client, &id, &position).await;
        last.push((id, position));
    }
    Ok(last)
}

async fn attempt(recorder: &Recorder, client: &Client, wish: &CreateOrderRequest) -> Outcome<Answer> {
    let about = About::one(format!("default/order/{}", wish.order_id.clone().unwrap_or_default()));
    let call = async |mut shop: Shop, request| shop.orders.create_order(request).await;
    let answer = |said: &CreateOrderResponse| (said.version, said.position.clone());
    recorder.command(client, &about, wish.clone(), call, answer).await
}

async fn place(recorder: &Recorder, client: &Client, wish: &CreateOrderRequest) -> Result<WirePosition> {
    for _ in 0..TRIES {
        match attempt(recorder, client, wish).await {
            Outcome::Ok(answer) => return Ok(wire(&answer)),
            Outcome::Fail(why) => bail!("{:?} was refused: {why}", wish.order_id),
            Outcome::Unknown(_) => tokio::time::sleep(RETRY).await,
        }
    }
    bail!("{:?} was never taken", wish.order_id)
}

async fn call_off(recorder: &Recorder, client: &Client, id: &str) -> Result<WirePosition> {
    // What has ended by itself cannot be called off any more, and need not.
    let about = About::one(format!("default/order/{id}"));
    for _ in 0..TRIES {
        let request = CancelOrderRequest {
            request_id: format!("off:{id}"),
            order_id: id.to_owned(),
            reason: CancelReason::Customer.into(),
            ..CancelOrderRequest::default()
        };
        let call = async |mut shop: Shop, request| shop.orders.cancel_order(request).await;
        let answer = |said: &CancelOrderResponse| (said.version, said.position.clone());
        match recorder.command(client, &about, request, call, answer).await {
            Outcome::Ok(answer) => return Ok(wire(&answer)),
            Outcome::Fail(why) => bail!("{id} cannot be called off: {why}"),
            Outcome::Unknown(_) => tokio::time::sleep(RETRY).await,
        }
    }
    bail!("{id} was never called off")
}

/// Reads an order back, with the position of what was done to it.
async fn look(recorder: &Recorder, client: &Client, id: &str, position: &WirePosition) {
    let min_position = vec![position_of(position)];
    let request = GetOrderRequest { min_position: vec![position.clone()], order_id: id.to_owned() };
    let mut shop = client.shop();
    let ask = shop.orders.get_order(with_actor(request));
    let version = |said: &GetOrderResponse| said.order.as_ref().map_or(0, |order| order.version);
    recorder.query(format!("default/order/{id}"), min_position, ask, version).await;
}

/// Takes deliveries of one SKU, each on the version that was read before: of three who read the same, one may.
async fn deliver(
    recorder: Arc<Recorder>,
    client: Client,
    keeper: u64,
) -> Result<Vec<(String, WirePosition)>> {
    let mut position = None;
    let (mut taken, mut tries) = (0, 0);
    while taken < DELIVERIES_EACH {
        ensure!(tries < TRIES, "deliveries are never taken");
        tries += 1;
        let min_position: Vec<WirePosition> = position.clone().into_iter().collect();
        let wanted = min_position.iter().map(position_of).collect();
        let request = GetStockRequest { min_position, sku: SKUS[0].into(), location: String::new() };
        let mut shop = client.shop();
        let ask = shop.inventory.get_stock(with_actor(request));
        let version = |said: &GetStockResponse| said.stock.as_ref().map_or(0, |stock| stock.version);
        let shown = recorder.query(format!("default/stock/{}@main", SKUS[0]), wanted, ask, version).await;
        let Some(shown) = shown else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let mut delivery = stock(&format!("delivery-{keeper}-{tries}"), SKUS[0], 1);
        delivery.expected_version = Some(shown as i64);
        match update(&recorder, &client, delivery).await {
            Outcome::Ok(answer) => {
                taken += 1;
                position = Some(wire(&answer));
            }
            Outcome::Fail(_) => {}
            Outcome::Unknown(_) => tokio::time::sleep(RETRY).await,
        }
    }
    Ok(Vec::new())
}

fn wire(answer: &Answer) -> WirePosition {
    WirePosition {
        log: "core".into(),
        partition: answer.position.partition.into(),
        offset: answer.position.offset as i64,
        ..WirePosition::default()
    }
}
