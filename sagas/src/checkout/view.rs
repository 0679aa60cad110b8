//! Everything a checkout decides on: its own memory, the order, the hold, the payments.

use std::collections::BTreeMap;

use shopstream_domain::inventory::{Reservation, ReservationStatus, StockKey};
use shopstream_domain::order::{Checkout, Event, Order, Placement};
use shopstream_domain::payment::{self, PaymentIntent, PaymentStatus};
use shopstream_domain::{
    Aggregate, Currency, OrderId, PaymentId, Quantity, ReservationId, StreamId, TenantId, Timestamp,
};
use shopstream_eventlog::CommitRecord;

use crate::issue::{Cause, Process};
use crate::known::{Known, Reached};
use crate::means::{Means, Stuck};
use crate::payments;
use crate::stock::Hold;

/// A checkout as this process knows it.
pub(super) struct View {
    pub(super) process: Process,
    pub(super) order_id: OrderId,
    pub(super) memory: Known<Checkout>,
    pub(super) order: Known<Order>,
    /// What the order wants, from its first event.
    pub(super) demand: Option<Demand>,
    /// The hold taken first.
    pub(super) first: Hold,
    /// The hold taken after the first one ran out under a secured payment (F-13).
    pub(super) again: Option<Hold>,
    /// The attempt to pay that runs, or the first.
    pub(super) payment: Attempt,
    /// Another one: that holds money, if one does.
    pub(super) next_payment: Attempt,
    /// The attempt after the one that runs, if the customer has begun it.
    pub(super) following: Option<Following>,
    /// How often this was looked at in vain since it last moved.
    pub(super) tries: u32,
    /// In this drive the provider was asked and did not know, or an undo failed: not again at once.
    pub(super) setback: Option<String>,
}

/// An attempt that can be adopted. They are adopted one by one: the memory takes no other.
#[derive(Clone)]
pub(super) struct Following {
    pub(super) number: u32,
    /// The payment method.
    pub(super) token: Option<String>,
}

/// What an order wants.
pub(super) struct Demand {
    /// Per SKU and location once; `None` where the units of one key exceed what any stock can have.
    pub(super) keys: Option<Vec<StockKey>>,
    pub(super) total_minor: i64,
    pub(super) currency: Currency,
    pub(super) method_token: String,
}

/// An attempt to pay.
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) id: PaymentId,
    pub(super) process: Process,
    pub(super) payment: Known<PaymentIntent>,
}

impl Attempt {
    /// The attempt with this number of the order for which `checkout` runs.
    fn new(checkout: &Process, order_id: &OrderId, number: u32) -> Self {
        let id = order_id.payment(number);
        let stream = id.stream(&checkout.tenant);
        let process = payments::process(&stream).like(checkout);
        let payment = Known::marking(stream, |event| matches!(event, payment::Event::Declined(_)));
        Self { number, process, id, payment }
    }

    pub(super) fn status(&self) -> Option<PaymentStatus> {
        self.payment.state().status()
    }

    /// The provider's word for a decline, and whether another attempt could succeed.
    pub(super) fn decline(&self) -> (&str, bool) {
        match self.payment.mark() {
            Some(payment::Event::Declined(declined)) => (&declined.code, declined.retryable),
            Some(_) | None => ("declined", false),
        }
    }

    /// Whether money was taken under this attempt that is not back.
    pub(super) fn owes(&self) -> bool {
        let payment = self.payment.state();
        payment.captured_minor() > payment.refunded_minor()
    }

    /// Whether the provider holds or has money under this attempt, or may have.
    pub(super) fn holds_money(&self) -> bool {
        let may_hold = self.status().is_some_and(PaymentStatus::may_hold_money);
        may_hold || self.payment.state().open_operation().is_some()
    }
}

