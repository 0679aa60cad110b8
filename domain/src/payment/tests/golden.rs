//! The events on the log, as earlier versions wrote them.

use super::*;
use crate::StoredEvent;

/// One of each event, as its golden file holds it.
pub(super) fn samples() -> [Event; 25] {
    [
        initiated(),
        started(ProviderOperation::Refund, 1, 500),
        authorized(),
        declined(),
        unknown(ProviderOperation::Authorize),
        capture_requested(TOTAL),
        captured(1, TOTAL),
        Event::CaptureFailed(PaymentCaptureFailed {
            key: key(ProviderOperation::Capture, 1),
            code: "try_later".to_owned(),
            amount_minor: None,
        }),
        void_requested(),
        voided(1),
        void_failed(),
        refund_requested(500),
        refunded(1, 500),
        Event::RefundFailed(RefundFailed {
            key: key(ProviderOperation::Refund, 1),
            refund_id: "ret_1".to_owned(),
            code: "try_later".to_owned(),
            amount_minor: None,
        }),
        succeeded_late(),
        Event::SignalReceived(ProviderSignalReceived {
            provider_event_id: "evt_1".to_owned(),
            key: key(ProviderOperation::Authorize, 1),
            sequence: 1,
            stamped: false,
        }),
        account::reserved(500),
        account::released(),
        disbelieved(&Error::UnknownOperation { key: key(ProviderOperation::Refund, 9) }),
        account::external("re_1", 500),
        account::accepted_late(),
        account::capture_settled(TOTAL),
        account::refund_settled(500),
        account::settled(TOTAL),
        Event::GivenUp(PaymentGivenUp {}),
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
