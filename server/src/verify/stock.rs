//! Laws 1 to 3: stock is neither made nor lost, every hold has its units, nothing is sold that was not there. And of law 6:
//! an order that stands has sold exactly what was ordered, and none is left without its checkout.

use std::collections::{BTreeMap, HashMap};

use shopstream_domain::inventory::{Bucket, Decision, ReservationEvent, StockEvent, StockKey};
use shopstream_domain::order::{CheckoutEvent, Event as OrderEvent};
use shopstream_domain::{OrderId, StreamId};

use super::laws::{Broken, Findings};

/// All stock items and all reservations.
#[derive(Default)]
pub(super) struct Stock {
    items: HashMap<StreamId, Item>,
    /// By tenant and reservation id.
    reservations: BTreeMap<(String, String), Hold>,
    /// By tenant and order id.
    orders: BTreeMap<(String, String), Ordered>,
}

/// What an order wants, and what was done about it.
#[derive(Default)]
struct Ordered {
    /// Units by stock item, once it was submitted.
    units: BTreeMap<String, i64>,
    /// Its checkout began, with this hold.
    first_hold: Option<String>,
    /// It stands, and its stock was sold under this hold.
    sold_under: Option<String>,
}

#[derive(Default)]
struct Item {
    on_hand: i64,
    available: i64,
    reserved: i64,
    committed: i64,
    /// Units by reservation: reserved, committed.
    holds: HashMap<String, (i64, i64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Allocating,
    Held,
    Rejected,
    Committed,
    Released,
}

#[derive(Default)]
struct Hold {
    keys: Vec<StockKey>,
    status: Option<Status>,
    /// The decision that the stock items were seen to follow.
    settled: Option<Decision>,
    put_back: HashMap<String, i64>,
}

impl Stock {
    pub(super) fn item(&mut self, stream: &StreamId, event: &StockEvent) -> Result<(), Broken> {
        let item = self.items.entry(stream.clone()).or_default();
        match event {
            StockEvent::Received(received) => item.receive(received.quantity.get()),
            StockEvent::Adjusted(adjusted) => item.receive(adjusted.delta),
            StockEvent::Counted(counted) => {
                if counted.expected != item.on_hand {
                    let detail =
                        format!("counted against {}, but {} are on hand", counted.expected, item.on_hand);
                    return Broken::law(1, detail);
                }
                item.receive(counted.found - counted.expected);
            }
            StockEvent::Reserved(reserved) => {
                item.hold(reserved.reservation_id.as_str(), reserved.quantity.get(), 0)?;
            }
            StockEvent::ReservationRejected(_) => {}
            StockEvent::Committed(committed) => {
                let units = committed.quantity.get();
                item.hold(committed.reservation_id.as_str(), -units, units)?;
            }
            StockEvent::Released(released) => match released.from {
                Bucket::Reserved => item.hold(released.reservation_id.as_str(), -released.quantity, 0)?,
                Bucket::Committed => item.hold(released.reservation_id.as_str(), 0, -released.quantity)?,
            },
            StockEvent::PutBack(put_back) => {
                let units = put_back.quantity.get();
                item.hold(put_back.reservation_id.as_str(), 0, -units)?;
                let key = (stream.tenant_str().to_owned(), put_back.reservation_id.as_str().to_owned());
                let hold = self.reservations.entry(key).or_default();
                *hold.put_back.entry(stream.id().to_owned()).or_default() += units;
            }
        }
        item.check()
    }

