//! What is shown is true: nobody is told that a thing is not there which is, nobody misses what the same node told
//! before, and what is shown together is of one moment.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use shopstream_domain::catalog::ProductEvent;
use shopstream_domain::model::Event;
use shopstream_domain::order::CheckoutEvent;
use shopstream_domain::payment::Event as PaymentEvent;
use shopstream_domain::returns::Event as ReturnEvent;
use shopstream_domain::{StreamId, StreamKind};
use shopstream_eventlog::{CommitRecord, Position};
use shopstream_proto::order::v1::GetOrderResponse;

use super::Found;
use crate::callers::{Exchange, Heard, Operation, Request};
use crate::evidence::Evidence;

type Commit<'a> = (&'a CommitRecord, &'a [Event]);

/// Every answer to a query, against the log and what was answered before.
pub(super) fn of_one_moment(evidence: &Evidence, found: &mut Found) {
    let mut by_root: BTreeMap<&str, Vec<Commit<'_>>> = BTreeMap::new();
    for (record, events) in evidence.counted.iter().zip(&evidence.events) {
        by_root.entry(record.commit.stream.root()).or_default().push((record, events.as_slice()));
    }
    let stream_at: BTreeMap<Position, &StreamId> =
        evidence.counted.iter().map(|record| (record.position, &record.commit.stream)).collect();
    let told: Vec<Told<'_>> = exchanges(evidence).filter_map(|it| Told::of(it, &stream_at)).collect();
    for (exchange, operation, heard) in exchanges(evidence) {
        let Some(root) = root_of(&operation.request) else { continue };
        let commits = by_root.get(root.as_str()).into_iter().flatten();
        let theirs = begun(commits.filter(|(record, _)| operation.request.shows(&record.commit.stream)));
        let look = Look { exchange, operation, theirs };
        match heard {
            Heard::Answer(answer) => look.shows_all(answer, &told, found),
            Heard::Refusal { reason, .. } if reason.ends_with("_NOT_FOUND") => look.missed(&told, found),
            Heard::Refusal { .. } | Heard::Nothing => {}
        }
    }
}

/// The commits of streams since something is there. A stream may have had others before, of requests that came to
/// nothing.
fn begun<'a>(commits: impl Iterator<Item = &'a Commit<'a>>) -> Vec<Commit<'a>> {
    let mut streams = BTreeSet::new();
    let mut begun = Vec::new();
    for (record, events) in commits {
        let stream = record.commit.stream.as_str();
        // Of stock there is a row as soon as anything is said of it.
        if record.commit.stream.kind() == StreamKind::Stock || events.iter().any(is_beginning) {
            streams.insert(stream);
        }
        if streams.contains(stream) {
            begun.push((*record, *events));
        }
    }
    begun
}

/// One query and what the log has of its subject.
struct Look<'a> {
    exchange: &'a Exchange,
    operation: &'a Operation,
    theirs: Vec<Commit<'a>>,
}

/// What somebody was told, and where.
struct Told<'a> {
    exchange: &'a Exchange,
    operation: &'a Operation,
    position: Position,
    root: &'a str,
}

