//! Clients: each asks for one thing, again with the same id where it has no answer, at whatever node it finds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_command_handlers::{Clock, CommandEnvelope, Commands};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::history::{Attempt, End, History};

/// How often a client asks before it gives up.
const ATTEMPTS: u32 = 6;

pub(crate) struct Clients {
    history: Arc<Mutex<History>>,
    directory: Directory,
    clock: Arc<dyn Clock>,
    under_way: JoinSet<()>,
}

/// The nodes that clients know of, the newest last.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Vec<Commands>>>);

impl Directory {
    pub(crate) fn set(&self, nodes: Vec<Commands>) {
        *self.nodes() = nodes;
    }

    /// Mostly the newest node.
    fn pick(&self, random: &mut StdRng) -> Option<Commands> {
        let nodes = self.nodes();
        let any = random.random_range(0..nodes.len().max(1));
        if random.random_bool(0.85) { nodes.last().cloned() } else { nodes.get(any).cloned() }
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Commands>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    pub(crate) fn new(directory: Directory, clock: Arc<dyn Clock>) -> Self {
        Self { history: Arc::default(), directory, clock, under_way: JoinSet::new() }
    }

    /// Somebody wants this.
    pub(crate) fn ask(&mut self, envelope: CommandEnvelope, seed: u64) {
        let asked = history(&self.history).begin(&envelope);
        let client = Client {
            asked,
            envelope,
            random: StdRng::seed_from_u64(seed),
            history: self.history.clone(),
            directory: self.directory.clone(),
            clock: self.clock.clone(),
        };
        self.under_way.spawn(client.run());
        while self.under_way.try_join_next().is_some() {}
    }

    /// Waits until nobody waits any more.
    pub(crate) async fn idle(&mut self) {
        while self.under_way.join_next().await.is_some() {}
    }

    pub(crate) fn history(&self) -> History {
        history(&self.history).clone()
    }
}

fn history(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client {
    asked: usize,
    envelope: CommandEnvelope,
    random: StdRng,
    history: Arc<Mutex<History>>,
    directory: Directory,
    clock: Arc<dyn Clock>,
}

impl Client {
    async fn run(mut self) {
        for _ in 0..ATTEMPTS {
            if self.attempt().await {
                // Some have heard the answer and ask all the same.
                if self.random.random_bool(0.1) {
                    self.attempt().await;
                }
                return;
            }
            sleep(Duration::from_millis(self.random.random_range(1..3_000))).await;
        }
    }

    /// Whether there is no use in another one.
    async fn attempt(&mut self) -> bool {
        let Some(node) = self.directory.pick(&mut self.random) else { return false };
        let called = self.clock.now();
        let patience = Duration::from_millis(self.random.random_range(1..20_000));
        let answer = timeout(patience, node.submit(self.envelope.clone())).await.ok();
        let attempt = Attempt { called, returned: self.clock.now(), end: End::of(answer) };
        let is_final = attempt.end.is_final();
        history(&self.history).asked[self.asked].attempts.push(attempt);
        is_final
    }
}
