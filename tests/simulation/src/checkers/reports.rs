//! A report of the provider that is taken is in the books, or it is said why it is not believed.

use std::collections::HashSet;

use shopstream_domain::model::Event;
use shopstream_domain::payment::{Event as PaymentEvent, at_provider};

use super::Found;
use crate::evidence::Evidence;

/// Whoever reports what became of a call makes it known, unless it was.
pub(super) fn in_the_books(evidence: &Evidence, found: &mut Found) {
    let (mut known, mut voided) = (HashSet::<(&str, &str)>::new(), HashSet::new());
    for (record, events) in evidence.counted.iter().zip(&evidence.events) {
        let (stream, at) = (record.commit.stream.as_str(), record.position);
        known.extend(events.iter().filter_map(outcome_of).map(|key| (stream, key)));
        if events.iter().any(|event| matches!(event, Event::Payment(PaymentEvent::Voided(_)))) {
            voided.insert(stream);
        }
        let disbelieved = events.iter().any(|event| {
            matches!(
                event,
                Event::Payment(PaymentEvent::SignalDisbelieved(_) | PaymentEvent::ExternalRefund(_))
            )
        });
        for event in events {
            let Event::Payment(PaymentEvent::SignalReceived(signal)) = event else { continue };
            // Of an authorisation that was voided before anybody heard that it was declined there is nothing more to know.
            let is_done =
                evidence.book.done.contains(&at_provider(&record.commit.stream.tenant(), &signal.key));
            let is_over = voided.contains(stream) && signal.key.contains(":authorize:") && !is_done;
            let is_known = disbelieved || is_over || known.contains(&(stream, signal.key.as_str()));
            found.require(is_known, "REPORT", || {
                let (id, key) = (&signal.provider_event_id, &signal.key);
                format!("{stream} at {at}: the report {id} was taken, and nothing is known of {key}")
            });
        }
    }
}

/// The call of which this event says what became of it.
fn outcome_of(event: &Event) -> Option<&str> {
    let Event::Payment(event) = event else { return None };
    Some(match event {
        PaymentEvent::Authorized(event) => &event.key,
        PaymentEvent::Declined(event) => &event.key,
        PaymentEvent::Captured(event) => &event.key,
        PaymentEvent::CaptureFailed(event) => &event.key,
        PaymentEvent::Voided(event) => &event.key,
        PaymentEvent::VoidFailed(event) => &event.key,
        PaymentEvent::RefundSucceeded(event) => &event.key,
        PaymentEvent::RefundFailed(event) => &event.key,
        PaymentEvent::SucceededLate(event) => &event.key,
        _ => return None,
    })
}
