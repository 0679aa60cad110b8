//! A SKU at a location: its buckets, and whose units they are.
//!
//! Deadlines are the reservation's business; an item carries out what was decided there. Units stay on record by
//! reservation until they are released or returned (one day: shipped), since only this stream knows how many there
//! are to undo. The rest of the memory fades, see [`MEMORY`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::recent::Recent;
use super::{
    Bucket, Error, RejectionCause, ReleaseReason, StockAdjusted, StockCommand, StockCommitted, StockCounted,
    StockEvent, StockPutBack, StockReceived, StockReleased, StockReservationRejected, StockReserved,
};
use crate::aggregate::cqrs_aggregate;
use crate::text::{REASON, REFERENCE};
use crate::{Aggregate, Duration, LocationId, Quantity, ReservationId, ReturnId, Sku, StreamKind, Timestamp};

/// How long a finished reservation is remembered, so that a late reserve is refused: the longest hold (a day) and the
/// week for which a command may be repeated.
const MEMORY: Duration = Duration::from_days(8);

/// A SKU at a location.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StockItem {
    on_hand: i64,
    available: i64,
    reserved: i64,
    committed: i64,
    /// What each reservation holds of `reserved`.
    open: BTreeMap<ReservationId, Quantity>,
    /// What each reservation has of `committed`.
    sold: BTreeMap<ReservationId, i64>,
    finished: Recent<ReservationId, Ending>,
    /// What each return has brought back, so that it does so once.
    put_back: Recent<(ReservationId, ReturnId), Quantity>,
}

/// How a reservation ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Rejected,
    Released,
    /// It was sold, and all of it came back.
    Returned,
}

impl Aggregate for StockItem {
    const KIND: StreamKind = StreamKind::Stock;
    type Command = StockCommand;
    type Event = StockEvent;
    type Error = Error;

    fn decide(&self, command: &StockCommand, now: Timestamp) -> Result<Vec<StockEvent>, Error> {
        match command {
            StockCommand::Receive { sku, location, quantity, reference } => {
                self.receive(sku, location, *quantity, reference.as_deref())
            }
            StockCommand::Adjust { delta, reason } => self.adjust(*delta, reason),
            StockCommand::Count { found } => self.count(*found),
            StockCommand::Reserve { reservation_id, quantity } => {
                self.reserve(reservation_id, *quantity, now)
            }
            StockCommand::Commit { reservation_id } => self.commit(reservation_id),
            StockCommand::Release { reservation_id, reason } => {
                Ok(self.release(reservation_id, *reason, now))
            }
            StockCommand::PutBack { reservation_id, return_id, quantity } => {
                self.put_back(reservation_id, return_id, *quantity, now)
            }
        }
    }

    fn evolve(&mut self, event: &StockEvent) {
        match event {
            StockEvent::Received(received) => self.change_on_hand(received.quantity.get()),
            StockEvent::Adjusted(adjusted) => self.change_on_hand(adjusted.delta),
            StockEvent::Counted(counted) => self.change_on_hand(counted.found - counted.expected),
            StockEvent::Reserved(reserved) => self.on_reserved(reserved),
            StockEvent::ReservationRejected(rejected) => {
                self.finish(&rejected.reservation_id, Ending::Rejected, rejected.at);
            }
            StockEvent::Committed(committed) => self.on_committed(committed),
            StockEvent::Released(released) => self.on_released(released),
            StockEvent::PutBack(put_back) => self.on_put_back(put_back),
        }
    }

    fn weight(&self) -> usize {
        // An entry is its key's pointer and value, a share of half-empty tree nodes, and the text of the id itself.
        const PER_UNITS: usize = size_of::<(ReservationId, i64)>() * 2 + 48;
        const PER_FINISHED: usize = PER_UNITS + size_of::<(Timestamp, ReservationId)>();
        const PER_PUT_BACK: usize = PER_FINISHED + 2 * size_of::<ReturnId>() + 48;
        size_of::<Self>()
            + (self.open.len() + self.sold.len()) * PER_UNITS
            + self.finished.len() * PER_FINISHED
            + self.put_back.len() * PER_PUT_BACK
    }
}

