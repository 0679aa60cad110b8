//! What only one node at a time does besides owning partitions: keep the read models, and drive the processes. The
//! others stand ready.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::select_all;
use shopstream_command_handlers::coordinator::{Coordinator, Duty};
use shopstream_command_handlers::{Clock, SystemClock};
use shopstream_eventlog::Log;
use shopstream_projections::{
    Company, Database, DatabaseError, Progress, Projection, ProjectionState, Projector,
};
use shopstream_sagas::{Parts, Sagas, Status, StockFanOut};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Before a duty that could not be taken up is tried again; meanwhile another node may have it.
const RETRY: Duration = Duration::from_secs(1);

/// What this node's projections are doing; `None` while another node's are followed.
pub(super) type Projecting = Option<Arc<[(Projection, watch::Receiver<ProjectionState>)]>>;

/// What the processes that this node drives are doing; `None` while another node drives them.
pub(super) type Processing = Option<watch::Receiver<Status>>;

/// The read models of a node: projected here, or followed.
pub(super) struct Reading {
    pub(super) log: Log,
    pub(super) database: Database,
    pub(super) progress: Progress,
    pub(super) coordinator: Arc<dyn Coordinator>,
    states: watch::Sender<Projecting>,
    /// Whether the database answers, as far as somebody who follows knows.
    reachable: Arc<AtomicBool>,
}

impl Reading {
    pub(super) fn new(log: Log, database: Database, coordinator: Arc<dyn Coordinator>) -> Self {
        let progress = Progress::new(log.partitions());
        let reachable = Arc::new(AtomicBool::new(true));
        Self { log, database, progress, coordinator, states: watch::Sender::new(None), reachable }
    }

    /// What is projected here.
    pub(super) fn states(&self) -> watch::Receiver<Projecting> {
        self.states.subscribe()
    }

    /// Whether the database answers, as far as somebody who follows knows.
    pub(super) fn reachable(&self) -> Arc<AtomicBool> {
        self.reachable.clone()
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
        let states = Projection::ALL.map(|projection| (projection, projector.watch(projection))).into();
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

/// The processes of a node: driven here, or left to another node.
pub(super) struct Driving {
    parts: Parts,
    coordinator: Arc<dyn Coordinator>,
    status: watch::Sender<Processing>,
}

impl Driving {
    pub(super) fn new(parts: Parts, coordinator: Arc<dyn Coordinator>) -> Self {
        Self { parts, coordinator, status: watch::Sender::new(None) }
    }

    /// See [`Parts::stock`].
    pub(super) fn stock(&self) -> StockFanOut {
        self.parts.stock()
    }

    /// How what is driven here is.
    pub(super) fn status(&self) -> watch::Receiver<Processing> {
        self.status.subscribe()
    }

    /// Drives whenever it is this node's turn, until `stop`. Two nodes that drive at once for a moment harm nobody:
    /// the ids of their commands are the same.
    pub(super) async fn take_turns(self, stop: CancellationToken) {
        loop {
            let grant = tokio::select! {
                grant = self.coordinator.acquire(Duty::Sagas, 0) => grant,
                () = stop.cancelled() => return,
            };
            let sagas = Sagas::start(self.parts.clone());
            self.status.send_replace(Some(sagas.status()));
            let fenced = tokio::select! {
                () = stop.cancelled() => false,
                () = grant.lost.cancelled() => false,
                // Alone on its log and no longer: whoever took the partition drives them (`rulings.md` 18).
                fenced = self.parts.commands.fenced() => {
                    warn!(partition = fenced.partition, "another node owns a partition: processes stop here");
                    true
                }
            };
            sagas.stop().await;
            self.status.send_replace(None);
            self.coordinator.release(Duty::Sagas).await;
            if fenced || stop.is_cancelled() {
                return;
            }
        }
    }
}
