//! Callers: clients that come through the gateway, as everybody outside does. They are hostile, careless and impatient:
//! they repeat what was answered, use a key for something else, take the names of what is not theirs, and do all of it at
//! the same moment. What each of them heard is written down and judged.

mod draw;
mod ledger;
mod request;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_domain::OrderId;
use shopstream_gateway::Watched;
use shopstream_proto::payment::v1::RecordProviderSignalRequest;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::service::Routes;

pub(crate) use self::draw::Names;
pub(crate) use self::ledger::{Exchange, Heard, Ledger, Operation};
pub(crate) use self::request::{Request, Scope};

/// The services of one node.
pub(crate) type Door = Watched<Routes>;

/// How often a caller asks before it gives up.
const ATTEMPTS: u32 = 4;
/// Operations of which somebody may still send a copy.
const COPIES: usize = 200;

/// Where one node takes calls; empty until it does.
#[derive(Clone)]
pub(crate) struct Entrance {
    /// Which node it is.
    pub(crate) node: u32,
    pub(crate) door: Arc<OnceLock<Door>>,
}

/// The nodes that callers know of, the newest last.
#[derive(Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<Vec<Entrance>>>);

impl Doors {
    pub(crate) fn set(&self, doors: Vec<Entrance>) {
        *lock(&self.0) = doors;
    }

    /// Mostly the newest.
    fn pick(&self, random: &mut StdRng) -> Option<(u32, Door)> {
        let doors = lock(&self.0);
        let any = random.random_range(0..doors.len().max(1));
        let entrance = if random.random_bool(0.85) { doors.last() } else { doors.get(any) };
        let Entrance { node, door } = entrance?;
        Some((*node, door.get()?.clone()))
    }
}

/// All callers.
pub(crate) struct Callers {
    doors: Doors,
    ledger: Arc<Mutex<Ledger>>,
    names: Arc<Mutex<Names>>,
    under_way: JoinSet<()>,
}

impl Callers {
    pub(crate) fn new(doors: Doors) -> Self {
        Self { doors, ledger: Arc::default(), names: Arc::default(), under_way: JoinSet::new() }
    }

    /// Somebody calls: something new, a copy of what was sent before, or another thing under the same key.
    pub(crate) fn call(&mut self, random: &mut StdRng) {
        let old = {
            let ledger = lock(&self.ledger);
            let from = ledger.operations.len().saturating_sub(COPIES);
            let old = &ledger.operations[from..];
            (!old.is_empty()).then(|| old[random.random_range(0..old.len())].request.clone())
        };
        let fresh = lock(&self.names).draw(random);
        let request = match (old, random.random_range(0..100)) {
            (Some(old), 0..10) => old,
            (Some(old), 10..15) => fresh.under_key_of(&old),
            (Some(old), 15..21) => old.changed(random).unwrap_or(fresh),
            _ => fresh,
        };
        // Two tabs, a double click, a proxy that sends twice.
        let times = if random.random_bool(0.1) { random.random_range(2..4) } else { 1 };
        for nth in 0..times {
            // Some clients make a key for every click.
            let anew = nth > 0 && random.random_bool(0.3);
            let request =
                if anew { request.clone().under(&lock(&self.names).key()) } else { request.clone() };
            self.send(request, random.random());
        }
    }

    fn send(&mut self, request: Request, seed: u64) {
        let operation = lock(&self.ledger).operation(&request);
        let caller = Caller {
            operation,
            request,
            random: StdRng::seed_from_u64(seed),
            doors: self.doors.clone(),
            ledger: self.ledger.clone(),
            names: self.names.clone(),
        };
        self.under_way.spawn(caller.run());
        while self.under_way.try_join_next().is_some() {}
    }

    /// Somebody talks of an order that another client has placed.
    pub(crate) fn hear_of(&self, order_id: &OrderId) {
        lock(&self.names).hear_of(order_id.as_str());
    }

    /// Somebody hears that something of an order is sent back.
    pub(crate) fn hear_of_return(&self, order_id: &OrderId) {
        lock(&self.names).hear_of_return(order_id.as_str());
    }

    /// The provider reports something, as it does everywhere outside: it calls.
    pub(crate) fn report(&mut self, report: RecordProviderSignalRequest, random: &mut StdRng) {
        self.send(Request::RecordProviderSignal(report), random.random());
    }

    /// Waits until nobody waits any more.
    pub(crate) async fn idle(&mut self) {
        while self.under_way.join_next().await.is_some() {}
    }

    pub(crate) fn ledger(&self) -> Ledger {
        lock(&self.ledger).clone()
    }
}

struct Caller {
    operation: usize,
    request: Request,
    random: StdRng,
    doors: Doors,
    ledger: Arc<Mutex<Ledger>>,
    names: Arc<Mutex<Names>>,
}

impl Caller {
    async fn run(mut self) {
        for _ in 0..ATTEMPTS {
            let Some((node, door)) = self.doors.pick(&mut self.random) else { continue };
            let is_over = self.attempt(node, door.clone()).await;
            if is_over && self.random.random_bool(0.4) {
                self.look(node, door).await;
            }
            if is_over && !self.random.random_bool(0.1) {
                return;
            }
            sleep(Duration::from_millis(self.random.random_range(1..3_000))).await;
        }
    }

    /// Looks at once at what the request was about, mostly where it was answered.
    async fn look(&mut self, node: u32, door: Door) {
        let Some(look) = self.request.look() else { return };
        let there = if self.random.random_bool(0.7) { None } else { self.doors.pick(&mut self.random) };
        let (node, door) = there.unwrap_or((node, door));
        let operation = lock(&self.ledger).operation(&look);
        let (request, of) = (std::mem::replace(&mut self.request, look), self.operation);
        self.operation = operation;
        self.attempt(node, door).await;
        (self.request, self.operation) = (request, of);
    }

    /// Whether there is no use in another one.
    async fn attempt(&mut self, node: u32, door: Door) -> bool {
        let patience = Duration::from_millis(self.random.random_range(1..40_000));
        let (actor, called) = {
            let mut ledger = lock(&self.ledger);
            (ledger.operations[self.operation].actor(), ledger.call())
        };
        let (heard, position) = match timeout(patience, self.request.send(door, &actor)).await {
            Ok(Ok((answer, position))) => {
                lock(&self.names).learn(&self.request, &answer);
                (Heard::Answer(answer), position)
            }
            Ok(Err(status)) => (Heard::of(&status), None),
            Err(_) => (Heard::Nothing, None),
        };
        let is_final = heard.is_final();
        lock(&self.ledger).hear(self.operation, heard, node, called, position);
        is_final
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
