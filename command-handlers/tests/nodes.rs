//! Several nodes over one simulated log and one table of leases, each with real shards; time moved by hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::join_all;
use shopstream_command_handlers::coordinator::{Coordinator, Duty, Leases, Member, Timing};
use shopstream_command_handlers::testing::{ManualClock, MemoryJournal, MemoryLeases, options};
use shopstream_command_handlers::{
    Clock, CommandEnvelope, CommandError, Commands, Location, Options, Origin, PartitionState, Peers, Reply,
    Shards, Silent, body_hash,
};
use shopstream_domain::inventory::StockCommand;
use shopstream_domain::{LocationId, Partition, Quantity, Sku, TenantId, Timestamp};
use shopstream_eventlog::sim::SimLog;
use shopstream_eventlog::writer::Identity;
use shopstream_eventlog::{CommandId, Journal, Log, LogId, Position};
use tokio::time::{Duration, Instant, sleep};

const PARTITIONS: u16 = 8;

/// Where each node's door is; who is not in here cannot be reached.
#[derive(Clone, Default)]
struct Doors {
    open: Arc<Mutex<HashMap<String, Commands>>>,
    /// Whoever asks a node that is gone is told so at once, as by a machine whose process has ended; else he hears nothing.
    refuse: Arc<AtomicBool>,
}

impl Doors {
    fn at(&self, address: &str) -> Option<Commands> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }

    fn set(&self, address: &str, door: Option<Commands>) {
        let mut doors = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match door {
            Some(door) => doors.insert(address.to_owned(), door),
            None => doors.remove(address),
        };
    }

    async fn silence<T>(&self, owner: &Location) -> Result<T, Silent> {
        if self.refuse.load(Ordering::Relaxed) {
            return Err(Silent { owner: owner.clone(), detail: "connection refused".to_owned() });
        }
        std::future::pending().await
    }
}

#[async_trait]
impl Peers for Doors {
    async fn carry_out(
        &self,
        owner: &Location,
        _: Partition,
        commands: &[CommandEnvelope],
        _: Option<Instant>,
    ) -> Result<Vec<Result<Reply, CommandError>>, Silent> {
        sleep(Duration::from_millis(1)).await;
        match self.at(&owner.address) {
            Some(door) => Ok(door.carry_out(commands.to_vec()).await),
            None => self.silence(owner).await,
        }
    }

    async fn confirmed(
        &self,
        owner: &Location,
        partition: Partition,
        _: Option<Instant>,
    ) -> Result<Result<Option<Position>, CommandError>, Silent> {
        match self.at(&owner.address) {
            Some(door) => Ok(door.confirmed_here(partition).await),
            None => self.silence(owner).await,
        }
    }
}

/// What the nodes share.
struct Shop {
    sim: SimLog,
    log: Log,
    journal: Arc<MemoryJournal>,
    table: MemoryLeases,
    doors: Doors,
}

struct Node {
    address: String,
    table: Arc<MemoryLeases>,
    leases: Leases,
    shards: Shards,
    commands: Commands,
}

impl Shop {
    async fn open() -> Self {
        let sim = SimLog::new(PARTITIONS);
        let log = Log::create(Arc::new(sim.clone()), LogId(uuid::Uuid::from_u128(7)), 1).await.unwrap();
        let journal = MemoryJournal::follow(&log);
        Self { sim, log, journal, table: MemoryLeases::default(), doors: Doors::default() }
    }

