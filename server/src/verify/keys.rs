//! The law of keys: one idempotency key of a client has one effect.

use std::collections::{BTreeMap, BTreeSet};

use shopstream_domain::model::Event;
use shopstream_domain::order::Event as OrderEvent;
use shopstream_domain::requests::ClaimEvent;
use shopstream_domain::{OrderId, StreamId};

use super::laws::Findings;

/// Its number.
const LAW: u8 = 11;

/// What every key stood for, and what was made.
#[derive(Default)]
pub(super) struct Keys {
    /// By the key's stream, in order.
    claims: BTreeMap<StreamId, Vec<StreamId>>,
    /// Everything that some key was claimed for.
    targets: BTreeSet<StreamId>,
    orders: BTreeSet<StreamId>,
    /// Streams on which the ids of commands were used up, or that were asked for nothing.
    idle: BTreeSet<StreamId>,
}

impl Keys {
    pub(super) fn see(&mut self, stream: &StreamId, event: &Event) {
        match event {
            Event::Request(ClaimEvent::Claimed(claimed)) => {
                self.targets.insert(claimed.target.clone());
                self.claims.entry(stream.clone()).or_default().push(claimed.target.clone());
            }
            Event::Order(OrderEvent::Drafted(_) | OrderEvent::Submitted(_)) => {
                self.orders.insert(stream.clone());
            }
            Event::Nothing(_) => {
                self.idle.insert(stream.clone());
            }
            _ => {}
        }
    }

    /// A key was passed on only where the command before can never be carried out; and the order that it names by itself
    /// is not there beside something else.
    pub(super) fn conclude(&self, findings: &mut Findings) {
        for (key, targets) in &self.claims {
            let Some((last, former)) = targets.split_last() else { continue };
            for target in former.iter().filter(|target| !self.idle.contains(*target)) {
                let detail = format!("was passed on to {last} while {target} could still be had for it");
                findings.broken(LAW, key.as_str(), detail);
            }
            let root = key.id().trim_start_matches("req_");
            let Ok(order_id) = OrderId::new(&format!("ord_{root}")) else { continue };
            let named = order_id.stream(&key.tenant());
            // One that somebody named so is another key's.
            let made = self.orders.contains(&named) && !self.targets.contains(&named);
            if made && !self.idle.contains(&named) {
                findings.broken(
                    LAW,
                    key.as_str(),
                    format!("stands for {last}, and has made {named} as well"),
                );
            }
        }
    }
}
