//! An event that cannot be folded parks its aggregate, and nothing else.

use shopstream_domain::{LocationId, StreamId};
use shopstream_eventlog::EventData;
use shopstream_projections::{Keeper, Parked, Projection};

use crate::story::{Shop, tenant};

/// The aggregate that is poisoned.
pub const BAD: &str = "default/stock/BAD@main";
/// The view that parks it.
pub const STOCK: Keeper = Keeper::View(Projection::StockLevel);

pub fn bad() -> StreamId {
    BAD.parse().unwrap()
}

/// An event of a shape that only a newer program knows.
pub fn newer() -> EventData {
    EventData { event_type: "StockReceived".into(), schema_version: 99, payload: b"{}".as_slice().into() }
}

/// What is parked, by anyone.
pub async fn parked(shop: &Shop) -> Vec<Parked> {
    shop.db.database.parked(None, None, 10).await.unwrap()
}

/// How much of each SKU the view says there is.
pub async fn on_hand(shop: &Shop, name: &str) -> i64 {
    shop.count(&format!("SELECT on_hand FROM stock_level_e1.stock WHERE sku = '{name}'")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_aggregate_is_parked_and_the_others_flow() {
    let shop = Shop::new(1).await;
    shop.receive("BAD", 1, 10).await;
    let poison = shop.log.append_raw(BAD, 2, vec![newer()]).await;
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
    let stock = async |name| {
        views.stock(&tenant(), &crate::story::sku(name), &LocationId::main()).await.unwrap().unwrap().on_hand
    };
    assert_eq!((stock("BAD").await, stock("GOOD").await), (10, 8));

    let parked = parked(&shop).await;
    let [parked] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!((parked.keeper, &parked.stream, parked.wished), (STOCK, &bad(), false));
    let obstacle = &parked.obstacle;
    assert_eq!((&obstacle.stream, obstacle.version, obstacle.position), (&bad(), 2, poison));
    assert!(obstacle.reason.contains("99"), "{}", obstacle.reason);
    // Itself and the two behind it.
    assert_eq!(parked.waiting, 3);
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
    let parked = parked(&shop).await;
    assert_eq!(parked.iter().map(|parked| parked.obstacle.version).collect::<Vec<_>>(), [3]);
    assert_eq!(on_hand(&shop, "GOOD").await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parked_are_listed_page_by_page_and_by_keeper() {
    let shop = Shop::new(2).await;
    for name in ["A", "B", "C"] {
        shop.log.append_raw(&format!("default/stock/{name}@main"), 1, vec![newer()]).await;
    }
    shop.log.append_raw("default/price/A.GBP", 1, vec![newer()]).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let database = &shop.db.database;
    let mut seen = Vec::new();
    loop {
        let after = seen.last().map(|parked: &Parked| (parked.keeper, &parked.stream));
        let page = database.parked(None, after, 3).await.unwrap();
        let last = page.len() < 3;
        seen.extend(page);
        if last {
            break;
        }
    }
    let names = |parked: &[Parked]| -> Vec<String> {
        parked.iter().map(|parked| format!("{} {}", parked.keeper, parked.stream)).collect()
    };
    let stock: Vec<String> =
        ["A", "B", "C"].map(|name| format!("stock_level default/stock/{name}@main")).into();
    assert_eq!(names(&seen), [&["product_view default/price/A.GBP".to_owned()], stock.as_slice()].concat());
    assert_eq!(names(&database.parked(Some(STOCK), None, 10).await.unwrap()), stock);
}
