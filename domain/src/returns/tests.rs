//! Every command of a return in every state.

use super::*;
use crate::testing::given;
use crate::{Currency, LocationId, OrderId, Quantity, Refusal, RefusalFamily, ReturnId, Sku, StoredEvent};

fn line(line: u32, quantity: i64, unit_price_minor: i64) -> ReturnLine {
    ReturnLine {
        line,
        sku: Sku::new("85123A").unwrap(),
        location: LocationId::main(),
        quantity: Quantity::new(quantity).unwrap(),
        unit_price_minor,
    }
}

fn request_of(lines: Vec<ReturnLine>) -> ReturnRequest {
    let order_id = OrderId::new("ord_1").unwrap();
    ReturnRequest {
        return_id: ReturnId::new("ret_1").unwrap(),
        payment_id: order_id.payment(1),
        reservation_id: order_id.reservation_of_old(),
        order_id,
        currency: Currency::GBP,
        lines,
    }
}

/// Two units of 2.55 and one of 3.39, which lies in the north.
fn request() -> ReturnRequest {
    let north = ReturnLine { location: LocationId::new("north").unwrap(), ..line(1, 1, 339) };
    request_of(vec![line(0, 2, 255), north])
}

const OWED: i64 = 849;

fn requested() -> Event {
    Event::Requested(ReturnRequested { request: request(), refund_minor: OWED })
}

fn refunded() -> Event {
    Event::Refunded(ReturnRefunded { amount_minor: OWED })
}

fn restocked() -> Event {
    Event::Restocked(ReturnRestocked {})
}

fn resolved() -> Event {
    Event::Resolved(ReturnResolved {})
}

fn refused() -> Event {
    Event::Refused(ReturnRefused { reason: "RETURN_EXCEEDS_ORDER".to_owned() })
}

fn stopped() -> Event {
    let (step, detail) = ("refund".to_owned(), "pay_1.1:refund:6 failed".to_owned());
    Event::NeedsAttention(ReturnNeedsAttention { step, detail })
}

fn resumed() -> Event {
    Event::Resumed(ReturnResumed { reason: "the provider is back".to_owned() })
}

fn settled() -> Event {
    let reason = "paid by hand".to_owned();
    Event::Settled(ReturnSettled { money: true, stock: true, reason })
}

fn settle() -> Command {
    Command::Settle { money: true, stock: true, reason: "paid by hand".to_owned() }
}

fn resume() -> Command {
    Command::Resume { reason: "the provider is back".to_owned() }
}

/// Every state, in the order of the columns below.
fn states() -> [(Option<ReturnStatus>, Vec<Event>); 8] {
    [
        (None, vec![]),
        (Some(ReturnStatus::Requested), vec![requested()]),
        (Some(ReturnStatus::Refunded), vec![requested(), refunded()]),
        (Some(ReturnStatus::Restocked), vec![requested(), restocked()]),
        (Some(ReturnStatus::Resolved), vec![requested(), restocked(), refunded(), resolved()]),
        (Some(ReturnStatus::Refused), vec![requested(), refused()]),
        (Some(ReturnStatus::NeedsAttention), vec![requested(), restocked(), stopped()]),
        (
            Some(ReturnStatus::Settled),
            vec![requested(), restocked(), stopped(), settled(), refunded(), resolved()],
        ),
    ]
}

/// What each command leads to in each state. The match has no wildcard, so a new command asks for its row.
fn expected(command: &Command) -> [&'static str; 8] {
    const ABSENT: &str = "RETURN_NOT_FOUND";
    const NO: &str = "RETURN_REFUSED";
    const SO: &str = "nothing";
    match command {
        Command::Request(_) => ["ReturnRequested", SO, SO, SO, SO, SO, SO, SO],
        Command::RecordRefunded { .. } => {
            let last = "ReturnRefunded ReturnResolved";
            [ABSENT, "ReturnRefunded", SO, last, SO, NO, last, SO]
        }
        Command::RecordRestocked => {
            [ABSENT, "ReturnRestocked", "ReturnRestocked ReturnResolved", SO, SO, NO, SO, SO]
        }
        Command::Refuse { .. } => {
            let moving = "RETURN_UNDER_WAY";
            [ABSENT, "ReturnRefused", moving, moving, moving, SO, moving, moving]
        }
        Command::RecordNeedsAttention { .. } => {
            let stops = "ReturnNeedsAttention";
            [ABSENT, stops, stops, stops, SO, SO, SO, SO]
        }
        Command::Resume { .. } => {
            let goes_on = "PROCESS_NOT_STOPPED";
            [ABSENT, goes_on, goes_on, goes_on, goes_on, goes_on, "ReturnResumed", goes_on]
        }
        Command::Settle { .. } => {
            let goes_on = "PROCESS_NOT_STOPPED";
            [ABSENT, goes_on, goes_on, goes_on, goes_on, goes_on, "ReturnSettled", goes_on]
        }
    }
}