cqrs_aggregate!(StockItem, "stock");

/// What `decide` looks at.
impl StockItem {
    /// Units here, whatever they are held for.
    pub fn on_hand(&self) -> i64 {
        self.on_hand
    }

    /// Units for anybody.
    pub fn available(&self) -> i64 {
        self.available
    }

    /// Units held for somebody who has not paid yet.
    pub fn reserved(&self) -> i64 {
        self.reserved
    }

    /// Units sold.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// What each open reservation holds.
    pub fn open_reservations(&self) -> impl ExactSizeIterator<Item = (&ReservationId, i64)> {
        self.open.iter().map(|(id, units)| (id, units.get()))
    }

    /// What each committed reservation has, less what was returned.
    pub fn committed_reservations(&self) -> impl ExactSizeIterator<Item = (&ReservationId, i64)> {
        self.sold.iter().map(|(id, units)| (id, *units))
    }

    fn receive(
        &self,
        sku: &Sku,
        location: &LocationId,
        quantity: Quantity,
        reference: Option<&str>,
    ) -> Result<Vec<StockEvent>, Error> {
        REFERENCE.check("reference", reference.unwrap_or_default())?;
        self.check_sum(quantity.get(), "quantity")?;
        let (sku, location, reference) = (sku.clone(), location.clone(), reference.map(str::to_owned));
        Ok(vec![StockEvent::Received(StockReceived { sku, location, quantity, reference })])
    }

    fn adjust(&self, delta: i64, reason: &str) -> Result<Vec<StockEvent>, Error> {
        REASON.check_present("reason", reason)?;
        if delta == 0 {
            return Ok(vec![]);
        }
        let on_hand = self.check_sum(delta, "delta")?;
        self.must_cover_held(on_hand, "delta")?;
        Ok(vec![StockEvent::Adjusted(StockAdjusted { delta, reason: reason.to_owned() })])
    }

    fn count(&self, found: i64) -> Result<Vec<StockEvent>, Error> {
        self.must_cover_held(found, "found")?;
        if found == self.on_hand {
            return Ok(vec![]);
        }
        Ok(vec![StockEvent::Counted(StockCounted { expected: self.on_hand, found })])
    }

    fn reserve(
        &self,
        reservation_id: &ReservationId,
        quantity: Quantity,
        now: Timestamp,
    ) -> Result<Vec<StockEvent>, Error> {
        let reservation_id = reservation_id.clone();
        match self.open.get(&reservation_id) {
            Some(held) if *held == quantity => return Ok(vec![]),
            Some(held) => {
                return Err(Error::HeldDiffers { reservation_id, held: *held, requested: quantity });
            }
            None => {}
        }
        if self.sold.contains_key(&reservation_id) {
            return Ok(vec![]);
        }
        let cause = match self.finished.get(&reservation_id) {
            Some(Ending::Rejected | Ending::Released | Ending::Returned) => RejectionCause::Finished,
            None if quantity.get() > self.available => RejectionCause::Shortage,
            None => return Ok(vec![StockEvent::Reserved(StockReserved { reservation_id, quantity })]),
        };
        Ok(vec![StockEvent::ReservationRejected(StockReservationRejected {
            reservation_id,
            requested: quantity,
            available: self.available,
            cause,
            at: now,
        })])
    }

    fn commit(&self, reservation_id: &ReservationId) -> Result<Vec<StockEvent>, Error> {
        let reservation_id = reservation_id.clone();
        if self.sold.contains_key(&reservation_id) {
            return Ok(vec![]);
        }
        if let Some(quantity) = self.open.get(&reservation_id).copied() {
            return Ok(vec![StockEvent::Committed(StockCommitted { reservation_id, quantity })]);
        }
        match self.finished.get(&reservation_id) {
            Some(Ending::Returned) => Ok(vec![]),
            Some(Ending::Rejected | Ending::Released) => Err(Error::Finished { reservation_id }),
            None => Err(Error::NotReserved { reservation_id }),
        }
    }

