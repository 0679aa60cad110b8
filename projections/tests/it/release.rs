//! A parked aggregate is released in order, whole or not at all, once, whatever breaks; what is skipped stays skipped.

use std::time::Duration;

use shopstream_domain::Version;
use shopstream_projections::{Parked, Projection, ProjectionState, Projector, ReleaseError, Wish};
use tokio::time::{Instant, timeout_at};

use crate::exactly_once::{assert_equals_replay, kill_connections};
use crate::poison::{BAD, STOCK, bad, newer, on_hand, parked};
use crate::story::{PATIENCE, Shop};

/// A wish that nobody hears is not waited for.
const IMPATIENCE: Duration = Duration::ZERO;

/// The row of the view is at another version than its events: a fold that is not mended yet.
async fn break_fold(shop: &Shop) {
    set_version(shop, 77).await;
}

/// The mended fold.
async fn mend_fold(shop: &Shop) {
    set_version(shop, 1).await;
}

async fn set_version(shop: &Shop, version: Version) {
    let set = format!(
        "WITH t AS (UPDATE stock_level_e1.stock SET version = {version} WHERE sku = 'BAD' RETURNING 1) \
         SELECT count(*) FROM t"
    );
    assert_eq!(shop.count(&set).await, 1);
}

/// A shop in which BAD has a first event in the view, and is parked at its second; GOOD flows.
async fn parked_at_2() -> (Shop, Projector) {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    shop.receive("BAD", 1, 10).await;
    shop.caught_up(&projector.progress()).await;
    break_fold(&shop).await;
    for version in 2..5 {
        shop.receive("BAD", version, 1).await;
    }
    shop.receive("GOOD", 1, 7).await;
    shop.caught_up(&projector.progress()).await;
    assert_eq!(waits(&parked(&shop).await), [(2, 3)]);
    (shop, projector)
}

/// Where each is parked, and how many events wait.
fn waits(parked: &[Parked]) -> Vec<(Version, u64)> {
    parked.iter().map(|parked| (parked.obstacle.version, parked.waiting)).collect()
}

async fn retry(shop: &Shop, patience: Duration) -> Result<Option<Parked>, ReleaseError> {
    shop.db.database.release(STOCK, &bad(), Wish::Retry, Instant::now() + patience).await
}

async fn skip(shop: &Shop, version: Version, patience: Duration) -> Result<Option<Parked>, ReleaseError> {
    let wish = Wish::Skip { version, reason: "counted by hand".into(), by: "ann".into() };
    shop.db.database.release(STOCK, &bad(), wish, Instant::now() + patience).await
}

