//! I7: stock is neither made nor lost, at every event of every item.

use std::collections::{BTreeMap, HashMap};

use shopstream_domain::inventory::{Bucket, StockEvent};
use shopstream_domain::model::Event;
use shopstream_domain::{ReservationId, StreamId};

use super::Found;
use crate::evidence::Evidence;

/// One item, as its events say.
#[derive(Default)]
pub(super) struct Item {
    on_hand: i64,
    available: i64,
    /// Units by reservation: held, sold.
    pub(super) units: BTreeMap<ReservationId, (i64, i64)>,
}

impl Item {
    fn fold(&mut self, event: &StockEvent) {
        match event {
            StockEvent::Received(event) => self.change(event.quantity.get()),
            StockEvent::Adjusted(event) => self.change(event.delta),
            StockEvent::Counted(event) => self.change(event.found - event.expected),
            StockEvent::Reserved(event) => self.shift(&event.reservation_id, event.quantity.get(), 0),
            StockEvent::ReservationRejected(_) => {}
            StockEvent::Committed(event) => {
                let units = event.quantity.get();
                self.shift(&event.reservation_id, -units, units);
            }
            StockEvent::Released(event) => match event.from {
                Bucket::Reserved => self.shift(&event.reservation_id, -event.quantity, 0),
                Bucket::Committed => self.shift(&event.reservation_id, 0, -event.quantity),
            },
            StockEvent::PutBack(event) => self.shift(&event.reservation_id, 0, -event.quantity.get()),
        }
    }

    fn change(&mut self, units: i64) {
        self.on_hand += units;
        self.available += units;
    }

    fn shift(&mut self, id: &ReservationId, held: i64, sold: i64) {
        self.available -= held + sold;
        let units = self.units.entry(id.clone()).or_default();
        *units = (units.0 + held, units.1 + sold);
    }

    fn adds_up(&self, touched: Option<&ReservationId>) -> bool {
        let negative =
            touched.and_then(|id| self.units.get(id)).is_some_and(|(held, sold)| *held < 0 || *sold < 0);
        !negative && self.available >= 0 && self.on_hand >= self.available
    }
}

/// Every item after the last event.
pub(super) fn items(evidence: &Evidence) -> HashMap<&StreamId, Item> {
    fold(evidence, &mut Found::default())
}

pub(super) fn conserved(evidence: &Evidence, found: &mut Found) {
    for (stream, item) in fold(evidence, found) {
        let held: i64 = item.units.values().map(|(held, sold)| held + sold).sum();
        found.require(item.available + held == item.on_hand, "I7", || {
            format!("{stream}: {} available and {held} held or sold of {}", item.available, item.on_hand)
        });
    }
}

fn fold<'a>(evidence: &'a Evidence, found: &mut Found) -> HashMap<&'a StreamId, Item> {
    let mut items: HashMap<&StreamId, Item> = HashMap::new();
    for (at, stream, event) in evidence.events() {
        let Event::Stock(event) = event else { continue };
        let item = items.entry(stream).or_default();
        item.fold(event);
        found.require(item.adds_up(touched(event)), "I7", || {
            format!("{stream} at {at}: {} of {} after {event:?}", item.available, item.on_hand)
        });
    }
    items
}

fn touched(event: &StockEvent) -> Option<&ReservationId> {
    match event {
        StockEvent::Received(_) | StockEvent::Adjusted(_) | StockEvent::Counted(_) => None,
        StockEvent::Reserved(event) => Some(&event.reservation_id),
        StockEvent::ReservationRejected(event) => Some(&event.reservation_id),
        StockEvent::Committed(event) => Some(&event.reservation_id),
        StockEvent::Released(event) => Some(&event.reservation_id),
        StockEvent::PutBack(event) => Some(&event.reservation_id),
    }
}
