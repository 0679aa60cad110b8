//! Laws 4, 5, 6 and 9: totals are sums, no more is taken than promised nor given back or promised back than taken, who is
//! through owes nothing, and the provider was asked exactly what was written down before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use shopstream_domain::order::{CheckoutEvent, Event as OrderEvent, Placement};
use shopstream_domain::payment::{Event as PaymentEvent, ProviderOperation, at_provider};
use shopstream_domain::{OrderId, StreamId};

use super::account::Back;
use super::laws::{Broken, Findings, ProviderCall};
use super::stock::Stock;

/// All orders, checkouts and payments, by tenant and order.
#[derive(Default)]
pub(super) struct Money {
    orders: BTreeMap<(String, String), Order>,
    /// Provider operations of all tenants, by what the provider knows them by: whether an outcome is recorded.
    operations: HashMap<String, bool>,
    repeated_operations: Vec<String>,
}

#[derive(Default)]
struct Order {
    total: i64,
    checkout: Option<Checkout>,
    /// A person saw to its stock.
    stock_by_hand: bool,
    payments: BTreeMap<String, Payment>,
    /// Those that it was confirmed with.
    paid_by: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checkout {
    Running,
    Done,
    Cancelled,
    NeedsAttention,
}

#[derive(Default)]
struct Payment {
    authorized: i64,
    captured: i64,
    refunded: i64,
    voided: bool,
    /// Operations started and without an outcome.
    open: BTreeSet<String>,
    /// Money came, or may have, when nobody wanted it any more: it is still to be let go.
    late: bool,
    /// Set aside, by refund.
    set_aside: BTreeMap<String, i64>,
    /// What went back at the provider's own site.
    elsewhere: i64,
    /// Went back, by refund.
    given: BTreeMap<String, i64>,
    /// Refunds that the provider is asked for, by key: which, and how much.
    asked: BTreeMap<String, (String, i64)>,
}

impl Money {
    pub(super) fn order(&mut self, stream: &StreamId, event: &OrderEvent) -> Result<(), Broken> {
        let order = self.orders.entry((stream.tenant_str().to_owned(), stream.id().to_owned())).or_default();
        match event {
            OrderEvent::Drafted(drafted) => order.placed(&drafted.placement),
            OrderEvent::Submitted(submitted) => order.placed(&submitted.placement),
            OrderEvent::Confirmed(confirmed) => {
                order.paid_by = confirmed.payments.iter().map(ToString::to_string).collect();
                let paid_by = order.paid_by.iter().filter_map(|id| order.payments.get(id));
                let secured: i64 = paid_by.map(|payment| payment.authorized).sum();
                if secured != order.total {
                    return Broken::law(4, format!("confirmed with {secured} secured of {}", order.total));
                }
                Ok(())
            }
            OrderEvent::AwaitingPayment(_)
            | OrderEvent::CancellationRequested(_)
            | OrderEvent::Cancelled(_)
            | OrderEvent::UnitsReturned(_) => Ok(()),
        }
    }

    pub(super) fn checkout(&mut self, stream: &StreamId, event: &CheckoutEvent) -> Result<(), Broken> {
        let Some(order_id) = OrderId::of_checkout(stream.id()) else {
            return Broken::law(6, "a checkout of no order".into());
        };
        let order = self.orders.entry((stream.tenant_str().to_owned(), order_id.to_string())).or_default();
        if let CheckoutEvent::Settled(settled) = event {
            order.stock_by_hand |= settled.stock;
        }
        order.checkout = Some(match event {
            CheckoutEvent::Done(_) => Checkout::Done,
            CheckoutEvent::Cancelled(_) => Checkout::Cancelled,
            CheckoutEvent::NeedsAttention(_) => Checkout::NeedsAttention,
            CheckoutEvent::Started(_)
            | CheckoutEvent::StockHeld(_)
            | CheckoutEvent::PaymentPending(_)
            | CheckoutEvent::AwaitingCustomer(_)
            | CheckoutEvent::PaymentUnknown(_)
            | CheckoutEvent::PaymentSecured(_)
            | CheckoutEvent::StockCommitted(_)
            | CheckoutEvent::Compensating(_)
            | CheckoutEvent::Reversing(_)
            | CheckoutEvent::Resumed(_)
            | CheckoutEvent::Settled(_) => Checkout::Running,
        });
        Ok(())
    }

