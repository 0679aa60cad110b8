//! Several nodes are one shop: the real program up to three times, on one real Kafka and one real Postgres. Nodes join,
//! leave, die and hang under load; nothing that was acknowledged is lost or doubled, who asks a node that stays is told no
//! error when another one comes or goes as planned, and how long a partition could not be written is printed.
//!
//! `SHOPSTREAM_TEST_LONG=1` does all of it many times; `SHOPSTREAM_TEST_PAUSES` says how often a node hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::event::v1::{GetLogStatusRequest, PartitionState, PartitionStatus};
use shopstream_proto::inventory::v1::{GetStockRequest, StreamStockUpdatesRequest};
use shopstream_proto::order::v1::OrderStatus;
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{order, place, sell, stock};
use shopstream_tests::topic::PARTITIONS;
use shopstream_tests::{Database, Setup, TestShop, kafka, long};
use tokio::sync::watch;

use self::load::{IMPATIENT, PATIENT, Probers, Upheavals, assert_counted_once, probes};

mod load;

/// How long the load goes on before and after something happens.
const CALM: Duration = Duration::from_secs(1);
/// Within this time what a dead or a hung node owned is served again: the lease, and a claim.
const TAKEN_OVER: Duration = Duration::from_secs(6);
/// No partition that is handed over waits so much longer than the others, on a machine that has nothing else to do: the
/// lease is not waited for.
const PLANNED: Duration = Duration::from_millis(800);
/// Nor does any wait so long at all, however slow the machine: else a stall of everything would pass unseen.
const PLANNED_AT_MOST: Duration = Duration::from_secs(8);
/// The same where an owner is dead.
const TAKEN_OVER_AT_MOST: Duration = Duration::from_secs(12);
/// Within this time a node that hung serves under none of its old claims.
const STEPPED_DOWN: Duration = Duration::from_secs(5);

/// What the nodes of a test share.
struct Ground {
    setup: Setup,
    // The provider of the first node serves all.
    first: TestShop,
    /// Of the log.
    url: String,
    _database: Database,
}

/// A first node with these roles; `None` where there is no Kafka or no Postgres.
async fn ground(name: &str, roles: &str) -> Option<Ground> {
    let kafka = kafka::shared()?;
    let database = Database::start()?;
    let url = kafka.log_url(name);
    let setup = Setup::on(&url).reading_from(database.url());
    let first = start(setup.clone().named("a").with_roles(roles)).await;
    let setup = setup.paid_through(first.provider_url());
    Some(Ground { setup, first, url, _database: database })
}

const ALL: &str = "gateway,commands,projections,sagas";

async fn start(setup: Setup) -> TestShop {
    tokio::task::spawn_blocking(move || TestShop::start_with(setup)).await.expect("a node that gets ready")
}

async fn statuses(client: &Client) -> Result<Vec<PartitionStatus>> {
    let asked = client.shop().events.get_log_status(GetLogStatusRequest::default()).await?;
    Ok(asked.into_inner().partitions)
}

/// The partitions that a node serves, by its own word.
async fn serving(client: &Client) -> Result<BTreeSet<u32>> {
    let statuses = statuses(client).await?;
    Ok(statuses.iter().filter(|it| it.state() == PartitionState::Serving).map(|it| it.partition).collect())
}

/// Waits until every partition is served by exactly one of these nodes; answers who serves what.
async fn settled(clients: &[&Client]) -> Result<Vec<BTreeSet<u32>>> {
    until(async || {
        let mut all = Vec::new();
        for client in clients {
            all.push(serving(client).await?);
        }
        let count: usize = all.iter().map(BTreeSet::len).sum();
        let union: BTreeSet<_> = all.iter().flatten().collect();
        Ok((count == usize::from(PARTITIONS) && union.len() == count).then_some(all))
    })
    .await
}

/// Waits until these nodes serve exactly this: while a node waits to have its own back, each partition has one owner too.
async fn serve_again(clients: &[&Client], wanted: &[BTreeSet<u32>]) -> Result<()> {
    until(async || Ok((settled(clients).await? == wanted).then_some(()))).await
}

