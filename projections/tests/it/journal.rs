//! The journal as the write path uses it.

use shopstream_domain::model::Event;
use shopstream_domain::order::{self, OrderSubmitted};
use shopstream_domain::{OrderId, StreamId};
use shopstream_eventlog::{CommandId, CommitRecord, EventData, History, Journal, JournalError, Snapshot};
use shopstream_projections::journal::PostgresJournal;
use shopstream_projections::{DatabaseError, Projector, Repaired};

use crate::story::{Shop, placement};

fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_comes_back_as_it_was() {
    let shop = Shop::new(4).await;
    for n in 1..=20 {
        shop.order(n, "cus_1", "MUG", u64::from(n - 1) * 2).await;
    }
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let journal = PostgresJournal::new(shop.db.database.clone(), projector.progress());

    // The log is the truth: every stream's commits, as a reader of the log sees them.
    let starts: Vec<_> = (0..4).map(|partition| shop.log.log.start(partition)).collect();
    let mut reader = shop.log.log.reader(&starts).await.unwrap();
    let mut on_the_log = Vec::new();
    // Twenty orders of seven commits each.
    while on_the_log.len() < 140 {
        on_the_log.extend(reader.next(1 << 20).await.unwrap().commits);
    }
    let asked = ["default/order/ord_3", "default/stock/MUG@main", "default/order/none"].map(stream);
    let found = journal.load(&asked).await.unwrap();
    for (asked, found) in asked.iter().zip(&found) {
        let expected: Vec<_> =
            on_the_log.iter().filter(|record| record.commit.stream == *asked).cloned().collect();
        assert_eq!(*found, expected, "{asked}");
    }
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 20, 0]);

    let wanted = &on_the_log[77];
    let (asked, command) = (&wanted.commit.stream, wanted.commit.command_id);
    assert_eq!(journal.find(asked, command).await.unwrap().as_ref(), Some(wanted));
    assert_eq!(journal.find(&stream("default/order/none"), command).await.unwrap(), None);
    assert_eq!(journal.find(asked, CommandId::derive(&["never"])).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_comes_back_byte_for_byte() {
    let shop = Shop::new(1).await;
    // Neither the order of keys, nor spaces, nor escapes survive jsonb.
    let payload = br#"{ "b":1, "a" : 1.10, "u":"\u0000\u00e9", "a":2 }"#.as_slice();
    let event = EventData { event_type: "Odd".into(), schema_version: 7, payload: payload.into() };
    shop.log.append_raw("default/order/ord_1", 1, vec![event]).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let journal = PostgresJournal::new(shop.db.database.clone(), projector.progress());
    let found = journal.load(&[stream("default/order/ord_1")]).await.unwrap();
    assert_eq!(found[0][0].commit.events[0].payload, payload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_cursors_are_known_by_partition() {
    let shop = Shop::new(4).await;
    for n in 1..=20 {
        shop.order(n, "cus_1", "MUG", u64::from(n - 1) * 2).await;
    }
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let journal = PostgresJournal::new(shop.db.database.clone(), projector.progress());

    let mut names = Vec::new();
    for partition in 0..4 {
        let mut here = Vec::new();
        journal.streams(partition, &mut |name| here.push(name.to_owned())).await.unwrap();
        assert!(here.iter().all(|name| stream(name).partition(4) == partition), "{here:?}");
        names.append(&mut here);

        let cursor = journal.cursor(partition).await.unwrap().unwrap();
        assert_eq!(cursor.next, shop.log.log.end(partition).await.unwrap());
        assert_eq!(cursor.next, journal.progress().borrow()[usize::from(partition)]);
    }
    names.sort();
    // Order, checkout, reservation and payment of each, and one stock item.
    assert_eq!(names.len(), 81);
    names.dedup();
    assert_eq!(names.len(), 81);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_es_finds_its_columns() {
    let shop = Shop::new(1).await;
    let order_id = OrderId::new("ord_1").unwrap();
    let submitted = OrderSubmitted { placement: placement(&order_id, "cus_1", "MUG") };
    let event = Event::Order(order::Event::Submitted(submitted));
    shop.log.append("default/order/ord_1", 1, &[event]).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let found = "SELECT count(*) FROM events WHERE aggregate_type = 'order' AND aggregate_id = 'default/ord_1' \
         AND sequence = 1 AND event_type = 'OrderSubmitted' AND event_version = '1' \
         AND payload->>'order_id' = 'ord_1' AND metadata->>'actor' = 'tester'";
    assert_eq!(shop.count(found).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_another_log_is_refused() {
    let shop = Shop::new(1).await;
    shop.project().await.stop().await;
    let other = shopstream_projections::testing::TestLog::new(1).await;
    let started = Projector::start(other.log.clone(), shop.db.database.clone(), Default::default).await;
    match started {
        Err(DatabaseError::OtherLog { stored, found }) => {
            assert_eq!((stored, found), (shop.log.log.topology().log, other.log.topology().log));
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was accepted"),
    }
}

/// The snapshot of a stream that ends with this commit.
fn snapshot(last: &CommitRecord, bytes: &'static [u8]) -> Snapshot {
    let (from, position) = (last.commit.first_version, last.position);
    Snapshot { stream: last.commit.stream.clone(), from, position, bytes: bytes.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_is_a_snapshot_and_what_is_behind_it() {
    let shop = Shop::new(4).await;
    for n in 1..=20 {
        shop.order(n, "cus_1", "MUG", u64::from(n - 1) * 2).await;
    }
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let journal = PostgresJournal::new(shop.db.database.clone(), projector.progress());
    let asked = ["default/order/ord_3", "default/stock/MUG@main", "default/order/none"].map(stream);
    let whole = journal.load(&asked).await.unwrap();
    let recall = async || journal.recall(&asked).await.unwrap();
    let without: Vec<History> = whole.iter().cloned().map(History::whole).collect();
    assert_eq!(recall().await, without, "without snapshots it is all");

    let stock = &whole[1];
    for (at, bytes) in [(11, b"first".as_slice()), (15, b"second"), (3, b"third")] {
        journal.save(&[snapshot(&stock[at], bytes)]).await.unwrap();
        let [order, item, none] = &recall().await[..] else { panic!("one answer per stream") };
        assert_eq!((order, none), (&without[0], &without[2]));
        assert_eq!((item.snapshot.as_deref(), &item.commits[..]), (Some(bytes), &stock[at..]));
    }
    let both = [snapshot(&stock[19], b"last"), snapshot(&whole[0][1], b"order")];
    journal.save(&both).await.unwrap();
    let found = recall().await;
    assert_eq!(found[0], History { snapshot: Some("order".into()), commits: whole[0][1..].to_vec() });
    assert_eq!(found[1], History { snapshot: Some("last".into()), commits: stock[19..].to_vec() });
    assert_eq!(journal.load(&asked).await.unwrap(), whole, "who wants all of it gets it");
    assert_eq!(shop.count("SELECT count(*) FROM snapshot WHERE tenant_id = 'default'").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_the_journal_does_not_go_on_from_shows() {
    let shop = Shop::new(1).await;
    let event = |n: u8| EventData {
        event_type: "Odd".into(),
        schema_version: 7,
        payload: format!("{n}").into_bytes().into(),
    };
    shop.log.append_raw("default/order/ord_1", 1, vec![event(1), event(2)]).await;
    shop.log.append_raw("default/order/ord_1", 3, vec![event(3), event(4)]).await;
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    let journal = PostgresJournal::new(shop.db.database.clone(), projector.progress());
    let asked = [stream("default/order/ord_1")];
    let whole = journal.load(&asked).await.unwrap().remove(0);
    let recall = async |from| {
        journal.save(&[Snapshot { from, ..snapshot(&whole[1], b"it") }]).await.unwrap();
        journal.recall(&asked).await
    };
    let found = recall(3).await.unwrap().remove(0);
    assert_eq!(found, History { snapshot: Some("it".into()), commits: whole[1..].to_vec() });
    for beside in [2, 4] {
        let found = recall(beside).await;
        assert!(matches!(found, Err(JournalError::Damaged { .. })), "{found:?}");
    }
    let beyond = recall(5).await.unwrap().remove(0);
    assert_eq!(beyond, History { snapshot: Some("it".into()), commits: vec![] });

    // A repair that cuts the journal back leaves no snapshot of what is gone.
    projector.stop().await;
    let kept = shop.log.log.start(0);
    let repaired = Repaired { kept, lost: 2, appended: 0, conflicting: 0 };
    shop.db.database.roll_back(shop.log.log.topology(), "keep-log", &[repaired]).await.unwrap();
    assert_eq!(journal.recall(&asked).await.unwrap(), [History::whole(vec![])]);
    assert_eq!(shop.count("SELECT count(*) FROM snapshot").await, 0);
}
