//! Orders that nobody has taken up: they stand still, though no process says so.

use std::collections::BTreeSet;

use shopstream_domain::order::Event as OrderEvent;
use shopstream_domain::{OrderId, StreamId};

use super::laws::Findings;

/// Submitted orders without a checkout, by tenant and id.
#[derive(Default)]
pub(super) struct Standing(BTreeSet<(String, String)>);

impl Standing {
    pub(super) fn order(&mut self, stream: &StreamId, event: &OrderEvent) {
        let order = (stream.tenant_str().to_owned(), stream.id().to_owned());
        match event {
            OrderEvent::Submitted(_) => {
                self.0.insert(order);
            }
            OrderEvent::Cancelled(_) => {
                self.0.remove(&order);
            }
            OrderEvent::Drafted(_)
            | OrderEvent::AwaitingPayment(_)
            | OrderEvent::Confirmed(_)
            | OrderEvent::CancellationRequested(_)
            | OrderEvent::UnitsReturned(_) => {}
        }
    }

    /// The order's checkout has begun.
    pub(super) fn checkout(&mut self, stream: &StreamId) {
        if let Some(order_id) = OrderId::of_checkout(stream.id()) {
            self.0.remove(&(stream.tenant_str().to_owned(), order_id.to_string()));
        }
    }

    pub(super) fn conclude(&self, findings: &mut Findings) {
        findings.skipped.extend(self.0.iter().map(|(tenant, id)| format!("{tenant}/order/{id}")));
    }
}