    async fn node(&self, name: &str) -> Node {
        let table = Arc::new(self.table.another());
        let address = format!("{name}:1");
        let id = uuid::Uuid::new_v4();
        let me = Member { id, node: name.to_owned(), address: address.clone(), commands: true };
        let leases = Leases::new(me, table.clone(), PARTITIONS, Timing::default());
        let options = Options {
            coordinator: Arc::new(leases.clone()),
            peers: Arc::new(self.doors.clone()),
            ..options()
        };
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_seconds(1_700_000_000)));
        let journal: Arc<dyn Journal> = self.journal.clone();
        let identity = Identity { node: name.to_owned(), address: address.clone() };
        let shards = Shards::start(&self.log, &journal, &clock, &identity, &options);
        let commands = shards.commands();
        self.doors.set(&address, Some(commands.clone()));
        leases.join().await.unwrap();
        assert_eq!(shards.ready().await, []);
        Node { address, table, leases, shards, commands }
    }

    /// What a fresh reader of the log counts: how often each command was carried out.
    async fn counted(&self) -> BTreeMap<CommandId, u32> {
        let starts: Vec<_> = (0..PARTITIONS).map(|partition| self.log.start(partition)).collect();
        let mut reader = self.log.reader(&starts).await.unwrap();
        let mut counted = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let end = self.log.end(partition).await.unwrap();
            while reader.cursor(partition).is_some_and(|cursor| cursor.next < end) {
                for record in reader.next(1 << 20).await.unwrap().commits {
                    *counted.entry(record.commit.command_id).or_default() += 1;
                }
            }
        }
        counted
    }

    async fn assert_counted_once(&self, acknowledged: &[CommandId]) {
        let counted = self.counted().await;
        assert!(counted.values().all(|count| *count == 1), "something was done twice");
        let lost = acknowledged.iter().filter(|id| !counted.contains_key(id)).count();
        assert_eq!(lost, 0, "of {} acknowledged", acknowledged.len());
    }

    fn records(&self) -> usize {
        (0..PARTITIONS).map(|partition| self.sim.faults().records(partition).len()).sum()
    }
}

impl Node {
    fn serving(&self) -> Vec<Partition> {
        let serving = |status: &shopstream_command_handlers::PartitionStatus| {
            (status.state == PartitionState::Serving).then_some(status.partition)
        };
        self.commands.status().iter().filter_map(serving).collect()
    }
}

/// Many SKUs, so that every partition has some.
fn receive(sku: usize, request: &str) -> CommandEnvelope {
    let sku = Sku::new(&format!("SKU-{sku}")).unwrap();
    let stream = sku.stock_stream(&TenantId::default_tenant(), &LocationId::main());
    let quantity = Quantity::new(1).unwrap();
    let command = StockCommand::Receive { sku, location: LocationId::main(), quantity, reference: None };
    let none: Arc<str> = "".into();
    let origin = Origin {
        actor: "test".into(),
        correlation_id: none.clone(),
        causation_id: none.clone(),
        traceparent: none,
    };
    CommandEnvelope {
        command_id: CommandId::derive(&[stream.as_str(), request]),
        stream,
        body_hash: body_hash(request.as_bytes()),
        expected_version: None,
        effective_at: None,
        origin,
        command: command.into(),
        request: None,
    }
}

const SKUS: usize = 40;
/// Nobody waits longer for a hand-over, whichever node he asks.
const HANDED_OVER: Duration = Duration::from_millis(200);

/// What a client saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<CommandId>,
    errors: usize,
    longest: Duration,
}