    pub(super) fn payment(&mut self, stream: &StreamId, event: &PaymentEvent) -> Result<(), Broken> {
        if let PaymentEvent::OperationStarted(started) = event {
            let key = at_provider(&stream.tenant(), &started.key);
            if self.operations.insert(key.clone(), false).is_some() {
                self.repeated_operations.push(key);
            }
        }
        if let Some(key) = answered(event) {
            self.operations.insert(at_provider(&stream.tenant(), key), true);
        }
        let Some(order) = order_of(stream.id()) else {
            return Broken::law(4, "a payment of no order".into());
        };
        let order = self.orders.entry((stream.tenant_str().to_owned(), order)).or_default();
        let payment = order.payments.entry(stream.id().to_owned()).or_default();
        payment.fold(event);
        payment.check(event)
    }

    /// Law 6: who is through holds nothing and owes nothing.
    pub(super) fn conclude(&self, stock: &Stock, findings: &mut Findings) {
        for ((tenant, id), order) in &self.orders {
            let name = format!("{tenant}/order/{id}");
            let held = stock.held_for(tenant, id);
            match order.checkout {
                None => {}
                Some(Checkout::Running | Checkout::NeedsAttention) => findings.skipped.push(name),
                Some(Checkout::Done | Checkout::Cancelled)
                    if order.payments.values().any(|p| p.late || !p.open.is_empty()) =>
                {
                    findings.skipped.push(name);
                }
                Some(Checkout::Done) => {
                    let captured = order.captured();
                    if captured != order.total {
                        findings.broken(
                            6,
                            &name,
                            format!("done with {captured} captured of {}", order.total),
                        );
                    }
                    match held {
                        _ if order.stock_by_hand => {}
                        None => findings.skipped.push(name),
                        Some(1) => {}
                        Some(held) => {
                            findings.broken(6, &name, format!("done with {held} holds, not its one"))
                        }
                    }
                }
                Some(Checkout::Cancelled) => {
                    match held {
                        _ if order.stock_by_hand => {}
                        None => findings.skipped.push(name.clone()),
                        Some(0) => {}
                        Some(_) => findings.broken(6, &name, "cancelled, but its stock is still held".into()),
                    }
                    for (payment_id, payment) in &order.payments {
                        if payment.holds_money() {
                            findings.broken(
                                6,
                                &name,
                                format!("cancelled, but {payment_id} still holds money"),
                            );
                        }
                    }
                }
            }
        }
    }

    /// What a payment has given back under a refund, and set aside for it.
    pub(super) fn back(&self, tenant: &str, payment: &str, refund: &str) -> Back {
        let order = order_of(payment).and_then(|order| self.orders.get(&(tenant.to_owned(), order)));
        let Some(payment) = order.and_then(|order| order.payments.get(payment)) else {
            return Back::default();
        };
        let amount = |of: &BTreeMap<String, i64>| of.get(refund).copied().unwrap_or(0);
        Back { given: amount(&payment.given), set_aside: amount(&payment.set_aside) }
    }

    /// What went back of a payment at the provider's own site.
    pub(super) fn elsewhere(&self, tenant: &str, payment: &str) -> i64 {
        let order = order_of(payment).and_then(|order| self.orders.get(&(tenant.to_owned(), order)));
        order.and_then(|order| order.payments.get(payment)).map_or(0, |payment| payment.elsewhere)
    }

    /// Tenant, payment and refund of whatever is set aside.
    pub(super) fn set_aside(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.orders.iter().flat_map(|((tenant, _), order)| {
            order.payments.iter().flat_map(move |(id, payment)| {
                payment.set_aside.keys().map(move |refund| (tenant.as_str(), id.as_str(), refund.as_str()))
            })
        })
    }