    fn release(
        &self,
        reservation_id: &ReservationId,
        reason: ReleaseReason,
        now: Timestamp,
    ) -> Vec<StockEvent> {
        let (quantity, from) = match (self.open.get(reservation_id), self.sold.get(reservation_id)) {
            (Some(held), _) => (held.get(), Bucket::Reserved),
            (None, Some(sold)) => (*sold, Bucket::Committed),
            (None, None) if self.finished.get(reservation_id).is_some() => return vec![],
            // It came before its reserve: leave a tombstone, so that the late reserve holds nothing for ever.
            (None, None) => (0, Bucket::Reserved),
        };
        let reservation_id = reservation_id.clone();
        vec![StockEvent::Released(StockReleased { reservation_id, quantity, from, reason, at: now })]
    }

    fn put_back(
        &self,
        reservation_id: &ReservationId,
        return_id: &ReturnId,
        quantity: Quantity,
        now: Timestamp,
    ) -> Result<Vec<StockEvent>, Error> {
        let (reservation_id, return_id) = (reservation_id.clone(), return_id.clone());
        match self.put_back.get(&(reservation_id.clone(), return_id.clone())) {
            Some(put_back) if *put_back == quantity => return Ok(vec![]),
            Some(put_back) => {
                return Err(Error::PutBackDiffers { return_id, put_back: *put_back, quantity });
            }
            None => {}
        }
        let committed = self.sold.get(&reservation_id).copied().unwrap_or(0);
        if quantity.get() > committed {
            return Err(Error::BeyondCommitted { reservation_id, committed, quantity });
        }
        Ok(vec![StockEvent::PutBack(StockPutBack { reservation_id, return_id, quantity, at: now })])
    }

    fn check_sum(&self, change: i64, field: &'static str) -> Result<i64, Error> {
        let overflow = Error::Overflow { field, on_hand: self.on_hand, change };
        self.on_hand.checked_add(change).ok_or(overflow)
    }

    fn must_cover_held(&self, on_hand: i64, field: &'static str) -> Result<(), Error> {
        // Both are parts of what is on hand, so their sum cannot overflow.
        let held = self.reserved + self.committed;
        if on_hand < held { Err(Error::BelowHeld { field, on_hand, held }) } else { Ok(()) }
    }
}

/// How `evolve` folds.
impl StockItem {
    fn change_on_hand(&mut self, change: i64) {
        self.on_hand += change;
        self.available += change;
    }

    fn on_reserved(&mut self, reserved: &StockReserved) {
        let units = reserved.quantity.get();
        self.available -= units;
        self.reserved += units;
        self.open.insert(reserved.reservation_id.clone(), reserved.quantity);
    }

    fn on_committed(&mut self, committed: &StockCommitted) {
        let units = committed.quantity.get();
        self.reserved -= units;
        self.committed += units;
        self.open.remove(&committed.reservation_id);
        self.sold.insert(committed.reservation_id.clone(), units);
    }

    fn on_released(&mut self, released: &StockReleased) {
        self.available += released.quantity;
        match released.from {
            Bucket::Reserved => {
                self.reserved -= released.quantity;
                self.open.remove(&released.reservation_id);
            }
            Bucket::Committed => {
                self.committed -= released.quantity;
                self.sold.remove(&released.reservation_id);
            }
        }
        self.finish(&released.reservation_id, Ending::Released, released.at);
    }

    fn on_put_back(&mut self, put_back: &StockPutBack) {
        let (id, units) = (&put_back.reservation_id, put_back.quantity.get());
        self.committed -= units;
        self.available += units;
        let left = self.sold.get(id).map_or(0, |sold| sold - units);
        if left > 0 {
            self.sold.insert(id.clone(), left);
        } else {
            self.sold.remove(id);
            self.finish(id, Ending::Returned, put_back.at);
        }
        let key = (id.clone(), put_back.return_id.clone());
        self.put_back.remember(&key, put_back.quantity, put_back.at);
        self.put_back.forget(put_back.at, MEMORY);
    }

    fn finish(&mut self, reservation_id: &ReservationId, ending: Ending, at: Timestamp) {
        self.finished.remember(reservation_id, ending, at);
        self.finished.forget(at, MEMORY);
    }
}
