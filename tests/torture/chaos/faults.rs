//! What is broken: one thing at a time, proved broken, then whole again.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rand::Rng;
use rand::rngs::StdRng;
use shopstream_server::client::Client;
use shopstream_tests::kafka::Cluster;
use shopstream_tests::{Database, TestShop};

use super::clients;
use super::networks::{Cut, Doors, Networks};

/// How long a node is paused: longer than its leases last, so that others have taken over when it wakes.
const ZOMBIE: std::ops::Range<u64> = 4_000..7_000;
/// How long a broker is: others lead its partitions when it wakes, and it does not know.
const ZOMBIE_BROKER: std::ops::Range<u64> = 10_000..14_000;
/// How long anything else stays away.
const AWAY: std::ops::Range<u64> = 200..2_000;
/// How long networks are cut: some leases run out, some requests too.
const CUT: std::ops::Range<u64> = 4_000..12_000;

/// All that can be broken.
pub(super) struct Ground {
    pub(super) cluster: Cluster,
    /// Only a moment without one.
    pub(super) database: Option<Database>,
    pub(super) nodes: Vec<TestShop>,
    /// To each node.
    pub(super) doors: Vec<Client>,
    /// Where networks can be cut.
    pub(super) networks: Option<Networks>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) random: StdRng,
    /// How often something was broken.
    pub(super) strikes: u64,
}

/// What was done.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// When it was whole again.
    pub(super) healed: Instant,
    /// Where a network was cut.
    pub(super) cut: Option<Proof>,
}

/// What a cut network showed.
pub(super) struct Proof {
    /// How many packets were lost, or why it is not sure that it was cut.
    pub(super) lost: Result<u64, String>,
    /// Of a node that only lacks the database: how long it took to have commands for every partition carried out, or
    /// which one was not.
    pub(super) passed_on: Option<Result<Duration, String>>,
}

impl Ground {
    /// Breaks something and heals it.
    pub(super) fn strike(&mut self) -> Fault {
        self.strikes += 1;
        // Every other fault, so that what a cut left behind meets all the others too.
        match self.networks.take() {
            Some(mut networks) if self.strikes % 2 == 1 => {
                let cut = networks.next(&mut self.random);
                let proof = self.cut(&networks, cut);
                self.networks = Some(networks);
                Fault { name: cut.name(), healed: Instant::now(), cut: Some(proof) }
            }
            networks => {
                self.networks = networks;
                Fault { name: self.break_process(), healed: Instant::now(), cut: None }
            }
        }
    }

    fn cut(&mut self, networks: &Networks, cut: Cut) -> Proof {
        let index = self.random.random_range(0..self.nodes.len());
        let (strike, alone) = (self.strikes, cut == Cut::NodeFromDatabase);
        // Without its database a gateway only takes commands for what it has been asked for before.
        let known = alone.then(|| self.carried_out(index, &format!("{strike} before")));
        if let Some(Err(why)) = known {
            return Proof { lost: Err(why), passed_on: None };
        }
        let in_force = match networks.cut(cut, index, &self.addresses()) {
            Ok(in_force) => in_force,
            Err(why) => return Proof { lost: Err(why), passed_on: None },
        };
        self.wait(CUT);
        // Nobody takes over before the leases have run out, which the wait was longer than.
        let passed_on = alone.then(|| self.carried_out(index, &strike.to_string()));
        Proof { lost: in_force.heal(), passed_on }
    }

    fn carried_out(&self, node: usize, round: &str) -> Result<Duration, String> {
        self.runtime.block_on(clients::carried_out(&self.doors[node], round))
    }

    fn addresses(&self) -> Doors {
        Doors {
            nodes: self.nodes.iter().map(TestShop::door).collect(),
            brokers: self.cluster.doors(),
            database: self.database.as_ref().and_then(Database::door).expect("a database that listens"),
        }
    }

    /// Kills, stops or pauses something; answers what that is called.
    fn break_process(&mut self) -> &'static str {
        let node = self.random.random_range(0..self.nodes.len());
        let broker = self.random.random_range(1..=super::THREE);
        match self.random.random_range(0..11) {
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
            9 => {
                self.cluster.pause(broker);
                self.wait(ZOMBIE_BROKER);
                self.cluster.resume(broker);
                "a broker is paused past its session"
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
        }
    }

    fn wait(&mut self, millis: std::ops::Range<u64>) {
        let until = Instant::now() + Duration::from_millis(self.random.random_range(millis));
        // How long something stays broken is the fault itself, not a wait for a fact.
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
    }
}
