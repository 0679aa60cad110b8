//! I8: our books and the provider's tell the same, and nobody pays twice.

use std::collections::{BTreeMap, BTreeSet};

use shopstream_domain::model::Event;
use shopstream_domain::order::{CheckoutEvent, Event as OrderEvent};
use shopstream_domain::payment::{Event as PaymentEvent, at_provider};
use shopstream_domain::returns::Event as ReturnEvent;
use shopstream_domain::{OrderId, TenantId};

use super::Found;
use crate::evidence::Evidence;

type Bills = BTreeMap<(TenantId, OrderId), Bill>;

/// The money of one order, by our log.
#[derive(Default)]
struct Bill {
    total: i64,
    returned: i64,
    checkout: Checkout,
    /// By what the provider knows them by.
    payments: BTreeMap<String, Paid>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Checkout {
    #[default]
    Running,
    Done,
    Cancelled,
    Parked,
}

#[derive(Default)]
struct Paid {
    captured: i64,
    refunded: i64,
    /// How often it was asked to be captured.
    captures: u32,
    /// It was declined or voided.
    refused: bool,
    /// Its void was asked for, or all of it is to go back.
    given_up: bool,
}

impl Paid {
    /// Whether nothing stands in the way of this event, and takes note of it.
    fn allows(&mut self, event: &PaymentEvent) -> bool {
        match event {
            PaymentEvent::Declined(_) | PaymentEvent::Voided(_) => self.refused = true,
            PaymentEvent::VoidRequested(_) | PaymentEvent::GivenUp(_) => self.given_up = true,
            PaymentEvent::RefundRequested(event) => self.given_up |= event.reversal,
            // What comes after all is late, and is taken only where somebody waits for it.
            PaymentEvent::Authorized(_) => return !self.refused,
            PaymentEvent::CaptureRequested(_) => {
                self.captures += 1;
                return !self.given_up;
            }
            PaymentEvent::AcceptedLate(_) => return !self.given_up,
            _ => {}
        }
        true
    }
}

pub(super) fn conserved(evidence: &Evidence, found: &mut Found) {
    let (bills, keys) = fold(evidence, found);
    let captures_of = |payment_id: &str| {
        let paid = bills.values().find_map(|bill| bill.payments.get(payment_id));
        paid.map_or(0, |paid| paid.captures)
    };
    for key in &evidence.book.keys {
        found.require(keys.contains(key), "I8", || {
            format!("the provider was asked for {key}, which nobody had written down")
        });
    }
    for (payment_id, account) in &evidence.book.accounts {
        // In parts, where somebody asked for parts.
        found.require(account.captures <= captures_of(payment_id), "I8", || {
            format!("{payment_id}: {account:?}: charged twice")
        });
    }
    if evidence.at_rest {
        bills.iter().for_each(|((_, order_id), bill)| bill.settle(order_id, evidence, found));
    }
}

/// Every bill, and every key under which a call was written down before it was made.
fn fold(evidence: &Evidence, found: &mut Found) -> (Bills, BTreeSet<String>) {
    let (mut bills, mut keys) = (Bills::new(), BTreeSet::new());
    for (at, stream, event) in evidence.events() {
        let bill_of = |order_id: OrderId| (stream.tenant(), order_id);
        match event {
            Event::Order(OrderEvent::Submitted(event)) => {
                bills.entry(bill_of(event.placement.order_id.clone())).or_default().total =
                    event.placement.total_minor;
            }
            Event::Return(ReturnEvent::Requested(_)) => {}
            Event::Order(OrderEvent::UnitsReturned(event)) => {
                if let Ok(order_id) = OrderId::new(stream.id()) {
                    bills.entry(bill_of(order_id)).or_default().returned += event.refund_minor;
                }
            }
            Event::Checkout(event) => {
                if let Some(order_id) = OrderId::of_checkout(stream.id()) {
                    bills.entry(bill_of(order_id)).or_default().checkout = match event {
                        CheckoutEvent::Done(_) => Checkout::Done,
                        CheckoutEvent::Cancelled(_) => Checkout::Cancelled,
                        CheckoutEvent::NeedsAttention(_) => Checkout::Parked,
                        _ => Checkout::Running,
                    };
                }
            }
            Event::Payment(event) => {
                let Some(order_id) = order_of(stream.id()) else { continue };
                let bill = bills.entry(bill_of(order_id)).or_default();
                let paid = bill.payments.entry(at_provider(&stream.tenant(), stream.id())).or_default();
                found.require(paid.allows(event), "I8", || {
                    format!("{stream} at {at}: {event:?}, when nobody wanted the money any more")
                });
                match event {
                    PaymentEvent::OperationStarted(event) => {
                        found.require(keys.insert(at_provider(&stream.tenant(), &event.key)), "I8", || {
                            format!("{} was started twice, again at {at}", event.key)
                        });
                    }
                    PaymentEvent::Captured(event) => paid.captured += event.amount_minor,
                    PaymentEvent::RefundSucceeded(event) => paid.refunded += event.amount_minor,
                    _ => {}
                }
                found.require(paid.refunded <= paid.captured, "I8", || {
                    format!("{stream} at {at}: {} refunded of {}", paid.refunded, paid.captured)
                });
            }
            _ => {}
        }
    }
    (bills, keys)
}

/// `pay_X.n` pays `ord_X`.
fn order_of(payment_id: &str) -> Option<OrderId> {
    let (root, _) = payment_id.strip_prefix("pay_")?.rsplit_once('.')?;
    OrderId::new(&format!("ord_{root}")).ok()
}

impl Bill {
    fn settle(&self, order_id: &OrderId, evidence: &Evidence, found: &mut Found) {
        let mut net = 0;
        for (payment_id, paid) in &self.payments {
            let theirs = evidence.book.accounts.get(payment_id).copied().unwrap_or_default();
            net += theirs.captured - theirs.refunded;
            // What waits for an operator may not know what the provider knows.
            let same = (theirs.captured, theirs.refunded) == (paid.captured, paid.refunded);
            found.require(same || self.checkout == Checkout::Parked, "I8", || {
                format!("{payment_id}: {}/{} by our books, {theirs:?}", paid.captured, paid.refunded)
            });
            let ended = matches!(self.checkout, Checkout::Done | Checkout::Cancelled);
            // The rest of a promise of which a part was taken cannot be voided: it is given up, and lapses there.
            let lapses = theirs.captured > 0 && paid.given_up;
            found.require(!ended || theirs.held == 0 || lapses, "I8", || {
                format!("{payment_id}: the order has ended, and the provider holds {}", theirs.held)
            });
        }
        let captured: i64 = self.payments.values().map(|paid| paid.captured).sum();
        let refunded: i64 = self.payments.values().map(|paid| paid.refunded).sum();
        let right = match self.checkout {
            // Paid once, what was paid twice is given back, and so is what was returned; staff may give back more.
            Checkout::Done => captured >= self.total && refunded >= captured - self.total + self.returned,
            Checkout::Cancelled => net == 0,
            Checkout::Running | Checkout::Parked => true,
        };
        found.require(right, "I8", || {
            let (total, returned) = (self.total, self.returned);
            format!(
                "{order_id} of {total}: {captured} was paid and {refunded} given back, {returned} for returns"
            )
        });
        found.require(net <= self.total, "I8", || format!("{order_id}: {net} was paid of {}", self.total));
    }
}
