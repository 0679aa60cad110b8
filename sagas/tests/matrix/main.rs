//! The matrix: every branch of the checkout that the spine has (`commerce.md` C.5.3), undisturbed, with every command
//! repeated, and broken off after every record that it writes. Each must come to the end that the table names, with
//! nothing held, nothing lost and nothing taken twice.
//!
//! A break is the end of the runtime, in the middle of whatever runs; the log, the saved cursors and the provider
//! stay. The customer then does the same again under the same ids, as one does whose connection broke.
//!
//! Not here: F-01 is refused before anything is on the log; F-03, F-05, F-06, F-07, F-16 to F-20, F-23 and F-24 belong
//! to contexts that are yet to come.

mod scenarios;

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use shopstream_domain::OrderId;
use shopstream_domain::inventory::ReservationStatus;
use shopstream_domain::order::{CancelReason, OrderStatus, Stage};
use shopstream_domain::payment::PaymentStatus;
use shopstream_sagas::Settings;
use shopstream_sagas::testing::{Remains, Shop};

/// What is on the shelf of each of [`SKUS`] before anybody orders.
const ON_THE_SHELF: i64 = 10;
const SKUS: [&str; 2] = ["MUG", "PEN"];
/// What the provider may have done, in the order of [`Seen::provider`].
const DEEDS: [&str; 5] = ["authorized", "declined", "captured", "voided", "refunded"];
/// No scenario writes so many records.
const RECORDS_MAX: usize = 200;
/// Longer than any hold, and than any wait between two looks.
const LONG: std::time::Duration = std::time::Duration::from_secs(4 * 3600);

/// One branch.
struct Scenario {
    name: &'static str,
    settings: Settings,
    /// The order that the ends are about.
    order: &'static str,
    /// What the customer, the operator and chance do. Every step waits for its fact or for the checkout's end, so that
    /// it may be done again from the start.
    script: for<'a> fn(&'a mut Shop) -> BoxFuture<'a, ()>,
    /// Where it must end; more than one where it is chance how far the checkout came before the script acts.
    ends: Vec<Seen>,
    /// Where it may end besides if it is broken off.
    ends_if_broken: Vec<Seen>,
}

/// What is done to a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Undisturbed,
    EveryCommandTwice,
    BrokenOffAfter(usize),
}

/// What can be seen of an order's end.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    stage: Stage,
    reason: Option<CancelReason>,
    order: OrderStatus,
    hold: ReservationStatus,
    payments: Vec<PaymentStatus>,
    /// Committed of each SKU; what is not committed is available.
    sold: [i64; 2],
    /// How often the provider did each of [`DEEDS`].
    provider: [usize; 5],
}

fn seen(shop: &Shop, order: &OrderId) -> Option<Seen> {
    let checkout = shop.checkout(order);
    Some(Seen {
        stage: checkout.stage()?,
        reason: checkout.reason(),
        order: shop.order_state(order).status()?,
        hold: shop.reservation(order).status(),
        payments: (1..=4).map_while(|attempt| shop.payment(order, attempt).status()).collect(),
        sold: SKUS.map(|sku| shop.stock(sku).committed()),
        provider: DEEDS.map(|deed| shop.provider.carried_out(deed).len()),
    })
}

/// One life of a program: when it is over, whatever runs in it is dropped where it is.
fn in_a_life<T>(life: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // The test looks after every step of any task; else dozens go by, and a checkout has ended at the second look.
    let runtime = runtime.enable_time().start_paused(true).event_interval(1).build();
    runtime.expect("a runtime").block_on(life)
}

async fn set_up(mut shop: Shop) -> Shop {
    for sku in SKUS {
        shop.receive(sku, ON_THE_SHELF).await;
    }
    shop.until("received", |shop| (shop.records() == SKUS.len()).then_some(())).await;
    shop.begin_script();
    shop
}

impl Scenario {
    fn order(&self) -> OrderId {
        OrderId::new(self.order).expect("an order id")
    }

    /// Plays it to an end of the table.
    async fn play(&self, shop: &mut Shop, trial: Trial) {
        (self.script)(shop).await;
        let what = format!("{}, {trial:?}: an end like {:?}", self.name, self.ends);
        shop.until(&what, |shop| self.is_at_an_end(shop, trial).then_some(())).await;
    }

    fn is_at_an_end(&self, shop: &Shop, trial: Trial) -> bool {
        let besides: &[Seen] = match trial {
            Trial::Undisturbed | Trial::EveryCommandTwice => &[],
            Trial::BrokenOffAfter(_) => &self.ends_if_broken,
        };
        seen(shop, &self.order()).is_some_and(|seen| self.ends.iter().chain(besides).any(|end| *end == seen))
    }

