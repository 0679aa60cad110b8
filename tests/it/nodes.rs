//! Several nodes are one shop: the real program three times, on one real Kafka and one real Postgres. Nodes join,
//! leave, die and hang under load; nothing that was acknowledged is lost or doubled, and how long a partition could
//! not be written is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use shopstream_domain::{LocationId, Sku, TenantId};
use shopstream_proto::event::v1::{GetLogStatusRequest, PartitionState, PartitionStatus};
use shopstream_proto::inventory::v1::{GetStockRequest, StreamStockUpdatesRequest};
use shopstream_proto::order::v1::OrderStatus;
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{order, place, sell, stock};
use shopstream_tests::{Database, Setup, TestShop, kafka, long, read_log};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Request;

const PARTITIONS: u16 = 16;
/// Between two commands of one prober: as exact as unavailability is measured.
const PACE: Duration = Duration::from_millis(20);
/// How long one try of a command may take before it is sent again.
const TRY: Duration = Duration::from_secs(2);

/// What the nodes of a test share.
struct Ground {
    setup: Setup,
    // The provider of the first node serves all.
    first: TestShop,
    _database: Database,
}

/// A first node with these roles; `None` where there is no Kafka or no Postgres.
async fn ground(name: &str, roles: &str) -> Option<Ground> {
    let kafka = kafka::shared()?;
    let database = Database::start()?;
    let setup = Setup::on(&kafka.log_url(name)).reading_from(database.url());
    let first = start(setup.clone().named("a").with_roles(roles)).await;
    let setup = setup.paid_through(first.provider_url());
    Some(Ground { setup, first, _database: database })
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

#[tokio::test]
async fn roles_apart_make_one_shop() -> Result<()> {
    let Some(Ground { setup, first: mut a, _database }) = ground("roles", "gateway,commands").await else {
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

/// The stock items that probe: one in each partition.
fn probes() -> Vec<Sku> {
    let tenant = TenantId::default_tenant();
    let partition = |sku: &Sku| sku.stock_stream(&tenant, &LocationId::main()).partition(PARTITIONS);
    let all = (0..).map(|number| Sku::new(&format!("PROBE-{number}")).expect("a SKU"));
    let mut found = BTreeMap::new();
    for sku in all {
        found.entry(partition(&sku)).or_insert(sku);
        if found.len() == usize::from(PARTITIONS) {
            break;
        }
    }
    found.into_values().collect()
}

/// Commands of one client for one stock item, one after the other, each sent until it is acknowledged.
struct Prober {
    running: JoinHandle<Vec<Instant>>,
}

/// Starts a prober per partition, each at `doors` in turn when a try fails.
fn probe(name: &'static str, doors: &[&Client], stop: &watch::Receiver<bool>) -> Vec<Prober> {
    let doors: Arc<[Client]> = doors.iter().map(|door| (*door).clone()).collect();
    let one = |(partition, sku): (usize, Sku)| {
        let (doors, stop) = (doors.clone(), stop.clone());
        let running = tokio::spawn(async move {
            let (mut acknowledged, mut door) = (Vec::new(), 0);
            for number in 0.. {
                if *stop.borrow() {
                    break;
                }
                let change = stock(&format!("{name}-{partition}-{number}"), sku.as_str(), 1);
                loop {
                    let mut request = Request::new(change.clone());
                    request.set_timeout(TRY);
                    match doors[door % doors.len()].shop().inventory.update_stock(request).await {
                        Ok(_) => break,
                        Err(_) => {
                            door += 1;
                            tokio::time::sleep(PACE / 4).await;
                        }
                    }
                }
                acknowledged.push(Instant::now());
                tokio::time::sleep(PACE).await;
            }
            acknowledged
        });
        Prober { running }
    };
    probes().into_iter().enumerate().map(one).collect()
}

/// Something that was done to the nodes, and which partitions it moved.
struct Upheaval {
    what: &'static str,
    from: Instant,
    to: Instant,
    moved: BTreeSet<u32>,
}

impl Upheaval {
    /// The longest time without an acknowledgement in each partition that moved.
    fn unavailable(&self, acknowledged: &[Vec<Instant>]) -> Vec<Duration> {
        let longest = |partition: &u32| {
            let times = &acknowledged[*partition as usize];
            let gaps = times.windows(2).filter(|pair| pair[1] >= self.from && pair[0] <= self.to);
            gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        let mut all: Vec<_> = self.moved.iter().map(longest).collect();
        all.sort_unstable();
        all
    }

    fn report(&self, acknowledged: &[Vec<Instant>]) -> Duration {
        let all = self.unavailable(acknowledged);
        let (p50, max) =
            (all.get(all.len() / 2).copied().unwrap_or_default(), all.last().copied().unwrap_or_default());
        eprintln!(
            "{:<28} {:>2} partitions moved, not writable for p50 {:>5} ms, max {:>5} ms",
            self.what,
            all.len(),
            p50.as_millis(),
            max.as_millis()
        );
        max
    }
}

/// Partitions that are not where they were.
fn moved(before: &BTreeSet<u32>, after: &BTreeSet<u32>) -> BTreeSet<u32> {
    before.symmetric_difference(after).copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_under_load() -> Result<()> {
    let Some(Ground { setup, first: a, _database }) = ground("nodes", ALL).await else { return Ok(()) };
    let at_a = a.client().await;
    for sku in probes() {
        sell(&at_a, sku.as_str(), 1).await?;
    }
    let mut b = start(setup.clone().named("b")).await;
    let at_b = b.client().await;
    let (stop, stopped) = watch::channel(false);
    let steady = probe("steady", &[&at_a], &stopped);
    let other = probe("other", &[&at_b, &at_a], &stopped);
    let calm = Duration::from_secs(if long() { 10 } else { 2 });
    let mut upheavals = Vec::new();

    // c joins.
    let before = settled(&[&at_a, &at_b]).await?;
    let from = Instant::now();
    let mut c = start(setup.clone().named("c")).await;
    let at_c = c.client().await;
    let after = settled(&[&at_a, &at_b, &at_c]).await?;
    let moved_to_c = after[2].clone();
    tokio::time::sleep(calm).await;
    upheavals.push(Upheaval { what: "c joins", from, to: Instant::now(), moved: moved_to_c });
    ensure!(before[0].is_superset(&after[0]) && before[1].is_superset(&after[1]), "only to the new node");

    // c leaves.
    let from = Instant::now();
    c.ask_to_stop();
    let lost = after[2].clone();
    let after = settled(&[&at_a, &at_b]).await?;
    ensure!(after == before, "everybody has again what he had");
    tokio::time::sleep(calm).await;
    upheavals.push(Upheaval { what: "c leaves", from, to: Instant::now(), moved: lost });
    c.stop();

    // b is killed.
    let from = Instant::now();
    b.kill9();
    let orphans = after[1].clone();
    let after = settled(&[&at_a]).await?;
    ensure!(after[0].len() == usize::from(PARTITIONS));
    let to = Instant::now();
    ensure!(to - from < Duration::from_secs(10), "{:?}", to - from);
    tokio::time::sleep(calm).await;
    upheavals.push(Upheaval { what: "b is killed", from, to: Instant::now(), moved: orphans });

    // d joins and hangs for longer than its leases last, with commands on their way.
    let mut d = start(setup.named("d")).await;
    let at_d = d.client().await;
    let before = settled(&[&at_a, &at_d]).await?;
    let epochs: BTreeMap<_, _> =
        statuses(&at_d).await?.into_iter().map(|status| (status.partition, status.epoch)).collect();
    let zombie = probe("zombie", &[&at_d, &at_a], &stopped);
    tokio::time::sleep(calm).await;
    let from = Instant::now();
    d.pause();
    let taken = settled(&[&at_a]).await?;
    let to = Instant::now();
    upheavals.push(Upheaval { what: "d hangs", from, to, moved: moved(&before[0], &taken[0]) });
    tokio::time::sleep(calm).await;
    let woken = Instant::now();
    d.resume();
    // It serves under none of its old claims any more.
    until(async || {
        let Ok(now) = statuses(&at_d).await else { return Ok(None) };
        let old = |status: &&PartitionStatus| {
            status.state() == PartitionState::Serving && status.epoch <= epochs[&status.partition]
        };
        let stale = now.iter().filter(old).any(|status| before[1].contains(&status.partition));
        Ok((!stale).then_some(()))
    })
    .await?;
    let stepped_down = woken.elapsed();
    let back = settled(&[&at_a, &at_d]).await?;
    tokio::time::sleep(calm).await;
    upheavals.push(Upheaval {
        what: "d has its own back",
        from: woken,
        to: Instant::now(),
        moved: moved(&taken[0], &back[0]),
    });

    stop.send_replace(true);
    let mut acknowledged = Vec::new();
    for probers in [steady, other, zombie] {
        let all = join_all(probers.into_iter().map(|prober| prober.running)).await;
        acknowledged.push(all.into_iter().collect::<Result<Vec<_>, _>>()?);
    }
    eprintln!("a hung node stepped down {} ms after it woke", stepped_down.as_millis());
    let longest: Vec<_> = upheavals.iter().map(|upheaval| upheaval.report(&acknowledged[0])).collect();

    // Everything that was acknowledged is there, once, and nothing else.
    let streams = read_log(&at_a).await;
    let mut total = 0;
    for (partition, sku) in probes().into_iter().enumerate() {
        let events = &streams[&format!("default/stock/{sku}@main")];
        let commands: BTreeSet<_> = events.iter().map(|event| &event.command_id).collect();
        let sent: usize = acknowledged.iter().map(|each| each[partition].len()).sum();
        ensure!(events.len() == commands.len(), "something was done twice in partition {partition}");
        // The first one is how it came to be sold.
        ensure!(
            events.len() == sent + 1,
            "{sent} were acknowledged in {partition}, {} count",
            events.len() - 1
        );
        total += sent;
    }
    eprintln!("{total} commands acknowledged, each counts once");
    ensure!(total > 3_000, "only {total} commands");
    ensure!(stepped_down < Duration::from_secs(5), "{stepped_down:?}");
    ensure!(longest[2] < Duration::from_secs(6) && longest[3] < Duration::from_secs(6), "{longest:?}");

    drop(b);
    d.stop();
    a.finish();
    Ok(())
}