#[tokio::test]
async fn roles_apart_make_one_shop() -> Result<()> {
    let Some(Ground { setup, first: mut a, _database, .. }) = ground("roles", "gateway,commands").await
    else {
        return Ok(());
    };
    let mut b = start(setup.clone().named("b").with_roles("commands,projections")).await;
    let mut c = start(setup.named("c").with_roles("gateway,sagas")).await;
    let (at_a, at_b, at_c) = (a.client().await, b.client().await, c.client().await);
    let served = settled(&[&at_a, &at_b, &at_c]).await?;
    ensure!(served[2].is_empty(), "c has no partitions: {served:?}");

    // What one node changes, the other sees when it names the position, and in its stream.
    sell(&at_a, "SHARED-1", 100).await?;
    let streamed = StreamStockUpdatesRequest { skus: vec!["SHARED-1".into()], ..Default::default() };
    let mut updates = at_c.shop().inventory.stream_stock_updates(streamed).await?.into_inner();
    ensure!(updates.message().await?.is_some(), "the present stock");
    for round in 0..10 {
        let (changed, seen) = if round % 2 == 0 { (&at_a, &at_c) } else { (&at_c, &at_a) };
        let change = stock(&format!("shared-{round}"), "SHARED-1", 1);
        let done = changed.shop().inventory.update_stock(change).await?.into_inner();
        let get = GetStockRequest {
            min_position: done.position.into_iter().collect(),
            sku: "SHARED-1".into(),
            location: "main".into(),
        };
        let level = seen.shop().inventory.get_stock(get).await?.into_inner().stock.context("stock")?;
        ensure!(level.on_hand == 101 + round, "{level:?} in round {round}");
        ensure!(updates.message().await?.is_some(), "the change");
    }
    // An unknown SKU is unknown everywhere, which every owner has to be asked for.
    let unknown = at_c.shop().inventory.update_stock(stock("nobody", "NOBODY-1", 1)).await;
    ensure!(unknown.is_err_and(|status| status.code() == tonic::Code::NotFound));

    // Checkouts run on c, over partitions of a and b, seen through b's projections.
    for round in 0..6 {
        let client = if round % 2 == 0 { &at_a } else { &at_c };
        let ended = place(client, order(&format!("ord_shared{round}"), "SHARED-1", 2, "tok_shared")).await?;
        ensure!(ended.status() == OrderStatus::Confirmed, "{ended:?}");
    }

    // No node has anything to complain of, though it does only a part of the work.
    for shop in [&a, &b, &c] {
        let well = until(async || Ok(shop.ready().0.then_some(()))).await;
        well.with_context(|| shop.ready().1)?;
    }

    // Every node tells of all partitions, and the verb prints it.
    for (shop, client) in [(&a, &at_a), (&b, &at_b), (&c, &at_c)] {
        for status in statuses(client).await? {
            ensure!(status.epoch > 0 && status.lease_ms > 0 && !status.owner.is_empty(), "{status:?}");
        }
        let said = shop.verb(&["log", "status"]);
        ensure!(said.status.success() && said.out.contains("a at 127.0.0.1"), "{said:?}");
        ensure!(said.out.contains("b at 127.0.0.1"), "{said:?}");
    }
    a.verify();
    c.stop();
    b.stop();
    a.stop();
    Ok(())
}

/// How often each thing happens to the nodes: once; in the long form many times.
struct Rounds {
    moves: u32,
    kills: u32,
    pauses: u32,
}

