//! What each projection is doing, for health checks and people.

use std::fmt;
use std::sync::Arc;

use metrics::gauge;
use shopstream_domain::Partition;
use shopstream_eventlog::{Halt, Offset};
use tokio::sync::watch;

use crate::{Progress, Projection};

/// What a projection is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectionState {
    /// Following the log.
    Running,
    /// Something is away; tried again by itself.
    Waiting {
        /// What is wrong.
        cause: String,
    },
    /// A partition contradicts its own history and is not read any more. An operator must act.
    Halted {
        /// The partition.
        partition: Partition,
        /// What was found.
        cause: Halt,
    },
    /// Another process does this projection's work; this one has stopped for good.
    Superseded {
        /// How that was seen.
        cause: String,
    },
}

impl fmt::Display for ProjectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Waiting { cause } => write!(f, "waiting: {cause}"),
            Self::Halted { partition, cause } => write!(f, "partition {partition} is halted: {cause}"),
            Self::Superseded { cause } => write!(f, "superseded: {cause}"),
        }
    }
}

/// One projection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// Which.
    pub projection: Projection,
    /// What it is doing.
    pub state: ProjectionState,
    /// The next offset it wants, by partition.
    pub next: Vec<Offset>,
}

/// Publishes whether a projection runs: lag alone does not say it, for a log that was cut has no lag.
fn measure(projection: Projection, state: &ProjectionState) {
    let runs = if *state == ProjectionState::Running { 1.0 } else { 0.0 };
    gauge!("shopstream_projection_running", "projection" => projection.name()).set(runs);
}

/// The states of all projections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Board(Arc<[watch::Sender<ProjectionState>]>);

impl Board {
    pub(super) fn new() -> Self {
        Self(
            Projection::ALL
                .map(|projection| {
                    measure(projection, &ProjectionState::Running);
                    watch::Sender::new(ProjectionState::Running)
                })
                .into(),
        )
    }

    pub(super) fn watch(&self, projection: Projection) -> watch::Receiver<ProjectionState> {
        self.0[projection.index()].subscribe()
    }

    /// Notes what a projection is doing. What has stopped stays stopped, though other partitions may go on.
    pub(super) fn set(&self, projection: Projection, state: ProjectionState) {
        self.0[projection.index()].send_if_modified(|known| match known {
            ProjectionState::Halted { .. } | ProjectionState::Superseded { .. } => false,
            ProjectionState::Running | ProjectionState::Waiting { .. } => {
                let news = *known != state;
                *known = state;
                if news {
                    measure(projection, known);
                }
                news
            }
        });
    }

    pub(super) fn status(&self, progress: &Progress) -> Vec<ProjectionStatus> {
        let status = |projection: Projection| ProjectionStatus {
            projection,
            state: self.0[projection.index()].borrow().clone(),
            next: progress.watch(projection).borrow().clone(),
        };
        Projection::ALL.map(status).into()
    }
}
