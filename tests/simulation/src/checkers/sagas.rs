//! I9: whatever began has ended, nothing is held without an owner, and what ended well is sold.

use std::collections::{BTreeMap, BTreeSet};

use shopstream_domain::inventory::{ReservationEvent, StockKey};
use shopstream_domain::model::Event;
use shopstream_domain::order::{CheckoutEvent, Event as OrderEvent, Placement};
use shopstream_domain::returns::Event as ReturnEvent;
use shopstream_domain::{LocationId, OrderId, ReservationId, Sku, StreamId};

use super::{Found, stock};
use crate::evidence::Evidence;

/// A reservation, as its events say.
#[derive(Default)]
struct Hold {
    keys: Vec<StockKey>,
    sold: bool,
    open: bool,
    unsettled: bool,
    released: u32,
    order: Option<String>,
}

impl Hold {
    fn fold(&mut self, event: &ReservationEvent) {
        match event {
            ReservationEvent::Requested(event) => {
                self.keys.clone_from(&event.keys);
                self.open = true;
            }
            ReservationEvent::Held(_) | ReservationEvent::Extended(_) => {}
            ReservationEvent::Settled(_) => self.unsettled = false,
            ReservationEvent::Rejected(_) => self.decided(false),
            ReservationEvent::Committed(_) => self.decided(true),
            ReservationEvent::Released(_) => {
                self.decided(false);
                self.released += 1;
            }
        }
    }

    fn decided(&mut self, sold: bool) {
        (self.open, self.sold, self.unsettled) = (false, sold, !self.keys.is_empty());
    }
}

/// Units by SKU and location.
type Units<'a> = BTreeMap<(&'a Sku, &'a LocationId), i64>;

/// An order and its checkout.
#[derive(Default)]
struct Course<'a> {
    submitted: bool,
    drafted: Option<&'a Placement>,
    ordered: Units<'a>,
    /// It was submitted as something else than its draft, or twice.
    changed: bool,
    /// The hold under which it was sold.
    confirmed: Option<&'a ReservationId>,
    cancelled: u32,
    end: Option<&'static str>,
}

#[derive(Default)]
struct Courses<'a> {
    orders: BTreeMap<String, Course<'a>>,
    holds: BTreeMap<ReservationId, Hold>,
    /// Returns: whether they have ended.
    returns: BTreeMap<StreamId, bool>,
}

pub(super) fn ended(evidence: &Evidence, found: &mut Found) {
    if !evidence.at_rest {
        return;
    }
    let courses = fold(evidence);
    let mut parked = BTreeSet::new();
    for (id, course) in &courses.orders {
        if course.end == Some("parked") {
            parked.insert(id.as_str());
        }
        course.judge(id, found);
        course.is_sold(id, &courses.holds, found);
    }
    let waits = |hold: &Hold| hold.order.as_deref().is_some_and(|order| parked.contains(order));
    for (id, hold) in courses.holds.iter().filter(|(_, hold)| !waits(hold)) {
        found.require(!hold.open && !hold.unsettled, "I9", || format!("{id} is open or not followed"));
        found.require(hold.released <= 1, "I9", || format!("{id} was released {} times", hold.released));
    }
    for (stream, has_ended) in &courses.returns {
        found.require(*has_ended, "I9", || format!("{stream} has not ended"));
    }
    for (stream, item) in stock::items(evidence) {
        for (id, (held, sold)) in &item.units {
            let Some(hold) = courses.holds.get(id) else {
                found.require((*held, *sold) == (0, 0), "I9", || format!("{stream}: {id} never asked"));
                continue;
            };
            let settled = *held == 0 && (hold.sold || *sold == 0);
            found.require(settled || waits(hold), "I9", || {
                format!("{stream}: {held} held and {sold} sold for {id}, which has ended")
            });
        }
    }
}

