//! The events on the log, as earlier versions wrote them.

use super::*;
use crate::StoredEvent;

/// One of each event, as its golden file holds it.
fn samples() -> [Event; 16] {
    [
        initiated(),
        started(ProviderOperation::Refund, 1, 500),
        authorized(),
        declined(),
        unknown(ProviderOperation::Authorize),
        capture_requested(TOTAL),
        captured(1, TOTAL),
        capture_failed(),
        void_requested(),
        voided(1),
        void_failed(),
        refund_requested(500),
        refunded(1, 500),
        refund_failed(),
        succeeded_late(),
        signal_received("evt_1", ProviderOperation::Authorize, 1),
    ]
}

#[test]
fn payments_read_as_they_were_written() {
    assert_eq!(
        samples().each_ref().map(Event::event_type).as_slice(),
        Event::TYPES.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for sample in samples() {
        let (name, version) = (sample.event_type(), sample.schema_version());
        let path = format!("{}/fixtures/payment/{name}.v{version}.json", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(Event::decode(name, &golden).unwrap(), sample);
    }
}
