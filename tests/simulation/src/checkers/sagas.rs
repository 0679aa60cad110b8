//! I9: whatever began has ended, nothing is held without an owner, and what ended well is sold.

use std::collections::{BTreeMap, BTreeSet};

use shopstream_domain::inventory::{ReservationEvent, StockKey};
use shopstream_domain::model::Event;
use shopstream_domain::order::{CheckoutEvent, Event as OrderEvent};
use shopstream_domain::returns::Event as ReturnEvent;
use shopstream_domain::{OrderId, ReservationId, StreamId};

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

/// An order and its checkout.
#[derive(Default)]
struct Course {
    submitted: bool,
    confirmed: bool,
    cancelled: u32,
    end: Option<&'static str>,
}

#[derive(Default)]
struct Courses {
    orders: BTreeMap<String, Course>,
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

impl Course {
    fn judge(&self, id: &str, found: &mut Found) {
        found.require(!self.submitted || self.end.is_some(), "I9", || {
            format!("{id}: its checkout never ended")
        });
        found.require(self.end != Some("done") || (self.confirmed && self.cancelled == 0), "I9", || {
            format!("{id}: done, but not confirmed or cancelled as well")
        });
        found.require(self.end != Some("cancelled") || self.cancelled == 1, "I9", || {
            format!("{id}: undone, and its order cancelled {} times", self.cancelled)
        });
    }
}

fn fold(evidence: &Evidence) -> Courses {
    let mut courses = Courses::default();
    for (record, events) in evidence.counted.iter().zip(&evidence.events) {
        let stream = &record.commit.stream;
        for event in events {
            match event {
                Event::Order(event) => {
                    let course = courses.orders.entry(stream.id().to_owned()).or_default();
                    match event {
                        OrderEvent::Submitted(_) => course.submitted = true,
                        OrderEvent::Confirmed(_) => course.confirmed = true,
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
