//! The topic under a live shop is deleted, made again, cut or taken away by somebody who may do so.
//!
//! What was acknowledged before is lost with the topic: that is the disaster itself, and no program undoes it. What is
//! shown here: from then on nothing is acknowledged that does not count for a fresh reader of the new log; every
//! partition that is hit halts and says why, in the log's status, in health and in the answers; nothing of a foreign
//! history reaches the read models; the process stays.

mod leader;
mod load;
mod record;
mod repair;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use shopstream_domain::Partition;
use shopstream_eventlog::Offset;
use shopstream_proto::event::v1::{GetLogStatusRequest, PartitionState, PartitionStatus};
use shopstream_proto::order::v1::OrderStatus;
use shopstream_server::client::{Client, until};
use shopstream_tests::topic::{PARTITIONS, Topic, sku_in, stock};
use shopstream_tests::{Database, Setup, TestShop, kafka, long, requests};
use tokio_postgres::NoTls;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use load::{Acknowledged, Load, place, receive};

/// Within this a node must have noticed, or it never will.
const NOTICED: Duration = Duration::from_secs(40);
/// Acknowledged commands before the attack.
const WARM: usize = 300;
/// Partitions that clients write to; the others have an owner that is idle.
const BUSY: std::ops::Range<Partition> = 0..8;

/// Confirmed before the attack.
const ORDER: &str = "ord_before";

/// A shop on a topic of its own, with clients at work.
struct Attacked {
    shop: TestShop,
    client: Client,
    topic: Topic,
    load: Load,
    database: Database,
}

impl Attacked {
    async fn start(name: &str, log: &str) -> Result<Option<Self>> {
        Self::start_on(name, log, 1).await
    }

    /// On so many brokers.
    async fn start_on(name: &str, log: &str, brokers: u8) -> Result<Option<Self>> {
        let Some(database) = Database::start() else { return Ok(None) };
        let (setup, url) = (log.to_owned(), database.url().to_owned());
        let start = move || TestShop::start_with(Setup::on_replicated(&setup, brokers).reading_from(&url));
        let shop = tokio::task::spawn_blocking(start).await?;
        let client = shop.client().await;
        for partition in 0..PARTITIONS {
            requests::sell(&client, &sku(partition), 1).await?;
        }
        let order = requests::place(&client, requests::order(ORDER, &sku(BUSY.end), 1, "tok_ok")).await?;
        ensure!(order.status() == OrderStatus::Confirmed, "{order:?}");
        let load = Load::start(&client, BUSY.map(sku));
        until(async || Ok((load.count() >= WARM).then_some(()))).await?;
        eprintln!("{name}: {} acknowledged before the attack", load.count());
        Ok(Some(Self { shop, client, topic: Topic::of(log), load, database }))
    }

    /// Waits until these partitions are halted, and holds the node to everything that it promises then.
    async fn noticed(mut self, attacked: Instant, hit: &BTreeSet<Partition>, why: &[&str]) -> Result<Self> {
        let halted = self.halted(attacked, hit).await;
        self.load.stop().await;
        // Whatever else is not as it should be: this first.
        self.nothing_void_was_acknowledged(attacked).await?;
        let statuses = halted?;
        eprintln!("all {} partitions halted {:?} after the attack", hit.len(), attacked.elapsed());
        for status in &statuses {
            let partition = status.partition as Partition;
            if hit.contains(&partition) {
                ensure!(why.iter().any(|word| status.reason.contains(word)), "{status:?}");
                ensure!(status.reason.contains("restore the log"), "no way out is named: {status:?}");
            } else {
                ensure!(status.state() == PartitionState::Serving, "{status:?}");
            }
            match receive(&self.client, &sku(partition), u32::MAX).await {
                Err(refused) if hit.contains(&partition) => {
                    ensure!(refused.code() == Code::DataLoss, "{refused:?}");
                }
                answer => ensure!(answer.is_ok() && !hit.contains(&partition), "{partition}: {answer:?}"),
            }
        }
        self.says_why(hit, why).await?;
        let foreign = rows_of(self.database.url(), "FOREIGN").await?;
        ensure!(foreign.is_empty(), "rows of the foreign history: {foreign:?}");
        ensure!(self.shop.is_alive(), "the node has ended");
        Ok(self)
    }

