//! The end of a run: everything is mended, and then everything has to come to its end by itself, or once an operator has
//! sent back what had stopped.

use std::time::Duration;

use rand::Rng;
use shopstream_domain::StreamId;
use shopstream_domain::model::{Command, State};
use shopstream_domain::order::{CheckoutCommand, Stage};
use shopstream_domain::returns::{Command as ReturnCommand, ReturnStatus};
use shopstream_sagas::Status;
use tokio::time::sleep;

use super::World;
use crate::database::Reader;
use crate::evidence::Violation;

/// How many signals the provider sends between two looks.
const SIGNALS: u32 = 20;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// How often somebody looks before what is unfinished counts as stuck: two hours of simulated time. The longest hold is
/// ten minutes.
const LOOKS_MAX: u32 = 3_600;

impl World {
    /// Mends everything, sends every signal that is still to be sent, and waits until nothing is left to do.
    pub(crate) async fn heal(&mut self) {
        self.resume_nodes();
        self.faults.heal();
        self.around.database.heal();
        self.around.provider.set_trouble(0.0);
        self.clients.idle().await;
        self.callers.idle().await;
        self.leave_one_node().await;
        self.around.provider.send_again();
        for _ in 0..LOOKS_MAX {
            self.operate().await;
            for _ in 0..SIGNALS {
                self.report();
            }
            self.resume_stopped();
            self.clients.idle().await;
            if self.is_at_rest().await {
                return;
            }
            sleep(LOOK).await;
        }
        let open: Vec<String> = self.around.database.open().iter().take(5).map(StreamId::to_string).collect();
        let node = self.nodes.last().map(|node| (node.commands().status(), node.processes()));
        let detail = format!("after two hours of peace there is unfinished work: {open:?}; {node:?}");
        self.seen.push(Violation::new("I9", detail));
    }

    /// One that owns everything, and whose processes run: half of the time the one that is there, if it does.
    async fn leave_one_node(&mut self) {
        while self.nodes.len() > 1 {
            self.retire(0).await;
        }
        let well = self.nodes.last().is_some_and(|node| {
            !node.is_fenced() && !matches!(node.processes(), Some(Status::Halted { .. }))
        });
        if !well || self.random.random() {
            if let Some(node) = self.nodes.pop() {
                node.crash().await;
            }
            self.start_node().await;
        }
    }

    async fn is_at_rest(&self) -> bool {
        let serves = self
            .nodes
            .last()
            .is_some_and(|node| node.serves_everything() && node.processes() == Some(Status::Running));
        let quiet = self.faults.on_the_way() == 0 && self.around.provider.is_quiet();
        serves && quiet && self.is_caught_up() && self.around.database.open().is_empty()
    }

    fn is_caught_up(&self) -> bool {
        let ends: Vec<_> = (0..self.weather.partitions).map(|partition| self.faults.end(partition)).collect();
        Reader::FOLLOWERS.into_iter().chain([Reader::Sagas]).all(|reader| {
            let cursors = self.around.database.checkpoints(reader);
            cursors.len() == ends.len()
                && cursors.iter().all(|cursor| cursor.next == ends[usize::from(cursor.partition)])
        })
    }

    /// What an operator does who has seen that everything is well again.
    fn resume_stopped(&mut self) {
        for stream in self.around.database.open() {
            let reason = || "all is well again".to_owned();
            let resume = self.around.database.shown(&stream, |state, _| match state {
                State::Checkout(checkout) if checkout.stage() == Some(Stage::NeedsAttention) => {
                    Some(Command::from(CheckoutCommand::Resume { reason: reason() }))
                }
                State::Return(goods) if goods.status() == Some(ReturnStatus::NeedsAttention) => {
                    Some(Command::from(ReturnCommand::Resume { reason: reason() }))
                }
                _ => None,
            });
            if let Some(command) = resume.flatten() {
                self.ask(stream, command, None);
            }
        }
    }
}
