//! What a node stands on dies, hangs, or stands still: readiness says so, and what is the node's own comes back.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shopstream_proto::order::v1::OrderStatus;
use shopstream_server::client::until;
use shopstream_tests::requests::{order, place, sell, stock};
use shopstream_tests::{Database, Paused, Setup, TestShop};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// A database that is lost shows within 2 s; the rest is for a machine that does other things too.
const SOON: Duration = Duration::from_secs(5);

async fn start(setup: Setup) -> Result<TestShop> {
    Ok(tokio::task::spawn_blocking(move || TestShop::start_with(setup)).await?)
}

async fn finish(shop: TestShop) -> Result<()> {
    Ok(tokio::task::spawn_blocking(move || shop.finish()).await?)
}

/// Waits until readiness is lost and says one of these words; answers all that it says.
async fn unready(shop: &TestShop, words: &[&str]) -> Result<String> {
    let told = until(async || {
        let (ready, told) = shop.ready();
        Ok((!ready && words.iter().any(|word| told.contains(word))).then_some(told))
    });
    told.await.with_context(|| format!("no {words:?} in {:?}", shop.ready()))
}

/// As [`unready`], in time for whoever spreads calls over nodes. Seconds more than the node takes, for a busy machine.
async fn soon_unready(shop: &TestShop, words: &[&str]) -> Result<String> {
    timeout(SOON, unready(shop, words)).await.with_context(|| format!("{SOON:?}: {:?}", shop.ready()))?
}

/// Waits until grpc.health.v1 says this of the whole node.
async fn health(client: &mut HealthClient<Channel>, status: ServingStatus) -> Result<()> {
    let told = until(async || {
        let told = client.clone().check(HealthCheckRequest::default()).await?.into_inner();
        Ok((told.status() == status).then_some(()))
    });
    timeout(SOON, told).await.with_context(|| format!("not {status:?} within {SOON:?}"))?
}

async fn ready(shop: &TestShop) -> Result<()> {
    until(async || Ok(shop.ready().0.then_some(()))).await.with_context(|| format!("{:?}", shop.ready()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_postgres_that_dies_is_started_again() -> Result<()> {
    let shop = start(Setup::default()).await?;
    let client = shop.client().await;
    sell(&client, "PHOENIX-1", 10).await?;
    let ended = place(&client, order("ord_before", "PHOENIX-1", 1, "tok_ok")).await?;
    ensure!(ended.status() == OrderStatus::Confirmed, "{ended:?}");
    let pid_file = shop.data().join("postgres/pgdata/postmaster.pid");
    let postmaster = || -> Result<i32> {
        Ok(fs::read_to_string(&pid_file)?.lines().next().context("a process id")?.trim().parse()?)
    };
    let first = postmaster()?;
    // Nothing is asked of it: the node finds out by itself.
    kill(Pid::from_raw(first), Signal::SIGKILL)?;
    let told =
        soon_unready(&shop, &["private Postgres: it has ended by itself", "database: it does not answer"])
            .await?;
    eprintln!("{told}");
    ready(&shop).await?;
    ensure!(postmaster()? != first, "the same process");
    let ended = place(&client, order("ord_after", "PHOENIX-1", 1, "tok_ok")).await?;
    ensure!(ended.status() == OrderStatus::Confirmed, "{ended:?}");
    ensure!(shop.complaints().contains("the private Postgres has ended by itself"), "{}", shop.complaints());
    finish(shop).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulator_that_dies_is_started_again_where_it_was() -> Result<()> {
    let shop = start(Setup::default()).await?;
    let client = shop.client().await;
    sell(&client, "PAYS-1", 10).await?;
    let note = || -> Result<Vec<String>> {
        let note = fs::read_to_string(shop.data().join("provider/address"))?;
        Ok(note.lines().map(str::to_owned).collect())
    };
    let before = note()?;
    kill(Pid::from_raw(before[1].parse()?), Signal::SIGKILL)?;
    let after = until(async || Ok(note().ok().filter(|after| *after != before))).await?;
    ensure!(after[0] == before[0], "who was told the address finds nobody there: {before:?} {after:?}");
    let ended = place(&client, order("ord_paid", "PAYS-1", 1, "tok_ok")).await?;
    ensure!(ended.status() == OrderStatus::Confirmed, "{ended:?}");
    finish(shop).await
}

/// A node without work notices a database that hangs as soon as one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_shows_in_readiness_of_an_idle_node() -> Result<()> {
    let Some(database) = Database::start() else { return Ok(()) };
    let shop = start(Setup::default().reading_from(database.url())).await?;
    let mut serving = HealthClient::new(Endpoint::from_shared(shop.url())?.connect().await?);
    health(&mut serving, ServingStatus::Serving).await?;
    let paused = Paused::server(database.pid());
    let told = soon_unready(&shop, &["database: it does not answer within"]).await?;
    ensure!(shop.ready().1.contains("database"), "{told}");
    health(&mut serving, ServingStatus::NotServing).await?;
    drop(paused);
    ready(&shop).await?;
    health(&mut serving, ServingStatus::Serving).await?;
    finish(shop).await
}

/// Sessions that began while nothing might be written are not kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_read_only_for_a_while_takes_orders_again() -> Result<()> {
    let Some(database) = Database::start() else { return Ok(()) };
    let shop = start(Setup::default().reading_from(database.url()).behind_after(1)).await?;
    let client = shop.client().await;
    sell(&client, "WRITE-1", 10).await?;
    database.allow_writes(false).await?;
    unready(&shop, &["database does not allow writes", "database: it is read-only"]).await?;
    // The log takes it, and whoever reads the log comes to nothing with it.
    client.shop().inventory.update_stock(stock("more", "WRITE-1", 1)).await?;
    unready(&shop, &["behind"]).await?;
    database.allow_writes(true).await?;
    ready(&shop).await?;
    let ended = place(&client, order("ord_after", "WRITE-1", 11, "tok_ok")).await?;
    ensure!(ended.status() == OrderStatus::Confirmed, "{ended:?}");
    finish(shop).await
}

/// That processes run says nothing where they come to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn processes_that_stand_still_show_in_readiness() -> Result<()> {
    let Some(database) = Database::start() else { return Ok(()) };
    let shop = start(Setup::default().reading_from(database.url()).behind_after(1)).await?;
    let client = shop.client().await;
    sell(&client, "STILL-1", 10).await?;
    let (mut locker, connection) = tokio_postgres::connect(database.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    let lock = locker.transaction().await?;
    lock.batch_execute("LOCK TABLE checkpoint IN ACCESS EXCLUSIVE MODE").await?;
    client.shop().orders.create_order(order("ord_waits", "STILL-1", 1, "tok_ok")).await?;
    let told = unready(&shop, &["behind"]).await?;
    ensure!(told.contains("behind_seconds is 1"), "{told}");
    lock.rollback().await?;
    ready(&shop).await?;
    drop(locker);
    connection.await??;
    finish(shop).await
}
