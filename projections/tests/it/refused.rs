//! A row that the server refuses parks its aggregate, and nothing else: an event that every program can read, and that
//! Postgres cannot hold.

use shopstream_domain::catalog::{ProductDrafted, ProductEvent, ProductPublished, Variant};
use shopstream_domain::model::Event;
use shopstream_domain::{ProductId, StreamId, Version};
use shopstream_eventlog::{EventData, Journal};
use shopstream_projections::journal::PostgresJournal;
use shopstream_projections::{Keeper, Parked, Projection, ProjectionState, Projector, Wish};
use tokio::time::Instant;

use crate::exactly_once::assert_equals_replay;
use crate::poison::parked;
use crate::story::{PATIENCE, Shop, sku};

const PRODUCTS: Keeper = Keeper::View(Projection::ProductView);

/// What a program that asked for nothing let onto the log.
async fn product(shop: &Shop, name: &str, title: &str, variant: &str) {
    let drafted = ProductDrafted {
        product_id: ProductId::new(&format!("prd_{name}")).unwrap(),
        title: title.to_owned(),
        description: String::new(),
        variants: vec![Variant { sku: sku(name), title: variant.to_owned() }],
    };
    let events = [ProductEvent::Drafted(drafted), ProductEvent::Published(ProductPublished {})].map(Event::Product);
    shop.log.append(stream(name).as_str(), 1, &events).await;
}

fn stream(name: &str) -> StreamId {
    format!("default/product/prd_{name}").parse().unwrap()
}

async fn skip(shop: &Shop, name: &str, version: Version) -> Option<Parked> {
    let wish = Wish::Skip { version, reason: "a title that nobody can keep".into(), by: "ann".into() };
    shop.db.database.release(PRODUCTS, &stream(name), wish, Instant::now() + PATIENCE).await.unwrap()
}

async fn products(shop: &Shop) -> i64 {
    shop.count("SELECT count(*) FROM product_view_e1.product").await
}

fn all_run(projector: &Projector) {
    for status in projector.status() {
        assert_eq!(status.state, ProjectionState::Running, "{}", status.projection);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_the_server_refuses_park_their_aggregates_and_the_others_of_the_batch_are_in() {
    let shop = Shop::new(1).await;
    // In one batch, before anybody reads: titles are text, the titles of variants jsonb.
    for n in 0..40 {
        product(&shop, &format!("GOOD{n}"), "a cup", "red").await;
        match n {
            7 => product(&shop, "BAD1", "a\0cup", "red").await,
            8 => product(&shop, "BAD2", "a cup", "r\0ed").await,
            31 => product(&shop, "BAD3", "a\0cup", "r\0ed").await,
            _ => {}
        }
    }
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    all_run(&projector);
    assert_eq!(products(&shop).await, 40);
    let waits: Vec<_> = parked(&shop).await.into_iter().map(|it| (it.stream, it.obstacle.version, it.waiting)).collect();
    assert_eq!(waits, ["BAD1", "BAD2", "BAD3"].map(|name| (stream(name), 1, 2)));

    // A retry with nothing mended says why, and parks it again.
    let retried = shop.db.database.release(PRODUCTS, &stream("BAD2"), Wish::Retry, Instant::now() + PATIENCE).await;
    let reason = retried.unwrap().unwrap().obstacle.reason;
    assert!(reason.contains("Unicode"), "{reason}");
    all_run(&projector);

    // The way out: what cannot be kept is left out, and with it what cannot follow.
    for name in ["BAD1", "BAD2", "BAD3"] {
        assert_eq!(skip(&shop, name, 1).await.unwrap().obstacle.version, 2);
        assert_eq!(skip(&shop, name, 2).await, None);
    }
    assert!(parked(&shop).await.is_empty());
    product(&shop, "LATER", "a cup", "").await;
    shop.caught_up(&projector.progress()).await;
    assert_eq!(products(&shop).await, 41);
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_title_that_is_refused_later_leaves_the_row_as_it_was() {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    product(&shop, "CUP", "a cup", "").await;
    shop.caught_up(&projector.progress()).await;
    let title = shopstream_domain::catalog::ProductDetailsChanged { title: Some("c\0p".into()), description: None };
    shop.log.append(stream("CUP").as_str(), 3, &[Event::Product(ProductEvent::DetailsChanged(title))]).await;
    shop.caught_up(&projector.progress()).await;
    let was = shop.count("SELECT count(*) FROM product_view_e1.product WHERE title = 'a cup' AND version = 2").await;
    assert_eq!(was, 1);
    assert_eq!(skip(&shop, "CUP", 3).await, None);
    all_run(&projector);
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

/// The journal has every event, also those of which Postgres would hold neither the payload nor who asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_holds_what_its_columns_do_not() {
    let shop = Shop::new(1).await;
    let raw = |payload: &'static [u8]| EventData { event_type: "Later\0".into(), schema_version: 9, payload: payload.into() };
    let events = vec![raw(b"no json"), raw(b"\xff\0\x1a"), raw(b"{\"a\":\"\\u0000\"}"), raw(b"")];
    shop.log.append_raw("default/stock/ODD@main", 1, events.clone()).await;
    product(&shop, "CUP", "a\0cup", "").await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    all_run(&projector);

    let journal = PostgresJournal::new(shop.db.database.clone(), projector.progress());
    let found = journal.load(&["default/stock/ODD@main".parse().unwrap(), stream("CUP")]).await.unwrap();
    assert_eq!(found[0][0].commit.events, events);
    assert_eq!(found[1][0].commit.events.len(), 2);
    projector.stop().await;
    assert_equals_replay(&shop).await;
}
