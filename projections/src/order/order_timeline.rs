//! What happened to each order, in the order of the log.
//!
//! An order shares its root with its checkout, reservations and payments, so all of them are in one partition and
//! the offset alone puts their events into one order.

use shopstream_domain::inventory::ReservationEvent;
use shopstream_domain::model::Event;
use shopstream_domain::order::{self, CheckoutEvent};
use shopstream_domain::{OrderId, Partition, StreamId, StreamKind, TenantId, Timestamp, Version, payment};
use shopstream_eventlog::{Offset, Position};

use crate::memory::MemoryViews;
use crate::table::table;
use crate::view::{Derived, DerivedRows, Fact, Part, Poison};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(DerivedRows::<TimelineEntry>::new(schema))]
}

table! {
    /// One event of an order, its checkout, its reservations or one of its payments.
    pub struct TimelineEntry in "timeline" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// The order.
            order_id: OrderId,
            /// Where the commit is.
            offset: Offset,
            /// The event's place in the commit, from 0.
            index_in_commit: u32,
        }
        /// Where the commit is.
        partition: Partition,
        /// The stream it happened on.
        stream_id: StreamId,
        /// The version of that stream with this event.
        version: Version,
        /// The event's name.
        event_type: String,
        /// The event in one sentence, for people.
        summary: String,
        /// Who caused it.
        actor: String,
        /// When it was recorded.
        recorded_at: Timestamp,
        /// When it was true in the business.
        effective_at: Timestamp,
    }
}

/// A place in an order's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimelineKey {
    /// The commit's offset.
    pub offset: Offset,
    /// The event's place in the commit.
    pub index_in_commit: u32,
}

impl TimelineEntry {
    /// Its place.
    pub const fn place(&self) -> TimelineKey {
        TimelineKey { offset: self.offset, index_in_commit: self.index_in_commit }
    }

    /// Where the commit is.
    pub const fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }
}

impl Derived for TimelineEntry {
    const KINDS: &'static [StreamKind] =
        &[StreamKind::Order, StreamKind::Checkout, StreamKind::Reservation, StreamKind::Payment];
    type Key = (Partition, Offset, u32);

    fn key(&self) -> Self::Key {
        (self.partition, self.offset, self.index_in_commit)
    }

    fn derive(fact: &Fact<'_>, mut row: impl FnMut(Self)) -> Result<(), Poison> {
        let stream = fact.stream();
        let order_id = order_of(stream)
            .ok_or_else(|| Poison::Id { kind: "part of an order", id: stream.id().to_owned() })?;
        let Position { partition, offset } = fact.position();
        row(Self {
            tenant_id: stream.tenant(),
            order_id,
            offset,
            index_in_commit: fact.index as u32,
            partition,
            stream_id: stream.clone(),
            version: fact.version(),
            event_type: fact.event.event_type().to_owned(),
            summary: summary(fact.event),
            actor: fact.record.commit.actor.clone(),
            recorded_at: fact.recorded_at(),
            effective_at: fact.effective_at(),
        });
        Ok(())
    }
}

/// The order whose story a stream is part of; `None` for streams of other kinds.
pub fn order_of(stream: &StreamId) -> Option<OrderId> {
    let id = stream.id();
    match stream.kind() {
        StreamKind::Order => OrderId::new(id).ok(),
        StreamKind::Checkout => OrderId::of_checkout(id),
        StreamKind::Reservation => OrderId::of_reservation(id),
        StreamKind::Payment => {
            let (root, _attempt) = id.strip_prefix("pay_")?.rsplit_once('.')?;
            OrderId::new(&format!("ord_{root}")).ok()
        }
        StreamKind::Product
        | StreamKind::Sku
        | StreamKind::Price
        | StreamKind::Stock
        | StreamKind::Return
        | StreamKind::Request => None,
    }
}

/// An event of an order's story in one sentence. No names, no tokens: it is shown to whoever may see the order.
pub fn summary(event: &Event) -> String {
    match event {
        Event::Order(event) => of_order(event),
        Event::Checkout(event) => of_checkout(event),
        Event::Reservation(event) => of_reservation(event),
        Event::Payment(event) => of_payment(event),
        Event::Product(_)
        | Event::Sku(_)
        | Event::Price(_)
        | Event::Stock(_)
        | Event::Return(_)
        | Event::Request(_)
        | Event::Nothing(_) => event.event_type().to_owned(),
    }
}

fn of_order(event: &order::Event) -> String {
    match event {
        order::Event::Drafted(drafted) => {
            format!("written down with {} lines", drafted.placement.lines.len())
        }
        order::Event::Submitted(submitted) => {
            let placed = &submitted.placement;
            format!(
                "submitted: {} lines, {} {} in minor units",
                placed.lines.len(),
                placed.total_minor,
                placed.currency
            )
        }
        order::Event::AwaitingPayment(awaiting) => {
            format!("waits for the customer: payment {} said {}", awaiting.payment_id, awaiting.code)
        }
        order::Event::Confirmed(_) => "confirmed: stock committed, payment secured".to_owned(),
        order::Event::CancellationRequested(requested) => {
            format!("cancellation requested ({})", requested.reason.name())
        }
        order::Event::Cancelled(cancelled) => format!("cancelled ({})", cancelled.reason.name()),
        order::Event::UnitsReturned(returned) => {
            let units: i64 = returned.lines.iter().map(|line| line.quantity.get()).sum();
            format!("{units} units came back with {}", returned.return_id)
        }
    }
}