    /// Law 9: the provider's log and ours tell the same.
    pub(super) fn compare(&self, calls: &[ProviderCall], findings: &mut Findings) {
        let mut asked: HashMap<&str, u64> = HashMap::new();
        for call in calls.iter().filter(|call| !call.question) {
            *asked.entry(&call.key).or_default() += u64::from(call.effective);
        }
        for (key, effects) in &asked {
            if !self.operations.contains_key(*key) {
                findings.broken(9, key, "the provider was asked, but nothing was written down before".into());
            }
            if *effects > 1 {
                findings.broken(9, key, format!("moved money {effects} times"));
            }
        }
        for (key, answered) in &self.operations {
            if *answered && !asked.contains_key(key.as_str()) {
                findings.broken(9, key, "has an outcome, but the provider was never asked".into());
            }
        }
        for key in &self.repeated_operations {
            findings.broken(9, key, "was started twice".into());
        }
    }
}

/// `pay_X.n` belongs to `ord_X`.
fn order_of(payment: &str) -> Option<String> {
    let (root, _) = payment.strip_prefix("pay_")?.rsplit_once('.')?;
    Some(format!("ord_{root}"))
}

impl Order {
    /// What the payments took that it was confirmed with, and what others took and have not given back.
    fn captured(&self) -> i64 {
        let kept = |(id, payment): (&String, &Payment)| {
            if self.paid_by.contains(id) { payment.captured } else { payment.captured - payment.refunded }
        };
        self.payments.iter().map(kept).sum()
    }

    /// Law 5.
    fn placed(&mut self, placement: &Placement) -> Result<(), Broken> {
        let sum: i128 = placement
            .lines
            .iter()
            .map(|line| i128::from(line.unit_price_minor) * i128::from(line.quantity.get()))
            .sum();
        self.total = placement.total_minor;
        if sum != i128::from(placement.total_minor) {
            return Broken::law(5, format!("the lines sum to {sum}, the total is {}", placement.total_minor));
        }
        Ok(())
    }
}

impl Payment {
    fn fold(&mut self, event: &PaymentEvent) {
        match event {
            PaymentEvent::OperationStarted(started) => {
                self.open.insert(started.key.clone());
                if started.operation == ProviderOperation::Refund {
                    let refund = started.refund_id.clone().unwrap_or_default();
                    self.asked.insert(started.key.clone(), (refund, started.amount_minor));
                }
            }
            PaymentEvent::Authorized(authorized) => self.authorized += authorized.amount_minor,
            PaymentEvent::AcceptedLate(accepted) => {
                self.authorized += accepted.amount_minor;
                self.late = false;
            }
            PaymentEvent::Captured(captured) => self.captured += captured.amount_minor,
            PaymentEvent::CaptureSettled(settled) => {
                self.captured += settled.amount_minor;
                self.open.retain(|key| !key.contains(":capture:"));
            }
            PaymentEvent::RefundReserved(reserved) => {
                self.set_aside.insert(reserved.refund_id.clone(), reserved.amount_minor);
            }
            PaymentEvent::RefundReservationReleased(released) => {
                self.set_aside.remove(&released.refund_id);
            }
            PaymentEvent::RefundSucceeded(refunded) => {
                self.give_back(&refunded.refund_id, refunded.amount_minor);
            }
            PaymentEvent::RefundSettled(settled) => {
                self.give_back(&settled.refund_id, settled.amount_minor);
                let (open, asked) = (&mut self.open, &mut self.asked);
                asked.retain(|key, (refund, _)| {
                    let other = *refund != settled.refund_id;
                    if !other {
                        open.remove(key);
                    }
                    other
                });
            }
            PaymentEvent::ExternalRefund(refund) => {
                self.refunded += refund.amount_minor;
                self.elsewhere += refund.amount_minor;
            }
            PaymentEvent::Settled(settled) => {
                self.refunded += settled.amount_minor;
                (self.voided, self.late) = (true, false);
                self.open.clear();
                self.asked.clear();
                self.set_aside.clear();
            }
            // Takes back whatever was promised, whether its answer was ever heard or not.
            PaymentEvent::Voided(_) => {
                self.voided = true;
                self.late = false;
                self.open.clear();
            }
            PaymentEvent::SucceededLate(_) => self.late = true,
            PaymentEvent::Initiated(_)
            | PaymentEvent::Declined(_)
            | PaymentEvent::OutcomeUnknown(_)
            | PaymentEvent::CaptureRequested(_)
            | PaymentEvent::CaptureFailed(_)
            | PaymentEvent::VoidRequested(_)
            | PaymentEvent::VoidFailed(_)
            | PaymentEvent::RefundRequested(_)
            | PaymentEvent::RefundFailed(_)
            | PaymentEvent::SignalReceived(_)
            | PaymentEvent::SignalDisbelieved(_)
            | PaymentEvent::GivenUp(_) => {}
        }
        if let Some(key) = answered(event) {
            self.open.remove(key);
            self.asked.remove(key);
        }
    }

