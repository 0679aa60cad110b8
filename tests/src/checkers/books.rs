//! I7, I8 and I9: stock, money, and what spans orders. The laws are those of `shopstream verify`; what it has no law for
//! is checked here: how much the provider moved, and in which order a checkout undoes.

use std::collections::{BTreeMap, HashMap};

use shopstream_domain::StreamKind;
use shopstream_domain::inventory::{ReleaseReason, ReservationEvent};
use shopstream_domain::model::Event;
use shopstream_domain::order::{CheckoutEvent, Event as OrderEvent};
use shopstream_domain::payment::{Event as PaymentEvent, at_provider};
use shopstream_eventlog::{Offset, schema};
use shopstream_server::verify::{Laws, ProviderCall, Seen, Violation};

use super::log::LogImage;
use super::{Invariant, Verdict};
use crate::Call;

/// I7, I8 and I9, in this order.
pub fn books(log: &LogImage, provider: &[Call], at_rest: bool) -> [Verdict; 3] {
    let mut books = Books::default();
    for seen in events(log) {
        books.see(&seen);
    }
    books.conclude(provider, at_rest)
}

/// Every event that counts and can be read; I17 speaks of the others.
fn events(log: &LogImage) -> impl Iterator<Item = Seen> {
    log.commits().flat_map(|(entry, commit)| {
        let decoded = commit.events.iter().filter_map(|data| schema::decode(commit.stream.kind(), data).ok());
        decoded.map(|event| Seen { position: entry.position, stream: commit.stream.clone(), event })
    })
}

struct Books {
    laws: Laws,
    verdicts: [Verdict; 3],
    /// What each provider operation moved, by our own log: under the provider's name for it.
    moved: HashMap<String, i64>,
    checkouts: BTreeMap<(String, String), Undoing>,
}

/// What the undoing of one order left on the log, as offsets of the one partition that all of it is in.
#[derive(Default)]
struct Undoing {
    money_back: Vec<Offset>,
    released: Vec<(Offset, ReleaseReason)>,
    order_cancelled: Vec<Offset>,
    ended: Vec<Offset>,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            laws: Laws::default(),
            verdicts: [Invariant::I7, Invariant::I8, Invariant::I9].map(Verdict::new),
            moved: HashMap::new(),
            checkouts: BTreeMap::new(),
        }
    }
}

impl Books {
    fn see(&mut self, seen: &Seen) {
        let [stock, money, checkouts] = &mut self.verdicts;
        match seen.stream.kind() {
            StreamKind::Stock | StreamKind::Reservation => stock.checked += 1,
            StreamKind::Order | StreamKind::Payment => money.checked += 1,
            StreamKind::Checkout => checkouts.checked += 1,
            StreamKind::Product
            | StreamKind::Sku
            | StreamKind::Price
            | StreamKind::Return
            | StreamKind::Request => {}
        }
        if let Err(violation) = self.laws.see(seen) {
            self.file(&violation);
        }
        let moved = match &seen.event {
            Event::Payment(PaymentEvent::Captured(event)) => Some((&event.key, event.amount_minor)),
            Event::Payment(PaymentEvent::RefundSucceeded(event)) => Some((&event.key, event.amount_minor)),
            Event::Payment(PaymentEvent::Authorized(event)) => Some((&event.key, event.amount_minor)),
            _ => None,
        };
        if let Some((key, amount_minor)) = moved {
            self.moved.insert(at_provider(&seen.stream.tenant(), key), amount_minor);
        }
        self.note_undoing(seen);
    }

    fn note_undoing(&mut self, seen: &Seen) {
        let Some(root) = root_of(seen.stream.kind(), seen.stream.id()) else { return };
        let undoing = self.checkouts.entry((seen.stream.tenant_str().to_owned(), root)).or_default();
        let at = seen.position.offset;
        match &seen.event {
            Event::Payment(PaymentEvent::Voided(_) | PaymentEvent::RefundSucceeded(_)) => {
                undoing.money_back.push(at);
            }
            Event::Reservation(ReservationEvent::Released(event)) => {
                undoing.released.push((at, event.reason))
            }
            Event::Order(OrderEvent::Cancelled(_)) => undoing.order_cancelled.push(at),
            Event::Checkout(CheckoutEvent::Cancelled(_)) => undoing.ended.push(at),
            _ => {}
        }
    }

