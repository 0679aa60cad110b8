//! The program killed in the middle of everything, and the database under it: nothing lost, nothing doubled.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use nix::sys::signal::{Signal, kill};
use shopstream_proto::event::v1::GetLogStatusRequest;
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_server::client::{Client, until};
use shopstream_tests::recount::recount;
use shopstream_tests::requests::{sell, stock};
use shopstream_tests::{Database, Setup, TestShop, fingerprints, kafka, long, read_log};

use crate::import::{import_args, month, report};

/// How long an import may take, restarts included.
const PATIENCE: Duration = Duration::from_secs(1200);

#[tokio::test]
async fn an_import_survives_kills_of_the_embedded_shop() -> Result<()> {
    if long() {
        return killed_while_importing(TestShop::start(), "2010-01-01", 10, 15_000).await;
    }
    killed_while_importing(TestShop::start(), "2009-12-03", 3, 5_000).await
}

#[tokio::test]
async fn an_import_survives_kills_of_the_shop_on_kafka() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let shop = TestShop::start_with(Setup::on(&kafka.log_url("kills")));
    if long() {
        return killed_while_importing(shop, "2010-01-01", 10, 15_000).await;
    }
    killed_while_importing(shop, "2009-12-02", 1, 6_000).await
}

/// Kills the node each time the log has grown by `records`; the importer does not notice more than a pause.
async fn killed_while_importing(mut shop: TestShop, day: &str, kills: u32, records: i64) -> Result<()> {
    let (file, out, time) = (month(), shop.data().join("report.json"), format!("{day}T00:00:00Z"));
    let args = import_args(file.to_str().context("a path")?, &time, out.to_str().context("a path")?);
    let mut import = shop.start_verb(&args);
    for round in 1..=i64::from(kills) {
        let client = shop.client().await;
        let grown = until(async || {
            let status =
                client.shop().events.get_log_status(GetLogStatusRequest::default()).await?.into_inner();
            let end: i64 = status.partitions.iter().map(|partition| partition.end_offset).sum();
            Ok((end >= round * records).then_some(end))
        });
        let end = grown.await?;
        ensure!(import.is_alive(), "the import was over before kill {round}: {}", import.complaints());
        shop.kill9();
        eprintln!("kill {round} of {kills} at {end} records");
        shop.restart();
    }
    let said = import.finish(PATIENCE);
    ensure!(said.status.success(), "{}{}", said.out, said.err);
    assert_eq!(report(&out), recount(&month(), Some(day)));
    fingerprints(&read_log(&shop.client().await).await);
    shop.finish();
    Ok(())
}

#[tokio::test]
async fn a_killed_database_comes_back_and_nothing_was_lost() -> Result<()> {
    const SKU: &str = "SURVIVES-1";
    const UNITS: i64 = 2_000;
    let Some(mut database) = Database::start() else { return Ok(()) };
    let mut shop = TestShop::start_with(Setup::default().reading_from(database.url()));
    let client = shop.client().await;
    sell(&client, SKU, 1).await?;
    // Under load all the time, each command sent until it is acknowledged.
    let load = {
        let client = client.clone();
        tokio::spawn(async move {
            let one = |number: i64| receive(&client, number, SKU);
            stream::iter(0..UNITS).map(one).buffer_unordered(16).try_for_each(async |()| Ok(())).await
        })
    };
    on_hand(&client, SKU, 100).await?;
    kill(database.pid(), Signal::SIGKILL)?;
    database = tokio::task::spawn_blocking(move || database.restart()).await?;
    load.await??;
    on_hand(&client, SKU, UNITS + 1).await?;
    ensure!(shop.is_alive(), "the node has ended");
    shop.finish();
    drop(database);
    Ok(())
}

#[test]
fn a_database_that_is_not_there_is_said_at_the_start() {
    let said = TestShop::refused(&["--database", "postgresql://shopstream@127.0.0.1:1/shopstream"]);
    assert!(!said.status.success(), "{said:?}");
    assert!(said.err.to_lowercase().contains("database"), "{said:?}");
}

async fn receive(client: &Client, number: i64, sku: &str) -> Result<()> {
    let one = stock(&format!("load-{number}"), sku, 1);
    client.call(one, async |mut shop, request| shop.inventory.update_stock(request).await).await?;
    Ok(())
}

/// Waits until at least so many units are there, and exactly so many where nothing runs any more.
async fn on_hand(client: &Client, sku: &str, units: i64) -> Result<()> {
    let get = GetStockRequest { sku: sku.into(), ..GetStockRequest::default() };
    until(async || {
        let answer =
            client.call(get.clone(), async |mut shop, request| shop.inventory.get_stock(request).await).await;
        let stock = answer?.stock.context("stock")?;
        Ok((stock.on_hand >= units).then_some(()))
    })
    .await
}
