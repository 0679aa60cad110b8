//! What is broken: one thing at a time, proved broken, then whole again.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rand::Rng;
use rand::rngs::StdRng;
use shopstream_tests::kafka::Cluster;
use shopstream_tests::{Database, TestShop};

/// How long a node is paused: longer than its leases last, so that others have taken over when it wakes.
const ZOMBIE: std::ops::Range<u64> = 4_000..7_000;
/// How long anything else stays away.
const AWAY: std::ops::Range<u64> = 200..2_000;

/// All that can be broken.
pub(super) struct Ground {
    pub(super) cluster: Cluster,
    /// Only a moment without one.
    pub(super) database: Option<Database>,
    pub(super) nodes: Vec<TestShop>,
    pub(super) random: StdRng,
}

/// What was done.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// When it was whole again.
    pub(super) healed: Instant,
}

impl Ground {
    /// Breaks something and heals it.
    pub(super) fn strike(&mut self) -> Fault {
        let node = self.random.random_range(0..self.nodes.len());
        let broker = self.random.random_range(1..=super::THREE);
        let name = match self.random.random_range(0..10) {
            0..3 => {
                self.nodes[node].pause();
                self.wait(ZOMBIE);
                self.nodes[node].resume();
                "a node is paused past its leases"
            }
            3..5 => {
                // It waits until the process is gone.
                self.nodes[node].kill9();
                self.wait(AWAY);
                self.nodes[node].restart();
                "a node is killed"
            }
            5 => {
                self.nodes[node].stop();
                self.wait(AWAY);
                self.nodes[node].restart();
                "a node is stopped in order"
            }
            6..8 => {
                self.cluster.kill9(broker);
                self.wait(AWAY);
                self.cluster.restart(broker);
                "a broker is killed"
            }
            8 => {
                self.cluster.stop(broker);
                self.wait(AWAY);
                self.cluster.restart(broker);
                "a broker is stopped in order"
            }
            _ => {
                if let Some(database) = self.database.take() {
                    // The postmaster: everything in the middle of a transaction dies with it.
                    kill(database.pid(), Signal::SIGKILL).expect("a postmaster to kill");
                    self.wait(AWAY);
                    self.database = Some(database.restart());
                }
                "the database is killed"
            }
        };
        Fault { name, healed: Instant::now() }
    }

    fn wait(&mut self, millis: std::ops::Range<u64>) {
        let until = Instant::now() + Duration::from_millis(self.random.random_range(millis));
        // How long something stays broken is the fault itself, not a wait for a fact.
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
    }
}
