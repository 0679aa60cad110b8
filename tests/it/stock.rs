//! Stock, holds on it, and watching it.

use anyhow::{Context as _, Result, ensure};
use shopstream_command_handlers::{Clock as _, SystemClock};
use shopstream_proto::inventory::v1::reserve_stock_response::Outcome;
use shopstream_proto::inventory::v1::{
    GetStockRequest, ReleaseReason, ReleaseStockRequest, ReservationLine, ReserveStockRequest, StockLevel,
    StreamStockUpdatesRequest,
};
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{sell, stock};
use shopstream_tests::{Setup, Shared, TestShop, unique};

#[tokio::test]
async fn a_hold_takes_all_lines_or_none_and_gives_them_back() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let skus = ["A", "B"].map(|name| format!("HOLD-{name}-{}", unique()));
    for sku in &skus {
        sell(&client, sku, 5).await?;
    }
    let reserve = |id: &str, quantities: [i64; 2]| ReserveStockRequest {
        request_id: format!("{id}:{}", skus[0]),
        reservation_id: Some(format!("res_{id}-{}", skus[0])),
        lines: skus.iter().zip(quantities).map(|(sku, quantity)| wanted(sku, quantity)).collect(),
        hold_seconds: 600,
        ..ReserveStockRequest::default()
    };
    let short = client.shop().inventory.reserve_stock(reserve("short", [5, 6])).await?.into_inner();
    let Some(Outcome::Rejected(rejected)) = &short.outcome else { panic!("{short:?}") };
    let lines: Vec<_> =
        rejected.short_lines.iter().map(|line| (&line.sku, line.requested, line.available)).collect();
    ensure!(lines == [(&skus[1], 6, 5)], "{lines:?}");
    buckets(&client, &skus[0], [5, 0]).await?;

    let held = client.shop().inventory.reserve_stock(reserve("held", [5, 2])).await?.into_inner();
    ensure!(matches!(held.outcome, Some(Outcome::Held(_))), "{held:?}");
    buckets(&client, &skus[0], [0, 5]).await?;
    buckets(&client, &skus[1], [3, 2]).await?;

    let release = ReleaseStockRequest {
        request_id: format!("release:{}", skus[0]),
        reservation_id: held.reservation_id,
        reason: ReleaseReason::Requested.into(),
        ..ReleaseStockRequest::default()
    };
    client.shop().inventory.release_stock(release).await?;
    buckets(&client, &skus[0], [5, 0]).await?;
    buckets(&client, &skus[1], [5, 0]).await?;
    Ok(())
}

#[tokio::test]
async fn a_hold_lasts_no_longer_than_the_shop_holds_anything() -> Result<()> {
    let shop = TestShop::start_with(Setup::default().holding_for(60));
    let client = shop.client().await;
    sell(&client, "SHORT-1", 5).await?;
    let reserve = ReserveStockRequest {
        request_id: "long".into(),
        lines: vec![wanted("SHORT-1", 1)],
        hold_seconds: 3_600,
        ..ReserveStockRequest::default()
    };
    let held = client.shop().inventory.reserve_stock(reserve).await?.into_inner();
    let Some(Outcome::Held(hold)) = &held.outcome else { panic!("{held:?}") };
    let ends = hold.expire_time.context("a hold that ends")?.seconds;
    // It began before now.
    let now = SystemClock.now().micros() / 1_000_000;
    ensure!(ends <= now + 60, "{} s from now", ends - now);
    let release = ReleaseStockRequest {
        request_id: "release".into(),
        reservation_id: held.reservation_id,
        reason: ReleaseReason::Requested.into(),
        ..ReleaseStockRequest::default()
    };
    client.shop().inventory.release_stock(release).await?;
    shop.finish();
    Ok(())
}

#[tokio::test]
async fn stock_is_streamed_to_who_watches_it() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("WATCH-{}", unique());
    sell(&client, &sku, 5).await?;
    let watch = StreamStockUpdatesRequest { skus: vec![sku.clone()], ..StreamStockUpdatesRequest::default() };
    let mut updates = client.shop().inventory.stream_stock_updates(watch).await?.into_inner();
    client.shop().inventory.update_stock(stock("more", &sku, 7)).await?;
    loop {
        let update = updates.message().await?.context("the stream goes on")?;
        if update.stock.is_some_and(|stock| stock.sku == sku && stock.available == 12) {
            return Ok(());
        }
    }
}

fn wanted(sku: &str, quantity: i64) -> ReservationLine {
    ReservationLine { sku: sku.into(), location: "main".into(), quantity }
}

/// Waits until this is available and reserved of it; on hand is always their sum here.
async fn buckets(client: &Client, sku: &str, wanted: [i64; 2]) -> Result<StockLevel> {
    let get = GetStockRequest { sku: sku.into(), location: "main".into(), ..GetStockRequest::default() };
    until(async || {
        let stock =
            client.shop().inventory.get_stock(get.clone()).await?.into_inner().stock.context("stock")?;
        ensure!(stock.on_hand == stock.available + stock.reserved + stock.committed, "{stock:?}");
        Ok(([stock.available, stock.reserved] == wanted).then_some(stock))
    })
    .await
}