impl View {
    /// A checkout believed to be new.
    pub(super) fn new(tenant: &TenantId, order_id: OrderId) -> Self {
        let process = Process::new(tenant.clone(), "checkout", order_id.as_str(), order_id.as_str());
        Self {
            memory: Known::empty(order_id.checkout_stream(tenant)),
            order: Known::marking(order_id.stream(tenant), |event| matches!(event, Event::Submitted(_))),
            demand: None,
            first: Hold::new(tenant, order_id.reservation()),
            again: None,
            payment: Attempt::new(&process, &order_id, 1),
            next_payment: Attempt::new(&process, &order_id, 2),
            following: None,
            tries: 0,
            setback: None,
            process,
            order_id,
        }
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.process.tenant
    }

    /// Takes the commit that submitted the order.
    pub(super) fn submitted(&mut self, record: &CommitRecord) -> Result<(), Stuck> {
        self.order.push(record)?;
        self.demand = self.order.take_mark().as_ref().and_then(demand_of);
        self.set_off_by(record);
        Ok(())
    }

    /// Everything that is done for the order is done because of its submission.
    fn set_off_by(&mut self, record: &CommitRecord) {
        self.process = self.process.clone().because_of(&Cause::of(record));
        let holds = [Some(&mut self.first), self.again.as_mut()].into_iter().flatten();
        let attempts = [&mut self.payment, &mut self.next_payment].into_iter();
        for process in holds.map(|hold| &mut hold.process).chain(attempts.map(|it| &mut it.process)) {
            *process = process.clone().like(&self.process);
        }
    }

    /// The hold that counts.
    pub(super) fn hold(&self) -> &Hold {
        self.again.as_ref().unwrap_or(&self.first)
    }

    pub(super) fn hold_mut(&mut self) -> &mut Hold {
        self.again.as_mut().unwrap_or(&mut self.first)
    }

    pub(super) fn reservation(&self) -> &Reservation {
        self.hold().reservation.state()
    }

    fn hold_of(&self, id: ReservationId) -> Hold {
        let mut hold = Hold::new(self.tenant(), id);
        hold.process = hold.process.like(&self.process);
        hold
    }

    /// Whether the hold is of what the order wants, or of nothing yet. What is held under a name proves nothing about
    /// the name: once, clients could take those of orders.
    pub(super) fn holds_what_it_wants(&self) -> bool {
        let (held, demand) = (self.reservation().keys(), self.demand.as_ref());
        held.is_empty() || demand.and_then(|demand| demand.keys.as_deref()) == Some(held)
    }

    /// The hold that a lost one is replaced with.
    pub(super) fn second_hold(&self) -> Hold {
        self.hold_of(self.order_id.second_reservation())
    }

    /// Something was written that is not seen here.
    pub(super) fn is_stale(&self) -> bool {
        self.memory.is_stale()
            || self.order.is_stale()
            || self.first.reservation.is_stale()
            || self.again.as_ref().is_some_and(|hold| hold.reservation.is_stale())
            || self.payment.payment.is_stale()
            || self.next_payment.payment.is_stale()
    }