    pub(super) fn reservation(&mut self, stream: &StreamId, event: &ReservationEvent) -> Result<(), Broken> {
        let key = (stream.tenant_str().to_owned(), stream.id().to_owned());
        let hold = self.reservations.entry(key).or_default();
        match event {
            ReservationEvent::Requested(requested) => {
                hold.keys.clone_from(&requested.keys);
                hold.status = Some(Status::Allocating);
            }
            ReservationEvent::Held(_) => hold.status = Some(Status::Held),
            ReservationEvent::Rejected(_) => hold.decide(Status::Rejected),
            ReservationEvent::Extended(_) => {}
            ReservationEvent::Committed(_) => hold.decide(Status::Committed),
            ReservationEvent::Released(_) => hold.decide(Status::Released),
            ReservationEvent::Settled(settled) => hold.settled = Some(settled.decision),
        }
        Ok(())
    }

    pub(super) fn order(&mut self, stream: &StreamId, event: &OrderEvent) {
        let key = (stream.tenant_str().to_owned(), stream.id().to_owned());
        let order = self.orders.entry(key).or_default();
        match event {
            OrderEvent::Submitted(submitted) => {
                for line in &submitted.placement.lines {
                    let item = format!("{}@{}", line.sku, line.location);
                    *order.units.entry(item).or_default() += line.quantity.get();
                }
            }
            OrderEvent::Confirmed(confirmed) => {
                order.sold_under = Some(confirmed.reservation_id.to_string());
            }
            // From here on it is being undone.
            OrderEvent::CancellationRequested(_) => order.sold_under = None,
            OrderEvent::Cancelled(_) => {
                order.sold_under = None;
                order.units.clear();
            }
            OrderEvent::Drafted(_) | OrderEvent::AwaitingPayment(_) | OrderEvent::UnitsReturned(_) => {}
        }
    }

    pub(super) fn checkout(&mut self, stream: &StreamId, event: &CheckoutEvent) {
        let Some(order_id) = OrderId::of_checkout(stream.id()) else { return };
        let key = (stream.tenant_str().to_owned(), order_id.to_string());
        let order = self.orders.entry(key).or_default();
        let hold = match event {
            CheckoutEvent::Started(started) => started.reservation_id.clone(),
            _ => order_id.reservation(),
        };
        order.first_hold.get_or_insert_with(|| hold.to_string());
    }

    fn conclude_orders(&self, findings: &mut Findings) {
        for ((tenant, id), order) in &self.orders {
            let name = format!("{tenant}/order/{id}");
            if !order.units.is_empty() && order.first_hold.is_none() {
                findings.skipped.push(name.clone());
            }
            let Some(hold_id) = &order.sold_under else { continue };
            let hold = self.reservations.get(&(tenant.clone(), hold_id.clone()));
            let sold: BTreeMap<String, i64> = hold
                .filter(|hold| hold.status == Some(Status::Committed))
                .map(|hold| hold.keys.iter().map(|key| (item_of(key), key.quantity.get())).collect())
                .unwrap_or_default();
            if sold != order.units {
                let detail = format!("ordered {:?}, and {hold_id} has sold {sold:?}", order.units);
                findings.broken(6, &name, detail);
            }
        }
    }

    /// Law 2: per reservation, so that the sums follow.
    pub(super) fn conclude(&self, findings: &mut Findings) {
        self.conclude_orders(findings);
        for ((tenant, id), hold) in &self.reservations {
            let name = format!("{tenant}/reservation/{id}");
            if hold.is_unfinished() {
                findings.skipped.push(name);
                continue;
            }
            for key in &hold.keys {
                let item = format!("{}@{}", key.sku, key.location);
                let units = key.quantity.get();
                let back = hold.put_back.get(&item).copied().unwrap_or(0);
                let wanted = match hold.status {
                    Some(Status::Held) => (units, 0),
                    Some(Status::Committed) => (0, units - back),
                    _ => (0, 0),
                };
                let found = self.units(tenant, &item, id);
                if found != wanted {
                    let detail = format!(
                        "{item} has {} reserved and {} committed for it, not {} and {}",
                        found.0, found.1, wanted.0, wanted.1
                    );
                    findings.broken(2, &name, detail);
                }
            }
        }
        for (stream, item) in &self.items {
            for (reservation, (reserved, committed)) in &item.holds {
                let key = (stream.tenant_str().to_owned(), reservation.clone());
                let known = self.reservations.get(&key).is_some_and(|hold| {
                    hold.keys.iter().any(|key| format!("{}@{}", key.sku, key.location) == stream.id())
                });
                if !known && (*reserved, *committed) != (0, 0) {
                    let detail =
                        format!("holds {reserved} + {committed} units for {reservation}, which never asked");
                    findings.broken(2, stream.as_str(), detail);
                }
            }
        }
    }

