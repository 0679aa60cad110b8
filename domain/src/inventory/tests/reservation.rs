//! A reservation, command by command.

use super::*;
use crate::testing::{Given, given};
use crate::{Refusal, RefusalFamily};

const HOLD: u32 = 1_800;
const HARD_MAX: u32 = 3_600;

fn request(keys: Vec<StockKey>, hold_seconds: u32, hard_max_seconds: u32) -> ReservationCommand {
    ReservationCommand::Request { reservation_id: res("res_1"), keys, hold_seconds, hard_max_seconds }
}

fn requested() -> ReservationEvent {
    ReservationEvent::Requested(ReservationRequested {
        reservation_id: res("res_1"),
        keys: vec![key("A1", 4)],
        until: second(i64::from(HOLD)),
        hard_until: second(i64::from(HARD_MAX)),
    })
}

fn held() -> ReservationEvent {
    ReservationEvent::Held(ReservationHeld {})
}

fn committed() -> ReservationEvent {
    ReservationEvent::Committed(ReservationCommitted {})
}

fn released(reason: ReleaseReason) -> ReservationEvent {
    ReservationEvent::Released(ReservationReleased { reason })
}

fn settled(decision: Decision) -> ReservationEvent {
    ReservationEvent::Settled(ReservationSettled { decision })
}

fn short() -> Vec<ShortLine> {
    let (sku, location, requested) = (sku("A1"), LocationId::main(), units(4));
    vec![ShortLine { sku, location, requested, available: 3 }]
}

fn rejected() -> ReservationEvent {
    ReservationEvent::Rejected(ReservationRejected { short: short() })
}

fn reservation(history: &[ReservationEvent]) -> Given<Reservation> {
    given(history.to_vec())
}

