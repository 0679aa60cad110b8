//! The promises, each checked by a fold of its own over the evidence: what the product's own code believes is not
//! asked.

mod answers;
mod catalog;
mod commands;
mod log;
mod money;
mod reads;
mod reports;
mod sagas;
mod stock;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use shopstream_domain::model::Event;
use shopstream_domain::order::CheckoutEvent;
use shopstream_domain::returns::Event as ReturnEvent;

use crate::Tally;
use crate::callers::Heard;
use crate::evidence::{Evidence, Violation};
use crate::history::End;

/// How many violations of one promise are told.
const TOLD: usize = 5;

/// Every promise that was not kept.
pub(crate) fn judge(evidence: &Evidence) -> Vec<Violation> {
    if let Some(detail) = &evidence.unreadable {
        return vec![Violation::new("HALT", format!("the log cannot be read: {detail}"))];
    }
    let mut all = Vec::new();
    for check in [
        answers::first_answer_again,
        answers::one_key_one_operation,
        answers::effects,
        answers::in_words,
        reads::of_one_moment,
        catalog::one_owner,
        reports::in_the_books,
        commands::acknowledged_once,
        commands::no_effect_without_command,
        commands::one_answer,
        commands::expected_versions,
        commands::time_and_order,
        log::gap_free,
        log::one_writer,
        log::journal_is_the_log,
        log::snapshots_are_the_log,
        stock::conserved,
        money::conserved,
        sagas::ended,
    ] {
        let mut found = Found::default();
        check(evidence, &mut found);
        all.extend(found.0);
    }
    all
}

/// What a checker found.
#[derive(Default)]
pub(crate) struct Found(Vec<Violation>);

impl Found {
    fn require(&mut self, holds: bool, promise: &'static str, detail: impl FnOnce() -> String) {
        if !holds && self.0.len() < TOLD {
            self.0.push(Violation::new(promise, detail()));
        }
    }
}

/// What happened.
pub(crate) fn tally(evidence: &Evidence) -> Tally {
    let attempts = || evidence.history.asked.iter().flat_map(|asked| &asked.attempts);
    let records: usize = evidence.records.iter().map(Vec::len).sum();
    let mut tally = Tally {
        commits: evidence.counted.len() as u64,
        acknowledged: evidence.history.asked.iter().filter(|asked| asked.effects().next().is_some()).count()
            as u64,
        recalled: evidence.recalled,
        unknown: attempts().filter(|attempt| attempt.end == End::Unknown).count() as u64,
        ..Tally::default()
    };
    for heard in evidence.ledger.operations.iter().flat_map(|operation| &operation.heard) {
        match heard {
            Heard::Answer(_) => tally.answered += 1,
            Heard::Refusal { .. } if heard.is_final() => tally.refused += 1,
            Heard::Refusal { .. } | Heard::Nothing => {}
        }
    }
    let (owned, claims) = log::counting(evidence);
    tally.void = (records - owned.len()) as u64;
    tally.takeovers = (claims as u64).saturating_sub(evidence.records.len() as u64);
    let mut parked = BTreeSet::new();
    for (_, stream, event) in evidence.events() {
        match event {
            Event::Checkout(CheckoutEvent::Done(_)) => tally.done += 1,
            Event::Checkout(CheckoutEvent::Cancelled(_)) => tally.cancelled += 1,
            Event::Checkout(CheckoutEvent::NeedsAttention(_)) => {
                parked.insert(stream);
            }
            Event::Return(ReturnEvent::Resolved(_) | ReturnEvent::Refused(_)) => tally.returns += 1,
            _ => {}
        }
    }
    tally.parked = parked.len() as u64;
    tally
}
