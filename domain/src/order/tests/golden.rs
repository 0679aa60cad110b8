//! The events on the log, as earlier versions wrote them.

use super::*;
use crate::{ProductId, StoredEvent};

/// One of each event, as its golden file says. (That it is also written so, `tests/golden.rs` proves for all.)
fn orders() -> Vec<Event> {
    let mut full = line("85123A", 6, 255);
    full.product_id = Some(ProductId::new("prd_85123A").unwrap());
    full.location = LocationId::new("north").unwrap();
    full.price_source = PriceSource::Override;
    full.price_version = Some(3);
    let placement = || place_lines(vec![line("71053", 1, 339), full.clone()]).unwrap();
    vec![
        drafted(placement()),
        Event::Submitted(OrderSubmitted { placement: placement() }),
        Event::AwaitingPayment(awaiting(1, "insufficient_funds")),
        confirmed(),
        requested(CancelReason::Customer),
        cancelled(CancelReason::OutOfStockAfterPayment),
        units_returned("ret_1", vec![back(0, 1)], 339),
    ]
}

fn check<E: StoredEvent>(samples: &[E]) {
    for (name, _) in E::TYPES {
        assert!(samples.iter().any(|sample| sample.event_type() == *name), "no sample of {name}");
    }
    for sample in samples {
        let (name, version) = (sample.event_type(), sample.schema_version());
        let path = format!("{}/fixtures/order/{name}.v{version}.json", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(&E::decode(name, &golden).unwrap(), sample);
    }
}

#[test]
fn orders_read_as_they_were_written() {
    check(&orders());
}

#[test]
fn checkouts_read_as_they_were_written() {
    check(&super::checkout::samples());
}

#[test]
fn an_order_of_a_thousand_lines_stays_small() {
    let lines = (0..LINES_MAX).map(|at| OrderLine {
        product_id: Some(ProductId::new(&format!("prd_01890a5d-ac96-774b-bcce-b302099{at:05}")).unwrap()),
        price_source: PriceSource::Override,
        price_version: Some(1_000_000),
        ..line(&format!("SKU-0123456789-{at:05}"), 1_000_000_000, 9_000_000)
    });
    let event = Event::Submitted(OrderSubmitted { placement: place_lines(lines.collect()).unwrap() });
    let bytes = event.encode().len();
    assert!(bytes < 256 * 1024, "{bytes} bytes");
}
