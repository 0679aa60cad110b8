//! A stock item, command by command.

use super::*;
use crate::testing::given;
use crate::{Aggregate, Refusal, RefusalFamily};

fn received(quantity: i64) -> StockEvent {
    let (sku, location, quantity) = (sku("A1"), LocationId::main(), units(quantity));
    StockEvent::Received(StockReceived { sku, location, quantity, reference: None })
}

fn receive(quantity: i64) -> StockCommand {
    let (sku, location, quantity) = (sku("A1"), LocationId::main(), units(quantity));
    StockCommand::Receive { sku, location, quantity, reference: None }
}

fn reserved(of: &str, quantity: i64) -> StockEvent {
    StockEvent::Reserved(StockReserved { reservation_id: res(of), quantity: units(quantity) })
}

fn committed(of: &str, quantity: i64) -> StockEvent {
    StockEvent::Committed(StockCommitted { reservation_id: res(of), quantity: units(quantity) })
}

fn released(of: &str, quantity: i64, from: Bucket, at: Timestamp) -> StockEvent {
    let reason = ReleaseReason::Cancelled;
    StockEvent::Released(StockReleased { reservation_id: res(of), quantity, from, reason, at })
}

fn put_back(of: &str, with: &str, quantity: i64, at: Timestamp) -> StockEvent {
    let (reservation_id, return_id) = (res(of), ret(with));
    StockEvent::PutBack(StockPutBack { reservation_id, return_id, quantity: units(quantity), at })
}

fn rejected(of: &str, requested: i64, available: i64, cause: RejectionCause, at: Timestamp) -> StockEvent {
    let (reservation_id, requested) = (res(of), units(requested));
    let rejected = StockReservationRejected { reservation_id, requested, available, cause, at };
    StockEvent::ReservationRejected(rejected)
}

fn reserve(of: &str, quantity: i64) -> StockCommand {
    StockCommand::Reserve { reservation_id: res(of), quantity: units(quantity) }
}

fn commit(of: &str) -> StockCommand {
    StockCommand::Commit { reservation_id: res(of) }
}

fn release(of: &str) -> StockCommand {
    StockCommand::Release { reservation_id: res(of), reason: ReleaseReason::Cancelled }
}

fn return_of(of: &str, with: &str, quantity: i64) -> StockCommand {
    StockCommand::PutBack { reservation_id: res(of), return_id: ret(with), quantity: units(quantity) }
}

fn adjust(delta: i64) -> StockCommand {
    StockCommand::Adjust { delta, reason: "damaged".to_owned() }
}