impl Rounds {
    /// `SHOPSTREAM_TEST_PAUSES` names another number of pauses.
    fn wanted() -> Result<Self> {
        let mut rounds = if long() {
            Self { moves: 20, kills: 5, pauses: 50 }
        } else {
            Self { moves: 1, kills: 1, pauses: 1 }
        };
        if let Some(pauses) = std::env::var_os("SHOPSTREAM_TEST_PAUSES") {
            rounds.pauses = pauses.to_str().context("not a number")?.parse()?;
        }
        Ok(rounds)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_under_load() -> Result<()> {
    let Some(Ground { setup, first: a, url, _database }) = ground("nodes", ALL).await else {
        return Ok(());
    };
    let rounds = Rounds::wanted()?;
    let at_a = a.client().await;
    for sku in probes() {
        sell(&at_a, &sku, 1).await?;
    }
    let mut b = start(setup.clone().named("b")).await;
    let at_b = b.client().await;
    let (stop, stopped) = watch::channel(false);
    let steady = Probers::start("steady", &[&at_a], PATIENT, &stopped);
    let other = Probers::start("other", &[&at_b, &at_a], PATIENT, &stopped);
    let mut upheavals = Upheavals::default();

    for _ in 0..rounds.moves {
        let before = settled(&[&at_a, &at_b]).await?;
        let from = Instant::now();
        let mut c = start(setup.clone().named("c")).await;
        let at_c = c.client().await;
        let after = settled(&[&at_a, &at_b, &at_c]).await?;
        tokio::time::sleep(CALM).await;
        upheavals.note("a node joins (planned)", from, after[2].clone());
        ensure!(before[0].is_superset(&after[0]) && before[1].is_superset(&after[1]), "only to the new node");

        let from = Instant::now();
        c.ask_to_stop();
        let again = settled(&[&at_a, &at_b]).await?;
        ensure!(again == before, "everybody has again what he had");
        tokio::time::sleep(CALM).await;
        upheavals.note("a node leaves (planned)", from, after[2].clone());
        c.stop();
    }

    for _ in 0..rounds.kills {
        let orphans = settled(&[&at_a, &at_b]).await?[1].clone();
        let from = Instant::now();
        b.kill9();
        settled(&[&at_a]).await?;
        ensure!(from.elapsed() < TAKEN_OVER, "served again after {:?}: {}", from.elapsed(), a.complaints());
        tokio::time::sleep(CALM).await;
        upheavals.note("a node is killed (takeover)", from, orphans.clone());
        let from = Instant::now();
        b.restart();
        settled(&[&at_a, &at_b]).await?;
        tokio::time::sleep(CALM).await;
        upheavals.note("it is started again (planned)", from, orphans);
    }

    let zombie = Probers::start("zombie", &[&at_b, &at_a], IMPATIENT, &stopped);
    let mut stepped_down = Vec::new();
    for _ in 0..rounds.pauses {
        let served = settled(&[&at_a, &at_b]).await?;
        let owned = served[1].clone();
        ensure!(!owned.is_empty(), "it owns nothing that could be taken over");
        let epochs = epochs(&at_b).await?;
        tokio::time::sleep(CALM).await;
        let from = Instant::now();
        b.pause();
        settled(&[&at_a]).await?;
        ensure!(from.elapsed() < TAKEN_OVER, "served again after {:?}: {}", from.elapsed(), a.complaints());
        tokio::time::sleep(CALM).await;
        upheavals.note("a node hangs (takeover)", from, owned.clone());

        let from = Instant::now();
        b.resume();
        // It serves under none of its old claims any more.
        until(async || {
            let Ok(now) = statuses(&at_b).await else { return Ok(None) };
            let stale = |status: &PartitionStatus| {
                status.state() == PartitionState::Serving && status.epoch <= epochs[&status.partition]
            };
            Ok((!now.iter().any(stale)).then_some(()))
        })
        .await?;
        stepped_down.push(from.elapsed());
        serve_again(&[&at_a, &at_b], &served).await?;
        tokio::time::sleep(CALM).await;
        upheavals.note("it wakes, has its own back (planned)", from, owned);
    }

    stop.send_replace(true);
    let (mut load, mut told) = (Vec::new(), Vec::new());
    for probers in [steady, other, zombie] {
        let (acknowledged, errors) = probers.finish().await?;
        load.push(acknowledged);
        told.push(errors);
    }
    let longest = upheavals.report(&load[0]);
    let slowest = stepped_down.iter().max().copied().unwrap_or_default();
    eprintln!(
        "{} times a hung node woke; it stepped down within {} ms",
        stepped_down.len(),
        slowest.as_millis()
    );
    let total = assert_counted_once(&at_a, &url, &load).await?;
    eprintln!("{total} commands acknowledged, each counts once");
    ensure!(total > 3_000, "only {total} commands");
    ensure!(slowest < STEPPED_DOWN, "{slowest:?}");
    // Who asks a node that stays hears of no planned move; `other` asks one that stays while a third comes and goes.
    let planned = upheavals.told("planned", &told[0]);
    ensure!(
        planned.is_empty(),
        "{} errors, planned moves: {:?}",
        planned.len(),
        &planned[..planned.len().min(5)]
    );
    for what in ["a node joins", "a node leaves"] {
        let moved = upheavals.told(what, &told[1]);
        ensure!(moved.is_empty(), "{} errors, {what}: {:?}", moved.len(), &moved[..moved.len().min(5)]);
    }
    eprintln!("0 errors at clients in planned moves");
    for (what, (moved, stayed)) in longest {
        let is_planned = what.contains("planned");
        let (bound, at_most) =
            if is_planned { (PLANNED, PLANNED_AT_MOST) } else { (TAKEN_OVER, TAKEN_OVER_AT_MOST) };
        ensure!(moved < at_most, "{what}: {moved:?}");
        // What a claim costs beside compilers says nothing of the shop.
        ensure!(!long() || moved < bound + stayed, "{what}: {moved:?}; {stayed:?} where nothing moved");
    }
    b.stop();
    a.finish();
    Ok(())
}

/// The epoch of every partition.
async fn epochs(client: &Client) -> Result<BTreeMap<u32, i64>> {
    Ok(statuses(client).await?.into_iter().map(|status| (status.partition, status.epoch)).collect())
}
