//! A projection built again from the log equals the one that was kept current.

use shopstream_domain::LocationId;
use shopstream_projections::{Projection, Projector, ReadModels};

use crate::story::{Shop, sku, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_projection_rebuilt_up_to_a_cursor_equals_the_live_one_there() {
    let shop = Shop::new(4).await;
    shop.product("MUG", 125).await;
    let projector = shop.project().await;
    for n in 0..30 {
        shop.order(n, "cus_1", "MUG", u64::from(n) * 2).await;
    }
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    // The log goes on, so the rebuild has to stop in the middle of what it reads.
    for n in 30..40 {
        shop.order(n, "cus_1", "MUG", u64::from(n) * 2).await;
    }
    let database = &shop.db.database;
    for projection in Projection::ALL {
        let live = database.digest(projection, 1).await.unwrap();
        assert_eq!(
            live.tables.iter().map(|table| table.rows).min() > Some(0),
            projection != Projection::ReturnView
        );
        database.rebuild(&shop.log.log, projection, 2, &live.cursors, |_| {}).await.unwrap();
        assert_eq!(database.digest(projection, 2).await.unwrap(), live, "{projection}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_row_is_found() {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    shop.receive("MUG", 1, 10).await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    let database = &shop.db.database;
    let live = database.digest(Projection::StockLevel, 1).await.unwrap();
    database.rebuild(&shop.log.log, Projection::StockLevel, 2, &live.cursors, |_| {}).await.unwrap();
    let changed =
        "WITH c AS (UPDATE stock_level_e2.stock SET available = 11 RETURNING 1) SELECT count(*) FROM c";
    assert_eq!(shop.count(changed).await, 1);

    assert_ne!(database.digest(Projection::StockLevel, 2).await.unwrap().tables, live.tables);
    let difference = database.first_difference(Projection::StockLevel, [1, 2]).await.unwrap().unwrap();
    let [live, changed] = difference.rows.map(Option::unwrap);
    assert!(difference.table == "stock" && live.contains("MUG"), "{live}");
    assert_eq!(changed, live.replacen("main,10,10", "main,10,11", 1));
}

/// Whatever is done to the journal, its replay shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_was_touched_is_found() {
    let shop = Shop::new(2).await;
    let projector = shop.project().await;
    for n in 0..5 {
        shop.order(n, "cus_1", "MUG", u64::from(n) * 2).await;
    }
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    let database = &shop.db.database;
    let live = database.digest(Projection::Journal, 1).await.unwrap();
    database.rebuild(&shop.log.log, Projection::Journal, 2, &live.cursors, |_| {}).await.unwrap();
    let replayed = database.digest(Projection::Journal, 2).await.unwrap();
    assert_eq!(replayed, live);
    assert_eq!(live.tables[0].rows, 5 * 11);
    assert_eq!(database.first_difference(Projection::Journal, [1, 2]).await.unwrap(), None);

    // The second and third come before the first in the order of the key.
    let payload = "UPDATE journal SET payload = replace(payload::text, ':', ': ')::json \
         WHERE stream_id = 'default/order/ord_3' AND version = 2 RETURNING 1";
    let missing = "DELETE FROM journal WHERE stream_id = 'default/order/ord_3' AND version = 2 RETURNING 1";
    let twice = "INSERT INTO journal SELECT 'default', 'default/order/ord_3', 3, event_type, schema_version, \
         payload, partition, \"offset\", index_in_commit, epoch, gen_random_uuid(), body_hash, actor, \
         correlation_id, causation_id, traceparent, recorded_at, effective_at \
         FROM journal WHERE stream_id = 'default/order/ord_3' AND version = 2 RETURNING 1";
    for (touch, here, there) in [(twice, true, false), (payload, true, true), (missing, false, true)] {
        assert_eq!(shop.count(&format!("WITH t AS ({touch}) SELECT count(*) FROM t")).await, 1, "{touch}");
        assert_ne!(database.digest(Projection::Journal, 1).await.unwrap().tables, replayed.tables, "{touch}");
        let difference = database.first_difference(Projection::Journal, [1, 2]).await.unwrap().unwrap();
        let [live, copy] = difference.rows;
        assert_eq!((live.is_some(), copy.is_some()), (here, there), "{touch}: {live:?} {copy:?}");
        assert!(live.or(copy).unwrap().contains("default/order/ord_3"), "{touch}");
    }
}

/// The cursor is replayed too, not only the rows: fence, digest and fingerprint are those of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_was_touched_is_found() {
    let shop = Shop::new(2).await;
    let projector = shop.project().await;
    shop.order(0, "cus_1", "MUG", 0).await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    // The log goes on, so that the replay has to stop by itself where the checkpoint is.
    shop.order(1, "cus_1", "MUG", 2).await;
    let database = &shop.db.database;
    let touched = "WITH t AS (UPDATE checkpoint SET cursor = jsonb_set(cursor, '{digest}', '7') \
         WHERE epoch = 1 AND reader IN ('journal', 'stock_level') AND next_offset > 2 RETURNING 1) \
         SELECT count(*) FROM t";
    assert!(shop.count(touched).await >= 2);
    for projection in [Projection::Journal, Projection::StockLevel] {
        let live = database.digest(projection, 1).await.unwrap();
        database.rebuild(&shop.log.log, projection, 2, &live.cursors, |_| {}).await.unwrap();
        let replayed = database.digest(projection, 2).await.unwrap();
        assert_eq!(replayed.tables, live.tables, "{projection}");
        assert_ne!(replayed.cursors, live.cursors, "{projection}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_is_filled_again_by_the_next_projector() {
    let shop = Shop::new(2).await;
    let projector = shop.project().await;
    shop.product("MUG", 125).await;
    for n in 0..5 {
        shop.order(n, "cus_1", "MUG", u64::from(n) * 2).await;
    }
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    let database = &shop.db.database;
    let mut before = Vec::new();
    for projection in Projection::ALL {
        before.push(database.digest(projection, 1).await.unwrap().tables);
        database.drop_epoch(projection, 1).await.unwrap();
    }
    assert_eq!(shop.count("SELECT count(*) FROM journal").await, 0);
    assert_eq!(shop.count("SELECT count(*) FROM checkpoint").await, 0);

    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    for (projection, before) in Projection::ALL.into_iter().zip(before) {
        assert_eq!(database.digest(projection, 1).await.unwrap().tables, before, "{projection}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_active_epoch_answers_and_goes_on() {
    let shop = Shop::new(1).await;
    let database = &shop.db.database;
    let projector = shop.project().await;
    shop.receive("MUG", 1, 10).await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    let live = database.digest(Projection::StockLevel, 1).await.unwrap();
    database.rebuild(&shop.log.log, Projection::StockLevel, 2, &live.cursors, |_| {}).await.unwrap();
    database.activate_epoch(Projection::StockLevel, 2).await.unwrap();
    database.drop_epoch(Projection::StockLevel, 1).await.unwrap();

    let projector = shop.project().await;
    shop.receive("MUG", 2, 1).await;
    shop.caught_up(&projector.progress()).await;
    let views = ReadModels::open(database.clone(), projector.progress()).await.unwrap();
    assert_eq!(views.stock(&tenant(), &sku("MUG"), &LocationId::main()).await.unwrap().unwrap().on_hand, 11);
    assert_eq!(
        shop.count("SELECT count(*) FROM checkpoint WHERE reader = 'stock_level' AND epoch = 1").await,
        0
    );
    assert_eq!(database.active_epoch(Projection::StockLevel).await.unwrap(), 2);
}

/// What another version of the program left: tables of another shape, or the same filled by another fold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_another_version_are_filled_again_by_themselves_and_answer() {
    let shop = Shop::new(2).await;
    let projector = shop.project().await;
    for n in 0..10 {
        shop.order(n, "cus_1", "MUG", u64::from(n) * 2).await;
    }
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    let database = &shop.db.database;
    let older = "WITH s AS (UPDATE read_model_epoch SET tables = replace(tables, '-- fold', '-- old fold') \
         WHERE projection = 'stock_level' RETURNING 1) SELECT count(*) FROM s";
    assert_eq!(shop.count(older).await, 1);
    let narrower = "WITH s AS (UPDATE read_model_epoch SET tables = 'CREATE TABLE detail (a int)' \
         WHERE projection = 'order_detail' RETURNING 1) SELECT count(*) FROM s";
    assert_eq!(shop.count(narrower).await, 1);

    // A node that only answers, and was there before.
    let follower = shopstream_projections::Progress::new(2);
    let elsewhere = ReadModels::open(database.clone(), follower.clone()).await.unwrap();
    let (progress, company) = (shopstream_projections::Progress::new(2), shopstream_projections::Company::Followed);
    let (log, now) = (shop.log.log.clone(), shopstream_domain::Timestamp::default);
    let started = Projector::start_telling(log, database.clone(), progress, company, now).await;
    let projector = started.unwrap();
    assert_eq!(database.active_epoch(Projection::StockLevel).await.unwrap(), 2);
    assert_eq!(database.active_epoch(Projection::OrderDetail).await.unwrap(), 2);
    assert_eq!(database.active_epoch(Projection::PaymentView).await.unwrap(), 1);
    assert_eq!(shop.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'stock_level_e1'").await, 0);
    shop.order(10, "cus_1", "MUG", 20).await;
    shop.caught_up(&projector.progress()).await;
    let views = shop.read_models(&projector).await;
    let stock = views.stock(&tenant(), &sku("MUG"), &LocationId::main()).await.unwrap().unwrap();
    assert_eq!(stock.version, 22);
    let reachable = std::sync::atomic::AtomicBool::new(true);
    let following = follower.follow(database, &reachable);
    tokio::select! {
        () = following => {}
        () = shop.caught_up(&follower) => {}
    }
    let stock = elsewhere.stock(&tenant(), &sku("MUG"), &LocationId::main()).await.unwrap().unwrap();
    assert_eq!(stock.version, 22);
    projector.stop().await;

    // Once is enough.
    let projector = shop.project().await;
    assert_eq!(database.active_epoch(Projection::StockLevel).await.unwrap(), 2);
    projector.stop().await;
}
