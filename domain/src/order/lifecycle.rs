//! The order: what the customer sees of the whole.
//!
//! ```text
//! Draft → Submitted → AwaitingPayment → Confirmed → Cancelled (on request, by reversal)
//!    └────────┴──────────────┴────────→ Cancelled
//! ```

use serde::{Deserialize, Serialize};

use super::{
    CancelReason, Command, Error, Event, OrderAwaitingPayment, OrderCancellationRequested, OrderCancelled,
    OrderConfirmed, OrderDrafted, OrderLine, OrderSubmitted, OrderUnitsReturned, Placement, ReturnedLine,
};
use crate::aggregate::cqrs_aggregate;
use crate::{Aggregate, Currency, OrderId, PaymentId, ReservationId, ReturnId, StreamKind, Timestamp};

/// An order as its history tells it. Lines are kept as the numbers that later decisions need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<OrderStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<Head>,
    /// What a draft will submit; dropped when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) draft: Option<Box<Placement>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lines: Vec<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) awaiting: Option<OrderAwaitingPayment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reservation: Option<ReservationId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    payments: Vec<PaymentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cancellation: Option<CancelReason>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) returns: Vec<ReturnId>,
}

/// Where an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Written down.
    Draft,
    /// In checkout.
    Submitted,
    /// In checkout, and the customer must act.
    AwaitingPayment,
    /// Sold.
    Confirmed,
    /// Ended without a sale.
    Cancelled,
}

/// What of a placement is one value per order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    order_id: OrderId,
    currency: Currency,
    total_minor: i64,
}

/// One line, as far as later decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Units ordered.
    pub ordered: u32,
    /// Units that came back.
    pub returned: u32,
    /// The price paid for one.
    pub unit_price_minor: i64,
}

impl Line {
    /// Units that may still come back.
    pub fn left(&self) -> i64 {
        i64::from(self.ordered) - i64::from(self.returned)
    }
}

impl Order {
    /// Where it is; `None` for an empty stream.
    pub fn status(&self) -> Option<OrderStatus> {
        self.status
    }

    /// Its id.
    pub fn order_id(&self) -> Option<&OrderId> {
        self.head.as_ref().map(|head| &head.order_id)
    }

    /// The currency of its amounts.
    pub fn currency(&self) -> Option<Currency> {
        self.head.as_ref().map(|head| head.currency)
    }

    /// What it costs.
    pub fn total_minor(&self) -> i64 {
        self.head.as_ref().map_or(0, |head| head.total_minor)
    }

    /// What a draft is of; `None` for everything else.
    pub fn draft(&self) -> Option<&Placement> {
        self.draft.as_deref()
    }

    /// Its lines, in order; empty while it is a draft.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The reservation under which it was sold, once confirmed: not always the one that it began with.
    pub fn reservation(&self) -> Option<&ReservationId> {
        self.reservation.as_ref()
    }

    /// The payments that cover it, once confirmed.
    pub fn payments(&self) -> &[PaymentId] {
        &self.payments
    }

    /// Who asked to cancel it, if anybody did.
    pub fn cancellation(&self) -> Option<CancelReason> {
        self.cancellation
    }

    /// Whether this return is recorded here.
    pub fn has_return(&self, return_id: &ReturnId) -> bool {
        self.returns.contains(return_id)
    }

    fn place_head(&mut self, placement: &Placement) {
        self.head = Some(Head {
            order_id: placement.order_id.clone(),
            currency: placement.currency,
            total_minor: placement.total_minor,
        });
    }

    fn submitted(&mut self, placement: &Placement) {
        self.place_head(placement);
        self.status = Some(OrderStatus::Submitted);
        self.draft = None;
        self.lines = placement.lines.iter().map(Line::from).collect();
    }

    fn units_returned(&mut self, event: &OrderUnitsReturned) {
        self.returns.push(event.return_id.clone());
        for ReturnedLine { line, quantity } in &event.lines {
            let line = usize::try_from(*line).ok().and_then(|at| self.lines.get_mut(at));
            if let Some(line) = line {
                line.returned = line.returned.saturating_add(units(quantity.get()));
            }
        }
    }
}

impl From<&OrderLine> for Line {
    fn from(line: &OrderLine) -> Self {
        let ordered = units(line.quantity.get());
        Self { ordered, returned: 0, unit_price_minor: line.unit_price_minor }
    }
}

/// A quantity is at most 10⁹, so it fits.
fn units(quantity: i64) -> u32 {
    u32::try_from(quantity).unwrap_or(u32::MAX)
}

impl Aggregate for Order {
    const KIND: StreamKind = StreamKind::Order;
    type Command = Command;
    type Event = Event;
    type Error = Error;

    fn decide(&self, command: &Command, _now: Timestamp) -> Result<Vec<Event>, Error> {
        match command {
            Command::Submit(placement) => self.submit(placement),
            Command::Draft(placement) => self.write_draft(placement),
            Command::Place { payment_method_token, offers } => {
                self.place(payment_method_token.as_ref(), offers)
            }
            Command::RecordAwaitingPayment { payment_id, code } => self.await_payment(payment_id, code),
            Command::Confirm { reservation_id, payments } => self.confirm(reservation_id, payments),
            Command::RequestCancellation { reason } => self.request_cancellation(*reason),
            Command::Cancel { reason } => self.cancel(*reason),
            Command::RecordReturn { return_id, lines } => self.record_return(return_id, lines),
        }
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Drafted(OrderDrafted { placement }) => {
                self.place_head(placement);
                self.status = Some(OrderStatus::Draft);
                self.draft = Some(Box::new(placement.clone()));
            }
            Event::Submitted(OrderSubmitted { placement }) => self.submitted(placement),
            Event::AwaitingPayment(awaiting) => {
                self.status = Some(OrderStatus::AwaitingPayment);
                self.awaiting = Some(awaiting.clone());
            }
            Event::Confirmed(OrderConfirmed { reservation_id, payments }) => {
                self.status = Some(OrderStatus::Confirmed);
                self.awaiting = None;
                self.reservation = Some(reservation_id.clone());
                self.payments.clone_from(payments);
            }
            Event::CancellationRequested(OrderCancellationRequested { reason }) => {
                self.cancellation = Some(*reason);
            }
            Event::Cancelled(OrderCancelled { reason: _ }) => {
                self.status = Some(OrderStatus::Cancelled);
                self.draft = None;
                self.awaiting = None;
            }
            Event::UnitsReturned(returned) => self.units_returned(returned),
        }
    }

    fn weight(&self) -> usize {
        let draft = self.draft.as_ref().map_or(0, |draft| 200 + draft.lines.len() * 200);
        let ids = (self.payments.len() + self.returns.len() + 1) * 64;
        size_of::<Self>() + self.lines.capacity() * size_of::<Line>() + draft + ids + 128
    }
}

cqrs_aggregate!(Order, "order");
