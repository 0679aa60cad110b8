//! Long streams have snapshots: a cold load reads what is behind one, and nothing else is different.

use shopstream_command_handlers::testing::check_snapshot;
use shopstream_eventlog::Snapshot;

use super::*;

/// After how many events a stream gets one here.
const EVERY: u64 = 10;

fn often() -> Options {
    Options { snapshot_every: EVERY, ..options() }
}

fn never() -> Options {
    Options { snapshot_every: u64::MAX, ..options() }
}

/// A shop with so many deliveries of a unit, and the answers.
async fn with_deliveries(count: u64, options: Options) -> (Shop, Vec<Reply>) {
    let shop = Shop::with(options).await;
    let mut replies = Vec::new();
    for n in 0..count {
        replies.push(shop.send(receive(&format!("r{n}"), 1)).await.unwrap());
    }
    idle().await;
    (shop, replies)
}

fn stock() -> StreamId {
    receive("r", 1).stream
}

fn saved(shop: &Shop) -> Option<Snapshot> {
    shop.journal.snapshot(&stock())
}

/// Requires that the stream has a snapshot, and that it is right.
#[track_caller]
fn require_sound(shop: &Shop) -> Snapshot {
    let snapshot = saved(shop).expect("a snapshot");
    let history = shop.journal.history(&stock());
    let history = history.iter().map(|record| (record.position.offset, &record.commit));
    check_snapshot(&stock(), &snapshot.bytes, history).unwrap_or_else(|wrong| panic!("{wrong}"));
    snapshot
}

#[tokio::test(start_paused = true)]
async fn a_cold_load_reads_a_snapshot_and_what_is_behind_it() {
    let (shop, _) = with_deliveries(203, often()).await;
    let snapshot = require_sound(&shop);
    assert!(snapshot.from > 203 - EVERY, "its owner has gone on to {}", snapshot.from);
    let shop = shop.restart().await;
    shop.journal.take_recalled();
    let reply = shop.send(reserve("r", "res_1", 203)).await.unwrap();
    assert_eq!((reply.version, reply.outcome), (204, Some("StockReserved")));
    let read = shop.journal.take_recalled() as u64;
    // The commit that the snapshot ends with is read too.
    assert!((1..=EVERY).contains(&read), "{read} commits were read");
}

#[tokio::test(start_paused = true)]
async fn without_snapshots_everything_is_the_same_but_the_reading() {
    let (shop, replies) = with_deliveries(203, never()).await;
    assert_eq!(saved(&shop), None);
    let (other, others) = with_deliveries(203, often()).await;
    assert_eq!(replies, others);
    for shop in [shop, other] {
        let shop = shop.restart().await;
        let reply = shop.send(reserve("r", "res_1", 203)).await.unwrap();
        assert_eq!((reply.version, reply.outcome), (204, Some("StockReserved")));
        shop.shards.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_long_history_leaves_a_snapshot() {
    let (shop, _) = with_deliveries(50, never()).await;
    assert_eq!(saved(&shop), None);
    let shop = shop.restart_with(often()).await;
    shop.send(receive("r50", 1)).await.unwrap();
    idle().await;
    assert_eq!(require_sound(&shop).from, 50, "of what the journal had");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_what_is_in_the_snapshot_is_known() {
    let (shop, replies) = with_deliveries(203, often()).await;
    let shop = shop.restart().await;
    // The first beyond those that are remembered exactly, the others among them or behind the snapshot.
    for n in [0, 100, 160, 202] {
        let again = shop.send(receive(&format!("r{n}"), 1)).await.unwrap();
        assert_eq!(again, Reply { repeated: true, ..replies[n] });
        let reused = shop.send(receive(&format!("r{n}"), 2)).await;
        assert!(matches!(reused, Err(CommandError::RequestReused { .. })), "{reused:?}");
    }
    assert_eq!(shop.send(receive("r203", 1)).await.unwrap().version, 204);
}

/// Puts `snapshot` into the place of the shop's own, and requires that the next owner ignores it and makes another.
async fn require_ignored(shop: Shop, snapshot: Snapshot, units: i64) {
    let Shop { sim, log, journal, shards, .. } = shop;
    shards.stop().await;
    journal.plant(snapshot.clone());
    let shop = Shop::over(sim, log, journal, often()).await;
    let before = shop.journal.history(&stock()).len() as u64;
    let reply = shop.send(reserve("all", "res_1", units)).await.unwrap();
    assert_eq!((reply.version, reply.outcome), (before + 1, Some("StockReserved")));
    idle().await;
    assert_ne!(require_sound(&shop), snapshot);
    shop.shards.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_of_another_history_is_ignored() {
    let (longer, _) = with_deliveries(60, often()).await;
    let foreign = require_sound(&longer);
    let shop = Shop::with(often()).await;
    for n in 0..60 {
        shop.send(receive(&format!("two{n}"), 2)).await.unwrap();
    }
    idle().await;
    require_ignored(shop, foreign.clone(), 120).await;
    // And where the journal was cut back.
    let (shorter, _) = with_deliveries(7, often()).await;
    require_ignored(shorter, foreign, 7).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_is_ignored() {
    for damage in 0..3 {
        let (shop, _) = with_deliveries(60, often()).await;
        let mut snapshot = require_sound(&shop);
        match damage {
            0 => {
                let mut bytes = snapshot.bytes.to_vec();
                let digit = bytes.windows(10).position(|at| at == b"\"on_hand\":").expect("JSON") + 10;
                bytes[digit] ^= 1;
                snapshot.bytes = bytes.into();
            }
            1 => snapshot.bytes = Default::default(),
            _ => snapshot.from -= 3,
        }
        require_ignored(shop, snapshot, 60).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_takes_no_snapshots_troubles_nobody() {
    let (shop, _) = with_deliveries(7, often()).await;
    shop.journal.set_away(true);
    for n in 7..60 {
        shop.send(receive(&format!("r{n}"), 1)).await.unwrap();
    }
    idle().await;
    assert_eq!(saved(&shop), None);
    shop.journal.set_away(false);
    for n in 60..80 {
        shop.send(receive(&format!("r{n}"), 1)).await.unwrap();
    }
    idle().await;
    assert!(require_sound(&shop).from > 60);
}
