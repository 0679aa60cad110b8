//! The way out of a halt: `shopstream log repair`, both ways.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use shopstream_domain::Partition;
use shopstream_eventlog::Offset;
use shopstream_proto::order::v1::{GetOrderRequest, OrderStatus};
use shopstream_server::client::Client;
use shopstream_tests::TestShop;
use shopstream_tests::topic::{PARTITIONS, stock};
use tonic::Code;

use super::load::{Acknowledged, place};
use super::{Attacked, ORDER, receive, sku};

impl Attacked {
    /// Stops the node, repairs the log in this way, starts the node, and holds it to its books and to what it
    /// acknowledged before.
    pub(super) async fn repaired(self, way: &'static str) -> Result<()> {
        let Self { shop, topic, load, database, .. } = self;
        let shop = stopped(shop, way).await?;
        let looked = shop.verb(&["log", "repair"]);
        ensure!(looked.status.code() == Some(1), "{looked:?}");
        if looked.err.contains("begins with records of an owner that did not notice") {
            // Nothing can be kept of it, and the message says what to do.
            topic.delete().await;
            topic.make().await;
        } else {
            ensure!(looked.out.contains("--keep-log") && looked.out.contains("--append-lost"), "{looked:?}");
        }
        let said = shop.verb(&["log", "repair", way]);
        ensure!(said.status.success(), "{said:?}");
        let again = shop.verb(&["log", "repair"]);
        ensure!(again.status.success() && again.out.contains("agree"), "{again:?}");

        // What was acknowledged is on the log, or in the list.
        let mut counted = BTreeMap::<String, usize>::new();
        topic.counted().await.into_values().for_each(|stream| *counted.entry(stream).or_default() += 1);
        let List { lost, ends } = List::read(shop.data())?;
        let mut acknowledged = BTreeMap::<String, usize>::new();
        // What was acknowledged just before the attack and had not yet come to the journal is in neither.
        let was_in_journal = |answer: &Acknowledged| {
            let (partition, offset) = place(&answer.position);
            ends.get(&partition).is_none_or(|end| offset <= *end)
        };
        for answer in load.acknowledged().iter().filter(|answer| was_in_journal(answer)) {
            *acknowledged.entry(stock(&answer.sku).to_string()).or_default() += 1;
        }
        for (stream, acknowledged) in &acknowledged {
            let [there, lost] = [&counted, &lost].map(|found| found.get(stream).copied().unwrap_or_default());
            ensure!(
                there + lost >= *acknowledged,
                "{stream}: {acknowledged} acknowledged, {there} there, {lost} lost"
            );
        }
        let (total, lost) = (acknowledged.values().sum::<usize>(), lost.values().sum::<usize>());
        eprintln!("{way}: of {total} acknowledged commands and what led to them {lost} are lost, and listed");
        ensure!((lost == 0) == (way == "--append-lost"), "{way}: {lost} lost");

        let order_is_lost = !counted.contains_key(&format!("default/order/{ORDER}"));
        let shop = tokio::task::spawn_blocking(move || {
            let mut shop = shop;
            shop.restart();
            books(&shop, order_is_lost)?;
            anyhow::Ok(shop)
        })
        .await??;
        serves(&shop.client().await, order_is_lost, &counted).await?;
        ensure!(!order_is_lost || way == "--keep-log", "the order is lost");
        let stopped = tokio::task::spawn_blocking(move || {
            books(&shop, order_is_lost)?;
            let mut shop = shop;
            shop.stop();
            anyhow::Ok(())
        });
        stopped.await??;
        drop(database);
        Ok(())
    }
}

/// The node in order at an end; while it runs nothing is repaired.
async fn stopped(mut shop: TestShop, way: &'static str) -> Result<TestShop> {
    let running = shop.verb(&["log", "repair", way]);
    ensure!(!running.status.success() && running.err.contains("stop it first"), "{running:?}");
    let stopped = tokio::task::spawn_blocking(move || {
        shop.stop();
        shop
    });
    Ok(stopped.await?)
}

/// The books are right; only what was paid for an order that is lost is still with the provider, and that is said.
fn books(shop: &TestShop, order_is_lost: bool) -> Result<()> {
    if !order_is_lost {
        shop.verify();
        return Ok(());
    }
    let said = shop.verb(&["verify", "--quiesced"]);
    let broken: Vec<_> = said.out.lines().filter(|line| line.starts_with("BROKEN")).collect();
    ensure!(!broken.is_empty() && broken.iter().all(|line| line.contains("law 9: pay_before.1")), "{said:?}");
    Ok(())
}

/// What the list of a repair says.
struct List {
    /// How many commits are lost, by stream.
    lost: BTreeMap<String, usize>,
    /// Where the last commit was that the journal had, by partition, of those that the log did not have.
    ends: BTreeMap<Partition, Offset>,
}

impl List {
    fn read(data: &Path) -> Result<Self> {
        let is_list = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "jsonl");
        let mut files = std::fs::read_dir(data)?.filter_map(|entry| Some(entry.ok()?.path()));
        let text = std::fs::read_to_string(files.find(is_list).context("no list")?)?;
        let (mut lost, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            let line: Value = serde_json::from_str(line)?;
            if line["outcome"] == "lost" {
                *lost.entry(line["stream"].as_str().context("no stream")?.to_owned()).or_default() += 1;
            }
            let partition = line["partition"].as_u64().context("no partition")? as Partition;
            let end: &mut Offset = ends.entry(partition).or_default();
            *end = line["offset"].as_u64().context("no offset")?.max(*end);
        }
        Ok(Self { lost, ends })
    }
}

/// The order of before is there unless it was lost, and whatever is sold in any partition can be received.
async fn serves(client: &Client, order_is_lost: bool, counted: &BTreeMap<String, usize>) -> Result<()> {
    let get = GetOrderRequest { min_position: Vec::new(), order_id: ORDER.into() };
    match client.shop().orders.get_order(get).await {
        Ok(answer) => {
            let order = answer.into_inner().order.context("an answer without an order")?;
            ensure!(order.status() == OrderStatus::Confirmed, "{order:?}");
        }
        Err(refused) => ensure!(refused.code() == Code::NotFound && order_is_lost, "{refused:?}"),
    }
    for sku in (0..PARTITIONS).map(sku).filter(|sku| counted.contains_key(stock(sku).as_str())) {
        receive(client, &sku, u32::MAX).await.with_context(|| sku)?;
    }
    Ok(())
}