    /// The end stays the end, and the books are right.
    async fn assert_over(&self, shop: &Shop, trial: Trial) {
        tokio::time::sleep(LONG).await;
        let (name, seen) = (self.name, seen(shop, &self.order()));
        assert!(self.is_at_an_end(shop, trial), "{name}, {trial:?}: {seen:?}; {:#?}", shop.story());
        shop.assert_conserved();
        for sku in SKUS {
            let stock = shop.stock(sku);
            assert_eq!(stock.available() + stock.committed(), ON_THE_SHELF, "{name}, {trial:?}: {sku}");
        }
        self.assert_money(shop, trial);
        assert_eq!(shop.wrong_repeats(), Vec::<String>::new(), "{name}, {trial:?}");
    }

    /// The provider took from each payment once at most, and has what the payments say.
    fn assert_money(&self, shop: &Shop, trial: Trial) {
        let order = self.order();
        for deed in ["authorized", "captured"] {
            let mut payments: Vec<String> =
                shop.provider.carried_out(deed).iter().map(|key| payment_of(key)).collect();
            let deeds = payments.len();
            payments.dedup();
            assert_eq!(payments.len(), deeds, "{}, {trial:?}: {deed} twice", self.name);
        }
        let kept: i64 = (1..=4)
            .map(|attempt| shop.payment(&order, attempt))
            .map(|payment| payment.captured_minor() - payment.refunded_minor())
            .sum();
        let sold = shop.order_state(&order);
        let returned: i64 =
            sold.lines().iter().map(|line| i64::from(line.returned) * line.unit_price_minor).sum();
        let is_sold = shop.checkout(&order).stage() == Some(Stage::Done);
        let owed = if is_sold { sold.total_minor() - returned } else { 0 };
        assert_eq!(kept, owed, "{}, {trial:?}: {:#?}", self.name, shop.story());
    }

    fn undisturbed(&self) {
        in_a_life(async {
            let mut shop = set_up(Shop::open(self.settings.clone()).await).await;
            self.play(&mut shop, Trial::Undisturbed).await;
            self.assert_over(&shop, Trial::Undisturbed).await;
        });
    }

    fn every_command_twice(&self) {
        in_a_life(async {
            let mut shop = set_up(Shop::open_repeating(self.settings.clone()).await).await;
            self.play(&mut shop, Trial::EveryCommandTwice).await;
            self.assert_over(&shop, Trial::EveryCommandTwice).await;
        });
    }

    /// Breaks it off after each record; answers after how many, and how many different logs that left: records
    /// that arrive at one time are one.
    fn broken_off_everywhere(&self) -> (usize, usize) {
        let mut left = BTreeSet::new();
        for records in 1..RECORDS_MAX {
            let Some(remains) = self.broken_off(records) else { return (records - 1, left.len()) };
            left.insert(remains.records());
            in_a_life(async {
                let trial = Trial::BrokenOffAfter(records);
                let mut shop = Shop::rise(remains).await;
                self.play(&mut shop, trial).await;
                self.assert_over(&shop, trial).await;
            });
        }
        panic!("{}: more than {RECORDS_MAX} records", self.name);
    }

    /// What is left after so many records; `None` where it ends before.
    fn broken_off(&self, records: usize) -> Option<Remains> {
        in_a_life(async {
            let mut shop = set_up(Shop::open(self.settings.clone()).await).await;
            let journal = shop.journal.clone();
            tokio::select! {
                biased;
                () = written(&journal, SKUS.len() + records) => {}
                () = self.play(&mut shop, Trial::Undisturbed) => return None,
            }
            Some(shop.remains())
        })
    }
}

/// Waits until the journal has so many records.
async fn written(journal: &shopstream_command_handlers::testing::MemoryJournal, records: usize) {
    use shopstream_eventlog::Journal as _;
    let mut progress = journal.progress();
    while journal.all().values().map(Vec::len).sum::<usize>() < records {
        progress.changed().await.expect("the journal goes on");
    }
}

/// `pay_1.1:capture:2` belongs to `pay_1.1`.
fn payment_of(key: &str) -> String {
    key.split(':').next().unwrap_or(key).to_owned()
}

fn run(scenarios: Vec<Scenario>) {
    for scenario in scenarios {
        scenario.undisturbed();
        scenario.every_command_twice();
        let (breaks, logs) = scenario.broken_off_everywhere();
        println!("{}: broken off after each of {breaks} records, at {logs} places", scenario.name);
        assert!(logs > 3, "{}: only {logs} places", scenario.name);
    }
}

#[test]
fn stock() {
    run(scenarios::stock());
}

#[test]
fn declines() {
    run(scenarios::declines());
}

#[test]
fn unknown_outcomes() {
    run(scenarios::unknown_outcomes());
}

#[test]
fn lost_holds() {
    run(scenarios::lost_holds());
}

#[test]
fn cancellations() {
    run(scenarios::cancellations());
}

#[test]
fn refunds() {
    run(scenarios::refunds());
}