    fn give_back(&mut self, refund: &str, amount: i64) {
        self.refunded += amount;
        self.set_aside.remove(refund);
        *self.given.entry(refund.to_owned()).or_default() += amount;
    }

    /// What is promised to go back and is not yet.
    fn promised(&self) -> i64 {
        let asked = self.asked.values().filter(|(refund, _)| !self.set_aside.contains_key(refund));
        asked.map(|(_, amount)| amount).chain(self.set_aside.values()).sum()
    }

    /// Law 4, at every position.
    fn check(&self, event: &PaymentEvent) -> Result<(), Broken> {
        let Self { authorized, captured, refunded, .. } = self;
        if captured > authorized {
            return Broken::law(4, format!("{captured} captured of {authorized} authorized"));
        }
        if refunded > captured {
            return Broken::law(4, format!("{refunded} refunded of {captured} captured"));
        }
        // What goes back at the provider's own site asks nobody; all else is promised out of what is left.
        let promises = matches!(event, PaymentEvent::RefundReserved(_) | PaymentEvent::OperationStarted(_));
        let (promised, left) = (self.promised(), captured - refunded);
        if promises && promised > left {
            return Broken::law(4, format!("{promised} promised to go back of the {left} that are left"));
        }
        Ok(())
    }

    fn holds_money(&self) -> bool {
        self.captured > self.refunded || (self.authorized > 0 && self.captured == 0 && !self.voided)
    }
}

/// The key of the provider operation of which this event is an outcome.
fn answered(event: &PaymentEvent) -> Option<&str> {
    match event {
        PaymentEvent::Authorized(event) => Some(&event.key),
        PaymentEvent::Declined(event) => Some(&event.key),
        PaymentEvent::Captured(event) => Some(&event.key),
        PaymentEvent::CaptureFailed(event) => Some(&event.key),
        PaymentEvent::Voided(event) => Some(&event.key),
        PaymentEvent::VoidFailed(event) => Some(&event.key),
        PaymentEvent::RefundSucceeded(event) => Some(&event.key),
        PaymentEvent::RefundFailed(event) => Some(&event.key),
        PaymentEvent::Initiated(_)
        | PaymentEvent::OperationStarted(_)
        | PaymentEvent::OutcomeUnknown(_)
        | PaymentEvent::CaptureRequested(_)
        | PaymentEvent::VoidRequested(_)
        | PaymentEvent::RefundRequested(_)
        | PaymentEvent::SucceededLate(_)
        | PaymentEvent::SignalReceived(_)
        | PaymentEvent::RefundReserved(_)
        | PaymentEvent::RefundReservationReleased(_)
        | PaymentEvent::SignalDisbelieved(_)
        | PaymentEvent::GivenUp(_)
        | PaymentEvent::ExternalRefund(_)
        | PaymentEvent::AcceptedLate(_)
        | PaymentEvent::CaptureSettled(_)
        | PaymentEvent::RefundSettled(_)
        | PaymentEvent::Settled(_) => None,
    }
}
