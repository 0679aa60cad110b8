//! A shop that a test places orders in, breaks off and starts again.

use std::sync::{Arc, Mutex, PoisonError};

use shopstream_command_handlers::testing::{MemoryJournal, options, repeating};
use shopstream_command_handlers::{
    Clock, CommandEnvelope, CommandError, Commands, Origin, Reply, Shards, body_hash,
};
use shopstream_domain::inventory::{Reservation, ReservationStatus, StockCommand, StockItem};
use shopstream_domain::order::{Checkout, CheckoutCommand, Order, OrderLine, Placement, PriceSource};
use shopstream_domain::payment::{PaymentIntent, from_provider};
use shopstream_domain::returns::{self, Return, ReturnLine, ReturnRequest};
use shopstream_domain::{
    Aggregate, Currency, CustomerId, LocationId, OrderId, Quantity, ReturnId, Sku, StreamId, TenantId,
    Timestamp, model,
};
use shopstream_eventlog::sim::{Chaos, Faults, SimLog};
use shopstream_eventlog::writer::Identity;
use shopstream_eventlog::{CommandId, Log, LogId};

use super::older::OlderJournal;
use super::store::fold;
use super::{MemoryStore, ScriptedProvider, Unreadable};
use crate::known::FromModel;
use crate::ports::PaymentProvider;
use crate::{Parts, Sagas, Settings};

const PARTITIONS: u16 = 4;
/// Longer than anything in here takes; reached only where something never comes, for the clock does not wait.
const NEVER: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
/// The trace of whatever a client does.
pub const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// Why operators resume.
const SEEN_TO: &str = "seen to";
/// When every shop opens.
const MONDAY: Timestamp = Timestamp::from_seconds(1_767_600_000);

/// Time as tokio has it: a test that pauses tokio's clock pauses this one too.
pub struct TestClock {
    began: tokio::time::Instant,
    /// What it showed then.
    at: Timestamp,
}

impl TestClock {
    fn from(at: Timestamp) -> Self {
        Self { began: tokio::time::Instant::now(), at }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.at.micros().saturating_add(passed))
    }
}

/// A running shop.
pub struct Shop {
    /// Makes the log fail.
    pub faults: Faults,
    /// History by stream.
    pub journal: Arc<MemoryJournal>,
    /// What the processes remember.
    pub store: Arc<MemoryStore>,
    /// What the processes cannot read; the shards can.
    pub unreadable: Unreadable,
    /// Who moves money.
    pub provider: Arc<ScriptedProvider>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Whose shop it is.
    pub tenant: TenantId,
    settings: Settings,
    sim: SimLog,
    log: Log,
    shards: Option<Shards>,
    sagas: Option<Sagas>,
    commands_sent: u64,
    script_from: u64,
    repeats: Option<Arc<Mutex<Vec<String>>>>,
}

/// What is left of a shop whose runtime was dropped: the log, the cursors, the provider, the time.
pub struct Remains {
    sim: SimLog,
    store: Arc<MemoryStore>,
    provider: Arc<ScriptedProvider>,
    settings: Settings,
    now: Timestamp,
    script_from: u64,
}

impl Remains {
    /// How many records are on the log, claims and all.
    pub fn records(&self) -> usize {
        (0..PARTITIONS).map(|partition| self.sim.faults().records(partition).len()).sum()
    }
}

impl Shop {
    /// An empty shop, open.
    ///
    /// # Panics
    /// The log cannot be made, which in memory it can.
    pub async fn open(settings: Settings) -> Self {
        Self::over(SimLog::new(PARTITIONS), settings).await
    }

    /// An empty shop over a log that fails by chance from the first order on.
    ///
    /// # Panics
    /// As [`Shop::open`].
    pub async fn open_in(chaos: Chaos, settings: Settings) -> Self {
        Self::over(SimLog::with_chaos(PARTITIONS, chaos), settings).await
    }

    /// An empty shop whose processes send every command twice; see [`Shop::wrong_repeats`].
    ///
    /// # Panics
    /// As [`Shop::open`].
    pub async fn open_repeating(settings: Settings) -> Self {
        let mut shop = Self::over(SimLog::new(PARTITIONS), settings).await;
        shop.crash_sagas().await;
        shop.repeats = Some(Arc::default());
        shop.start_sagas();
        shop
    }

