//! What goes wrong.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use shopstream_domain::Partition;
use shopstream_eventlog::raw::RawError;
use shopstream_eventlog::sim::{Chaos, Fate};
use tokio::time::timeout;

use super::World;
use crate::database::Reader;
use crate::weather::Weather;

/// Nodes alive at a time.
const NODES_MAX: usize = 3;
/// How long a node may take to stop in order.
const GRACE: Duration = Duration::from_secs(20);

impl World {
    pub(super) async fn break_something(&mut self) {
        match self.random.random_range(0..100) {
            0..30 => self.doom_a_record(),
            30..40 => (0..self.weather.partitions).for_each(|partition| self.faults.release(partition)),
            40..48 => {
                let chaos = Weather::chaos(&mut self.random);
                self.faults.chaos(chaos);
            }
            48..52 => self.calm(),
            52..62 => self.break_the_database(),
            62..70 => {
                let trouble = [0.0, 0.05, 0.3, 1.0].choose(&mut self.random).copied();
                self.around.provider.set_trouble(trouble.unwrap_or_default());
            }
            70..77 => {
                if let Some(newest) = self.nodes.last() {
                    newest.restart_processes();
                }
            }
            77..85 => self.replace_a_dead_node().await,
            85..93 => self.replace_a_living_node().await,
            93..97 => self.pause_a_node(),
            _ => self.resume_nodes(),
        }
    }

    /// The next record of a partition meets its fate.
    fn doom_a_record(&mut self) {
        let partition = self.random.random_range(0..self.weather.partitions);
        let error = || RawError::Unavailable { detail: "the simulation broke it".to_owned() };
        let fate = match self.random.random_range(0..11) {
            0 => Fate::Lose(error()),
            1 => Fate::LoseAck(error()),
            2 => Fate::Strand(error()),
            3 => Fate::Vanish,
            4 => Fate::Duplicate,
            5 => Fate::DuplicateLate,
            6 => Fate::NoOffset,
            7 => Fate::ReportLate,
            8 => Fate::Hold,
            arrives => Fate::Refuse { error: error(), arrives: arrives == 9 },
        };
        self.faults.next(partition, [fate]);
    }

    fn break_the_database(&mut self) {
        let database = &self.around.database;
        match self.random.random_range(0..8) {
            0 => database.set_away(true),
            1 => database.set_trouble(0.1),
            2 => database.stall(Reader::Journal, true),
            3 => {
                let any = [Reader::Views, Reader::Checkouts, Reader::Payments].choose(&mut self.random);
                any.into_iter().for_each(|reader| database.stall(*reader, true));
            }
            4 => database.lose_snapshots(),
            5 => database.damage_snapshots(),
            _ => database.heal(),
        }
    }

    /// Some of it is well for a while.
    pub(super) fn calm(&mut self) {
        match self.random.random_range(0..5) {
            0 => self.faults.chaos(Chaos::default()),
            1 | 2 => self.around.database.heal(),
            3 => self.around.provider.set_trouble(0.0),
            _ => self.resume_nodes(),
        }
    }

    /// The node dies, or stops in order, and another one comes when somebody looks.
    async fn replace_a_dead_node(&mut self) {
        let Some(node) = self.nodes.pop() else { return };
        self.publish();
        if self.random.random_bool(0.7) || node.gate.is_closed() {
            node.crash().await;
        } else if timeout(GRACE, node.stop()).await.is_err() {
            // It goes on stopping by itself, and meets its successor.
        }
        if self.random.random() {
            self.start_node().await;
        }
    }

    /// Another node takes over while this one still believes.
    async fn replace_a_living_node(&mut self) {
        if !self.weather.several_nodes {
            return self.replace_a_dead_node().await;
        }
        if self.random.random() {
            self.pause_a_node();
        }
        if self.nodes.len() >= NODES_MAX {
            self.retire(0).await;
        }
        self.start_node().await;
    }

    fn pause_a_node(&mut self) {
        if let Some(newest) = self.nodes.last() {
            newest.gate.close();
            self.each_partition(|world, partition| world.faults.pause(partition));
        }
    }

    pub(super) fn resume_nodes(&mut self) {
        self.nodes.iter().for_each(|node| node.gate.open());
        self.each_partition(|world, partition| world.faults.resume(partition));
    }

    fn each_partition(&self, each: impl Fn(&Self, Partition)) {
        (0..self.weather.partitions).for_each(|partition| each(self, partition));
    }
}
