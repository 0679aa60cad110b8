//! A view built again from the log equals the one that was kept current.

use shopstream_domain::LocationId;
use shopstream_projections::{Projection, ReadModels};

use crate::story::{Shop, sku, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_rebuilt_up_to_a_cursor_equals_the_live_one_there() {
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
    for projection in Projection::views() {
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
    assert_eq!((difference.table, difference.epoch), ("stock", 1));
    assert!(difference.row.contains("MUG"), "{}", difference.row);
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