impl<'a> Told<'a> {
    fn of(
        (exchange, operation, _): (&'a Exchange, &'a Operation, &'a Heard),
        streams: &BTreeMap<Position, &'a StreamId>,
    ) -> Option<Self> {
        // The place of a hold's answer is one that a process wrote.
        if matches!(operation.request, Request::ReserveStock(_)) {
            return None;
        }
        let position = exchange.position?;
        Some(Self { exchange, operation, position, root: streams.get(&position)?.root() })
    }
}

impl Look<'_> {
    /// Nobody had been told of anything behind the beginning of the subject when the call came.
    fn missed(&self, told: &[Told<'_>], found: &mut Found) {
        // An order is there once its own stream is: what else it is made of comes later.
        let own = self.theirs.iter().find(|(record, _)| {
            let is_order = record.commit.stream.kind() == StreamKind::Order;
            is_order || !matches!(self.operation.request, Request::GetOrder(_))
        });
        let Some((first, _)) = own else { return };
        let at = first.position;
        let earlier = told.iter().rfind(|told| {
            // What others say is not known to a node that has been replaced and has not noticed.
            told.exchange.node == self.exchange.node
                && told.exchange.returned < self.exchange.called
                && told.position.partition == at.partition
                && told.position.offset >= at.offset
        });
        found.require(earlier.is_none(), "READ", || {
            format!(
                "{}: not found, and it is on the log at {at}, which had come to {} before, by node {:?}",
                self.told(),
                earlier.map_or(at, |earlier| earlier.position),
                earlier.map(|earlier| earlier.exchange.node),
            )
        });
    }

    fn shows_all(&self, answer: &[u8], told: &[Told<'_>], found: &mut Found) {
        let Some(shown) = self.exchange.position else { return };
        let last = self.theirs.iter().any(|(record, _)| record.position == shown);
        found.require(last, "READ", || format!("{}: its last event is said to be at {shown}", self.told()));
        for earlier in told {
            if earlier.exchange.node != self.exchange.node
                || earlier.exchange.returned >= self.exchange.called
                || earlier.position.partition != shown.partition
                || Some(earlier.root) != self.theirs.first().map(|(record, _)| record.commit.stream.root())
            {
                continue;
            }
            let known = self.theirs.iter().rfind(|(record, _)| record.position <= earlier.position);
            let missed = known.filter(|(record, _)| record.position > shown);
            found.require(missed.is_none(), "READ", || {
                let (node, position) = (earlier.exchange.node, earlier.position);
                let of = missed.map(|(record, _)| (&record.commit.stream, record.position));
                format!(
                    "{}: shown as of {shown} without {of:?}, after node {node} had answered {} with {position}",
                    self.told(),
                    earlier.operation.request.method()
                )
            });
        }
        if matches!(self.operation.request, Request::GetOrder(_))
            && let Ok(answer) = GetOrderResponse::decode(answer)
        {
            self.is_whole(&answer, shown, found);
        }
    }

    /// An order, its checkout and its payments as they were at `shown`, and at no other moment.
    fn is_whole(&self, answer: &GetOrderResponse, shown: Position, found: &mut Found) {
        let Some(order) = &answer.order else { return };
        let mut whole = Whole::default();
        for (record, events) in self.theirs.iter().take_while(|(record, _)| record.position <= shown) {
            whole.fold(record, events);
        }
        let payments: BTreeSet<String> = order.payment_ids.iter().cloned().collect();
        let refunded = order.totals.as_ref().and_then(|totals| totals.refunded.as_ref());
        let refunded = refunded.map_or(0, |money| money.amount_minor);
        let same = order.version == whole.version
            && payments == whole.payments
            && refunded == whole.refunded
            && whole.checkout.is_none_or(|stage| stage == order.checkout_state);
        found.require(same, "READ", || {
            let (version, state) = (order.version, &order.checkout_state);
            format!(
                "{}: shown at {shown} in version {version} with {payments:?}, {refunded} refunded and {state}, when there was {whole:?}",
                self.told()
            )
        });
    }

    fn told(&self) -> String {
        let Exchange { node, .. } = self.exchange;
        format!("{:?} at node {node}", self.operation.request)
    }
}

/// What is told of an order besides its lines.
#[derive(Debug, Default)]
struct Whole {
    version: i64,
    payments: BTreeSet<String>,
    refunded: i64,
    /// `None` where it is back where it was before.
    checkout: Option<&'static str>,
}

impl Whole {
    fn fold(&mut self, record: &CommitRecord, events: &[Event]) {
        match record.commit.stream.kind() {
            StreamKind::Order => {
                self.version = i64::try_from(record.commit.last_version()).unwrap_or(i64::MAX);
            }
            StreamKind::Payment => {
                self.payments.insert(record.commit.stream.id().to_owned());
            }
            _ => {}
        }
        for event in events {
            match event {
                Event::Payment(event) => self.refunded += gone_back(event),
                Event::Checkout(event) => self.checkout = stage(event),
                _ => {}
            }
        }
    }
}

/// Whether something is there since this event.
fn is_beginning(event: &Event) -> bool {
    match event {
        Event::Product(event) => matches!(event, ProductEvent::Drafted(_)),
        Event::Payment(event) => matches!(event, PaymentEvent::Initiated(_)),
        Event::Return(event) => matches!(event, ReturnEvent::Requested(_)),
        Event::Order(_) | Event::Checkout(_) => true,
        _ => false,
    }
}

fn gone_back(event: &PaymentEvent) -> i64 {
    match event {
        PaymentEvent::RefundSucceeded(event) => event.amount_minor,
        PaymentEvent::ExternalRefund(event) => event.amount_minor,
        PaymentEvent::RefundSettled(event) => event.amount_minor,
        PaymentEvent::Settled(event) => event.amount_minor,
        _ => 0,
    }
}

fn stage(event: &CheckoutEvent) -> Option<&'static str> {
    Some(match event {
        CheckoutEvent::Started(_) => "Started",
        CheckoutEvent::StockHeld(_) => "StockHeld",
        CheckoutEvent::PaymentPending(_) => "PaymentPending",
        CheckoutEvent::AwaitingCustomer(_) => "AwaitingCustomer",
        CheckoutEvent::PaymentUnknown(_) => "PaymentUnknown",
        CheckoutEvent::PaymentSecured(_) => "PaymentSecured",
        CheckoutEvent::StockCommitted(_) => "StockCommitted",
        CheckoutEvent::Done(_) => "Done",
        CheckoutEvent::Compensating(_) => "Compensating",
        CheckoutEvent::Reversing(_) => "Reversing",
        CheckoutEvent::Cancelled(_) => "Cancelled",
        CheckoutEvent::NeedsAttention(_) => "NeedsAttention",
        CheckoutEvent::Resumed(_) | CheckoutEvent::Settled(_) => return None,
    })
}

fn exchanges(evidence: &Evidence) -> impl Iterator<Item = (&Exchange, &Operation, &Heard)> {
    evidence.ledger.exchanges.iter().filter_map(|exchange| {
        let operation = evidence.ledger.operations.get(exchange.operation)?;
        Some((exchange, operation, operation.heard.get(exchange.heard)?))
    })
}

/// The root of what a query is about; `None` for a command.
fn root_of(request: &Request) -> Option<String> {
    let stream = match request {
        Request::GetProduct(request) => return Some(request.product_id.clone()),
        Request::GetStock(request) => format!("{}@main", request.sku),
        Request::GetOrder(request) => return request.order_id.strip_prefix("ord_").map(str::to_owned),
        Request::GetPayment(request) => {
            return Some(request.payment_id.strip_prefix("pay_")?.rsplit_once('.')?.0.to_owned());
        }
        Request::GetReturn(request) => return Some(request.return_id.clone()),
        _ => return None,
    };
    Some(stream)
}