/// Every state that makes a difference, half-way through the hold of half an hour or after it.
fn states() -> [(&'static str, Vec<ReservationEvent>, i64); 12] {
    use Decision::{Committed, Released};
    use ReleaseReason::Cancelled;
    let sold = || vec![requested(), held(), committed()];
    [
        ("missing", vec![], 900),
        ("released first", vec![released(Cancelled)], 900),
        ("requested", vec![requested()], 900),
        ("requested, overdue", vec![requested()], 1_800),
        ("held", vec![requested(), held()], 900),
        ("held, overdue", vec![requested(), held()], 1_800),
        ("rejected", vec![requested(), rejected()], 900),
        ("committed", sold(), 1_800),
        ("committed and settled", [sold(), vec![settled(Committed)]].concat(), 900),
        ("released", vec![requested(), held(), released(Cancelled)], 1_800),
        ("released and settled", vec![requested(), released(Cancelled), settled(Released)], 900),
        ("reversed", [sold(), vec![settled(Committed), released(Cancelled)]].concat(), 900),
    ]
}

/// What each command leads to in each state. The match has no wildcard, so a new command asks for its row.
fn expected(command: &ReservationCommand) -> [&'static str; 12] {
    const NONE: &str = "RESERVATION_NOT_FOUND";
    const GONE: &str = "RESERVATION_RELEASED";
    const LATE: &str = "RESERVATION_EXPIRED";
    const OPEN: &str = "RESERVATION_NOT_HELD";
    const WAIT: &str = "RESERVATION_NOT_EXPIRED";
    const SHORT: &str = "RESERVATION_REJECTED";
    const SOLD: &str = "RESERVATION_COMMITTED";
    const UNMADE: &str = "RESERVATION_NOTHING_TO_SETTLE";
    const NOTHING: &str = "nothing";
    match command {
        ReservationCommand::Request { .. } => {
            let same = NOTHING;
            let ok = "ReservationRequested";
            [ok, GONE, same, same, same, same, same, same, same, GONE, GONE, GONE]
        }
        ReservationCommand::RecordAllocation(Allocation::Held) => {
            let ok = "ReservationHeld";
            let no = NOTHING;
            [NONE, no, ok, ok, no, no, SHORT, no, no, no, no, no]
        }
        ReservationCommand::RecordAllocation(Allocation::Rejected { .. }) => {
            let (ok, no, held) = ("ReservationRejected", NOTHING, "RESERVATION_HELD");
            [NONE, no, ok, ok, held, held, no, SOLD, SOLD, no, no, no]
        }
        ReservationCommand::Extend { .. } => {
            let ok = "ReservationExtended";
            [NONE, GONE, OPEN, OPEN, ok, LATE, SHORT, SOLD, SOLD, GONE, GONE, GONE]
        }
        ReservationCommand::Commit => {
            let ok = "ReservationCommitted";
            [NONE, GONE, OPEN, OPEN, ok, LATE, SHORT, NOTHING, NOTHING, GONE, GONE, GONE]
        }
        ReservationCommand::Release { .. } => {
            let (ok, no) = ("ReservationReleased", NOTHING);
            [ok, no, ok, ok, ok, ok, no, SOLD, SOLD, no, no, no]
        }
        ReservationCommand::Reverse { .. } => {
            let (ok, no) = ("ReservationReleased", NOTHING);
            [ok, no, ok, ok, ok, ok, no, ok, ok, no, no, no]
        }
        ReservationCommand::Expire => {
            let (ok, no) = ("ReservationReleased", NOTHING);
            [NONE, no, WAIT, ok, WAIT, ok, no, no, no, no, no, no]
        }
        ReservationCommand::RecordSettled { decision: Decision::Rejected } => {
            let ok = "ReservationSettled";
            [NONE, UNMADE, UNMADE, UNMADE, UNMADE, UNMADE, ok, UNMADE, UNMADE, UNMADE, UNMADE, UNMADE]
        }
        ReservationCommand::RecordSettled { decision: Decision::Committed } => {
            let (ok, no) = ("ReservationSettled", NOTHING);
            [NONE, no, UNMADE, UNMADE, UNMADE, UNMADE, UNMADE, ok, no, no, no, no]
        }
        ReservationCommand::RecordSettled { decision: Decision::Released } => {
            let (ok, no) = ("ReservationSettled", NOTHING);
            [NONE, no, UNMADE, UNMADE, UNMADE, UNMADE, UNMADE, UNMADE, UNMADE, ok, no, ok]
        }
    }
}

#[test]
fn every_reservation_command_in_every_state() {
    let settle = |decision| ReservationCommand::RecordSettled { decision };
    let commands = [
        request(vec![key("A1", 4)], HOLD, HARD_MAX),
        ReservationCommand::RecordAllocation(Allocation::Held),
        ReservationCommand::RecordAllocation(Allocation::Rejected { short: short() }),
        ReservationCommand::Extend { until: second(2_000) },
        ReservationCommand::Commit,
        ReservationCommand::Release { reason: ReleaseReason::Requested },
        ReservationCommand::Reverse { reason: ReleaseReason::Reversed },
        ReservationCommand::Expire,
        settle(Decision::Rejected),
        settle(Decision::Committed),
        settle(Decision::Released),
    ];
    for command in commands {
        for ((state, history, now), expected) in states().into_iter().zip(expected(&command)) {
            let found = reservation(&history).at(second(now)).when(command.clone()).in_words();
            assert_eq!(found, expected, "{command:?} when {state}");
        }
    }
}

#[test]
fn a_request_becomes_a_hold_with_its_deadlines() {
    let state = reservation(&[]).when(request(vec![key("A1", 4)], HOLD, HARD_MAX)).then([requested()]);
    assert_eq!((state.keys(), state.until()), (&[key("A1", 4)][..], second(1_800)));
    assert!(!state.is_unsettled());
    let state = reservation(&[requested()])
        .when(ReservationCommand::RecordAllocation(Allocation::Rejected { short: short() }))
        .then([rejected()]);
    assert_eq!((state.status(), state.is_unsettled()), (ReservationStatus::Rejected, true));
}

#[test]
fn a_request_with_other_lines_meets_a_taken_id() {
    let refusal = Error::ReservationExists { reservation_id: res("res_1") };
    assert_eq!(refusal.family(), RefusalFamily::AlreadyExists);
    reservation(&[requested()]).when(request(vec![key("A1", 5)], HOLD, HARD_MAX)).then_refused(refusal);
}

#[test]
fn a_bad_request_names_its_field() {
    let many = (0..1_001).map(|n| key(&format!("S{n}"), 1)).collect();
    let cases = [
        (request(vec![], HOLD, HARD_MAX), "keys"),
        (request(many, HOLD, HARD_MAX), "keys"),
        (request(vec![key("A1", 1), key("A2", 1), key("A1", 2)], HOLD, HARD_MAX), "keys[2]"),
        (request(vec![key("A1", 1)], 0, HARD_MAX), "hold_seconds"),
        (request(vec![key("A1", 1)], HARD_MAX + 1, HARD_MAX), "hold_seconds"),
        (request(vec![key("A1", 1)], 1, 0), "hard_max_seconds"),
        (request(vec![key("A1", 1)], 1, HOLD_SECONDS_MAX + 1), "hard_max_seconds"),
    ];
    for (command, field) in cases {
        let refusal = reservation(&[]).when(command).outcome().unwrap_err();
        assert_eq!((refusal.family(), refusal.field().as_deref()), (RefusalFamily::Invalid, Some(field)));
    }
    reservation(&[requested()])
        .when(ReservationCommand::RecordAllocation(Allocation::Rejected { short: vec![] }))
        .then_refused(Error::ShortMissing);
    let elsewhere = StockKey { location: LocationId::new("north").unwrap(), ..key("A1", 1) };
    reservation(&[]).when(request(vec![key("A1", 1), elsewhere], HOLD, HARD_MAX)).outcome().unwrap();
}

#[test]
fn an_extension_stops_at_the_hard_maximum() {
    let extended = |until| ReservationEvent::Extended(ReservationExtended { until: second(until) });
    let extend = |until| ReservationCommand::Extend { until: second(until) };
    let holding = || reservation(&[requested(), held()]).at(second(900));
    holding().when(extend(2_000)).then([extended(2_000)]);
    holding().when(extend(9_999)).then([extended(3_600)]);
    holding().when(extend(1_800)).then_nothing();
    holding().when(extend(1)).then_nothing();
    holding().and([extended(3_600)]).when(extend(9_999)).then_nothing();
    let state = holding().and([extended(3_600)]).at(second(3_599)).when(ReservationCommand::Commit);
    assert_eq!(state.then([committed()]).status(), ReservationStatus::Committed);
}

#[test]
fn a_commit_that_comes_too_late_is_refused_by_name() {
    let holding = || reservation(&[requested(), held()]);
    holding().at(second(1_799)).when(ReservationCommand::Commit).then([committed()]);
    holding()
        .at(second(1_800))
        .when(ReservationCommand::Commit)
        .then_refused(Error::HoldExpired { until: second(1_800) });
    let reason = ReleaseReason::Expired;
    holding()
        .and([released(reason)])
        .when(ReservationCommand::Commit)
        .then_refused(Error::AlreadyReleased { reason });
}

#[test]
fn a_hold_expires_only_when_its_time_is_over() {
    let holding = || reservation(&[requested(), held()]);
    let until = second(1_800);
    let early = Error::HoldNotExpired { until };
    holding().at(second(1_799)).when(ReservationCommand::Expire).then_refused(early);
    holding().at(until).when(ReservationCommand::Expire).then([released(ReleaseReason::Expired)]);
}

#[test]
fn each_decision_asks_the_stock_items_anew() {
    let sold = [requested(), held(), committed()];
    assert!(reservation(&sold).state().is_unsettled());
    let done = [&sold[..], &[settled(Decision::Committed)]].concat();
    assert!(!reservation(&done).state().is_unsettled());
    let reversed = [&done[..], &[released(ReleaseReason::Reversed)]].concat();
    assert!(reservation(&reversed).state().is_unsettled());
    // The report on the commit comes after the release was decided: it must not pass for the release's.
    let overtaken = [&sold[..], &[released(ReleaseReason::Reversed)]].concat();
    let report = |decision| ReservationCommand::RecordSettled { decision };
    assert!(reservation(&overtaken).when(report(Decision::Committed)).then_nothing().is_unsettled());
    let state = reservation(&overtaken).when(report(Decision::Released)).then([settled(Decision::Released)]);
    assert!(!state.is_unsettled());
}

#[test]
fn a_release_before_its_request_touches_no_stock() {
    let reason = ReleaseReason::Timeout;
    let state = reservation(&[]).when(ReservationCommand::Release { reason }).then([released(reason)]);
    assert!(!state.is_unsettled());
}
