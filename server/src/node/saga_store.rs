//! The processes' memory in Postgres: their cursors in the checkpoint table, their unfinished work from the views, and
//! which of them are parked.

use std::time::Duration;

use async_trait::async_trait;
use shopstream_domain::StreamId;
use shopstream_domain::order::Timer;
use shopstream_eventlog::{Cursor, Position};
use shopstream_projections::inventory::ReservationStatus;
use shopstream_projections::{
    Checkpoint, CheckpointError, Database, DatabaseError, Keeper, Projection, ReadModels,
};
use shopstream_sagas::ports::{
    CursorMove, Obstacle, SagaStore, StoreError, Unfinished, UnfinishedCheckout, UnfinishedReservation,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::lag::Reached;

const CHECKPOINT: Checkpoint<'static> = Checkpoint { reader: "sagas", epoch: 1 };
/// Rows of one page.
const PAGE: u32 = 1000;
/// How long the views may need to show what the log holds.
const CATCH_UP: Duration = Duration::from_secs(30);
/// What unfinished work is looked up in.
const VIEWS: [Projection; 4] =
    [Projection::SagaBoard, Projection::ReservationView, Projection::PaymentView, Projection::ReturnView];

/// See [`SagaStore`].
pub(super) struct PostgresSagaStore {
    pub(super) database: Database,
    pub(super) reads: ReadModels,
    /// How far the processes have come, for whoever wants to know whether they do.
    pub(super) processed: watch::Sender<Reached>,
}

#[async_trait]
impl SagaStore for PostgresSagaStore {
    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError> {
        let cursors = CHECKPOINT.load(&self.database).await.map_err(unavailable)?;
        self.processed.send_replace(cursors.iter().map(|cursor| (cursor.partition, cursor.next)).collect());
        Ok(cursors)
    }

    async fn save(&self, moves: &[CursorMove]) -> Result<(), StoreError> {
        let moves: Vec<_> = moves.iter().map(|step| (step.from, step.to)).collect();
        CHECKPOINT.save(&self.database, &moves).await.map_err(|error| match error {
            CheckpointError::Overtaken { partition, .. } => StoreError::Moved { partition },
            CheckpointError::Database(error) => unavailable(error),
            // No view is folded here.
            error @ CheckpointError::Panicked => StoreError::Unavailable { detail: error.to_string() },
        })?;
        let reached = moves.iter().map(|(_, to)| (to.partition, to.next));
        self.processed.send_modify(|processed| processed.extend(reached));
        Ok(())
    }

    async fn unfinished(&self, at_least: &[Position]) -> Result<Unfinished, StoreError> {
        let deadline = Instant::now() + CATCH_UP;
        for view in VIEWS {
            let waited = self.reads.wait_for(view, at_least, deadline).await;
            waited.map_err(|behind| StoreError::Unavailable { detail: behind.to_string() })?;
        }
        let mut unfinished = Unfinished::default();
        self.checkouts(&mut unfinished).await.map_err(unavailable)?;
        self.reservations(&mut unfinished).await.map_err(unavailable)?;
        self.payments(&mut unfinished).await.map_err(unavailable)?;
        self.returns(&mut unfinished).await.map_err(unavailable)?;
        // What a view has parked it does not show.
        for keeper in VIEWS.map(Keeper::View).into_iter().chain([Keeper::Sagas]) {
            unfinished.parked.extend(self.parked(keeper).await.map_err(unavailable)?);
        }
        Ok(unfinished)
    }

    async fn park(&self, process: &StreamId, obstacle: &Obstacle) -> Result<(), StoreError> {
        let Obstacle { stream, version, position, detail } = obstacle.clone();
        let obstacle = shopstream_projections::Obstacle { stream, version, position, reason: detail };
        self.database.park_process(process, &obstacle).await.map_err(unavailable)
    }

    async fn free(&self, process: &StreamId) -> Result<(), StoreError> {
        self.database.free_process(process).await.map_err(unavailable)
    }

    fn wishes(&self) -> watch::Receiver<u64> {
        self.database.parked_wishes()
    }

    async fn wished(&self) -> Result<Vec<StreamId>, StoreError> {
        self.database.wished_processes().await.map_err(unavailable)
    }
}

impl PostgresSagaStore {
    async fn parked(&self, keeper: Keeper) -> Result<Vec<StreamId>, DatabaseError> {
        let mut streams: Vec<StreamId> = Vec::new();
        loop {
            let after = streams.last().map(|stream| (keeper, stream));
            let page = self.database.parked(Some(keeper), after, PAGE).await?;
            streams.extend(page.iter().map(|parked| parked.stream.clone()));
            if page.len() < PAGE as usize {
                return Ok(streams);
            }
        }
    }

    async fn checkouts(&self, unfinished: &mut Unfinished) -> Result<(), DatabaseError> {
        let mut last = None;
        loop {
            let after = last.as_ref().map(|(tenant, id): &(_, String)| (tenant, id.as_str()));
            let page = self.reads.unfinished_checkouts(after, PAGE).await?;
            last = page.last().map(|row| (row.tenant_id.clone(), row.checkout_id.clone()));
            unfinished.checkouts.extend(page.iter().map(|row| UnfinishedCheckout {
                stream: row.stream(),
                stage: row.stage,
                timer: row.timer_kind.zip(row.timer_due_at).map(|(kind, due_at)| Timer { kind, due_at }),
            }));
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn reservations(&self, unfinished: &mut Unfinished) -> Result<(), DatabaseError> {
        let mut last = None;
        loop {
            let after = last.as_ref().map(|(tenant, id)| (tenant, id));
            let page = self.reads.open_reservations(after, PAGE).await?;
            last = page.last().map(|row| (row.tenant_id.clone(), row.reservation_id.clone()));
            unfinished.reservations.extend(page.iter().map(|row| UnfinishedReservation {
                stream: row.reservation_id.stream(&row.tenant_id),
                held_until: row.until.filter(|_| row.status == ReservationStatus::Held),
            }));
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn payments(&self, unfinished: &mut Unfinished) -> Result<(), DatabaseError> {
        let mut last = None;
        loop {
            let after = last.as_ref().map(|(tenant, id)| (tenant, id));
            let page = self.reads.open_payments(after, PAGE).await?;
            last = page.last().map(|row| (row.tenant_id.clone(), row.payment_id.clone()));
            unfinished.payments.extend(page.iter().map(|row| row.payment_id.stream(&row.tenant_id)));
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn returns(&self, unfinished: &mut Unfinished) -> Result<(), DatabaseError> {
        let mut last = None;
        loop {
            let after = last.as_ref().map(|(tenant, id)| (tenant, id));
            let page = self.reads.unfinished_returns(after, PAGE).await?;
            last = page.last().map(|row| (row.tenant_id.clone(), row.return_id.clone()));
            unfinished.returns.extend(page.iter().map(|row| row.return_id.stream(&row.tenant_id)));
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }
}

fn unavailable(error: DatabaseError) -> StoreError {
    StoreError::Unavailable { detail: error.to_string() }
}