    /// Reads every stream again, at least up to what was reached.
    ///
    /// # Errors
    /// The journal does not answer, or answers nonsense.
    pub(super) async fn load(&mut self, means: &Means, reached: &Reached) -> Result<(), Stuck> {
        let mut reached = reached.clone();
        self.positions().for_each(|position| reached.see(position));
        let tenant = self.tenant().clone();
        let mut again = self.second_hold();
        // Without a number, as checkouts of old took their first hold.
        let of_old = self.order_id.reservation_of_old();
        let mut streams: Vec<StreamId> = vec![
            self.memory.stream.clone(),
            self.order.stream.clone(),
            self.first.reservation.stream.clone(),
            of_old.stream(&tenant),
            again.reservation.stream.clone(),
        ];
        let attempts = means.settings.attempts_max + 1;
        streams.extend((1..=attempts).map(|number| self.order_id.payment(number).stream(&tenant)));
        let history = means.histories.load(&streams, &reached).await?;
        let of = |stream: &StreamId| -> &[CommitRecord] {
            let at = streams.iter().position(|known| known == stream);
            at.and_then(|at| history.get(at)).map_or(&[], Vec::as_slice)
        };
        refold(&mut self.order, of)?;
        self.demand = self.order.take_mark().as_ref().and_then(demand_of);
        if let Some(submitted) = of(&self.order.stream).iter().find(|record| submits(record)) {
            self.set_off_by(submitted);
            again.process = again.process.like(&self.process);
        }
        refold(&mut self.memory, of)?;
        let first = self.memory.state().started().map(|started| started.reservation_id.clone());
        self.first = self.hold_of(first.unwrap_or_else(|| self.order_id.reservation()));
        refold(&mut self.first.reservation, of)?;
        refold(&mut again.reservation, of)?;
        self.again = (again.status() != ReservationStatus::Missing).then_some(again);
        let number = self.memory.state().attempt().max(1);
        self.payment = Attempt::new(&self.process, &self.order_id, number);
        refold(&mut self.payment.payment, of)?;
        // A customer may have begun several, and one that was given up may succeed late: no money is overlooked.
        self.next_payment = Attempt::new(&self.process, &self.order_id, number + 1);
        refold(&mut self.next_payment.payment, of)?;
        let token = self.next_payment.payment.state().method_token().map(str::to_owned);
        self.following = self.next_payment.status().map(|_| Following { number: number + 1, token });
        for other in (number + 2..=attempts).chain(1..number) {
            if self.next_payment.holds_money() {
                break;
            }
            let mut attempt = Attempt::new(&self.process, &self.order_id, other);
            refold(&mut attempt.payment, of)?;
            if attempt.holds_money() {
                self.next_payment = attempt;
            }
        }
        Ok(())
    }

    fn positions(&self) -> impl Iterator<Item = shopstream_eventlog::Position> {
        let again = self.again.as_ref().and_then(|hold| hold.reservation.at());
        [
            self.memory.at(),
            self.order.at(),
            self.first.reservation.at(),
            again,
            self.payment.payment.at(),
            self.next_payment.payment.at(),
        ]
        .into_iter()
        .flatten()
    }

    /// Whether what has to be paid is paid, or promised.
    pub(super) fn is_covered(&self) -> bool {
        let covers = match self.payment.status() {
            Some(PaymentStatus::Authorized | PaymentStatus::PartiallyCaptured | PaymentStatus::Captured) => {
                true
            }
            Some(
                PaymentStatus::Authorizing
                | PaymentStatus::OutcomeUnknown
                | PaymentStatus::Declined
                | PaymentStatus::PartiallyRefunded
                | PaymentStatus::Refunded
                | PaymentStatus::Voided
                | PaymentStatus::SucceededLate,
            )
            | None => false,
        };
        covers || self.total_minor() == 0
    }

    pub(super) fn total_minor(&self) -> i64 {
        self.demand.as_ref().map_or(0, |demand| demand.total_minor)
    }

    /// When the hold ends.
    pub(super) fn until(&self) -> Timestamp {
        self.reservation().until()
    }
}

fn refold<'a, A>(known: &mut Known<A>, of: impl Fn(&StreamId) -> &'a [CommitRecord]) -> Result<(), Stuck>
where
    A: Aggregate<Event: crate::known::FromModel>,
{
    let history = of(&known.stream);
    Ok(known.refold(history)?)
}

fn submits(record: &CommitRecord) -> bool {
    record.commit.events.iter().any(|event| event.event_type == "OrderSubmitted")
}

fn demand_of(event: &Event) -> Option<Demand> {
    let Event::Submitted(submitted) = event else { return None };
    let Placement { lines, total_minor, currency, payment_method_token, .. } = &submitted.placement;
    let mut units = BTreeMap::new();
    for line in lines {
        let units: &mut i64 = units.entry((&line.sku, &line.location)).or_default();
        *units = units.saturating_add(line.quantity.get());
    }
    let keys = units.into_iter().map(|((sku, location), units)| {
        let quantity = Quantity::new(units).ok()?;
        Some(StockKey { sku: sku.clone(), location: location.clone(), quantity })
    });
    Some(Demand {
        keys: keys.collect(),
        total_minor: *total_minor,
        currency: *currency,
        method_token: payment_method_token.clone().unwrap_or_default(),
    })
}
