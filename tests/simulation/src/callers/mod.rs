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
use shopstream_gateway::Watched;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::service::Routes;

pub(crate) use self::draw::Names;
pub(crate) use self::ledger::{Heard, Ledger, Operation};
pub(crate) use self::request::{Request, Scope};

/// The services of one node.
pub(crate) type Door = Watched<Routes>;

/// How often a caller asks before it gives up.
const ATTEMPTS: u32 = 4;
/// Operations of which somebody may still send a copy.
const COPIES: usize = 200;

/// The nodes that callers know of, the newest last.
#[derive(Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<Vec<Arc<OnceLock<Door>>>>>);

impl Doors {
    pub(crate) fn set(&self, doors: Vec<Arc<OnceLock<Door>>>) {
        *lock(&self.0) = doors;
    }

    /// Mostly the newest.
    fn pick(&self, random: &mut StdRng) -> Option<Door> {
        let doors = lock(&self.0);
        let any = random.random_range(0..doors.len().max(1));
        let door = if random.random_bool(0.85) { doors.last() } else { doors.get(any) };
        door?.get().cloned()
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
            (Some(old), 15..18) => old.changed(random).unwrap_or(fresh),
            _ => fresh,
        };
        // Two tabs, a double click, a proxy that sends twice.
        let times = if random.random_bool(0.1) { random.random_range(2..4) } else { 1 };
        for _ in 0..times {
            self.send(request.clone(), random.random());
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
            if self.attempt().await && !self.random.random_bool(0.1) {
                return;
            }
            sleep(Duration::from_millis(self.random.random_range(1..3_000))).await;
        }
    }

    /// Whether there is no use in another one.
    async fn attempt(&mut self) -> bool {
        let Some(door) = self.doors.pick(&mut self.random) else { return false };
        let patience = Duration::from_millis(self.random.random_range(1..40_000));
        let actor = lock(&self.ledger).operations[self.operation].actor();
        let heard = match timeout(patience, self.request.send(door, &actor)).await {
            Ok(Ok(answer)) => {
                lock(&self.names).learn(&self.request, &answer);
                Heard::Answer(answer)
            }
            Ok(Err(status)) => Heard::of(&status),
            Err(_) => Heard::Nothing,
        };
        let is_final = heard.is_final();
        lock(&self.ledger).operations[self.operation].heard.push(heard);
        is_final
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
