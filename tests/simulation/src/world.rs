//! The world of one run: a log, a database, a provider, some nodes, and clients who want things.

mod faults;
mod heal;
mod wishes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_command_handlers::coordinator::Static;
use shopstream_command_handlers::{Clock, NoPeers, Options};
use shopstream_domain::TenantId;
use shopstream_eventlog::sim::{Faults, SimLog};
use shopstream_eventlog::{CommandId, Log, LogId};
use shopstream_sagas::Status;
use tokio::task::yield_now;
use tokio::time::sleep;

pub(crate) use self::wishes::CLIENT;
use self::wishes::Placed;
use crate::callers::{Callers, Doors};
use crate::clients::{Clients, Directory};
use crate::clock::SimClock;
use crate::database::Database;
use crate::evidence::{Evidence, Violation};
use crate::node::{Node, Surroundings};
use crate::provider::Provider;
use crate::weather::Weather;

pub(crate) struct World {
    random: StdRng,
    weather: Weather,
    tenant: TenantId,
    faults: Faults,
    around: Surroundings,
    clock: Arc<SimClock>,
    /// The newest last.
    nodes: Vec<Node>,
    nodes_started: u32,
    directory: Directory,
    clients: Clients,
    doors: Doors,
    callers: Callers,
    wishes: u64,
    orders: Vec<Placed>,
    /// What was seen on the way and must never be.
    seen: Vec<Violation>,
    /// How often each kind of fault was made.
    pub(crate) breaks: u64,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let weather = Weather::draw(&mut random);
        let log = SimLog::new(weather.partitions);
        let id = LogId(CommandId::derive(&["simulation", &seed.to_string()]).0);
        // Nothing fails yet.
        Log::create(Arc::new(log.clone()), id, 1).await.expect("a log in memory is made");
        let nonce = AtomicU64::new(1);
        let sim_clock = Arc::new(SimClock::start());
        let clock: Arc<dyn Clock> = sim_clock.clone();
        let around = Surroundings {
            log: log.clone(),
            database: Database::new(random.random(), weather.partitions),
            provider: Provider::new(random.random(), clock.clone()),
            clock: clock.clone(),
            options: Options {
                queue: weather.queue,
                cache_bytes: weather.cache_bytes,
                tail_bytes: weather.tail_bytes,
                snapshot_every: SNAPSHOT_EVERY,
                // As on Kafka: another node may have claimed before this one has noticed (`rulings.md` 18).
                coordinator: Arc::new(if weather.several_nodes {
                    Static::unguarded()
                } else {
                    Static::alone()
                }),
                peers: Arc::new(NoPeers),
                nonces: Arc::new(move || nonce.fetch_add(1, Ordering::Relaxed)),
            },
            settings: weather.settings.clone(),
            batch_bytes: weather.batch_bytes,
        };
        let directory = Directory::default();
        let doors = Doors::default();
        let mut world = Self {
            random,
            weather,
            tenant: TenantId::default_tenant(),
            faults: log.faults(),
            around,
            clock: sim_clock,
            nodes: Vec::new(),
            nodes_started: 0,
            clients: Clients::new(directory.clone(), clock),
            directory,
            callers: Callers::new(doors.clone()),
            doors,
            wishes: 0,
            orders: Vec::new(),
            seen: Vec::new(),
            breaks: 0,
        };
        world.start_node().await;
        world
    }

    /// One thing happens.
    pub(crate) async fn step(&mut self) {
        if self.random.random_ratio(self.weather.faults, 100) {
            self.breaks += 1;
            self.break_something().await;
        } else {
            match self.random.random_range(0..100) {
                0..12 => self.wish(),
                12..14 => self.report(),
                14 => self.report_by_call(),
                15..30 => self.callers.call(&mut self.random),
                30 if self.random.random_bool(0.1) => self.around.provider.send_again(),
                _ => {}
            }
        }
        if self.random.random_bool(0.04) {
            self.calm();
        }
        self.operate().await;
        self.pass().await;
    }

    /// Some time goes by: mostly so little that what is under way stays under way.
    async fn pass(&mut self) {
        match self.random.random_range(0..1000) {
            0..600 => {
                for _ in 0..self.random.random_range(0..6) {
                    yield_now().await;
                }
            }
            600..900 => sleep(Duration::from_millis(self.random.random_range(1..30))).await,
            900..990 => sleep(Duration::from_millis(self.random.random_range(30..2_000))).await,
            990..999 => sleep(Duration::from_millis(self.random.random_range(2_000..20_000))).await,
            _ => sleep(Duration::from_secs(self.random.random_range(20..200))).await,
        }
    }

    /// What somebody who looks after the nodes does, sooner or later: a node that is not the owner any more is replaced,
    /// and processes that stand still are started again.
    async fn operate(&mut self) {
        self.watch();
        let Some(newest) = self.nodes.last() else {
            if self.random.random_bool(0.2) {
                self.start_node().await;
            }
            return;
        };
        let stands_still = matches!(newest.processes(), Some(Status::Halted { .. }));
        if newest.is_fenced() && self.random.random_bool(0.1) {
            self.retire(self.nodes.len() - 1).await;
        } else if stands_still && self.random.random_bool(0.1) {
            newest.restart_processes();
        }
    }

    /// Notes what must never be seen.
    fn watch(&mut self) {
        for node in &self.nodes {
            if let Some(cause) = node.is_halted() {
                self.seen.push(Violation::new("HALT", cause));
            }
            // Only another runner may move the cursors of this one.
            if let Some(Status::Halted { detail }) = node.processes()
                && (self.nodes_started == 1 || !detail.contains("moved by another runner"))
            {
                self.seen.push(Violation::new("I9", format!("the processes are halted: {detail}")));
            }
        }
        self.seen.truncate(SEEN_MAX);
    }

    async fn start_node(&mut self) {
        self.nodes_started += 1;
        match Node::start(self.nodes_started, &self.around).await {
            Ok(node) => self.nodes.push(node),
            Err(error) => self.seen.push(Violation::new("HALT", format!("a node does not start: {error}"))),
        }
        self.publish();
    }

    async fn retire(&mut self, at: usize) {
        let node = self.nodes.remove(at);
        self.publish();
        node.crash().await;
    }

    fn publish(&self) {
        self.directory.set(self.nodes.iter().map(Node::commands).collect());
        self.doors.set(self.nodes.iter().map(Node::entrance).collect());
    }

    /// Everything that is left behind.
    pub(crate) async fn evidence(&self, at_rest: bool) -> Evidence {
        let Surroundings { log, database, provider, .. } = &self.around;
        let (history, ledger) = (self.clients.history(), self.callers.ledger());
        Evidence::gather(log, history, ledger, database, provider.book(), at_rest).await
    }

    pub(crate) fn seen(&self) -> Vec<Violation> {
        let stood_still =
            || Violation::new("LIVE", "somebody went round in circles while time stood still".to_owned());
        let mut seen = self.seen.clone();
        seen.extend(self.clock.stood_still().then(stood_still));
        seen
    }
}

/// So few that the streams of a run have snapshots, and loads read them.
const SNAPSHOT_EVERY: u64 = 5;
/// How many violations are kept.
const SEEN_MAX: usize = 20;
