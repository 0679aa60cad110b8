//! Two processes that want the same: one at a time may write, and the other says so.

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::event::v1::{GetLogStatusRequest, PartitionState};
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_server::client::Client;
use shopstream_tests::requests::{sell, stock};
use shopstream_tests::{Setup, TestShop, kafka, read_log};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const SKU: &str = "FENCED-1";

#[test]
fn a_second_process_on_a_data_folder_says_who_has_it() {
    let shop = TestShop::start();
    let said = shop.second_node();
    assert!(!said.status.success(), "{said:?}");
    let way_out = "name another folder with --data";
    assert!(said.err.contains("is used by process") && said.err.contains(way_out), "{said:?}");
    shop.finish();
}

#[test]
fn a_log_is_not_opened_with_another_number_of_partitions() {
    let mut shop = TestShop::start();
    shop.kill9();
    let said = shop.refused_again(&[("SHOPSTREAM_PARTITIONS", "8")]);
    assert!(!said.status.success(), "{said:?}");
    assert!(said.err.contains("16") && said.err.contains('8') && said.err.contains("partitions"), "{said:?}");
    shop.restart();
    shop.finish();
}

/// The older owner is fenced: from then on it acknowledges nothing. What it acknowledged before, counts.
#[tokio::test]
async fn the_later_of_two_owners_of_a_topic_fences_the_earlier() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let log = kafka.log_url("fenced");
    let mut older = TestShop::start_with(Setup::on(&log));
    let old_client = older.client().await;
    sell(&old_client, SKU, 1).await?;
    // Clients of the older one go on while the later one starts.
    let load = tokio::spawn(receive_until_refused(old_client.clone()));
    let later = {
        let (log, provider) = (log.clone(), older.provider_url().to_owned());
        let start = move || TestShop::start_with(Setup::on(&log).paid_through(&provider));
        tokio::task::spawn_blocking(start).await?
    };
    let (acknowledged, refusal) = load.await?;
    ensure!(acknowledged > 0, "nothing was acknowledged before the fence");
    ensure!(refusal.code() == Code::Unavailable, "{refusal:?}");

    // It stays up, says that it does not serve, and never claims again.
    ensure!(older.is_alive(), "the fenced node has ended");
    let status = old_client.shop().events.get_log_status(GetLogStatusRequest::default()).await?.into_inner();
    let fenced =
        status.partitions.iter().filter(|partition| partition.state() == PartitionState::Fenced).count();
    ensure!(fenced > 0, "{status:?}");
    let health = tonic::transport::Endpoint::from_shared(older.url())?.connect().await?;
    let health = HealthClient::new(health).check(HealthCheckRequest::default()).await?.into_inner();
    ensure!(health.status() == ServingStatus::NotServing, "{health:?}");

    // Everything that was acknowledged is there, once, for the later owner and its clients.
    let client = later.client().await;
    let streams = read_log(&client).await;
    let received = &streams[&format!("default/stock/{SKU}@main")];
    let ids: std::collections::BTreeSet<_> = received.iter().map(|event| &event.command_id).collect();
    ensure!(ids.len() == received.len(), "something was done twice");
    ensure!(received.len() > acknowledged, "{} of {acknowledged} and the first are there", received.len());
    let position = client.shop().inventory.update_stock(stock("after", SKU, 1)).await?.into_inner().position;
    let get = GetStockRequest {
        min_position: position.into_iter().collect(),
        sku: SKU.into(),
        location: "main".into(),
    };
    let seen = client.shop().inventory.get_stock(get).await?.into_inner().stock.context("stock")?;
    ensure!(seen.on_hand == received.len() as i64 + 1, "{seen:?}");
    later.finish();
    drop(older);
    Ok(())
}

/// Receives one unit after the other; answers how many were acknowledged and the error that ended it.
async fn receive_until_refused(client: Client) -> (usize, tonic::Status) {
    let mut acknowledged = 0;
    loop {
        let one = stock(&format!("load-{acknowledged}"), SKU, 1);
        match client.shop().inventory.update_stock(one).await {
            Ok(_) => acknowledged += 1,
            Err(refused) => return (acknowledged, refused),
        }
    }
}
