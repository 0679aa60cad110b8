//! Whatever dies when, every event is in the rows once.

use shopstream_eventlog::Cursor;
use shopstream_projections::{
    Checkpoint, CheckpointError, ConnectOptions, DatabaseError, Digest, Projection, ProjectionState,
};
use shopstream_test_servers::postgres::TestDatabase;
use tokio::time::Instant;

use crate::story::{PATIENCE, Shop};

/// Writes orders until all of these are on the log.
async fn write(shop: &Shop, orders: std::ops::Range<u32>) {
    for n in orders {
        shop.order(n, "cus_1", "MUG", u64::from(n) * 2).await;
    }
}

/// Every projection of `shop` holds exactly what a fresh one over the same log holds.
pub async fn assert_equals_replay(shop: &Shop) {
    for projection in Projection::ALL {
        let live = digest(shop, projection).await;
        shop.db.database.rebuild(&shop.log.log, projection, 2, &live.cursors, |_| {}).await.unwrap();
        let replayed = shop.db.database.digest(projection, 2).await.unwrap();
        let difference = shop.db.database.first_difference(projection, [1, 2]).await.unwrap();
        assert_eq!(live, replayed, "{difference:?}");
        assert_eq!(difference, None);
    }
}

/// What a projection holds. A connection that a server took along is found closed by whoever is given it.
async fn digest(shop: &Shop, projection: Projection) -> Digest {
    let mut tries = 0..ConnectOptions::default().pool_size;
    loop {
        match shop.db.database.digest(projection, 1).await {
            Err(DatabaseError::Statement(error)) if error.is_closed() && tries.next().is_some() => {}
            found => return found.unwrap(),
        }
    }
}