fn of_checkout(event: &CheckoutEvent) -> String {
    match event {
        CheckoutEvent::Started(_) => "checkout began".to_owned(),
        CheckoutEvent::StockHeld(_) => "stock is held".to_owned(),
        CheckoutEvent::PaymentPending(pending) => format!("attempt {} to pay", pending.attempt),
        CheckoutEvent::AwaitingCustomer(awaiting) => format!("the customer has to act: {}", awaiting.code),
        CheckoutEvent::PaymentUnknown(unknown) => {
            format!("nobody knows yet what became of {}", unknown.payment_id)
        }
        CheckoutEvent::PaymentSecured(secured) => format!("payment {} is secured", secured.payment_id),
        CheckoutEvent::StockCommitted(_) => "stock is committed".to_owned(),
        CheckoutEvent::Done(_) => "checkout is done".to_owned(),
        CheckoutEvent::Compensating(undoing) => {
            format!("undoing before the sale ({})", undoing.reason.name())
        }
        CheckoutEvent::Reversing(undoing) => format!("undoing after the sale ({})", undoing.reason.name()),
        CheckoutEvent::Cancelled(cancelled) => format!("checkout is cancelled ({})", cancelled.reason.name()),
        CheckoutEvent::NeedsAttention(needs) => format!("a person has to look at {}", needs.step),
        CheckoutEvent::Resumed(_) => "checkout goes on".to_owned(),
        CheckoutEvent::Settled(_) => "checkout goes on, seen to by hand".to_owned(),
    }
}

fn of_reservation(event: &ReservationEvent) -> String {
    match event {
        ReservationEvent::Requested(requested) => format!("stock asked for, {} items", requested.keys.len()),
        ReservationEvent::Held(_) => "stock is held".to_owned(),
        ReservationEvent::Rejected(rejected) => format!("stock is short of {} items", rejected.short.len()),
        ReservationEvent::Extended(_) => "stock is held for longer".to_owned(),
        ReservationEvent::Committed(_) => "stock is sold".to_owned(),
        ReservationEvent::Released(_) => "stock is given back".to_owned(),
        ReservationEvent::Settled(_) => "stock has followed".to_owned(),
    }
}

fn of_payment(event: &payment::Event) -> String {
    match event {
        payment::Event::Initiated(initiated) => {
            format!("payment of {} {} in minor units began", initiated.amount_minor, initiated.currency)
        }
        payment::Event::OperationStarted(started) => {
            format!("the provider is asked to {}", started.operation.name())
        }
        payment::Event::Authorized(authorized) => format!("{} authorised", authorized.amount_minor),
        payment::Event::Declined(declined) => format!("declined: {}", declined.code),
        payment::Event::OutcomeUnknown(_) => "the provider did not answer".to_owned(),
        payment::Event::CaptureRequested(requested) => format!("{} to be captured", requested.amount_minor),
        payment::Event::Captured(captured) => format!("{} captured", captured.amount_minor),
        payment::Event::CaptureFailed(failed) => format!("capture failed: {}", failed.code),
        payment::Event::VoidRequested(_) => "to be voided".to_owned(),
        payment::Event::Voided(_) => "voided".to_owned(),
        payment::Event::VoidFailed(failed) => format!("void failed: {}", failed.code),
        payment::Event::RefundRequested(requested) => format!("{} to be refunded", requested.amount_minor),
        payment::Event::RefundSucceeded(refunded) => format!("{} refunded", refunded.amount_minor),
        payment::Event::RefundFailed(failed) => format!("refund failed: {}", failed.code),
        payment::Event::SucceededLate(late) => {
            format!("{} authorised after all, too late", late.amount_minor)
        }
        payment::Event::SignalReceived(_) => "the provider reported by itself".to_owned(),
        payment::Event::RefundReserved(reserved) => {
            format!("{} set aside to be refunded", reserved.amount_minor)
        }
        payment::Event::RefundReservationReleased(_) => "not to be refunded after all".to_owned(),
        payment::Event::SignalDisbelieved(signal) => format!("the report is not believed: {}", signal.reason),
        payment::Event::ExternalRefund(refund) => {
            format!("{} refunded at the provider's own site", refund.amount_minor)
        }
        payment::Event::GivenUp(_) => "not wanted any more".to_owned(),
        payment::Event::AcceptedLate(accepted) => format!("{} wanted after all", accepted.amount_minor),
        payment::Event::CaptureSettled(settled) => format!("{} taken by hand", settled.amount_minor),
        payment::Event::RefundSettled(settled) => format!("{} refunded by hand", settled.amount_minor),
        payment::Event::Settled(settled) => {
            format!("seen to by hand, {} of it given back", settled.amount_minor)
        }
    }
}

impl ReadModels {
    /// A page of an order's timeline, oldest first, after the given place.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn timeline(
        &self,
        tenant: &TenantId,
        order: &OrderId,
        after: Option<TimelineKey>,
        limit: u32,
    ) -> Result<Vec<TimelineEntry>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.order_id = $2 AND (t.\"offset\", t.index_in_commit) > ($3, $4) \
             ORDER BY t.\"offset\", t.index_in_commit LIMIT $5";
        let in_memory = |views: &MemoryViews| {
            let key = |row: &TimelineEntry| (row.offset, row.index_in_commit);
            let keep = |row: &TimelineEntry| {
                row.tenant_id == *tenant
                    && row.order_id == *order
                    && after.is_none_or(|after| key(row) > (after.offset, after.index_in_commit))
            };
            views.page(keep, key, limit)
        };
        let (offset, index) =
            after.map_or((-1, -1), |key| (key.offset as i64, i64::from(key.index_in_commit)));
        self.select(
            Projection::OrderTimeline,
            condition,
            &[&tenant.as_str(), &order.as_str(), &offset, &index, &i64::from(limit)],
            in_memory,
        )
        .await
    }
}
