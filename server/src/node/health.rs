//! Whether a node does all of its work, and where not, why.

use std::fmt;
use std::sync::Arc;

use shopstream_command_handlers::{Commands, PartitionState};
use shopstream_projections::{Projection, ProjectionState, Projector};
use shopstream_sagas::Status;
use tokio::sync::watch;

/// Looks at every part of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Health {
    commands: Commands,
    projections: Arc<[(Projection, watch::Receiver<ProjectionState>)]>,
    processes: watch::Receiver<Status>,
    /// What is wrong with the log as a whole.
    log: watch::Receiver<Option<String>>,
}

impl Health {
    pub(super) fn new(
        commands: Commands,
        projector: &Projector,
        processes: watch::Receiver<Status>,
        log: watch::Receiver<Option<String>>,
    ) -> Self {
        let projections = Projection::ALL.map(|projection| (projection, projector.watch(projection))).into();
        Self { commands, projections, processes, log }
    }

    /// Whether the read side and the log do their work.
    pub(super) fn reads(&self) -> bool {
        let runs = |(_, state): &(_, watch::Receiver<_>)| *state.borrow() == ProjectionState::Running;
        self.log.borrow().is_none() && self.projections.iter().all(runs)
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
            if partition.state != PartitionState::Serving {
                add(format_args!("partition {}", partition.partition), &partition.state);
            }
        }
        for (projection, state) in self.projections.iter() {
            let state = state.borrow();
            if *state != ProjectionState::Running {
                add(format_args!("projection {projection}"), &*state);
            }
        }
        match &*self.processes.borrow() {
            Status::Starting | Status::Running | Status::Stopped => {}
            status @ (Status::Retrying { .. } | Status::Halted { .. }) => {
                add(format_args!("processes"), status);
            }
        }
        complaints
    }
}