    async fn over(sim: SimLog, settings: Settings) -> Self {
        let id = LogId(CommandId::derive(&["shop"]).0);
        let log = make(sim.clone(), id).await;
        let journal = MemoryJournal::follow(&log);
        let (store, provider) = (MemoryStore::new(journal.clone()), ScriptedProvider::new());
        let remains = Remains { sim, store, provider, settings, now: MONDAY, script_from: 0 };
        let mut shop = Self::made_of(remains, log, journal);
        shop.start_shards().await;
        shop.start_sagas();
        shop
    }

    fn made_of(remains: Remains, log: Log, journal: Arc<MemoryJournal>) -> Self {
        let Remains { sim, store, provider, settings, now, script_from } = remains;
        Self {
            faults: sim.faults(),
            store,
            journal,
            unreadable: Unreadable::default(),
            provider,
            clock: Arc::new(TestClock::from(now)),
            tenant: TenantId::default_tenant(),
            settings,
            sim,
            log,
            shards: None,
            sagas: None,
            commands_sent: script_from,
            script_from,
            repeats: None,
        }
    }

    /// What a crash leaves. The runtime must be dropped after this, for nothing else stops what runs.
    pub fn remains(&self) -> Remains {
        Remains {
            sim: self.sim.clone(),
            store: self.store.clone(),
            provider: self.provider.clone(),
            settings: self.settings.clone(),
            now: self.clock.now(),
            script_from: self.script_from,
        }
    }

    /// Opens again after a crash, in another runtime. The commands that a test sends from here on have the ids of
    /// those after [`Shop::begin_script`].
    ///
    /// # Panics
    /// The log cannot be opened, which in memory it can.
    pub async fn rise(remains: Remains) -> Self {
        use shopstream_eventlog::Journal as _;
        let log = Log::open(Arc::new(remains.sim.clone())).await.expect("the log");
        let journal = MemoryJournal::follow(&log);
        // As in a database, all that was there is there again.
        let ends: Vec<_> = (0..PARTITIONS).map(|it| remains.sim.faults().records(it).len() as u64).collect();
        let there = |next: &Vec<u64>| next.iter().zip(&ends).all(|(next, end)| next >= end);
        journal.progress().wait_for(there).await.expect("the journal goes on");
        remains.store.set_journal(journal.clone());
        let mut shop = Self::made_of(remains, log, journal);
        shop.begin_shards();
        shop.start_sagas();
        shop
    }

    /// What a test sends from here on it sends again after [`Shop::rise`], under the same ids.
    pub fn begin_script(&mut self) {
        self.script_from = self.commands_sent;
    }

    /// Repeats that were not answered as what they repeat.
    pub fn wrong_repeats(&self) -> Vec<String> {
        let wrong = self.repeats.as_ref().map(|it| it.lock().unwrap_or_else(PoisonError::into_inner).clone());
        wrong.unwrap_or_default()
    }

    async fn start_shards(&mut self) {
        self.begin_shards();
        if let Some(shards) = &self.shards {
            shards.ready().await;
        }
    }

    fn begin_shards(&mut self) {
        let journal: Arc<dyn shopstream_eventlog::Journal> = self.journal.clone();
        let identity = Identity { node: "test".to_owned(), address: String::new() };
        self.shards = Some(Shards::start(&self.log, &journal, &self.clock, &identity, &options()));
    }

    /// Starts the processes.
    pub fn start_sagas(&mut self) {
        let provider: Arc<dyn PaymentProvider> = self.provider.clone();
        let commands = match &self.repeats {
            Some(wrong) => repeating(&self.commands(), wrong),
            None => self.commands(),
        };
        self.sagas = Some(Sagas::start(Parts {
            log: self.log.clone(),
            commands,
            journal: Arc::new(OlderJournal {
                journal: self.journal.clone(),
                unreadable: self.unreadable.clone(),
            }),
            store: self.store.clone(),
            provider,
            clock: self.clock.clone(),
            settings: self.settings.clone(),
        }));
    }