    /// What was sent after the attack and acknowledged counts for whoever reads the log that is there now. Answers how
    /// much of what was acknowledged before does not.
    async fn nothing_void_was_acknowledged(&self, attacked: Instant) -> Result<usize> {
        let counted = self.topic.counted().await;
        let acknowledged = self.load.acknowledged();
        let (after, before): (Vec<_>, Vec<_>) =
            acknowledged.into_iter().partition(|answer| answer.sent > attacked);
        let is_void = |answer: &&Acknowledged| {
            counted.get(&place(&answer.position)) != Some(&stock(&answer.sku).to_string())
        };
        let (lost, void) = (before.iter().filter(is_void).count(), after.iter().filter(is_void).count());
        eprintln!(
            "acknowledged: {} before, {lost} of them lost with the topic; {} after",
            before.len(),
            after.len()
        );
        ensure!(void == 0, "{void} of {} acknowledged after the attack do not count", after.len());
        Ok(lost)
    }

    /// The log's status once these partitions are halted.
    async fn halted(&self, attacked: Instant, hit: &BTreeSet<Partition>) -> Result<Vec<PartitionStatus>> {
        let mut last = String::new();
        let mut first = None;
        while attacked.elapsed() < NOTICED {
            let mut request = Request::new(GetLogStatusRequest::default());
            request.set_timeout(Duration::from_secs(5));
            match self.client.shop().events.get_log_status(request).await {
                Ok(answer) => {
                    let statuses = answer.into_inner().partitions;
                    let halted = statuses.iter().filter(|status| status.state() == PartitionState::Halted);
                    let halted: BTreeSet<_> = halted.map(|status| status.partition as Partition).collect();
                    if !halted.is_empty() && first.is_none() {
                        first = Some(attacked.elapsed());
                        eprintln!("partition {halted:?} halted {:?} after the attack", attacked.elapsed());
                    }
                    if halted.is_superset(hit) {
                        return Ok(statuses);
                    }
                    let open =
                        statuses.iter().filter(|status| hit.contains(&(status.partition as Partition)));
                    let open: Vec<_> =
                        open.map(|s| format!("{}: {:?} {}", s.partition, s.state(), s.reason)).collect();
                    last = open.join("\n");
                }
                Err(status) => last = format!("{status:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("not halted within {NOTICED:?}:\n{last}\n{:?}", self.shop.ready())
    }

    /// Health and the verb say which partition, what, and why, for the read side and the processes too.
    async fn says_why(&self, hit: &BTreeSet<Partition>, why: &[&str]) -> Result<()> {
        let health = tonic::transport::Endpoint::from_shared(self.shop.url())?.connect().await?;
        let health = HealthClient::new(health).check(HealthCheckRequest::default()).await?.into_inner();
        ensure!(health.status() == ServingStatus::NotServing, "{health:?}");
        let told = until(async || {
            let (ready, told) = self.shop.ready();
            let parts = ["projection journal", "projection stock_level", "processes"];
            let halted =
                |part: &&str| told.lines().any(|line| line.starts_with(*part) && line.contains("halted"));
            Ok((!ready && parts.iter().all(halted)).then_some(told))
        });
        let told = tokio::time::timeout(NOTICED, told).await;
        let told = told.with_context(|| format!("not said in health: {:?}", self.shop.ready()))??;
        for partition in hit {
            let named = |line: &&str| line.starts_with(&format!("partition {partition}: halted"));
            let line =
                told.lines().find(named).with_context(|| format!("partition {partition} in {told}"))?;
            ensure!(why.iter().any(|word| line.contains(word)), "{line}");
        }
        let said = self.shop.verb(&["log", "status"]);
        ensure!(said.status.code() == Some(1), "{said:?}");
        ensure!(said.out.contains("halted") && why.iter().any(|word| said.out.contains(word)), "{said:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_and_made_again() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let Some(attacked) = Attacked::start("made again", &kafka.log_url("made-again")).await? else {
        return Ok(());
    };
    attacked.topic.delete().await;
    attacked.topic.make().await;
    let noticed = attacked.noticed(Instant::now(), &all(), &["made again", "truncated"]).await?;
    noticed.repaired("--append-lost").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_that_is_kept() -> Result<()> {
    if !long() {
        // In short the two ways are tried on one attack each.
        return Ok(());
    }
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let Some(attacked) = Attacked::start("kept", &kafka.log_url("kept")).await? else { return Ok(()) };
    attacked.topic.delete().await;
    attacked.topic.make().await;
    let noticed = attacked.noticed(Instant::now(), &all(), &["made again", "truncated"]).await?;
    noticed.repaired("--keep-log").await
}

/// The hardest form: each partition of the new log ends where the old one did, or further on, before the node looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_and_grown_while_the_node_slept() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let Some(mut attacked) = Attacked::start("asleep", &kafka.log_url("asleep")).await? else {
        return Ok(());
    };
    attacked.shop.pause();
    let mut ends = attacked.topic.ends().await;
    for partition in (0..PARTITIONS).step_by(2) {
        ends[usize::from(partition)] += 5;
    }
    attacked.topic.delete().await;
    attacked.topic.make().await;
    attacked.topic.settle(&ends).await;
    attacked.shop.resume();
    let noticed = attacked.noticed(Instant::now(), &all(), &["made again", "truncated"]).await?;
    // On a history that somebody else has begun.
    noticed.repaired("--append-lost").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_and_grown_under_load() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let Some(attacked) = Attacked::start("grown", &kafka.log_url("grown")).await? else { return Ok(()) };
    let ends: Vec<Offset> = attacked.topic.ends().await.iter().map(|end| end + 200).collect();
    attacked.topic.delete().await;
    attacked.topic.make().await;
    let made = Instant::now();
    attacked.topic.settle(&ends).await;
    eprintln!("grown within {:?}", made.elapsed());
    attacked.noticed(made, &all(), &["made again", "truncated"]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_for_good() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let Some(attacked) = Attacked::start("deleted", &kafka.log_url("deleted")).await? else { return Ok(()) };
    attacked.topic.delete().await;
    attacked.noticed(Instant::now(), &all(), &["does not exist"]).await.map(drop)
}

/// A power cut of the only broker: the end of one partition is gone, and owner and projections had read it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_cut_short() -> Result<()> {
    cut_short("--keep-log").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_cut_short_and_made_whole() -> Result<()> {
    if !long() {
        // In short the two ways are tried on one attack each.
        return Ok(());
    }
    cut_short("--append-lost").await
}

async fn cut_short(way: &'static str) -> Result<()> {
    let Some(kafka) = tokio::task::spawn_blocking(|| kafka::Cluster::start(1)).await? else { return Ok(()) };
    let Some(attacked) = Attacked::start("cut", &kafka.log_url("cut")).await? else { return Ok(()) };
    let partition = BUSY.start;
    let name = attacked.topic.name().to_owned();
    let kafka = tokio::task::spawn_blocking(move || {
        kafka.kill9(1);
        kafka.cut(1, &name, partition, 2_000);
        kafka.restart(1);
        kafka
    })
    .await?;
    let noticed = attacked.noticed(Instant::now(), &[partition].into(), &["truncated"]).await;
    let repaired = match noticed {
        Ok(noticed) => noticed.repaired(way).await,
        Err(error) => Err(error),
    };
    drop(kafka);
    repaired
}

/// The same while the journal lags: where the owner claims again from, nothing is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_cut_short_behind_a_slow_journal() -> Result<()> {
    if !long() {
        // In short a test of the shard stands for it.
        return Ok(());
    }
    let Some(kafka) = tokio::task::spawn_blocking(|| kafka::Cluster::start(1)).await? else { return Ok(()) };
    let Some(attacked) = Attacked::start("lagging", &kafka.log_url("lagging")).await? else { return Ok(()) };
    let (journal, connection) = tokio_postgres::connect(attacked.database.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    journal.batch_execute("BEGIN; LOCK TABLE journal IN EXCLUSIVE MODE").await?;
    let locked = attacked.load.count();
    until(async || Ok((attacked.load.count() >= locked + WARM).then_some(()))).await?;
    let partition = BUSY.start;
    let name = attacked.topic.name().to_owned();
    let kafka = tokio::task::spawn_blocking(move || {
        kafka.kill9(1);
        kafka.cut(1, &name, partition, 2_000);
        kafka.restart(1);
        kafka
    })
    .await?;
    let cut = Instant::now();
    attacked.halted(cut, &[partition].into()).await?;
    journal.batch_execute("COMMIT").await?;
    drop(journal);
    connection.await??;
    let noticed = attacked.noticed(cut, &[partition].into(), &["truncated"]).await;
    drop(kafka);
    noticed.map(drop)
}

/// Retention would delete claims. Who owns a partition keeps it, for what was acknowledged is still there;
/// but nobody claims one.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_lost_its_settings_is_not_claimed() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let log = kafka.log_url("settings");
    let start = {
        let log = log.clone();
        move || TestShop::start_with(Setup::on(&log).watching_every(1))
    };
    let mut shop = tokio::task::spawn_blocking(start).await?;
    requests::sell(&shop.client().await, &sku(0), 1).await?;
    Topic::of(&log).set_only("retention.ms", "86400000").await;
    let told = until(async || {
        let (ready, told) = shop.ready();
        Ok((!ready && told.contains("retention.ms")).then_some(told))
    });
    let told = told.await?;
    ensure!(told.starts_with("log: retention.ms is 86400000") && told.contains("topics apply"), "{told}");
    receive(&shop.client().await, &sku(0), 1).await?;

    let mut shop = tokio::task::spawn_blocking(move || {
        shop.kill9();
        shop.restart_unready();
        shop
    })
    .await?;
    let (ready, told) = shop.ready();
    let unclaimed =
        |partition| told.contains(&format!("partition {partition}: not available: the log refuses"));
    ensure!(!ready && (0..PARTITIONS).all(unclaimed), "{told}");
    let refused = receive(&shop.client().await, &sku(0), 2).await.err().context("it was carried out")?;
    ensure!(refused.code() == Code::Unavailable, "{refused:?}");

    tokio::task::spawn_blocking(move || Setup::on(&log)).await?;
    until(async || Ok(shop.ready().0.then_some(()))).await?;
    receive(&shop.client().await, &sku(0), 2).await?;
    ensure!(shop.is_alive(), "the node has ended");
    tokio::task::spawn_blocking(move || shop.finish()).await?;
    Ok(())
}

/// The SKU of the shop in a partition.
fn sku(partition: Partition) -> String {
    sku_in(partition, "OURS")
}

fn all() -> BTreeSet<Partition> {
    (0..PARTITIONS).collect()
}

/// The tables with rows that name `word`, each with how many.
async fn rows_of(database: &str, word: &str) -> Result<Vec<(String, i64)>> {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
    let connection = tokio::spawn(connection);
    let tables = "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables \
                  WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
    let mut found = Vec::new();
    let tables = client.query(tables, &[]).await?;
    ensure!(tables.len() > 9, "the read models have {} tables", tables.len());
    for table in tables {
        let table: String = table.try_get(0)?;
        let count = format!("SELECT count(*) FROM {table} AS r WHERE strpos(r::text, $1) > 0");
        let rows: i64 = client.query_one(&count, &[&word]).await?.try_get(0)?;
        if rows > 0 {
            found.push((table, rows));
        }
    }
    drop(client);
    connection.await??;
    Ok(found)
}
