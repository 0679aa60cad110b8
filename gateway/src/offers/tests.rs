//! Offers are kept exactly as long as the log tells of changes.

use shopstream_domain::{Partition, Timestamp};
use shopstream_eventlog::{CommandId, Commit, Cursor, EventData, Journal, JournalError};
use shopstream_projections::testing::TestLog;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;

fn key() -> Key {
    (TenantId::default_tenant(), Sku::new("A1").expect("valid"))
}

fn offers() -> Offers {
    let offers = Offers::new(2);
    offers.trust(&[0, 0]);
    offers
}

fn offer() -> Arc<Offer> {
    let product_id = ProductId::new("prd_1").expect("valid");
    Arc::new(Offer { product_id, on_sale: true, prices: Vec::new() })
}

fn at_hand(offers: &Offers) -> bool {
    offers.of(&key().0, std::iter::once(&key().1))[0].is_some()
}

fn commit(stream: &str, first_version: Version, offset: Offset) -> CommitRecord {
    let stream: StreamId = stream.parse().expect("a stream");
    let commit = Commit {
        stream,
        first_version,
        command_id: CommandId::derive(&["test"]),
        body_hash: 0,
        actor: String::new(),
        correlation_id: String::new(),
        causation_id: String::new(),
        traceparent: String::new(),
        recorded_at: Timestamp::from_micros(0),
        effective_at: None,
        events: Vec::new(),
    };
    CommitRecord { position: Position { partition: 1, offset }, epoch: 1, commit }
}

#[test]
fn a_change_of_price_or_product_is_forgotten_and_nothing_else() {
    for (stream, stays) in [
        ("default/price/A1.GBP", false),
        ("default/product/prd_1", false),
        ("default/price/A2.GBP", true),
        ("other/price/A1.GBP", true),
        ("default/product/prd_2", true),
        ("default/stock/A1@main", true),
    ] {
        let offers = offers();
        offers.keep([(key(), offer())], &[9, 9]);
        assert!(at_hand(&offers));
        offers.forget([commit(stream, 2, 5)].iter());
        assert_eq!(at_hand(&offers), stays, "{stream}");
    }
}

#[test]
fn a_row_older_than_the_last_change_is_not_kept() {
    let offers = offers();
    offers.forget([commit("default/price/A1.GBP", 2, 5)].iter());
    offers.keep([(key(), offer())], &[9, 5]);
    assert!(!at_hand(&offers), "the view had not folded offset 5");
    offers.keep([(key(), offer())], &[0, 6]);
    assert!(at_hand(&offers));
}

#[test]
fn nothing_is_kept_while_the_log_is_not_followed() {
    let offers = offers();
    offers.keep([(key(), offer())], &[9, 9]);
    offers.distrust();
    assert!(!at_hand(&offers));
    offers.keep([(key(), offer())], &[9, 9]);
    assert!(!at_hand(&offers));
}

/// A journal that does not answer until it is let.
struct Late(watch::Receiver<bool>);

#[async_trait::async_trait]
impl Journal for Late {
    async fn load(&self, _: &[StreamId]) -> Result<Vec<Vec<CommitRecord>>, JournalError> {
        unreachable!("the live feed asks for cursors only")
    }

    async fn find(&self, _: &StreamId, _: CommandId) -> Result<Option<CommitRecord>, JournalError> {
        unreachable!("the live feed asks for cursors only")
    }

    async fn cursor(&self, _: Partition) -> Result<Option<Cursor>, JournalError> {
        self.0.clone().wait_for(|let_go| *let_go).await.expect("the test goes on");
        Ok(None)
    }

    async fn streams(
        &self,
        _: Partition,
        _: &mut (dyn for<'s> FnMut(&'s str) + Send),
    ) -> Result<(), JournalError> {
        unreachable!("the live feed asks for cursors only")
    }

    fn progress(&self) -> watch::Receiver<Vec<Offset>> {
        unreachable!("the live feed asks for cursors only")
    }
}

/// The lines logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn until_followed(offers: &Offers) {
    while !offers.kept().followed {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_feed_that_has_only_to_begin_is_no_trouble_and_one_that_was_lost_is_said() {
    let lines = Lines::default();
    let written = lines.clone();
    let logging = tracing_subscriber::fmt().with_writer(move || written.clone()).finish();
    let _logging = tracing::subscriber::set_default(logging);
    let log = TestLog::new(2).await;
    let (let_go, late) = watch::channel(false);
    let stop = CancellationToken::new();
    let live = Live::start(log.log.clone(), Arc::new(Late(late)), Arc::new(|_, _| {}), stop.clone());
    let offers = Arc::new(Offers::new(2));
    let mut following = Box::pin(offers.clone().follow(live.clone()));
    // Asked as often as it likes: the journal is not there yet.
    for _ in 0..100 {
        assert!(futures::poll!(&mut following).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(!offers.kept().followed);
    let_go.send_replace(true);
    tokio::select! {
        () = &mut following => panic!("it follows for as long as the node runs"),
        () = until_followed(&offers) => {}
    }
    assert_eq!(lines.text(), "");

    // More batches than the feed keeps, and nobody to take them.
    let mut listener = live.listen().expect("it runs");
    for version in 1..300 {
        let event = EventData { event_type: "Any".into(), schema_version: 1, payload: "{}".into() };
        log.append_raw("default/stock/A1@main", version, vec![event]).await;
        listener.feed.recv().await.expect("heard");
    }
    assert!(futures::poll!(&mut following).is_pending());
    assert!(!offers.kept().followed);
    assert!(lines.text().contains("WARN") && lines.text().contains("offers are read"), "{}", lines.text());
    // And follows again.
    tokio::select! {
        () = &mut following => panic!("it follows for as long as the node runs"),
        () = until_followed(&offers) => {}
    }
}
