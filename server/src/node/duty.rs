//! What only one node at a time does besides owning partitions: keep the read models, and drive the processes. The
//! others stand ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::select_all;
use shopstream_command_handlers::coordinator::{Coordinator, Duty};
use shopstream_command_handlers::{Clock, SystemClock};
use shopstream_eventlog::Log;
use shopstream_gateway::ReadSide;
use shopstream_projections::{
    Company, Database, DatabaseError, Progress, Projection, ProjectionState, Projector,
};
use shopstream_sagas::{Parts, Sagas};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Before a duty that could not be taken up is tried again; meanwhile another node may have it.
const RETRY: Duration = Duration::from_secs(1);

/// What this node's projections are doing: `None` while another node's are followed.
type States = watch::Sender<Option<Vec<watch::Receiver<ProjectionState>>>>;

/// The read models of a node: projected here, or followed.
pub(super) struct Reading {
    pub(super) log: Log,
    pub(super) database: Database,
    pub(super) progress: Progress,
    pub(super) coordinator: Arc<dyn Coordinator>,
    states: States,
    /// Whether the database answers, as far as somebody who follows knows.
    reachable: Arc<AtomicBool>,
}

impl Reading {
    pub(super) fn new(log: Log, database: Database, coordinator: Arc<dyn Coordinator>) -> Self {
        let progress = Progress::new(log.partitions());
        let reachable = Arc::new(AtomicBool::new(true));
        Self { log, database, progress, coordinator, states: watch::Sender::new(None), reachable }
    }

    /// Whether queries are answered from read models that are kept current, as far as this node can see.
    pub(super) fn health(&self) -> ReadSide {
        let (states, reachable) = (self.states.subscribe(), self.reachable.clone());
        Arc::new(move || match &*states.borrow() {
            Some(states) => states.iter().all(|state| *state.borrow() == ProjectionState::Running),
            None => reachable.load(Ordering::Relaxed),
        })
    }

    /// Begins to project.
    ///
    /// # Errors
    /// See [`Projector::start`].
    pub(super) async fn project(&self) -> Result<Projector, DatabaseError> {
        let company = if self.coordinator.is_shared() { Company::Followed } else { Company::Alone };
        let (log, database, progress) = (self.log.clone(), self.database.clone(), self.progress.clone());
        let now = || SystemClock.now();
        let projector = Projector::start_telling(log, database, progress, company, now).await?;
        let states = Projection::ALL.map(|projection| projector.watch(projection)).into();
        self.states.send_replace(Some(states));
        Ok(projector)
    }

    /// Projects with what was begun until `stop`.
    pub(super) async fn keep(self, projector: Projector, stop: CancellationToken) {
        stop.cancelled().await;
        projector.stop().await;
    }

    /// Only follows, until `stop`.
    pub(super) async fn follow(self, stop: CancellationToken) {
        tokio::select! {
            () = self.progress.follow(&self.database, &self.reachable) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Projects whenever it is this node's turn, and follows otherwise, until `stop`.
    pub(super) async fn take_turns(self, stop: CancellationToken) {
        loop {
            let grant = tokio::select! {
                grant = self.coordinator.acquire(Duty::Projections, 0) => grant,
                () = self.progress.follow(&self.database, &self.reachable) => return,
                () = stop.cancelled() => return,
            };
            match self.project().await {
                Ok(projector) => {
                    info!("this node keeps the read models");
                    tokio::select! {
                        () = grant.lost.cancelled() => warn!("another node keeps the read models now"),
                        () = superseded(&projector) => warn!("another process projects: this one stops"),
                        () = stop.cancelled() => {}
                    }
                    projector.stop().await;
                    self.states.send_replace(None);
                    self.coordinator.release(Duty::Projections).await;
                }
                Err(cause) => {
                    error!(%cause, "this node cannot keep the read models");
                    self.coordinator.release(Duty::Projections).await;
                    drop(tokio::time::timeout(RETRY, stop.cancelled()).await);
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }
}

/// Ends when another process has moved a checkpoint under one of the projections.
async fn superseded(projector: &Projector) {
    let each = Projection::ALL.map(|projection| {
        let mut state = projector.watch(projection);
        Box::pin(async move {
            let overtaken = |state: &ProjectionState| matches!(state, ProjectionState::Superseded { .. });
            if state.wait_for(overtaken).await.is_err() {
                std::future::pending().await
            }
        })
    });
    select_all(each).await;
}

/// Drives the processes whenever it is this node's turn, until `stop`. Two nodes that drive at once for a moment harm
/// nobody: the ids of their commands are the same.
pub(super) async fn drive(parts: Parts, coordinator: Arc<dyn Coordinator>, stop: CancellationToken) {
    loop {
        let grant = tokio::select! {
            grant = coordinator.acquire(Duty::Sagas, 0) => grant,
            () = stop.cancelled() => return,
        };
        let sagas = Sagas::start(parts.clone());
        let fenced = tokio::select! {
            () = stop.cancelled() => false,
            () = grant.lost.cancelled() => false,
            // Alone on its log and no longer: whoever took the partition drives them (`rulings.md` 18).
            fenced = parts.commands.fenced() => {
                warn!(partition = fenced.partition, "another node owns a partition: processes stop here");
                true
            }
        };
        sagas.stop().await;
        coordinator.release(Duty::Sagas).await;
        if fenced || stop.is_cancelled() {
            return;
        }
    }
}