#[test]
fn every_command_in_every_state() {
    let commands = [
        Command::Request(request()),
        Command::RecordRefunded { amount_minor: OWED },
        Command::RecordRestocked,
        Command::Refuse { reason: "RETURN_EXCEEDS_ORDER".to_owned() },
        Command::RecordNeedsAttention { step: "refund".to_owned(), detail: "it failed".to_owned() },
        resume(),
        settle(),
    ];
    for command in commands {
        for ((status, history), expected) in states().into_iter().zip(expected(&command)) {
            assert_eq!(given::<Return>(history.clone()).state().status(), status);
            let found = given::<Return>(history).when(command.clone()).in_words();
            assert_eq!(found, expected, "{command:?} when {status:?}");
        }
    }
}

#[test]
fn a_return_owes_the_price_paid() {
    let owed = given::<Return>([]).when(Command::Request(request())).then([requested()]);
    assert_eq!(owed.refund_minor(), OWED);
    let other = Command::RecordRefunded { amount_minor: 1 };
    let mismatch = Error::RefundMismatch { expected: OWED, found: 1 };
    given::<Return>([requested()]).when(other).then_refused(mismatch);
}

#[test]
fn an_operator_sends_a_return_back_to_where_it_stopped() {
    let history = || given::<Return>([requested(), restocked(), stopped()]);
    assert_eq!(history().when(resume()).then([resumed()]).status(), Some(ReturnStatus::Restocked));
    // The same trouble after that is news again.
    let again = Command::RecordNeedsAttention {
        step: "refund".to_owned(),
        detail: "pay_1.1:refund:6 failed".to_owned(),
    };
    let stopped_again = history().and([resumed()]).when(again).then([stopped()]);
    assert_eq!(stopped_again.status(), Some(ReturnStatus::NeedsAttention));
    // What comes through after all ends it, though nobody resumed it.
    let refund = Command::RecordRefunded { amount_minor: OWED };
    let ended = history().when(refund).then([refunded(), resolved()]);
    assert_eq!(ended.status(), Some(ReturnStatus::Resolved));
}

#[test]
fn an_operator_sees_to_what_stopped_a_return() {
    let history = || given::<Return>([requested(), restocked(), stopped()]);
    let goes_on = history().when(settle()).then([settled()]);
    assert_eq!(goes_on.status(), Some(ReturnStatus::Restocked));
    assert_eq!(goes_on.money_settled(), Some("paid by hand"));
    let refund = Command::RecordRefunded { amount_minor: OWED };
    let ended = history().and([settled()]).when(refund).then([refunded(), resolved()]);
    assert_eq!(ended.status(), Some(ReturnStatus::Settled));
}

#[test]
fn another_request_for_the_same_return_is_refused() {
    let other = Command::Request(request_of(vec![line(0, 1, 255)]));
    given::<Return>([requested()]).when(other).then_refused(Error::AlreadyExists);
}

#[test]
fn a_request_that_cannot_be_names_its_field() {
    let cases = [
        (vec![], "lines"),
        (vec![line(0, 1, 1); 1_001], "lines"),
        (vec![line(0, 1, 1), line(1, 1, -1)], "lines[1].unit_price"),
        (vec![line(0, 2, i64::MAX)], "lines[0]"),
        (vec![line(0, 1, i64::MAX), line(1, 1, 1)], "lines[1]"),
    ];
    for (lines, field) in cases {
        let outcome = given::<Return>([]).when(Command::Request(request_of(lines))).outcome();
        let refused = outcome.unwrap_err().refused();
        assert_eq!((refused.family, refused.field.as_deref()), (RefusalFamily::Invalid, Some(field)));
    }
}

#[test]
fn returns_read_as_they_were_written() {
    let samples =
        [requested(), refunded(), restocked(), resolved(), refused(), stopped(), resumed(), settled()];
    let names: Vec<_> = Event::TYPES.iter().map(|(name, _)| *name).collect();
    assert_eq!(samples.each_ref().map(Event::event_type).as_slice(), names);
    for sample in samples {
        let (name, version) = (sample.event_type(), sample.schema_version());
        let path = format!("{}/fixtures/returns/{name}.v{version}.json", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(Event::decode(name, &golden).unwrap(), sample);
    }
}
