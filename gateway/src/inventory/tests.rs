//! From requests to commands for stock and reservations.

use shopstream_domain::model;
use shopstream_proto::inventory::v1::{AdjustStock, CountStock, ReceiveStock, ReservationLine};
use tonic::Code;

use super::*;
use crate::testing::{call, refusal};

fn request(change: Option<Change>) -> UpdateStockRequest {
    let (request_id, sku) = ("r".to_owned(), "A1".to_owned());
    UpdateStockRequest { request_id, sku, change, ..UpdateStockRequest::default() }
}

fn receive(quantity: i64) -> Option<Change> {
    Some(Change::Receive(ReceiveStock { quantity }))
}

fn adjust(delta: i64, reason: AdjustReason) -> Option<Change> {
    Some(Change::Adjust(AdjustStock { delta, reason: reason.into() }))
}

fn count(found: i64) -> Option<Change> {
    Some(Change::Count(CountStock { found }))
}

/// UpdateStock.
#[test]
fn update_stock_receives_adjusts_and_counts() {
    let command = |change| update(request(change), &call()).map(|(_, envelope)| envelope);
    let received = command(receive(5)).expect("valid");
    assert_eq!(received.stream.as_str(), "default/stock/A1@main");
    assert!(matches!(
        received.command,
        model::Command::Stock(StockCommand::Receive { quantity, .. }) if quantity.get() == 5
    ));
    let adjusted = command(adjust(-3, AdjustReason::Shrinkage)).expect("valid").command;
    let reason = "shrinkage".to_owned();
    assert_eq!(adjusted, model::Command::Stock(StockCommand::Adjust { delta: -3, reason }));
    // Receipts may have brought more there than one request may name.
    for found in [0, UNITS_MAX + 1] {
        let counted = command(count(found)).expect("valid").command;
        assert_eq!(counted, model::Command::Stock(StockCommand::Count { found }));
    }
}

#[test]
fn every_wrong_change_names_its_field() {
    let cases = [
        (receive(0), "receive.quantity"),
        (receive(UNITS_MAX + 1), "receive.quantity"),
        (adjust(0, AdjustReason::Found), "adjust.delta"),
        (adjust(i64::MIN, AdjustReason::Found), "adjust.delta"),
        (adjust(1, AdjustReason::Unspecified), "adjust.reason"),
        (count(-1), "count.found"),
        (None, "change"),
    ];
    for (change, field) in cases {
        assert_eq!(refusal(update(request(change), &call())), (Code::InvalidArgument, field.to_owned()));
    }
}

fn reserve(lines: &[(&str, &str, i64)], hold_seconds: u32) -> Result<Wanted, Failure> {
    let line = |(sku, location, quantity): &(&str, &str, i64)| ReservationLine {
        sku: (*sku).to_owned(),
        location: (*location).to_owned(),
        quantity: *quantity,
    };
    let lines = lines.iter().map(line).collect();
    let request_id = "r".to_owned();
    let request = ReserveStockRequest { request_id, lines, hold_seconds, ..ReserveStockRequest::default() };
    Wanted::of(request, &call(), Policy::default())
}

/// ReserveStock.
#[test]
fn reserve_stock_sums_lines_per_sku_and_location() {
    let wanted =
        reserve(&[("B", "", 1), ("A", "main", 2), ("A", "", 3), ("A", "east", 4)], 0).expect("valid");
    let keys: Vec<_> =
        wanted.hold.keys.iter().map(|k| (k.sku.as_str(), k.location.as_str(), k.quantity.get())).collect();
    assert_eq!(keys, [("A", "east", 4), ("A", "main", 5), ("B", "main", 1)]);
    assert_eq!(wanted.hold.hold_seconds, Policy::default().hold_seconds);
    assert!(wanted.request.stream.as_str().starts_with("default/reservation/res_"));
}

#[test]
fn a_hold_is_cut_to_what_the_policy_allows() {
    let held = reserve(&[("A", "", 1)], u32::MAX).expect("valid").hold.hold_seconds;
    assert_eq!(held, Policy::default().hold_seconds_max);
}

#[test]
fn a_demand_that_is_too_large_names_the_line() {
    let refused = reserve(&[("A", "", UNITS_MAX), ("B", "", 1), ("A", "", 1)], 0);
    assert_eq!(refusal(refused), (Code::InvalidArgument, "lines[2].quantity".to_owned()));
    assert_eq!(refusal(reserve(&[], 0)), (Code::InvalidArgument, "lines".to_owned()));
}

#[test]
fn nobody_takes_or_gives_back_the_hold_of_an_order() {
    for reservation_id in ["res_1.1", "res_1.2"] {
        let (request_id, reservation_id) = ("r".to_owned(), reservation_id.to_owned());
        let lines = vec![ReservationLine { sku: "A".to_owned(), location: String::new(), quantity: 1 }];
        let reserve = ReserveStockRequest {
            request_id: request_id.clone(),
            reservation_id: Some(reservation_id.clone()),
            lines,
            ..ReserveStockRequest::default()
        };
        let refused = refusal(Wanted::of(reserve, &call(), Policy::default()));
        assert_eq!(refused, (Code::InvalidArgument, "reservation_id".to_owned()));
        let release = ReleaseStockRequest { request_id, reservation_id, ..Default::default() };
        let refused = refusal(Release::of(release, &call()));
        assert_eq!(refused, (Code::FailedPrecondition, "reservation_id".to_owned()));
    }
}

/// ReleaseStock.
#[test]
fn release_stock_says_why() {
    let release = |reason: wire::ReleaseReason| {
        let (request_id, reservation_id) = ("r".to_owned(), "res_1".to_owned());
        let reason = reason.into();
        let request = ReleaseStockRequest { request_id, reservation_id, reason, expected_version: Some(2) };
        Release::of(request, &call())
    };
    let released = release(wire::ReleaseReason::Unspecified).expect("valid");
    assert_eq!((released.reason, released.command.expected_version), (ReleaseReason::Requested, Some(2)));
    let cancelled = release(wire::ReleaseReason::OrderCancelled).expect("valid");
    assert_eq!(cancelled.reason, ReleaseReason::Cancelled);
    assert_eq!(refusal(release(wire::ReleaseReason::Expired)), (Code::InvalidArgument, "reason".to_owned()));
}
