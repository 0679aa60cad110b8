//! An event that cannot be folded parks its aggregate, and nothing else.

use shopstream_domain::LocationId;
use shopstream_eventlog::EventData;
use shopstream_projections::Projection;

use crate::story::{Shop, sku, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_aggregate_is_parked_and_the_others_flow() {
    let shop = Shop::new(1).await;
    shop.receive("BAD", 1, 10).await;
    let newer = EventData {
        event_type: "StockReceived".into(),
        schema_version: 99,
        payload: b"{}".as_slice().into(),
    };
    let poison = shop.log.append_raw("default/stock/BAD@main", 2, vec![newer]).await;
    shop.receive("BAD", 3, 5).await;
    shop.receive("GOOD", 1, 7).await;

    // In two lives, so that what is parked is known again after a restart.
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;
    let projector = shop.project().await;
    shop.receive("BAD", 4, 5).await;
    shop.receive("GOOD", 2, 1).await;
    shop.caught_up(&projector.progress()).await;

    let views = shop.read_models(&projector).await;
    let on_hand =
        async |name| views.stock(&tenant(), &sku(name), &LocationId::main()).await.unwrap().unwrap().on_hand;
    assert_eq!((on_hand("BAD").await, on_hand("GOOD").await), (10, 8));

    let parked = shop.db.database.parked(&tenant(), 10).await.unwrap();
    let [parked] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!(
        (parked.projection, parked.stream.as_str(), parked.from_version, parked.position),
        (Projection::StockLevel, "default/stock/BAD@main", 2, poison)
    );
    assert!(parked.reason.contains("99"), "{}", parked.reason);
    // The journal indexes what it cannot read as well.
    assert_eq!(shop.count("SELECT count(*) FROM journal WHERE stream_id LIKE '%BAD%'").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_event_is_poison_too() {
    let shop = Shop::new(1).await;
    shop.receive("BAD", 1, 10).await;
    shop.receive("BAD", 3, 10).await;
    shop.receive("GOOD", 1, 7).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let parked = shop.db.database.parked(&tenant(), 10).await.unwrap();
    assert_eq!(parked.iter().map(|parked| parked.from_version).collect::<Vec<_>>(), [3]);
    assert_eq!(shop.count("SELECT on_hand FROM stock_level_e1.stock WHERE sku = 'GOOD'").await, 7);
}