impl Course<'_> {
    /// An order that stands is sold, and what is sold for it is what was ordered.
    fn is_sold(&self, id: &str, holds: &BTreeMap<ReservationId, Hold>, found: &mut Found) {
        let Some(reservation) = self.confirmed.filter(|_| self.end == Some("done")) else { return };
        let hold = holds.get(reservation);
        let sold = hold.is_some_and(|hold| hold.sold && units_of(&hold.keys) == self.ordered);
        found.require(sold, "I9", || {
            let keys = hold.map(|hold| (hold.sold, &hold.keys));
            format!("{id}: done, and under {reservation} there is {keys:?} for {:?}", self.ordered)
        });
    }

    fn judge(&self, id: &str, found: &mut Found) {
        found.require(!self.changed, "I9", || {
            format!("{id}: submitted twice, or as something else than its draft: {:?}", self.drafted)
        });
        found.require(!self.submitted || self.end.is_some(), "I9", || {
            format!("{id}: its checkout never ended")
        });
        found.require(
            self.end != Some("done") || (self.confirmed.is_some() && self.cancelled == 0),
            "I9",
            || format!("{id}: done, but not confirmed or cancelled as well"),
        );
        found.require(self.end != Some("cancelled") || self.cancelled == 1, "I9", || {
            format!("{id}: undone, and its order cancelled {} times", self.cancelled)
        });
    }
}

/// Whether an order is of its draft: only the prices may be others.
fn is_of(placement: &Placement, draft: &Placement) -> bool {
    let wanted = |of: &Placement| -> Vec<_> {
        of.lines.iter().map(|line| (line.sku.clone(), line.location.clone(), line.quantity)).collect()
    };
    (&placement.order_id, &placement.customer_id, placement.currency)
        == (&draft.order_id, &draft.customer_id, draft.currency)
        && wanted(placement) == wanted(draft)
}

fn units_of(keys: &[StockKey]) -> Units<'_> {
    let mut units = Units::new();
    for key in keys {
        *units.entry((&key.sku, &key.location)).or_default() += key.quantity.get();
    }
    units
}

fn fold(evidence: &Evidence) -> Courses<'_> {
    let mut courses = Courses::default();
    for (record, events) in evidence.counted.iter().zip(&evidence.events) {
        let stream = &record.commit.stream;
        for event in events {
            match event {
                Event::Order(event) => {
                    let course = courses.orders.entry(stream.id().to_owned()).or_default();
                    match event {
                        OrderEvent::Drafted(event) => course.drafted = Some(&event.placement),
                        OrderEvent::Submitted(event) => {
                            course.changed |= course.submitted
                                || course.drafted.is_some_and(|draft| !is_of(&event.placement, draft));
                            course.submitted = true;
                            for line in &event.placement.lines {
                                let units = course.ordered.entry((&line.sku, &line.location)).or_default();
                                *units += line.quantity.get();
                            }
                        }
                        OrderEvent::Confirmed(event) => course.confirmed = Some(&event.reservation_id),
                        OrderEvent::Cancelled(_) => course.cancelled += 1,
                        _ => {}
                    }
                }
                Event::Checkout(event) => {
                    let Some(order_id) = OrderId::of_checkout(stream.id()) else { continue };
                    courses.orders.entry(order_id.to_string()).or_default().end = match event {
                        CheckoutEvent::Done(_) => Some("done"),
                        CheckoutEvent::Cancelled(_) => Some("cancelled"),
                        CheckoutEvent::NeedsAttention(_) => Some("parked"),
                        _ => None,
                    };
                }
                Event::Reservation(event) => {
                    let Ok(id) = ReservationId::new(stream.id()) else { continue };
                    let hold = courses.holds.entry(id).or_default();
                    hold.fold(event);
                    let order = &record.commit.correlation_id;
                    if hold.order.is_none() && !order.is_empty() {
                        hold.order = Some(order.clone());
                    }
                }
                Event::Return(event) => {
                    let ended = courses.returns.entry(stream.clone()).or_default();
                    *ended |= matches!(event, ReturnEvent::Resolved(_) | ReturnEvent::Refused(_));
                }
                _ => {}
            }
        }
    }
    courses
}