    /// Each law is a part of one promise.
    fn file(&mut self, violation: &Violation) {
        let promise = match violation.law {
            1..=3 => 0,
            4 | 5 | 9 => 1,
            _ => 2,
        };
        self.verdicts[promise].violation(violation.to_string());
    }

    fn conclude(mut self, provider: &[Call], at_rest: bool) -> [Verdict; 3] {
        let asked = |call: &Call| ProviderCall {
            key: call.key.clone(),
            question: call.operation == "get",
            effective: call.effective,
        };
        let findings = self.laws.conclude(Some(&provider.iter().map(asked).collect::<Vec<_>>()));
        for violation in &findings.violations {
            self.file(violation);
        }
        let [_, money, checkouts] = &mut self.verdicts;
        for stream in findings.skipped.iter().filter(|_| at_rest) {
            checkouts.violation(format!("{stream} is unfinished"));
        }
        for call in provider.iter().filter(|call| call.effective) {
            let ours = self.moved.get(&call.key);
            if let ("authorize" | "capture" | "refund", Some(ours)) = (call.operation.as_str(), ours) {
                money.check(*ours == call.amount_minor, || {
                    format!("{}: the provider moved {}, the log says {ours}", call.key, call.amount_minor)
                });
            }
        }
        for ((tenant, root), undoing) in &self.checkouts {
            undoing.judge(&format!("{tenant}/{root}"), checkouts);
        }
        self.verdicts
    }
}

impl Undoing {
    /// Money first, then stock, then the order, then the checkout itself: the reverse of how they were gathered. Each
    /// once. What came late (a payment for an order that had ended) is undone after all of it, and stock whose time was
    /// over waits for nobody.
    fn judge(&self, name: &str, verdict: &mut Verdict) {
        let Some(ended) = self.ended.first() else { return };
        let cancelled = self.order_cancelled.len();
        verdict.check(cancelled == 1, || {
            format!("{name}: the checkout was undone, its order cancelled {cancelled} times")
        });
        if let Some(order) = self.order_cancelled.first() {
            verdict.check(order <= ended, || {
                format!("{name}: its checkout ended before its order was cancelled")
            });
            let late = self.released.iter().find(|(at, _)| at > order && at < ended);
            verdict.check(late.is_none(), || {
                format!("{name}: stock was given back after the order was cancelled")
            });
        }
        let stock = self.released.iter().filter(|(_, reason)| *reason != ReleaseReason::Expired);
        if let Some((stock, _)) = stock.min_by_key(|(at, _)| *at) {
            let late = self.money_back.iter().find(|at| *at > stock && *at < ended);
            verdict.check(late.is_none(), || format!("{name}: money was given back after the stock"));
        }
    }
}

/// What an order, its checkout, its reservations and its payments share.
fn root_of(kind: StreamKind, id: &str) -> Option<String> {
    let root = match kind {
        StreamKind::Order => id.strip_prefix("ord_"),
        StreamKind::Checkout => id.strip_prefix("chk_"),
        // Without a number it is a client's own.
        StreamKind::Reservation => {
            id.strip_prefix("res_").and_then(|rest| rest.split_once('.')).map(|(root, _)| root)
        }
        StreamKind::Payment => {
            id.strip_prefix("pay_").and_then(|rest| rest.rsplit_once('.')).map(|(root, _)| root)
        }
        StreamKind::Product
        | StreamKind::Sku
        | StreamKind::Price
        | StreamKind::Stock
        | StreamKind::Return
        | StreamKind::Request => None,
    };
    root.map(str::to_owned)
}
