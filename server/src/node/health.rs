//! Whether a node does all of its work, and where not, why. What another node does is no complaint here.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shopstream_command_handlers::coordinator::Duty;
use shopstream_command_handlers::{Commands, PartitionState, PartitionStatus};
use shopstream_projections::ProjectionState;
use shopstream_sagas::Status;
use tokio::sync::watch;

use super::duty::{Driving, Processing, Projecting, Reading};
use crate::config::Role;

/// Looks at every part of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Health {
    commands: Commands,
    projections: watch::Receiver<Projecting>,
    /// Whether the database answers a node that does not project.
    reachable: Arc<AtomicBool>,
    processes: watch::Receiver<Processing>,
    senses: Senses,
    roles: BTreeSet<Role>,
}

/// What is found out about the parts that a node stands on. Each is looked at for itself: who has nothing to ask of a
/// part notices nothing.
#[derive(Clone)]
pub(super) struct Senses {
    /// What is wrong with the log as a whole.
    pub(super) log: watch::Receiver<Option<String>>,
    /// What is wrong with the database.
    pub(super) database: watch::Receiver<Option<String>>,
    /// Why there is no private Postgres, where there should be one.
    pub(super) private: Option<watch::Receiver<Option<String>>>,
    /// Who is behind.
    pub(super) behind: watch::Receiver<Vec<String>>,
    /// Why the payment provider does not answer.
    pub(super) provider: watch::Receiver<Option<String>>,
}

impl Senses {
    /// The part and what is wrong with it, for all without which a node cannot do its work.
    fn complaints(&self) -> Vec<String> {
        let parts = [("log", Some(&self.log)), ("database", Some(&self.database))];
        let parts = parts.into_iter().chain([("private Postgres", self.private.as_ref())]);
        let wrong = parts.filter_map(|(part, state)| Some(format!("{part}: {}", state?.borrow().as_ref()?)));
        wrong.chain(self.behind.borrow().iter().cloned()).collect()
    }
}

impl Health {
    pub(super) fn new(
        commands: Commands,
        reading: &Reading,
        driving: &Driving,
        senses: Senses,
        roles: BTreeSet<Role>,
    ) -> Self {
        let (projections, reachable) = (reading.states(), reading.reachable());
        Self { commands, projections, reachable, processes: driving.status(), senses, roles }
    }

    /// Whether the read side and the log do their work, as far as this node can see.
    pub(super) fn reads(&self) -> bool {
        self.senses.complaints().is_empty()
            && match &*self.projections.borrow() {
                Some(states) => states.iter().all(|(_, state)| *state.borrow() == ProjectionState::Running),
                None => self.reachable.load(Ordering::Relaxed),
            }
    }

    /// A line for every part that does not do its work; none where all is well.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints_as(&Role::ALL.into())
    }

    /// The same without what is only for others to take up: of nodes with roles apart, one has to be the first.
    pub(super) fn own_complaints(&self) -> Vec<String> {
        self.complaints_as(&self.roles)
    }

    /// Of a node with these roles.
    fn complaints_as(&self, roles: &BTreeSet<Role>) -> Vec<String> {
        let mut complaints = self.senses.complaints();
        let mut add = |part: fmt::Arguments<'_>, state: &dyn fmt::Display| {
            complaints.push(format!("{part}: {state}"));
        };
        for partition in self.commands.status() {
            let is_for_others =
                partition.state == PartitionState::Elsewhere && !roles.contains(&Role::Commands);
            if !is_for_others && !self.is_served(&partition) {
                add(format_args!("partition {}", partition.partition), &partition.state);
            }
        }
        match &*self.projections.borrow() {
            Some(states) => {
                for (projection, state) in states.iter() {
                    let state = state.borrow();
                    if *state != ProjectionState::Running {
                        add(format_args!("projection {projection}"), &*state);
                    }
                }
            }
            None if !self.reachable.load(Ordering::Relaxed) => {
                add(format_args!("projections"), &"how far they are is not known");
            }
            None if roles.contains(&Role::Projections) && self.is_idle(Duty::Projections) => {
                add(format_args!("projections"), &"nobody keeps them");
            }
            None => {}
        }
        match self.processes.borrow().as_ref().map(|status| status.borrow().clone()) {
            Some(Status::Starting | Status::Running | Status::Stopped) => {}
            Some(status @ (Status::Retrying { .. } | Status::Halted { .. })) => {
                add(format_args!("processes"), &status);
            }
            None if roles.contains(&Role::Sagas) && self.is_idle(Duty::Sagas) => {
                add(format_args!("processes"), &"nobody drives them");
            }
            None => {}
        }
        complaints
    }

    /// What is not as it should be though this node does its work. Without its provider a node takes orders and shows
    /// them, and payments go on when it is back: with all nodes in the same case, nobody would gain by turning
    /// clients away.
    pub(super) fn degradations(&self) -> Vec<String> {
        let away = self.senses.provider.borrow();
        away.iter().map(|away| format!("degraded: provider: {away}; payments wait")).collect()
    }

    /// Here, or by another node that is known.
    fn is_served(&self, partition: &PartitionStatus) -> bool {
        match partition.state {
            PartitionState::Serving => true,
            PartitionState::Elsewhere => self.commands.coordinator().locate(partition.partition).is_some(),
            PartitionState::Claiming
            | PartitionState::InDoubt { .. }
            | PartitionState::Fenced { .. }
            | PartitionState::Halted { .. }
            | PartitionState::Unavailable { .. }
            | PartitionState::Released => false,
        }
    }

    /// Whether none of several nodes has taken up `duty`.
    fn is_idle(&self, duty: Duty) -> bool {
        let coordinator = self.commands.coordinator();
        coordinator.is_shared() && coordinator.lease(duty).is_none()
    }
}