/// Waits until what was wished for is done.
async fn until_done(shop: &Shop) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // No answer is none: connections that were killed are made again.
        let parked = shop.db.database.parked(None, None, 10).await;
        if parked.as_ref().is_ok_and(|parked| parked.iter().all(|it| !it.wished)) {
            return;
        }
        assert!(Instant::now() < deadline, "{parked:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_mended_is_released_in_order_and_flows_again() {
    let (shop, projector) = parked_at_2().await;
    let before =
        shop.count("SELECT sum(next_offset)::int8 FROM checkpoint WHERE reader = 'stock_level'").await;
    // Not mended: it stays where it is.
    let still = retry(&shop, PATIENCE).await.unwrap().unwrap();
    assert_eq!((still.obstacle.version, still.waiting, still.wished), (2, 3, false));
    assert!(still.obstacle.reason.contains("77"), "{}", still.obstacle.reason);
    assert_eq!(on_hand(&shop, "BAD").await, 10);

    mend_fold(&shop).await;
    assert_eq!(retry(&shop, PATIENCE).await.unwrap(), None);
    assert_eq!(parked(&shop).await, []);
    assert_eq!(on_hand(&shop, "BAD").await, 13);
    let after =
        shop.count("SELECT sum(next_offset)::int8 FROM checkpoint WHERE reader = 'stock_level'").await;
    assert_eq!(before, after, "the checkpoint moved");
    assert!(matches!(retry(&shop, PATIENCE).await, Err(ReleaseError::NotParked { .. })));

    shop.receive("BAD", 5, 1).await;
    shop.caught_up(&projector.progress()).await;
    assert_eq!((on_hand(&shop, "BAD").await, on_hand(&shop, "GOOD").await), (14, 7));
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_poison_parks_it_again_further_on_and_a_skip_leaves_out_that_one() {
    let (shop, projector) = parked_at_2().await;
    shop.log.append_raw(BAD, 5, vec![newer()]).await;
    shop.receive("BAD", 6, 100).await;
    shop.caught_up(&projector.progress()).await;
    mend_fold(&shop).await;
    // Everything up to the second poison is in, and nothing behind it.
    let still = retry(&shop, PATIENCE).await.unwrap().unwrap();
    assert_eq!((still.obstacle.version, still.waiting), (5, 2));
    assert!(still.obstacle.reason.contains("99"), "{}", still.obstacle.reason);
    assert_eq!(on_hand(&shop, "BAD").await, 13);

    // Only what is in the way can be left out.
    let refused = skip(&shop, 6, PATIENCE).await;
    assert!(matches!(refused, Err(ReleaseError::Elsewhere { asked: 6, .. })), "{refused:?}");
    assert_eq!(skip(&shop, 5, PATIENCE).await.unwrap(), None);
    assert_eq!(on_hand(&shop, "BAD").await, 113);
    // Asked again, as a client does whose answer was lost: done, and not twice.
    assert_eq!(skip(&shop, 5, PATIENCE).await.unwrap(), None);
    let skipped = shop.db.database.skipped(None, None, 10).await.unwrap();
    let [skipped] = skipped.as_slice() else { panic!("{skipped:?}") };
    assert_eq!((skipped.keeper, &skipped.obstacle.stream, skipped.obstacle.version), (STOCK, &bad(), 5));
    assert_eq!((&*skipped.reason, &*skipped.by), ("counted by hand", "ann"));
    assert!(skipped.obstacle.reason.contains("99"), "{skipped:?}");

    // What comes later follows the gap; also in the next life, and in a replay.
    shop.receive("BAD", 7, 1).await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    let projector = shop.project().await;
    shop.receive("BAD", 8, 1).await;
    shop.caught_up(&projector.progress()).await;
    assert_eq!((on_hand(&shop, "BAD").await, parked(&shop).await), (115, vec![]));
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

/// The events of one commit are told apart: the poison is in its middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_in_the_middle_of_a_commit_is_skipped_alone() {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    shop.receive("BAD", 1, 10).await;
    shop.caught_up(&projector.progress()).await;
    let received = shop.db.database.commits_from(&bad(), 1, 1).await.unwrap()[0].commit.events[0].clone();
    shop.log.append_raw(BAD, 2, vec![received.clone(), newer(), received]).await;
    shop.receive("BAD", 5, 1).await;
    shop.caught_up(&projector.progress()).await;
    assert_eq!(waits(&parked(&shop).await), [(3, 3)]);
    assert_eq!(on_hand(&shop, "BAD").await, 20);
    assert_eq!(skip(&shop, 3, PATIENCE).await.unwrap(), None);
    assert_eq!(on_hand(&shop, "BAD").await, 31);
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

/// More waits than is folded at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_queue_is_released_whole_or_not_at_all() {
    let (shop, projector) = parked_at_2().await;
    for version in 5..305 {
        shop.receive("BAD", version, 1).await;
    }
    shop.caught_up(&projector.progress()).await;
    mend_fold(&shop).await;
    // Held up in the middle of the deed, and broken off there.
    let (mut lock, connection) = tokio_postgres::connect(&shop.db.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let held = lock.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE stock_level_e1.stock IN EXCLUSIVE MODE").await.unwrap();
    let refused = retry(&shop, IMPATIENCE).await;
    assert!(matches!(refused, Err(ReleaseError::Waits { .. })), "{refused:?}");
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND datname = current_database()";
    let deadline = Instant::now() + PATIENCE;
    while shop.count(blocked).await == 0 {
        assert!(Instant::now() < deadline, "the deed was never begun");
    }
    kill_connections(&shop.db).await;
    drop(held);
    drop((lock, connection));

    until_done(&shop).await;
    assert_eq!((on_hand(&shop, "BAD").await, parked(&shop).await), (10 + 303, vec![]));
    shop.receive("BAD", 305, 1).await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_nobody_heard_is_done_by_the_next_projector() {
    let (shop, projector) = parked_at_2().await;
    shop.log.append_raw(BAD, 5, vec![newer()]).await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    mend_fold(&shop).await;
    let waits = retry(&shop, IMPATIENCE).await;
    assert!(matches!(waits, Err(ReleaseError::Waits { .. })), "{waits:?}");
    assert!(parked(&shop).await[0].wished);
    assert_eq!(on_hand(&shop, "BAD").await, 10);

    let projector = shop.project().await;
    until_done(&shop).await;
    assert_eq!(on_hand(&shop, "BAD").await, 13);
    projector.stop().await;
    // The same for a skip.
    let waits = skip(&shop, 5, IMPATIENCE).await;
    assert!(matches!(waits, Err(ReleaseError::Waits { .. })), "{waits:?}");
    assert_eq!(shop.count("SELECT count(*) FROM skipped").await, 0);
    let projector = shop.project().await;
    until_done(&shop).await;
    assert_eq!(parked(&shop).await, []);
    assert_eq!(shop.count("SELECT count(*) FROM skipped").await, 1);
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projector_that_was_overtaken_releases_nothing() {
    let (shop, zombie) = parked_at_2().await;
    mend_fold(&shop).await;
    let move_checkpoint = |by: i64| {
        format!(
            "WITH t AS (UPDATE checkpoint SET cursor = jsonb_set(cursor, '{{digest}}', \
             to_jsonb((cursor ->> 'digest')::numeric + {by})) WHERE reader = 'stock_level' RETURNING 1) \
             SELECT count(*) FROM t"
        )
    };
    // Somebody else has moved the checkpoint, as a successor would.
    assert_eq!(shop.count(&move_checkpoint(1)).await, 1);
    let waits = retry(&shop, IMPATIENCE).await;
    assert!(matches!(waits, Err(ReleaseError::Waits { .. })), "{waits:?}");
    let mut state = zombie.watch(Projection::StockLevel);
    let stopped = state.wait_for(|state| matches!(state, ProjectionState::Superseded { .. }));
    timeout_at(Instant::now() + PATIENCE, stopped).await.unwrap().unwrap();
    assert_eq!((on_hand(&shop, "BAD").await, parked(&shop).await.len()), (10, 1));

    // The successor does it, while the other one still runs.
    assert_eq!(shop.count(&move_checkpoint(-1)).await, 1);
    let successor = shop.project().await;
    until_done(&shop).await;
    assert_eq!((on_hand(&shop, "BAD").await, parked(&shop).await), (13, vec![]));
    zombie.stop().await;
    successor.stop().await;
    assert_equals_replay(&shop).await;
}

/// An epoch that parked the event before it was skipped in another one comes to the same rows once it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_was_filled_before_the_skip_follows_it() {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    shop.receive("BAD", 1, 10).await;
    shop.log.append_raw(BAD, 2, vec![newer()]).await;
    shop.receive("BAD", 3, 1).await;
    shop.caught_up(&projector.progress()).await;
    let database = &shop.db.database;
    let live = database.digest(Projection::StockLevel, 1).await.unwrap();
    database.rebuild(&shop.log.log, Projection::StockLevel, 2, &live.cursors, |_| {}).await.unwrap();
    assert_eq!(skip(&shop, 2, PATIENCE).await.unwrap(), None);
    projector.stop().await;

    database.activate_epoch(Projection::StockLevel, 2).await.unwrap();
    assert_eq!(waits(&parked(&shop).await), [(2, 2)]);
    let projector = shop.project().await;
    let deadline = Instant::now() + PATIENCE;
    while !parked(&shop).await.is_empty() {
        assert!(Instant::now() < deadline, "{:?}", parked(&shop).await);
    }
    projector.stop().await;
    assert_eq!(shop.count("SELECT on_hand FROM stock_level_e2.stock WHERE sku = 'BAD'").await, 11);
    assert_eq!(
        database.digest(Projection::StockLevel, 1).await.unwrap().tables,
        database.digest(Projection::StockLevel, 2).await.unwrap().tables
    );
}
