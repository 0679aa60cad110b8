//! Every checker goes red on a fault planted into what a good run left behind.

use std::sync::OnceLock;

use bytes::Bytes;
use shopstream_command_handlers::CommandError;
use shopstream_domain::inventory::StockEvent;
use shopstream_domain::model::Event;
use shopstream_domain::order::CheckoutEvent;
use shopstream_domain::payment::Event as PaymentEvent;
use shopstream_eventlog::record::{Header, Kind, encode};
use shopstream_eventlog::{CommandId, CommitRecord};

use super::judge;
use crate::evidence::Evidence;
use crate::history::{Asked, End};

/// A run in which everything happens.
fn good() -> Evidence {
    static GOOD: OnceLock<Evidence> = OnceLock::new();
    GOOD.get_or_init(|| crate::leftovers(1, 600)).clone()
}

/// Plants a fault, and requires that it is found as a breach of `promise`, which it was not before.
fn is_red(promise: &str, plant: impl FnOnce(&mut Evidence)) {
    let mut evidence = good();
    let broken = |evidence: &Evidence| judge(evidence).into_iter().any(|it| it.promise == promise);
    assert!(!broken(&evidence), "{:?}", judge(&evidence));
    plant(&mut evidence);
    assert!(broken(&evidence), "nobody noticed; {:?}", judge(&evidence));
}

/// A command that was answered with an effect.
fn acknowledged(evidence: &mut Evidence) -> &mut Asked {
    let asked = evidence.history.asked.iter_mut();
    asked.filter(|asked| asked.effects().next().is_some()).last().expect("an acknowledged command")
}

/// Takes the last event away for which `which` holds, with its whole commit.
fn forget(evidence: &mut Evidence, which: impl Fn(&Event) -> bool) {
    let at = evidence.events.iter().rposition(|events| events.iter().any(&which)).expect("such an event");
    evidence.events.remove(at);
    evidence.counted.remove(at);
}

/// The last event for which `which` answers something.
fn event<'a, T>(evidence: &'a mut Evidence, which: impl Fn(&'a mut Event) -> Option<T>) -> T {
    evidence.events.iter_mut().flatten().filter_map(which).last().expect("such an event")
}

#[test]
fn an_acknowledged_command_that_is_lost() {
    is_red("I1", |evidence| {
        let (stream, id) = {
            let asked = acknowledged(evidence);
            (asked.stream.clone(), asked.command_id)
        };
        let at = evidence
            .counted
            .iter()
            .position(|record| record.commit.stream == stream && record.commit.command_id == id);
        let at = at.expect("its commit");
        evidence.counted.remove(at);
        evidence.events.remove(at);
    });
}

#[test]
fn an_effect_of_a_command_that_failed() {
    is_red("I2", |evidence| {
        for attempt in &mut acknowledged(evidence).attempts {
            attempt.end = End::Failed(CommandError::NotApplied);
        }
    });
}

#[test]
fn a_command_that_takes_effect_twice() {
    is_red("I3", |evidence| {
        let (record, events) = (evidence.counted[0].clone(), evidence.events[0].clone());
        evidence.counted.push(record);
        evidence.events.push(events);
    });
}

#[test]
fn a_second_answer_that_differs() {
    is_red("I3", |evidence| {
        let asked = acknowledged(evidence);
        let mut again = asked.attempts.last().expect("an attempt").clone();
        if let End::Done(reply) = &mut again.end {
            reply.version += 1;
        }
        asked.attempts.push(again);
    });
}

#[test]
fn a_version_that_is_left_out() {
    is_red("I4", |evidence| evidence.counted.last_mut().expect("a commit").commit.first_version += 1);
}

#[test]
fn a_commit_of_an_owner_that_was_fenced() {
    is_red("I5", |evidence| {
        // The next owner claims before the last records, which then mean nothing, and yet the reader counted them.
        let header = Header { kind: Kind::Claim, epoch: 1 << 40, nonce: 1, seq: 0 };
        let records = &mut evidence.records[0];
        let claim: Bytes = encode(header, &shopstream_eventlog::record::Claim::default());
        records[2] = claim;
    });
}

