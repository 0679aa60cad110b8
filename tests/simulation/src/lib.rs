//! Deterministic simulation: the real shards, the real fold, the real processes, over a simulated log, database,
//! payment provider and clock, all in one thread and all from one seed.
//!
//! [`run`] makes one run: so many steps in which clients want things and things break, then everything is mended and
//! has to come to its end, then the checkers judge what is left behind. The same seed makes the same run to the last
//! byte, so a seed is all that a bug report needs.

mod callers;
mod checkers;
mod clients;
mod clock;
mod database;
mod evidence;
mod gate;
mod history;
mod node;
mod provider;
mod weather;
mod world;

use std::ops::Range;

use crate::checkers::{judge, tally};
pub use crate::evidence::Violation;
use crate::world::World;

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The run.
    pub seed: u64,
    /// How many steps it had.
    pub steps: u32,
    /// Over everything that was written and everything that clients saw: the same for the same run.
    pub digest: u64,
    /// What happened.
    pub tally: Tally,
    /// What must not have happened.
    pub violations: Vec<Violation>,
}

/// What happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commits that count.
    pub commits: u64,
    /// Records on the log that mean nothing.
    pub void: u64,
    /// Commands of clients that were acknowledged.
    pub acknowledged: u64,
    /// Attempts of clients of which nobody knows the end.
    pub unknown: u64,
    /// Checkouts that were done.
    pub done: u64,
    /// Checkouts that were undone.
    pub cancelled: u64,
    /// Checkouts that wait for an operator.
    pub parked: u64,
    /// Returns that ended.
    pub returns: u64,
    /// Cold loads that were given a snapshot.
    pub recalled: u64,
    /// Claims that count, beyond the first of each partition.
    pub takeovers: u64,
    /// Steps that broke something.
    pub breaks: u64,
    /// Answers that callers of the gateway got.
    pub answered: u64,
    /// Calls that the gateway refused for good.
    pub refused: u64,
}

/// Makes the run of `seed`, with so many steps.
///
/// # Panics
/// The simulation itself cannot be set up, which in memory it can.
pub fn run(seed: u64, steps: u32) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(simulate(seed, steps))
}

/// Makes the runs of all these seeds, one after the other, and tells each.
pub fn sweep(seeds: Range<u64>, steps: u32, mut each: impl FnMut(&Outcome)) -> Tally {
    seeds.fold(Tally::default(), |sum, seed| {
        let outcome = run(seed, steps);
        each(&outcome);
        sum + outcome.tally
    })
}

/// What the run of `seed` leaves behind, for tests of the checkers.
#[cfg(test)]
fn leftovers(seed: u64, steps: u32) -> evidence::Evidence {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new(seed).await;
        for _ in 0..steps {
            world.step().await;
        }
        world.heal().await;
        world.evidence(true).await
    })
}

async fn simulate(seed: u64, steps: u32) -> Outcome {
    let mut world = World::new(seed).await;
    let mut violations = Vec::new();
    for step in 1..=steps {
        world.step().await;
        if step == steps / 2 {
            violations.extend(judge(&world.evidence(false).await));
        }
    }
    world.heal().await;
    let evidence = world.evidence(true).await;
    violations.extend(judge(&evidence));
    violations.extend(world.seen());
    let tally = Tally { breaks: world.breaks, ..tally(&evidence) };
    violations.extend(tally.too_little(steps));
    Outcome { seed, steps, digest: evidence.digest(), tally, violations }
}

impl Tally {
    /// A run in which little happened proves little. In rough weather it is less than half of what is usual: of 5,000 runs of
    /// 1,000 steps three had 16 or 17 commands acknowledged.
    fn too_little(&self, steps: u32) -> Option<Violation> {
        let (acknowledged, ended) = (u64::from(steps) / 100, u64::from(steps) / 200);
        let enough = self.acknowledged >= acknowledged && self.done + self.cancelled >= ended;
        (!enough).then(|| Violation::new("FLOOR", format!("too little happened: {self:?}")))
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            commits: self.commits + other.commits,
            void: self.void + other.void,
            acknowledged: self.acknowledged + other.acknowledged,
            unknown: self.unknown + other.unknown,
            done: self.done + other.done,
            cancelled: self.cancelled + other.cancelled,
            parked: self.parked + other.parked,
            returns: self.returns + other.returns,
            recalled: self.recalled + other.recalled,
            takeovers: self.takeovers + other.takeovers,
            breaks: self.breaks + other.breaks,
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
        }
    }
}