/// Every state that makes a difference to reservation `res_1`, which is about 4 of 10 units.
fn states() -> [(&'static str, Vec<StockEvent>); 9] {
    let now = Timestamp::default();
    let sold = || vec![received(10), reserved("res_1", 4), committed("res_1", 4)];
    let after = |mut history: Vec<_>, event| {
        history.push(event);
        history
    };
    [
        ("never seen", vec![]),
        ("on hand", vec![received(10)]),
        ("held", vec![received(10), reserved("res_1", 4)]),
        ("sold", sold()),
        ("partly returned", after(sold(), put_back("res_1", "ret_1", 1, now))),
        ("returned", after(sold(), put_back("res_1", "ret_1", 4, now))),
        ("released", vec![received(10), reserved("res_1", 4), released("res_1", 4, Bucket::Reserved, now)]),
        ("released first", vec![received(10), released("res_1", 0, Bucket::Reserved, now)]),
        ("rejected", vec![rejected("res_1", 4, 0, RejectionCause::Shortage, now), received(10)]),
    ]
}

/// What each command leads to in each state. The match has no wildcard, so a new command asks for its row.
fn expected(command: &StockCommand) -> [&'static str; 9] {
    match command {
        StockCommand::Receive { .. } => ["StockReceived"; 9],
        StockCommand::Adjust { .. } => {
            let (ok, no) = ("StockAdjusted", "STOCK_BELOW_HELD");
            [no, ok, no, no, ok, ok, ok, ok, ok]
        }
        StockCommand::Count { .. } => {
            let (ok, no) = ("StockCounted", "STOCK_BELOW_HELD");
            [ok, ok, no, no, ok, ok, ok, ok, ok]
        }
        StockCommand::Reserve { .. } => {
            let no = "StockReservationRejected";
            [no, "StockReserved", "nothing", "nothing", "nothing", no, no, no, no]
        }
        StockCommand::Commit { .. } => {
            let (unknown, done) = ("STOCK_NOT_RESERVED", "STOCK_RESERVATION_FINISHED");
            [unknown, unknown, "StockCommitted", "nothing", "nothing", "nothing", done, done, done]
        }
        StockCommand::Release { .. } => {
            let ok = "StockReleased";
            [ok, ok, ok, ok, ok, "nothing", "nothing", "nothing", "nothing"]
        }
        StockCommand::PutBack { .. } => {
            let (ok, no) = ("StockPutBack", "STOCK_BEYOND_COMMITTED");
            [no, no, no, ok, ok, no, no, no, no]
        }
    }
}

#[test]
fn every_stock_command_in_every_state() {
    let commands = [
        receive(5),
        adjust(-7),
        StockCommand::Count { found: 3 },
        reserve("res_1", 4),
        commit("res_1"),
        release("res_1"),
        return_of("res_1", "ret_2", 2),
    ];
    for command in commands {
        for ((state, history), expected) in states().into_iter().zip(expected(&command)) {
            let found = given::<StockItem>(history).when(command.clone()).in_words();
            assert_eq!(found, expected, "{command:?} when {state}");
        }
    }
}

fn buckets(item: &StockItem) -> [i64; 4] {
    [item.on_hand(), item.available(), item.reserved(), item.committed()]
}

#[test]
fn units_move_from_bucket_to_bucket() {
    let now = second(7);
    let item = given::<StockItem>([]).when(receive(10)).then([received(10)]);
    assert_eq!(buckets(&item), [10, 10, 0, 0]);
    let held = || [received(10), reserved("res_1", 4)];
    let item = given::<StockItem>([received(10)]).when(reserve("res_1", 4)).then([reserved("res_1", 4)]);
    assert_eq!(buckets(&item), [10, 6, 4, 0]);
    let item = given::<StockItem>(held()).when(commit("res_1")).then([committed("res_1", 4)]);
    assert_eq!(buckets(&item), [10, 6, 0, 4]);
    let undone = released("res_1", 4, Bucket::Reserved, now);
    let item = given::<StockItem>(held()).at(now).when(release("res_1")).then([undone]);
    assert_eq!(buckets(&item), [10, 10, 0, 0]);
}

#[test]
fn sold_units_come_back_by_return_and_by_reversal() {
    let now = second(7);
    let sold = || given::<StockItem>([received(10), reserved("res_1", 4), committed("res_1", 4)]).at(now);
    let returned = put_back("res_1", "ret_1", 1, now);
    let item = sold().when(return_of("res_1", "ret_1", 1)).then([returned.clone()]);
    assert_eq!(buckets(&item), [10, 7, 0, 3]);
    // The reversal takes only what the return has left.
    let reversed = released("res_1", 3, Bucket::Committed, now);
    let item = sold().and([returned]).when(release("res_1")).then([reversed]);
    assert_eq!(buckets(&item), [10, 10, 0, 0]);
    sold().when(return_of("res_1", "ret_1", 5)).then_refused(Error::BeyondCommitted {
        reservation_id: res("res_1"),
        committed: 4,
        quantity: units(5),
    });
}

#[test]
fn a_return_puts_its_units_back_once() {
    let history = || {
        let (held, sold) = (reserved("res_1", 4), committed("res_1", 4));
        given::<StockItem>([received(10), held, sold, put_back("res_1", "ret_1", 2, day(0))])
    };
    history().when(return_of("res_1", "ret_1", 2)).then_nothing();
    history().when(return_of("res_1", "ret_1", 1)).then_refused(Error::PutBackDiffers {
        return_id: ret("ret_1"),
        put_back: units(2),
        quantity: units(1),
    });
    history().when(return_of("res_1", "ret_2", 2)).then([put_back("res_1", "ret_2", 2, day(0))]);
}

#[test]
fn a_shortage_is_an_answer_and_it_stays() {
    let short = rejected("res_1", 11, 10, RejectionCause::Shortage, day(1));
    given::<StockItem>([received(10)]).at(day(1)).when(reserve("res_1", 11)).then([short.clone()]);
    let again = rejected("res_1", 11, 100, RejectionCause::Finished, day(2));
    given::<StockItem>([received(10), short, received(90)])
        .at(day(2))
        .when(reserve("res_1", 11))
        .then([again]);
}

#[test]
fn a_hold_keeps_its_quantity() {
    given::<StockItem>([received(10), reserved("res_1", 4)]).when(reserve("res_1", 5)).then_refused(
        Error::HeldDiffers { reservation_id: res("res_1"), held: units(4), requested: units(5) },
    );
}

#[test]
fn a_release_before_its_reserve_refuses_the_reserve_until_it_is_forgotten() {
    let tombstone = released("res_1", 0, Bucket::Reserved, day(0));
    given::<StockItem>([received(10)]).when(release("res_1")).then([tombstone.clone()]);
    let late = rejected("res_1", 4, 10, RejectionCause::Finished, day(8));
    let history = || given::<StockItem>([received(10), tombstone.clone()]);
    history().at(day(8)).when(reserve("res_1", 4)).then([late]);
    // After eight days no hold of that time can be alive; the next one to finish clears the memory.
    let other = || [released("res_2", 0, Bucket::Reserved, day(8))];
    history().and(other()).at(day(8)).when(reserve("res_1", 4)).outcome().unwrap();
    let much_later = [released("res_3", 0, Bucket::Reserved, day(9))];
    history().and(other()).and(much_later).when(reserve("res_1", 4)).then([reserved("res_1", 4)]);
}

#[test]
fn memory_of_finished_reservations_is_bounded_by_time() {
    let cycle = |n: i64| {
        let (id, at) = (format!("res_{n}"), second(n * 3_600));
        [reserved(&id, 1), released(&id, 1, Bucket::Reserved, at)]
    };
    let weight = |cycles: i64| {
        let history = [received(10)].into_iter().chain((0..cycles).flat_map(cycle));
        given::<StockItem>(history).state().weight()
    };
    assert!(weight(10) < weight(100));
    assert_eq!(weight(400), weight(2_000), "eight days of hours and no more");
}

#[test]
fn corrections_leave_what_is_held_alone() {
    let history = || [received(10), reserved("res_1", 4), reserved("res_2", 2), committed("res_2", 2)];
    let adjusted = StockAdjusted { delta: -4, reason: "damaged".to_owned() };
    let item = given::<StockItem>(history()).when(adjust(-4)).then([StockEvent::Adjusted(adjusted)]);
    assert_eq!(buckets(&item), [6, 0, 4, 2]);
    let below = |field, on_hand| Error::BelowHeld { field, on_hand, held: 6 };
    given::<StockItem>(history()).when(adjust(-5)).then_refused(below("delta", 5));
    given::<StockItem>(history()).when(StockCommand::Count { found: 5 }).then_refused(below("found", 5));
    given::<StockItem>(history()).when(StockCommand::Count { found: 10 }).then_nothing();
    given::<StockItem>(history()).when(adjust(0)).then_nothing();
    let counted = StockEvent::Counted(StockCounted { expected: 10, found: 12 });
    let item = given::<StockItem>(history()).when(StockCommand::Count { found: 12 }).then([counted]);
    assert_eq!(buckets(&item), [12, 6, 4, 2]);
}

#[test]
fn a_bad_request_names_its_field() {
    let all =
        || given::<StockItem>([StockEvent::Adjusted(StockAdjusted { delta: i64::MAX, reason: "x".into() })]);
    let long = "ü".repeat(501);
    let reference = Some(long.clone());
    let (sku, location) = (sku("A1"), LocationId::main());
    let long_reference = StockCommand::Receive { sku, location, quantity: units(1), reference };
    let cases = [
        (all().when(receive(1)), RefusalFamily::Precondition, "quantity"),
        (all().when(adjust(1)), RefusalFamily::Precondition, "delta"),
        (given([]).when(adjust(i64::MIN)), RefusalFamily::Precondition, "delta"),
        (given([]).when(StockCommand::Count { found: -1 }), RefusalFamily::Precondition, "found"),
        (given([]).when(long_reference), RefusalFamily::Invalid, "reference"),
        (
            given([]).when(StockCommand::Adjust { delta: 1, reason: " ".into() }),
            RefusalFamily::Invalid,
            "reason",
        ),
        (given([]).when(StockCommand::Adjust { delta: 1, reason: long }), RefusalFamily::Invalid, "reason"),
    ];
    for (when, family, field) in cases {
        let refusal = when.outcome().unwrap_err();
        assert_eq!((refusal.family(), refusal.field().as_deref()), (family, Some(field)), "{refusal}");
    }
}