/// One command after the other through `door`, each until it is acknowledged, as a good client does.
async fn load(door: Commands, name: impl AsRef<str>, until: Instant) -> Seen {
    let name = name.as_ref();
    let mut seen = Seen::default();
    while Instant::now() < until {
        let number = seen.acknowledged.len();
        let envelope = receive(number % SKUS, &format!("{name}-{number}"));
        let asked = Instant::now();
        match door.submit(envelope.clone()).await {
            Ok(_) => seen.acknowledged.push(envelope.command_id),
            Err(_) => seen.errors += 1,
        }
        seen.longest = seen.longest.max(asked.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn every_node_takes_every_command() {
    let shop = Shop::open().await;
    let nodes = [shop.node("a").await, shop.node("b").await, shop.node("c").await];
    sleep(Duration::from_millis(100)).await;
    let mut served: Vec<_> = nodes.iter().flat_map(Node::serving).collect();
    served.sort_unstable();
    assert_eq!(served, (0..PARTITIONS).collect::<Vec<_>>());
    for (index, node) in nodes.iter().enumerate() {
        for sku in 0..SKUS {
            let reply = node.commands.submit(receive(sku, &format!("one-{index}"))).await.unwrap();
            assert_eq!(reply.version, 2 * index as u64 + 1);
        }
        let all = (0..SKUS).map(|sku| receive(sku, &format!("all-{index}"))).collect();
        let replies = node.commands.submit_all(all).await;
        assert!(
            replies.iter().all(|reply| reply.as_ref().is_ok_and(|it| it.version == 2 * index as u64 + 2))
        );
        // What another node answered is seen from here too.
        let confirmed = node.commands.confirmed(0..PARTITIONS).await.unwrap();
        assert_eq!(confirmed.len(), usize::from(PARTITIONS));
    }
    // The same request through another node is the same request.
    let again = nodes[2].commands.submit(receive(3, "one-0")).await.unwrap();
    assert_eq!((again.version, again.repeated), (1, true));
}

#[tokio::test(start_paused = true)]
async fn nodes_join_and_leave_under_load_and_no_caller_notices() {
    let shop = Shop::open().await;
    let (a, b) = (shop.node("a").await, shop.node("b").await);
    let until = Instant::now() + Duration::from_secs(10);
    let loads = ["a1", "a2", "b1", "b2"].map(|name| {
        let door = if name.starts_with('a') { &a.commands } else { &b.commands };
        tokio::spawn(load(door.clone(), name, until))
    });
    sleep(Duration::from_secs(1)).await;
    let c = shop.node("c").await;
    assert!(!c.serving().is_empty(), "{:?}", c.commands.status());
    sleep(Duration::from_secs(2)).await;
    b.shards.hand_over().await;
    assert!(b.serving().is_empty());
    sleep(Duration::from_secs(2)).await;
    // It still takes commands, and sends them on.
    b.commands.submit(receive(0, "after")).await.unwrap();
    assert_eq!(a.serving().len() + c.serving().len(), usize::from(PARTITIONS));
    let done = join_all(loads).await;
    let mut acknowledged = Vec::new();
    for done in done {
        let seen = done.unwrap();
        assert_eq!(seen.errors, 0, "a hand-over is not an error");
        assert!(seen.longest < HANDED_OVER, "{:?}", seen.longest);
        acknowledged.extend(seen.acknowledged);
    }
    assert!(acknowledged.len() > 1_000, "{}", acknowledged.len());
    shop.assert_counted_once(&acknowledged).await;
}

/// Nobody reads again what the journal has, and whoever waits for all that there is must hear of it all the same.
#[tokio::test(start_paused = true)]
async fn a_new_owner_has_confirmed_what_the_journal_has() {
    let shop = Shop::open().await;
    let a = shop.node("a").await;
    let replies = join_all((0..SKUS).map(|sku| a.commands.submit(receive(sku, "r1")))).await;
    let last: Vec<Position> = replies.into_iter().map(|reply| reply.unwrap().position).collect();
    let has = |next: &Vec<u64>| last.iter().all(|at| next[usize::from(at.partition)] > at.offset);
    shop.journal.progress().wait_for(has).await.unwrap();

    let b = shop.node("b").await;
    a.shards.hand_over().await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(b.serving().len(), usize::from(PARTITIONS));
    let confirmed = b.commands.confirmed(0..PARTITIONS).await.unwrap();
    for at in last {
        assert!(
            confirmed.iter().any(|it| it.partition == at.partition && it.offset >= at.offset),
            "{at:?} {confirmed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_partitions_of_a_dead_node_serve_again_when_its_leases_have_run_out() {
    let shop = Shop::open().await;
    let (a, b) = (shop.node("a").await, shop.node("b").await);
    sleep(Duration::from_secs(4)).await;
    let orphans = b.serving();
    assert!(!orphans.is_empty());
    // From now on nobody hears of it and it hears of nobody.
    shop.doors.set(&b.address, None);
    b.table.set_away(true);
    let killed = Instant::now();
    let replies = join_all((0..SKUS).map(|sku| a.commands.submit(receive(sku, "r1")))).await;
    assert!(replies.iter().all(Result::is_ok), "sent again to the new owner: {replies:?}");
    let took = killed.elapsed();
    assert!((1.9..4.0).contains(&took.as_secs_f64()), "{took:?}");
    assert_eq!(a.serving().len(), usize::from(PARTITIONS));

    // It was not dead. What it answers now it has not out of its memory: the log says who owns the partition.
    let stale = b.commands.submit(receive(0, "r1"));
    let stale = tokio::time::timeout(Duration::from_secs(1), stale).await;
    assert!(!matches!(stale, Ok(Ok(Reply { repeated: false, .. }))), "{stale:?}");
    b.table.set_away(false);
    shop.doors.set(&b.address, Some(b.commands.clone()));
    sleep(Duration::from_secs(5)).await;
    let all: Vec<_> = [a.serving(), b.serving()].concat();
    assert_eq!(all.len(), usize::from(PARTITIONS), "each has one owner again");
    assert_eq!(b.serving(), orphans, "and it has its own back");
    let again = b.commands.submit(receive(0, "r1")).await.unwrap();
    assert!(again.repeated);
    shop.assert_counted_once(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_reach_an_owner_is_answered_by_the_next_one() {
    let shop = Shop::open().await;
    let (a, b) = (shop.node("a").await, shop.node("b").await);
    sleep(Duration::from_secs(4)).await;
    assert!(!b.serving().is_empty());
    // Its process has ended: whoever asks is refused at once, for as long as its leases last.
    shop.doors.refuse.store(true, Ordering::Relaxed);
    shop.doors.set(&b.address, None);
    b.table.set_away(true);
    // Who has less time than that takes is told so, and within it.
    let asked = Instant::now();
    let hasty = a.commands.until(asked + Duration::from_millis(500));
    let told = join_all((0..SKUS).map(|sku| hasty.submit(receive(sku, "hasty")))).await;
    assert!(told.iter().any(|answer| matches!(answer, Err(CommandError::Unavailable { .. }))), "{told:?}");
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());

    let all = (0..SKUS).map(|sku| receive(sku, "all")).collect();
    let (one_by_one, together, confirmed) = futures::join!(
        join_all((0..SKUS).map(|sku| a.commands.submit(receive(sku, "one")))),
        a.commands.submit_all(all),
        a.commands.confirmed(0..PARTITIONS),
    );
    assert!(one_by_one.iter().chain(&together).all(Result::is_ok), "{one_by_one:?} {together:?}");
    assert!(confirmed.is_ok(), "{confirmed:?}");
    assert_eq!(a.serving().len(), usize::from(PARTITIONS));
    shop.assert_counted_once(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_alone_lacks_the_leases_passes_on_what_others_have_taken_over() {
    let shop = Shop::open().await;
    let (a, b) = (shop.node("a").await, shop.node("b").await);
    sleep(Duration::from_secs(4)).await;
    let own = b.serving();
    assert!(!own.is_empty());
    b.table.set_away(true);
    // Its leases run out, and the other one's claims tell it so.
    sleep(Duration::from_secs(5)).await;
    assert_eq!((a.serving().len(), b.serving()), (usize::from(PARTITIONS), Vec::new()));
    let begun = Instant::now();
    let replies = join_all((0..SKUS).map(|sku| b.commands.submit(receive(sku, "r1")))).await;
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    let all = (0..SKUS).map(|sku| receive(sku, "r2")).collect();
    assert!(b.commands.submit_all(all).await.iter().all(Result::is_ok));
    assert_eq!(b.commands.confirmed(0..PARTITIONS).await.unwrap().len(), usize::from(PARTITIONS));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

    // When it reaches them again it gets back what it had, and no caller notices.
    let until = Instant::now() + Duration::from_secs(6);
    let loads = [&a, &b].map(|node| tokio::spawn(load(node.commands.clone(), node.address.clone(), until)));
    b.table.set_away(false);
    for done in join_all(loads).await {
        let seen = done.unwrap();
        assert_eq!(seen.errors, 0, "a hand-over is not an error");
        assert!(seen.longest < HANDED_OVER, "{:?}", seen.longest);
        assert!(seen.acknowledged.len() > 100, "{}", seen.acknowledged.len());
    }
    assert_eq!(b.serving(), own);
    shop.assert_counted_once(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_lease_has_run_out_asks_the_log_before_it_answers() {
    let shop = Shop::open().await;
    let a = shop.node("a").await;
    a.commands.submit(receive(0, "r1")).await.unwrap();
    let answer_again = async || {
        let before = shop.records();
        assert!(a.commands.submit(receive(0, "r1")).await.unwrap().repeated);
        shop.records() - before
    };
    assert_eq!(answer_again().await, 0, "its lease lives: from memory");
    a.table.set_away(true);
    sleep(Duration::from_secs(4)).await;
    let partition = receive(0, "r1").stream.partition(PARTITIONS);
    assert!(!a.leases.is_live(Duty::Partition(partition)));
    assert_eq!(answer_again().await, 1, "a barrier");
    assert!(matches!(a.commands.confirmed_here(partition).await, Err(CommandError::Unavailable { .. })));
    a.commands.submit(receive(0, "r2")).await.expect("owners go on without the table");
    a.table.set_away(false);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(answer_again().await, 0, "renewed");
}
