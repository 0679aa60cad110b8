//! What the processes must remember, in memory: it outlives them, as a database would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use shopstream_command_handlers::testing::MemoryJournal;
use shopstream_domain::inventory::{Reservation, ReservationStatus};
use shopstream_domain::order::{Checkout, Stage};
use shopstream_domain::payment::PaymentIntent;
use shopstream_domain::returns::{Return, ReturnStatus};
use shopstream_domain::{Aggregate, Partition, StreamId, StreamKind};
use shopstream_eventlog::{Cursor, Position};

use crate::known::{FromModel, Histories, Known, Reached};
use crate::ports::{
    CursorMove, SagaStore, StoreError, Unfinished, UnfinishedCheckout, UnfinishedReservation,
};

/// Cursors in a map, and lists of what is unfinished folded from the journal when they are asked for.
pub struct MemoryStore {
    journal: Mutex<Arc<MemoryJournal>>,
    cursors: Mutex<BTreeMap<Partition, Cursor>>,
}

impl MemoryStore {
    /// An empty store that looks into `journal`.
    pub fn new(journal: Arc<MemoryJournal>) -> Arc<Self> {
        Arc::new(Self { journal: Mutex::new(journal), cursors: Mutex::default() })
    }

    /// Looks into another journal from here on: that of a restarted shop.
    pub fn set_journal(&self, journal: Arc<MemoryJournal>) {
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = journal;
    }

    fn journal(&self) -> Arc<MemoryJournal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl SagaStore for MemoryStore {
    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError> {
        Ok(self.cursors.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect())
    }

    async fn save(&self, moves: &[CursorMove]) -> Result<(), StoreError> {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        for CursorMove { from, to } in moves {
            if cursors.get(&to.partition).copied() != *from {
                return Err(StoreError::Moved { partition: to.partition });
            }
        }
        cursors.extend(moves.iter().map(|CursorMove { to, .. }| (to.partition, *to)));
        Ok(())
    }

    async fn unfinished(&self, at_least: &[Position]) -> Result<Unfinished, StoreError> {
        let journal = self.journal();
        let mut reached = Reached::default();
        at_least.iter().for_each(|position| reached.see(*position));
        let unavailable =
            |error: &dyn std::error::Error| StoreError::Unavailable { detail: error.to_string() };
        Histories(journal.clone()).load(&[], &reached).await.map_err(|error| unavailable(&error))?;
        let mut unfinished = Unfinished::default();
        for stream in journal.all().into_keys() {
            match stream.kind() {
                StreamKind::Checkout => {
                    let checkout = fold::<Checkout>(&journal, &stream)?;
                    let state = checkout.state();
                    if let Some(stage) =
                        state.stage().filter(|stage| !matches!(stage, Stage::Done | Stage::Cancelled))
                    {
                        unfinished.checkouts.push(UnfinishedCheckout { stream, stage, timer: state.timer() });
                    }
                }
                StreamKind::Reservation => {
                    let reservation = fold::<Reservation>(&journal, &stream)?;
                    let state = reservation.state();
                    let held_until = (state.status() == ReservationStatus::Held).then(|| state.until());
                    let open = state.is_unsettled() || state.status() == ReservationStatus::Requested;
                    if held_until.is_some() || open {
                        unfinished.reservations.push(UnfinishedReservation { stream, held_until });
                    }
                }
                StreamKind::Payment => {
                    if fold::<PaymentIntent>(&journal, &stream)?.state().open_operation().is_some() {
                        unfinished.payments.push(stream);
                    }
                }
                StreamKind::Return => {
                    let status = fold::<Return>(&journal, &stream)?.state().status();
                    if !matches!(status, Some(ReturnStatus::Resolved | ReturnStatus::Refused)) {
                        unfinished.returns.push(stream);
                    }
                }
                StreamKind::Product
                | StreamKind::Sku
                | StreamKind::Price
                | StreamKind::Stock
                | StreamKind::Order => {}
            }
        }
        Ok(unfinished)
    }
}

pub(super) fn fold<A: Aggregate<Event: FromModel>>(
    journal: &MemoryJournal,
    stream: &StreamId,
) -> Result<Known<A>, StoreError> {
    let mut known = Known::empty(stream.clone());
    let refolded = known.refold(&journal.history(stream));
    refolded.map_err(|error| StoreError::Unavailable { detail: error.to_string() })?;
    Ok(known)
}