    /// How many reservations hold stock for `ord_X`, of the one that its checkout began with and of `res_X.2`, which may
    /// have taken its place; `None` while work on one of them is unfinished.
    pub(super) fn held_for(&self, tenant: &str, order: &str) -> Option<usize> {
        let root = order.replacen("ord_", "res_", 1);
        let known = self.orders.get(&(tenant.to_owned(), order.to_owned()));
        let first = known.and_then(|order| order.first_hold.clone());
        let ids = [first.unwrap_or_else(|| format!("{root}.1")), format!("{root}.2")];
        let holds = ids.map(|id| self.reservations.get(&(tenant.to_owned(), id)));
        let mut holds = holds.into_iter().flatten();
        holds.try_fold(0, |held, hold| {
            let holds = matches!(hold.status, Some(Status::Held | Status::Committed));
            (!hold.is_unfinished()).then_some(held + usize::from(holds))
        })
    }

    fn units(&self, tenant: &str, item: &str, reservation: &str) -> (i64, i64) {
        let stream = format!("{tenant}/stock/{item}").parse::<StreamId>();
        let item = stream.ok().and_then(|stream| self.items.get(&stream));
        item.and_then(|item| item.holds.get(reservation)).copied().unwrap_or_default()
    }
}

fn item_of(key: &StockKey) -> String {
    format!("{}@{}", key.sku, key.location)
}

impl Item {
    fn receive(&mut self, units: i64) {
        self.on_hand += units;
        self.available += units;
    }

    /// Moves units of one reservation between available, reserved and committed.
    fn hold(&mut self, reservation: &str, reserved: i64, committed: i64) -> Result<(), Broken> {
        self.reserved += reserved;
        self.committed += committed;
        self.available -= reserved + committed;
        let hold = self.holds.entry(reservation.to_owned()).or_default();
        *hold = (hold.0 + reserved, hold.1 + committed);
        let left = *hold;
        if left == (0, 0) {
            self.holds.remove(reservation);
        }
        if left.0 < 0 || left.1 < 0 {
            let detail = format!(
                "{reservation} gave back more than it held: {} reserved, {} committed",
                left.0, left.1
            );
            return Broken::law(2, detail);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Broken> {
        let Self { on_hand, available, reserved, committed, .. } = *self;
        if available < 0 || reserved + committed > on_hand {
            return Broken::law(
                3,
                format!("oversold: {on_hand} on hand, {reserved} reserved, {committed} committed"),
            );
        }
        if reserved < 0 || committed < 0 || available + reserved + committed != on_hand {
            let detail =
                format!("{available} + {reserved} + {committed} is not {on_hand}, or a part is negative");
            return Broken::law(1, detail);
        }
        Ok(())
    }
}

impl Hold {
    fn decide(&mut self, status: Status) {
        self.status = Some(status);
        self.settled = None;
    }

    /// A decision that the stock items were not yet seen to follow.
    fn is_unfinished(&self) -> bool {
        match self.status {
            None | Some(Status::Held) => false,
            Some(Status::Rejected) => self.settled != Some(Decision::Rejected),
            Some(Status::Committed) => self.settled != Some(Decision::Committed),
            // Released before it asked, it has nothing that stock items could follow.
            Some(Status::Released) => !self.keys.is_empty() && self.settled != Some(Decision::Released),
            Some(Status::Allocating) => true,
        }
    }
}
