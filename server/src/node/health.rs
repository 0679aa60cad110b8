//! Whether a node does all of its work, and where not, why. What another node does is no complaint here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shopstream_command_handlers::coordinator::Duty;
use shopstream_command_handlers::{Commands, PartitionState, PartitionStatus};
use shopstream_projections::ProjectionState;
use shopstream_sagas::Status;
use tokio::sync::watch;

use super::duty::{Driving, Processing, Projecting, Reading};

/// Looks at every part of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Health {
    commands: Commands,
    projections: watch::Receiver<Projecting>,
    /// Whether the database answers a node that does not project.
    reachable: Arc<AtomicBool>,
    processes: watch::Receiver<Processing>,
    /// What is wrong with the log as a whole.
    log: watch::Receiver<Option<String>>,
}

impl Health {
    pub(super) fn new(
        commands: Commands,
        reading: &Reading,
        driving: &Driving,
        log: watch::Receiver<Option<String>>,
    ) -> Self {
        let (projections, reachable) = (reading.states(), reading.reachable());
        Self { commands, projections, reachable, processes: driving.status(), log }
    }

    /// Whether the read side and the log do their work, as far as this node can see.
    pub(super) fn reads(&self) -> bool {
        self.log.borrow().is_none()
            && match &*self.projections.borrow() {
                Some(states) => states.iter().all(|(_, state)| *state.borrow() == ProjectionState::Running),
                None => self.reachable.load(Ordering::Relaxed),
            }
    }

    /// A line for every part that does not do its work; none where all is well.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut add = |part: fmt::Arguments<'_>, state: &dyn fmt::Display| {
            complaints.push(format!("{part}: {state}"));
        };
        if let Some(wrong) = &*self.log.borrow() {
            add(format_args!("log"), wrong);
        }
        for partition in self.commands.status() {
            if !self.is_served(&partition) {
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
            None if self.is_idle(Duty::Projections) => add(format_args!("projections"), &"nobody keeps them"),
            None => {}
        }
        match self.processes.borrow().as_ref().map(|status| status.borrow().clone()) {
            Some(Status::Starting | Status::Running | Status::Stopped) => {}
            Some(status @ (Status::Retrying { .. } | Status::Halted { .. })) => {
                add(format_args!("processes"), &status);
            }
            None if self.is_idle(Duty::Sagas) => add(format_args!("processes"), &"nobody drives them"),
            None => {}
        }
        complaints
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
