//! Law 10: what goes back for returns is on the account of their payments. Who has ended as resolved has had the
//! money, who was refused has not, and nothing is set aside for anybody who does not need it.

use std::collections::BTreeMap;

use shopstream_domain::StreamId;
use shopstream_domain::returns::Event as ReturnEvent;

use super::laws::Findings;
use super::money::Money;

/// All returns, by tenant and id.
#[derive(Default)]
pub(super) struct Returns(BTreeMap<(String, String), Return>);

#[derive(Default)]
struct Return {
    payment: String,
    owed: i64,
    end: Option<End>,
    /// A person saw to the money.
    by_hand: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Resolved,
    Refused,
}

/// What went back under one refund id, and what is set aside for it.
#[derive(Clone, Copy, Default)]
pub(super) struct Back {
    pub(super) given: i64,
    pub(super) set_aside: i64,
}

impl Returns {
    pub(super) fn see(&mut self, stream: &StreamId, event: &ReturnEvent) {
        let known = self.0.entry((stream.tenant_str().to_owned(), stream.id().to_owned())).or_default();
        match event {
            ReturnEvent::Requested(requested) => {
                known.payment = requested.request.payment_id.to_string();
                known.owed = requested.refund_minor;
            }
            ReturnEvent::Resolved(_) => known.end = Some(End::Resolved),
            ReturnEvent::Refused(_) => known.end = Some(End::Refused),
            ReturnEvent::Settled(settled) => known.by_hand |= settled.money,
            ReturnEvent::Refunded(_)
            | ReturnEvent::Restocked(_)
            | ReturnEvent::NeedsAttention(_)
            | ReturnEvent::Resumed(_) => {}
        }
    }

    pub(super) fn conclude(&self, money: &Money, findings: &mut Findings) {
        // What refunds at the provider's own site have left returns without, by payment.
        let mut lacking: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for ((tenant, id), known) in &self.0 {
            let name = format!("{tenant}/return/{id}");
            let Back { given, set_aside } = money.back(tenant, &known.payment, id);
            let Some(end) = known.end else {
                findings.skipped.push(name);
                continue;
            };
            if set_aside > 0 {
                findings.broken(10, &name, format!("has ended, but {set_aside} are set aside for it"));
            }
            match end {
                End::Refused if given > 0 => {
                    findings.broken(10, &name, format!("was refused, but {given} went back for it"));
                }
                End::Resolved if given != known.owed && !known.by_hand => {
                    let owed = known.owed;
                    let lacks = lacking.entry((tenant, &known.payment)).or_default();
                    *lacks += (owed - given).max(0);
                    if given > owed || *lacks > money.elsewhere(tenant, &known.payment) {
                        let detail = format!("is resolved, but {given} of {owed} went back for it");
                        findings.broken(10, &name, detail);
                    }
                }
                End::Refused | End::Resolved => {}
            }
        }
        for (tenant, payment, refund) in money.set_aside() {
            if !self.0.contains_key(&(tenant.to_owned(), refund.to_owned())) {
                let name = format!("{tenant}/payment/{payment}");
                findings.broken(
                    10,
                    &name,
                    format!("has money set aside for {refund}, which nobody asked for"),
                );
            }
        }
    }
}