/// Ends all connections to the database but the one that says so.
pub async fn kill_connections(db: &TestDatabase) {
    let (client, connection) = tokio_postgres::connect(&db.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.execute(kill, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projectors_dropped_anywhere_lose_and_double_nothing() {
    let shop = Shop::new(4).await;
    for round in 0..12_u32 {
        let projector = shop.project().await;
        let progress = projector.progress();
        let writing = write(&shop, round * 10..(round + 1) * 10);
        // Each round dies at another point of its work: after so many offsets of one of the projections.
        let victim = Projection::ALL[round as usize % Projection::ALL.len()];
        let mut watched = progress.watch(victim);
        let before: u64 = watched.borrow().iter().sum();
        let enough = watched.wait_for(|next| next.iter().sum::<u64>() > before + u64::from(round) * 5);
        tokio::join!(writing, async {
            enough.await.unwrap();
            drop(projector);
        });
    }
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    assert_eq!(shop.count("SELECT count(*) FROM journal").await, 120 * 11);
    assert_equals_replay(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_killed_in_the_middle_of_transactions_lose_and_double_nothing() {
    let shop = Shop::new(4).await;
    let projector = shop.project().await;
    for round in 0..6 {
        tokio::join!(write(&shop, round * 20..(round + 1) * 20), kill_connections(&shop.db));
    }
    shop.caught_up(&projector.progress()).await;
    // All may be there before a view hears of the last loss, after which it finds out how far it is.
    for projection in Projection::ALL {
        let mut state = projector.watch(projection);
        let running = state.wait_for(|state| *state == ProjectionState::Running);
        tokio::time::timeout_at(Instant::now() + PATIENCE, running).await.unwrap().unwrap();
    }
    projector.stop().await;
    assert_eq!(shop.count("SELECT count(*) FROM journal").await, 120 * 11);
    assert_equals_replay(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projector_that_was_overtaken_commits_nothing_and_stops() {
    let shop = Shop::new(1).await;
    let zombie = shop.project().await;
    shop.order(0, "cus_1", "MUG", 0).await;
    shop.caught_up(&zombie.progress()).await;
    // Somebody else moves one checkpoint, as a successor would.
    let moved = shop.count(
        "WITH moved AS (UPDATE checkpoint SET cursor = jsonb_set(cursor, '{digest}', '1') \
         WHERE reader = 'stock_level' RETURNING 1) SELECT count(*) FROM moved",
    );
    assert_eq!(moved.await, 1);
    let rows = "SELECT max(version) FROM stock_level_e1.stock";
    assert_eq!(shop.count(rows).await, 2);

    shop.order(1, "cus_1", "MUG", 2).await;
    let mut state = zombie.watch(Projection::StockLevel);
    let stopped = state.wait_for(|state| matches!(state, ProjectionState::Superseded { .. }));
    tokio::time::timeout_at(Instant::now() + PATIENCE, stopped).await.unwrap().unwrap();
    assert_eq!(shop.count(rows).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_readers_cursors_move_only_from_where_they_are() {
    let shop = Shop::new(2).await;
    let database = &shop.db.database;
    database.prepare(shop.log.log.topology()).await.unwrap();
    let checkpoint = Checkpoint { reader: "checkout", epoch: 1 };
    let [first, second] = [0, 1].map(|partition| shop.log.log.start(partition));
    let [further, beyond] = [first, second].map(|cursor| Cursor { next: 5, ..cursor });
    checkpoint.save(database, &[(None, first), (None, second)]).await.unwrap();
    checkpoint.save(database, &[(Some(first), further)]).await.unwrap();

    // Both are refused whole: neither from nowhere again, nor from a cursor that it has left.
    for from in [None, Some(first)] {
        let refused = checkpoint.save(database, &[(Some(second), beyond), (from, first)]).await;
        assert!(matches!(refused, Err(CheckpointError::Overtaken { .. })), "{refused:?}");
    }
    assert_eq!(checkpoint.load(database).await.unwrap(), [further, second]);

    // A copy that lags takes the database's place: it has one further back, and not the other.
    let json = serde_json::to_string(&first).unwrap();
    let back = format!(
        "WITH b AS (UPDATE checkpoint SET next_offset = {}, cursor = '{json}' \
         WHERE reader = 'checkout' AND partition = 0 RETURNING 1) SELECT count(*) FROM b",
        first.next
    );
    assert_eq!(shop.count(&back).await, 1);
    let gone = "WITH g AS (DELETE FROM checkpoint WHERE reader = 'checkout' AND partition = 1 RETURNING 1) \
         SELECT count(*) FROM g";
    assert_eq!(shop.count(gone).await, 1);
    let last = Cursor { next: 9, ..further };
    checkpoint.save(database, &[(Some(further), last), (Some(second), beyond)]).await.unwrap();
    assert_eq!(checkpoint.load(database).await.unwrap(), [last, beyond]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_stuck_holds_up_neither_journal_nor_other_views() {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    shop.receive("MUG", 1, 10).await;
    shop.caught_up(&projector.progress()).await;

    let (mut client, connection) =
        tokio_postgres::connect(&shop.db.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE stock_level_e1.stock IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut last = shop.receive("MUG", 2, 1).await;
    // More batches than a stuck view may leave in its queue.
    for version in 3..40 {
        last = shop.receive("MUG", version, 1).await;
        let progress = projector.progress();
        for projection in [Projection::Journal, Projection::OrderDetail] {
            progress.wait_for(projection, &[last], Instant::now() + PATIENCE).await.unwrap();
        }
    }
    assert!(projector.progress().next(Projection::StockLevel, 0) < last.offset);
    lock.rollback().await.unwrap();
    shop.caught_up(&projector.progress()).await;
    assert_eq!(shop.count("SELECT on_hand FROM stock_level_e1.stock").await, 10 + 38);
}

#[tokio::test]
async fn a_postgres_that_is_not_there_is_waited_for_only_so_long() {
    let options =
        shopstream_projections::ConnectOptions { patience: std::time::Duration::ZERO, ..Default::default() };
    let url = "host=/nonexistent dbname=shop password=secret";
    let Err(error) = shopstream_projections::Database::connect(url, &options).await else {
        panic!("connected")
    };
    let text = error.to_string();
    assert!(
        text.contains("/nonexistent") && text.contains("--database") && !text.contains("secret"),
        "{text}"
    );
    assert!(error.is_transient());
}