#[test]
fn an_expected_version_that_was_not_met() {
    is_red("I6", |evidence| {
        let asked = acknowledged(evidence);
        asked.expected_version = Some(1_000_000);
    });
}

#[test]
fn an_order_of_answers_that_is_not_that_of_the_log() {
    is_red("I6", |evidence| {
        let asked = acknowledged(evidence);
        // The same again, asked for after the first was answered, at a version before it.
        let mut late = asked.clone();
        late.attempts.retain(|attempt| matches!(attempt.end, End::Done(_)));
        late.attempts.truncate(1);
        for attempt in &mut late.attempts {
            attempt.called = attempt.returned + shopstream_domain::Duration::from_seconds(1);
            attempt.returned = attempt.called;
            if let End::Done(reply) = &mut attempt.end {
                (reply.version, reply.repeated) = (0, false);
            }
        }
        for attempt in &mut asked.attempts {
            if let End::Done(reply) = &mut attempt.end {
                reply.repeated = false;
            }
        }
        evidence.history.asked.push(late);
    });
}

#[test]
fn units_that_come_from_nowhere() {
    is_red("I7", |evidence| {
        forget(evidence, |event| matches!(event, Event::Stock(StockEvent::Reserved(_))));
    });
}

#[test]
fn a_charge_that_the_shop_does_not_know_of() {
    is_red("I8", |evidence| {
        let account = evidence.book.accounts.values_mut().find(|account| account.captured > 0);
        account.expect("a charge").captured += 100;
    });
}

#[test]
fn a_capture_that_is_forgotten() {
    is_red("I8", |evidence| {
        forget(evidence, |event| matches!(event, Event::Payment(PaymentEvent::Captured(_))));
    });
}

#[test]
fn a_call_that_nobody_wrote_down() {
    is_red("I8", |evidence| {
        let key = event(evidence, |event| match event {
            Event::Payment(PaymentEvent::OperationStarted(event)) => Some(&mut event.key),
            _ => None,
        });
        key.push('0');
    });
}

#[test]
fn a_checkout_that_never_ends() {
    is_red("I9", |evidence| {
        forget(evidence, |event| {
            matches!(event, Event::Checkout(CheckoutEvent::Done(_) | CheckoutEvent::Cancelled(_)))
        });
    });
}

#[test]
fn a_hold_without_an_owner() {
    is_red("I9", |evidence| {
        forget(evidence, |event| matches!(event, Event::Stock(StockEvent::Committed(_))));
    });
}

#[test]
fn a_journal_that_lacks_a_commit() {
    is_red("I10", |evidence| {
        evidence.journal.values_mut().next().expect("a stream").pop();
    });
}

#[test]
fn a_checkpoint_beside_the_end() {
    is_red("I10", |evidence| evidence.checkpoints[0][0].next += 1);
}

#[test]
fn a_snapshot_of_what_never_was() {
    // The last event that is in one.
    is_red("I18", |evidence| {
        let is_last = |record: &CommitRecord| {
            let snapshot = evidence.snapshots.get(&record.commit.stream);
            snapshot.is_some_and(|snapshot| record.commit.first_version == snapshot.from)
        };
        // One that changes the state: of others only the command is remembered.
        let changes = |record: &CommitRecord| {
            record.commit.events.iter().any(|event| event.event_type != "NothingChanged")
        };
        let last = |record: &CommitRecord| is_last(record) && changes(record);
        let at = evidence.counted.iter().position(last).expect("the last commit of a snapshot");
        evidence.counted[at].commit.events.clear();
    });
}

#[test]
fn a_snapshot_that_forgets_a_command() {
    is_red("I18", |evidence| {
        let stream = evidence.snapshots.keys().next().expect("a snapshot");
        let of_it = |record: &&mut CommitRecord| record.commit.stream == *stream;
        let first = evidence.counted.iter_mut().find(of_it).expect("its first commit");
        first.commit.command_id = CommandId::derive(&["never"]);
    });
}
