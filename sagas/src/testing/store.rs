//! What the processes must remember, in memory: it outlives them, as a database would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use shopstream_command_handlers::testing::MemoryJournal;
use shopstream_domain::inventory::ReservationStatus;
use shopstream_domain::model::State;
use shopstream_domain::order::Stage;
use shopstream_domain::returns::ReturnStatus;
use shopstream_domain::{Aggregate, Partition, StreamId};
use shopstream_eventlog::{Cursor, Position, schema};
use tokio::sync::watch;

use crate::known::{FromModel, Histories, Known, Reached};
use crate::ports::{
    CursorMove, Obstacle, SagaStore, StoreError, Unfinished, UnfinishedCheckout, UnfinishedReservation,
};

/// Cursors in a map, and lists of what is unfinished folded from the journal when they are asked for.
pub struct MemoryStore {
    journal: Mutex<Arc<MemoryJournal>>,
    cursors: Mutex<BTreeMap<Partition, Cursor>>,
    parked: Mutex<BTreeMap<StreamId, Obstacle>>,
    wishes: watch::Sender<u64>,
    save_takes: Mutex<Duration>,
}

impl MemoryStore {
    /// An empty store that looks into `journal`.
    pub fn new(journal: Arc<MemoryJournal>) -> Arc<Self> {
        Arc::new(Self {
            journal: Mutex::new(journal),
            cursors: Mutex::default(),
            parked: Mutex::default(),
            wishes: watch::Sender::new(0),
            save_takes: Mutex::default(),
        })
    }

    /// Looks into another journal from here on: that of a restarted shop.
    pub fn set_journal(&self, journal: Arc<MemoryJournal>) {
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = journal;
    }

    /// The processes that are parked, and why.
    pub fn parked(&self) -> BTreeMap<StreamId, Obstacle> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wishes that every parked process is tried again.
    pub fn retry_parked(&self) {
        self.wishes.send_modify(|wishes| *wishes += 1);
    }

    /// How long it takes from here on to save cursors: as a database would, some.
    pub fn set_save_takes(&self, takes: Duration) {
        *self.save_takes.lock().unwrap_or_else(PoisonError::into_inner) = takes;
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
        let takes = *self.save_takes.lock().unwrap_or_else(PoisonError::into_inner);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
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
        for (stream, history) in journal.all() {
            let mut state = State::empty(stream.kind());
            for data in history.iter().flat_map(|record| &record.commit.events) {
                let event = schema::decode(stream.kind(), data).map_err(|error| unavailable(&error))?;
                state.evolve(&event);
            }
            note_unfinished(&stream, &state, &mut unfinished);
        }
        unfinished.parked.extend(self.parked().into_keys());
        Ok(unfinished)
    }

    async fn park(&self, process: &StreamId, obstacle: &Obstacle) -> Result<(), StoreError> {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.insert(process.clone(), obstacle.clone());
        Ok(())
    }

    async fn free(&self, process: &StreamId) -> Result<(), StoreError> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).remove(process);
        Ok(())
    }

    fn wishes(&self) -> watch::Receiver<u64> {
        self.wishes.subscribe()
    }

    async fn wished(&self) -> Result<Vec<StreamId>, StoreError> {
        Ok(self.parked().into_keys().collect())
    }
}

/// Lists `stream`, whose state this is, where a restart has to take it up again.
pub fn note_unfinished(stream: &StreamId, state: &State, unfinished: &mut Unfinished) {
    let stream = stream.clone();
    match state {
        State::Checkout(checkout) => {
            let stage = checkout.stage().filter(|stage| !matches!(stage, Stage::Done | Stage::Cancelled));
            let timer = checkout.timer();
            unfinished.checkouts.extend(stage.map(|stage| UnfinishedCheckout { stream, stage, timer }));
        }
        State::Reservation(reservation) => {
            let held_until = (reservation.status() == ReservationStatus::Held).then(|| reservation.until());
            let open = reservation.is_unsettled() || reservation.status() == ReservationStatus::Requested;
            if held_until.is_some() || open {
                unfinished.reservations.push(UnfinishedReservation { stream, held_until });
            }
        }
        State::Payment(payment) => {
            unfinished.payments.extend(payment.open_operation().map(|_| stream));
        }
        State::Return(goods) => {
            let ended = goods.status().is_some_and(ReturnStatus::is_terminal);
            unfinished.returns.extend((!ended).then_some(stream));
        }
        State::Product(_)
        | State::Sku(_)
        | State::Price(_)
        | State::Stock(_)
        | State::Order(_)
        | State::Request(_) => {}
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
