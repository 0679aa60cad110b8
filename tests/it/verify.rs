//! The books of a shop that is at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use shopstream_proto::order::v1::OrderStatus;
use shopstream_server::client::Client;
use shopstream_tests::TestShop;
use shopstream_tests::requests::{order, place, sell};

const CALLERS: usize = 3;
const LOOKS: usize = 4;

/// Orders and pays until it is told to stop; answers how many orders it saw to their end.
async fn buy(client: Client, caller: usize, stop: Arc<AtomicBool>) -> Result<usize> {
    let mut placed = 0;
    while !stop.load(Ordering::Relaxed) {
        let (token, expected) = match placed % 3 {
            0 => ("tok_ok", OrderStatus::Confirmed),
            1 => ("tok_answer_twice", OrderStatus::Confirmed),
            _ => ("tok_decline", OrderStatus::Cancelled),
        };
        let wanted = order(&format!("ord_busy-{caller}-{placed}"), "BUSY-1", 1, token);
        let ended = place(&client, wanted).await?;
        ensure!(ended.status() == expected, "{ended:?}");
        placed += 1;
    }
    Ok(placed)
}

/// What is under way while the parts are looked at one after the other is not taken for broken.
#[tokio::test(flavor = "multi_thread")]
async fn a_shop_at_work_is_verified_and_found_right() -> Result<()> {
    let shop = tokio::task::spawn_blocking(TestShop::start).await?;
    let client = shop.client().await;
    sell(&client, "BUSY-1", 1_000_000).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..CALLERS).map(|caller| tokio::spawn(buy(client.clone(), caller, stop.clone()))).collect();
    for look in 0..LOOKS {
        let said = tokio::task::block_in_place(|| shop.verb(&["verify"]));
        ensure!(said.status.success(), "look {look}: {said:?}");
        ensure!(callers.iter().all(|caller| !caller.is_finished()), "look {look}: a caller gave up");
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let placed = caller.await??;
        ensure!(placed >= LOOKS, "only {placed} orders: the shop stood still");
    }
    tokio::task::spawn_blocking(|| shop.finish()).await?;
    Ok(())
}