    /// Breaks the processes off wherever they are.
    pub async fn crash_sagas(&mut self) {
        if let Some(sagas) = self.sagas.take() {
            sagas.stop().await;
        }
    }

    /// Breaks everything off and starts it again from the log.
    pub async fn restart(&mut self) {
        self.crash_sagas().await;
        if let Some(shards) = self.shards.take() {
            shards.stop().await;
        }
        self.journal = MemoryJournal::follow(&self.log);
        self.store.set_journal(self.journal.clone());
        self.start_shards().await;
        self.start_sagas();
    }

    /// The processes.
    ///
    /// # Panics
    /// They are not running.
    pub fn sagas(&self) -> &Sagas {
        self.sagas.as_ref().expect("the processes run")
    }

    /// The door of the write path.
    ///
    /// # Panics
    /// The shards are not running.
    pub fn commands(&self) -> Commands {
        self.shards.as_ref().expect("the shards run").commands()
    }

    /// Sends a command as a client does, again where it was not taken.
    ///
    /// # Panics
    /// It was refused, or not taken for very long.
    pub async fn send(&mut self, stream: StreamId, command: impl Into<model::Command>) -> Reply {
        match self.ask(stream, command).await {
            Ok(reply) => reply,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same, where it may be refused.
    ///
    /// # Errors
    /// It was.
    ///
    /// # Panics
    /// It was not taken for very long.
    pub async fn ask(
        &mut self,
        stream: StreamId,
        command: impl Into<model::Command>,
    ) -> Result<Reply, CommandError> {
        self.commands_sent += 1;
        let command_id = CommandId::derive(&["client", &self.commands_sent.to_string()]);
        let envelope = CommandEnvelope {
            stream,
            command_id,
            body_hash: body_hash(command_id.0.as_bytes()),
            expected_version: None,
            effective_at: None,
            origin: client(),
            command: command.into(),
            request: None,
        };
        for _ in 0..1_000 {
            match self.commands().submit(envelope.clone()).await {
                Err(CommandError::NotApplied | CommandError::Unavailable { .. }) => {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
                answer => return answer,
            }
        }
        panic!("never carried out");
    }

    /// Puts units on the shelf.
    pub async fn receive(&mut self, sku: &str, units: i64) {
        let (sku, location) = (sku_of(sku), LocationId::main());
        let stream = sku.stock_stream(&self.tenant, &location);
        let quantity = Quantity::new(units).expect("a quantity");
        self.send(stream, StockCommand::Receive { sku, location, quantity, reference: None }).await;
    }

    /// Submits an order of these units at 100 each.
    pub async fn order(&mut self, order_id: &str, lines: &[(&str, i64)], token: &str) -> OrderId {
        self.order_for(order_id, lines, token, 100).await
    }

    /// The same, at another price for each unit.
    pub async fn order_for(
        &mut self,
        order_id: &str,
        lines: &[(&str, i64)],
        token: &str,
        unit_price_minor: i64,
    ) -> OrderId {
        let order_id = OrderId::new(order_id).expect("an order id");
        let lines = lines.iter().map(|(sku, units)| OrderLine {
            sku: sku_of(sku),
            product_id: None,
            location: LocationId::main(),
            quantity: Quantity::new(*units).expect("a quantity"),
            unit_price_minor,
            price_source: PriceSource::List,
            price_version: None,
        });
        let customer = CustomerId::new("guest").expect("a customer id");
        let currency = Currency::new("GBP").expect("a currency");
        let token = Some(token.to_owned());
        let placement = Placement::new(order_id.clone(), customer, currency, lines.collect(), token);
        let placement = placement.expect("an order");
        let stream = order_id.stream(&self.tenant);
        self.send(stream, shopstream_domain::order::Command::Submit(placement)).await;
        order_id
    }

    /// Asks to give back units of an order's lines, each sold at 100. Names the hold that every order begins with, as
    /// clients did once: it is the order that knows under which it was sold.
    ///
    /// # Panics
    /// It is refused.
    pub async fn give_back(&mut self, order: &OrderId, id: &str, lines: &[(u32, &str, i64)]) -> StreamId {
        self.give_back_for(order, id, lines, 100).await
    }

    /// The same, at another price for each unit.
    pub async fn give_back_for(
        &mut self,
        order: &OrderId,
        id: &str,
        lines: &[(u32, &str, i64)],
        unit_price_minor: i64,
    ) -> StreamId {
        let return_id = ReturnId::new(id).expect("a return id");
        let stream = return_id.stream(&self.tenant);
        let lines = lines.iter().map(|(line, sku, units)| ReturnLine {
            line: *line,
            sku: sku_of(sku),
            location: LocationId::main(),
            quantity: Quantity::new(*units).expect("a quantity"),
            unit_price_minor,
        });
        let request = ReturnRequest {
            return_id,
            order_id: order.clone(),
            payment_id: order.payment(1),
            reservation_id: order.reservation(),
            currency: self.order_state(order).currency().expect("an order"),
            lines: lines.collect(),
        };
        self.send(stream.clone(), returns::Command::Request(request)).await;
        stream
    }

    /// What an operator says who has seen to it.
    ///
    /// # Panics
    /// It needs no attention.
    pub async fn resume_return(&mut self, stream: &StreamId) {
        self.send(stream.clone(), returns::Command::Resume { reason: SEEN_TO.to_owned() }).await;
    }

    /// What an operator says who has seen to the money of a return.
    ///
    /// # Panics
    /// It needs no attention.
    pub async fn settle_return(&mut self, stream: &StreamId) {
        let (money, stock, reason) = (true, false, SEEN_TO.to_owned());
        self.send(stream.clone(), returns::Command::Settle { money, stock, reason }).await;
    }

    /// What an operator says who has seen to the money of a checkout.
    ///
    /// # Panics
    /// It needs no attention.
    pub async fn settle_checkout(&mut self, order: &OrderId) {
        let (money, stock, reason) = (true, false, SEEN_TO.to_owned());
        self.send(order.checkout_stream(&self.tenant), CheckoutCommand::Settle { money, stock, reason })
            .await;
    }

    /// What an operator says who has seen to it.
    ///
    /// # Panics
    /// It needs no attention.
    pub async fn resume_checkout(&mut self, order: &OrderId) {
        let resume = CheckoutCommand::Resume { reason: SEEN_TO.to_owned() };
        self.send(order.checkout_stream(&self.tenant), resume).await;
    }

    /// How many events of this type the journal has of a stream.
    pub fn story_of(&self, stream: &StreamId, event_type: &str) -> usize {
        let all = self.journal.all();
        let events = all.get(stream).into_iter().flatten().flat_map(|record| &record.commit.events);
        events.filter(|event| event.event_type == event_type).count()
    }

    /// Waits until `fact` holds of what the journal has.
    ///
    /// # Panics
    /// It never does.
    pub async fn until<T>(&self, what: &str, mut fact: impl FnMut(&Self) -> Option<T>) -> T {
        use shopstream_eventlog::Journal as _;
        let mut progress = self.journal.progress();
        let waiting = async {
            loop {
                if let Some(found) = fact(self) {
                    return found;
                }
                progress.changed().await.expect("the journal goes on");
            }
        };
        match tokio::time::timeout(NEVER, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("never {what}; {:#?}", self.story()),
        }
    }

    /// Every stream with the types of its events, for people.
    pub fn story(&self) -> Vec<(String, Vec<String>)> {
        let types = |records: Vec<shopstream_eventlog::CommitRecord>| {
            let events = records.into_iter().flat_map(|record| record.commit.events);
            events.map(|event| event.event_type).collect()
        };
        let mut story: Vec<_> = self
            .journal
            .all()
            .into_iter()
            .map(|(stream, records)| (stream.to_string(), types(records)))
            .collect();
        story.sort();
        story
    }

    /// Waits until the processes have nothing to come back to of all that is on the log now.
    ///
    /// # Panics
    /// They never have.
    pub async fn until_passed(&self) {
        use crate::ports::SagaStore as _;
        let ends: Vec<u64> = (0..PARTITIONS).map(|it| self.faults.records(it).len() as u64).collect();
        let passing = async {
            loop {
                let cursors = self.store.cursors().await.expect("a map");
                let next = |at: usize| cursors.iter().find(|cursor| usize::from(cursor.partition) == at);
                if ends.iter().enumerate().all(|(at, end)| next(at).is_some_and(|cursor| cursor.next >= *end))
                {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        };
        if tokio::time::timeout(NEVER, passing).await.is_err() {
            panic!("never passed; {:#?}", self.story());
        }
    }

    /// How many records were written in all.
    pub fn records(&self) -> usize {
        self.journal.all().values().map(Vec::len).sum()
    }

    /// The order as the journal has it.
    pub fn order_state(&self, id: &OrderId) -> Order {
        self.state(&id.stream(&self.tenant))
    }

    /// The checkout as the journal has it.
    pub fn checkout(&self, id: &OrderId) -> Checkout {
        self.state(&id.checkout_stream(&self.tenant))
    }

    /// The reservation as the journal has it.
    pub fn reservation(&self, id: &OrderId) -> Reservation {
        self.state(&id.reservation().stream(&self.tenant))
    }

    /// A payment as the journal has it.
    pub fn payment(&self, id: &OrderId, attempt: u32) -> PaymentIntent {
        self.state(&id.payment(attempt).stream(&self.tenant))
    }

    /// A return as the journal has it.
    pub fn goods_return(&self, stream: &StreamId) -> Return {
        self.state(stream)
    }

    /// A stock item as the journal has it.
    pub fn stock(&self, sku: &str) -> StockItem {
        self.state(&sku_of(sku).stock_stream(&self.tenant, &LocationId::main()))
    }

    fn state<A: Aggregate<Event: FromModel>>(&self, stream: &StreamId) -> A {
        fold::<A>(&self.journal, stream).expect("a history").into_state()
    }

    /// Whether no process has anything left to do, and what must hold then: nothing is held, every bucket adds up.
    ///
    /// # Panics
    /// A law is broken.
    pub fn assert_conserved(&self) {
        for stream in self.journal.all().into_keys() {
            match stream.kind() {
                shopstream_domain::StreamKind::Stock => {
                    let stock: StockItem = self.state(&stream);
                    assert_eq!(stock.reserved(), 0, "{stream} is reserved; {:#?}", self.story());
                    assert_eq!(stock.on_hand(), stock.available() + stock.committed(), "{stream}");
                }
                shopstream_domain::StreamKind::Reservation => {
                    let reservation: Reservation = self.state(&stream);
                    let open = matches!(
                        reservation.status(),
                        ReservationStatus::Requested | ReservationStatus::Held
                    );
                    assert!(!open && !reservation.is_unsettled(), "{stream} is open; {:#?}", self.story());
                }
                _ => {}
            }
        }
        for name in self.provider.calls().into_iter().map(|(_, key)| key) {
            let (tenant, key) = from_provider(&name).expect("a name that we gave");
            let started = |record: &shopstream_eventlog::CommitRecord| {
                let payload = |event: &shopstream_eventlog::EventData| {
                    event.event_type == "ProviderOperationStarted"
                        && String::from_utf8_lossy(&event.payload).contains(&format!("\"{key}\""))
                };
                record.commit.events.iter().any(payload)
            };
            let histories = self.journal.all();
            let own = histories.iter().filter(|(stream, _)| stream.tenant() == tenant);
            let count = own.flat_map(|(_, records)| records).filter(|record| started(record)).count();
            assert_eq!(count, 1, "{name} was started {count} times");
        }
    }
}

/// Making a log may be repeated, so one that fails by chance is made in the end.
async fn make(sim: SimLog, id: LogId) -> Log {
    let mut tries = 0;
    loop {
        match Log::create(Arc::new(sim.clone()), id, 1).await {
            Ok(log) => return log,
            Err(_) if tries < 100 => tries += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A client of the shop.
pub fn client() -> Origin {
    Origin {
        actor: "client".into(),
        correlation_id: "".into(),
        causation_id: "".into(),
        traceparent: TRACE.into(),
    }
}

fn sku_of(text: &str) -> Sku {
    Sku::new(text).expect("a SKU")
}
