//! One account: whoever wants more than is left is refused, whichever way the money is to go.

use super::*;
use crate::payment::ProviderOperation::{Authorize, Refund, Void};

const SEEN: &str = "paid by hand";

pub(super) fn reserved(amount_minor: i64) -> Event {
    Event::RefundReserved(RefundReserved { refund_id: "ret_1".to_owned(), amount_minor })
}

pub(super) fn released() -> Event {
    Event::RefundReservationReleased(RefundReservationReleased { refund_id: "ret_1".to_owned() })
}

pub(super) fn external(key: &str, amount_minor: i64) -> Event {
    Event::ExternalRefund(ExternalRefundRecorded { key: key.to_owned(), amount_minor })
}

pub(super) fn accepted_late() -> Event {
    let key = key(Authorize, 1);
    Event::AcceptedLate(PaymentAcceptedLate { key, amount_minor: TOTAL })
}

pub(super) fn capture_settled(amount_minor: i64) -> Event {
    Event::CaptureSettled(PaymentCaptureSettled { amount_minor, reason: SEEN.to_owned() })
}

pub(super) fn refund_settled(amount_minor: i64) -> Event {
    let (refund_id, reason) = ("ret_1".to_owned(), SEEN.to_owned());
    Event::RefundSettled(RefundSettled { refund_id, amount_minor, reason })
}

pub(super) fn settled(amount_minor: i64) -> Event {
    Event::Settled(PaymentSettled { amount_minor, reason: SEEN.to_owned() })
}

fn reserve(id: &str, amount_minor: i64) -> Command {
    Command::ReserveRefund { refund_id: id.to_owned(), amount_minor }
}

fn by_hand(id: &str, amount_minor: Option<i64>) -> Command {
    Command::RequestRefund { refund_id: id.to_owned(), amount_minor }
}

fn reversal(n: u32) -> Command {
    Command::RequestReversal { refund_id: format!("pay_1.1.reversal.{n}") }
}

fn asked(id: &str, n: u32, amount_minor: i64, reversal: bool) -> [Event; 2] {
    let refund_id = id.to_owned();
    let requested = RefundRequested { refund_id: refund_id.clone(), amount_minor, reversal };
    let (operation, key) = (Refund, key(Refund, n));
    let started = ProviderOperationStarted { operation, key, amount_minor, refund_id: Some(refund_id) };
    [Event::RefundRequested(requested), Event::OperationStarted(started)]
}

fn sold() -> Vec<Event> {
    captured_up_to(TOTAL)
}

#[test]
fn what_is_set_aside_for_a_return_is_not_to_be_had_by_hand() {
    let promised = || given::<PaymentIntent>(with(sold(), [reserved(2_000)]));
    let state = promised().state();
    assert_eq!((state.refundable_minor(), state.refund_pending_minor()), (765, 2_000));
    let exceeds = Error::ExceedsCaptured { asked: 766, left: 765 };
    promised().when(by_hand("rfd_1", Some(766))).then_refused(exceeds.clone());
    promised().when(reserve("ret_2", 766)).then_refused(exceeds);
    promised().when(by_hand("rfd_1", None)).then(asked("rfd_1", 1, 765, false));
    promised().when(by_hand("ret_1", None)).then(asked("ret_1", 1, 2_000, false));
    promised().when(reserve("ret_1", 2_000)).then_nothing();
    let reused = Error::RefundIdReused { refund_id: "ret_1".to_owned(), amount_minor: 2_000 };
    promised().when(reserve("ret_1", 1)).then_refused(reused.clone());
    promised().when(refund(1)).then_refused(reused);
}

#[test]
fn what_is_on_its_way_back_is_not_promised_again() {
    let on_its_way = with(sold(), asked("rfd_1", 1, 2_000, false));
    let exceeds = Error::ExceedsCaptured { asked: 766, left: 765 };
    given::<PaymentIntent>(on_its_way.clone()).when(reserve("ret_1", 766)).then_refused(exceeds);
    given::<PaymentIntent>(on_its_way).when(reserve("ret_1", 765)).then([reserved(765)]);
}

#[test]
fn what_is_set_aside_stays_so_however_often_the_provider_says_no() {
    let failed = RefundFailed {
        key: key(Refund, 1),
        refund_id: "ret_1".to_owned(),
        code: "try_later".to_owned(),
        amount_minor: Some(2_000),
    };
    let tried = with(sold(), [reserved(2_000)]);
    let tried = with(with(tried, asked("ret_1", 1, 2_000, false)), [Event::RefundFailed(failed)]);
    let state = given::<PaymentIntent>(tried.clone()).state();
    assert_eq!((state.refundable_minor(), state.refund_pending_minor()), (765, 2_000));
    assert_eq!(state.refund("ret_1").and_then(|refund| refund.code.as_deref()), Some("try_later"));
    given::<PaymentIntent>(tried.clone())
        .when(by_hand("ret_1", Some(2_000)))
        .then(asked("ret_1", 2, 2_000, false));
    let back = RefundSucceeded { key: key(Refund, 2), refund_id: "ret_1".to_owned(), amount_minor: 2_000 };
    let again = with(with(tried, asked("ret_1", 2, 2_000, false)), [Event::RefundSucceeded(back)]);
    let state = given::<PaymentIntent>(again).state();
    assert_eq!((state.refundable_minor(), state.refund_pending_minor()), (765, 0));
}

#[test]
fn what_went_back_at_the_providers_own_site_does_not_go_back_once_more() {
    let promised =
        |elsewhere| given::<PaymentIntent>(with(sold(), [reserved(2_000), external("re_1", elsewhere)]));
    promised(765).when(by_hand("ret_1", Some(2_000))).then(asked("ret_1", 2, 2_000, false));
    promised(1_000).when(by_hand("ret_1", Some(2_000))).then(asked("ret_1", 2, TOTAL - 1_000, false));
    promised(TOTAL).when(by_hand("ret_1", Some(2_000))).then_refused(Error::NothingToRefund);
}

#[test]
fn what_need_not_go_back_is_free_again() {
    let promised = with(sold(), [reserved(500)]);
    let release = Command::ReleaseRefund { refund_id: "ret_1".to_owned() };
    let freed = given::<PaymentIntent>(promised.clone()).when(release.clone()).then([released()]);
    assert_eq!(freed.refundable_minor(), TOTAL);
    let busy = Error::OperationInFlight { operation: Refund, key: key(Refund, 1) };
    let open = with(promised, asked("ret_1", 1, 500, false));
    given::<PaymentIntent>(open).when(release).then_refused(busy);
}

#[test]
fn a_reversal_takes_whatever_is_left_by_then() {
    given::<PaymentIntent>(sold()).when(reversal(1)).then(asked("pay_1.1.reversal.1", 1, TOTAL, true));
    // It failed once, then somebody gave a part back by hand.
    let failed = RefundFailed {
        key: key(Refund, 1),
        refund_id: "pay_1.1.reversal.1".to_owned(),
        code: "try_later".to_owned(),
        amount_minor: Some(TOTAL),
    };
    let failed = with(asked("pay_1.1.reversal.1", 1, TOTAL, true).to_vec(), [Event::RefundFailed(failed)]);
    let part = RefundSucceeded { key: key(Refund, 2), refund_id: "rfd_1".to_owned(), amount_minor: 400 };
    let part = with(asked("rfd_1", 2, 400, false).to_vec(), [Event::RefundSucceeded(part)]);
    let history = || with(with(sold(), failed.clone()), part.clone());
    given::<PaymentIntent>(history()).when(reversal(3)).then(asked(
        "pay_1.1.reversal.3",
        3,
        TOTAL - 400,
        true,
    ));
    // From then on nothing is captured, set aside or given back twice.
    given::<PaymentIntent>(history()).when(reserve("ret_1", 1)).then_refused(Error::GivenUp);
    let capture = Command::RequestCapture { amount_minor: None };
    given::<PaymentIntent>(history()).when(capture).then_refused(Error::GivenUp);
    let back = |n| RefundSucceeded {
        key: key(Refund, n),
        refund_id: "pay_1.1.reversal.3".to_owned(),
        amount_minor: TOTAL - 400,
    };
    let whole =
        with(asked("pay_1.1.reversal.3", 3, TOTAL - 400, true).to_vec(), [Event::RefundSucceeded(back(3))]);
    let whole = with(history(), whole);
    given::<PaymentIntent>(whole.clone()).when(reversal(4)).then_refused(Error::NothingToRefund);
    given::<PaymentIntent>(whole).when(by_hand("rfd_2", None)).then_refused(Error::NothingToRefund);
}

#[test]
fn an_order_that_is_undone_needs_nothing_set_aside() {
    let [requested, started] = asked("pay_1.1.reversal.1", 1, TOTAL, true);
    given::<PaymentIntent>(with(sold(), [reserved(500)])).when(reversal(1)).then([
        released(),
        requested,
        started,
    ]);
}

#[test]
fn money_that_is_being_let_go_is_not_captured() {
    let capture = Command::RequestCapture { amount_minor: None };
    let voiding = with(authorizing(), [authorized(), void_requested(), started(Void, 1, TOTAL)]);
    given::<PaymentIntent>(voiding.clone()).when(capture.clone()).then_refused(Error::GivenUp);
    given::<PaymentIntent>(with(voiding, [void_failed()])).when(capture).then_refused(Error::GivenUp);
}

/// A part was captured, so that no void can let the rest go.
#[test]
fn the_rest_of_what_was_taken_in_part_is_not_captured_once_it_was_given_up() {
    let given_up = Event::GivenUp(PaymentGivenUp {});
    let part = || given::<PaymentIntent>(captured_up_to(1_000));
    part().when(Command::GiveUp).then([given_up.clone()]);
    let capture = Command::RequestCapture { amount_minor: None };
    part().and([given_up]).when(capture).then_refused(Error::GivenUp);
}

#[test]
fn a_refund_at_the_providers_own_site_is_booked_once() {
    let said = |id: &str, key: &str, amount_minor| Command::RecordSignal {
        provider_event_id: id.to_owned(),
        key: key.to_owned(),
        operation: None,
        answer: Answer::Refunded { amount_minor },
        sequence: 0,
    };
    let received = |id: &str, key: &str| {
        let (provider_event_id, key) = (id.to_owned(), key.to_owned());
        Event::SignalReceived(ProviderSignalReceived { provider_event_id, key, sequence: 0, stamped: false })
    };
    let booked = given::<PaymentIntent>(sold())
        .when(said("evt_1", "re_1", 500))
        .then([received("evt_1", "re_1"), external("re_1", 500)]);
    assert_eq!((booked.refunded_minor(), booked.status()), (500, Some(PaymentStatus::PartiallyRefunded)));
    let history = || with(sold(), [received("evt_1", "re_1"), external("re_1", 500)]);
    given::<PaymentIntent>(history()).when(said("evt_2", "re_1", 500)).then([received("evt_2", "re_1")]);
    let other = Error::AmountMismatch { key: "re_1".to_owned(), expected: 500, found: 400 };
    given::<PaymentIntent>(history())
        .when(said("evt_2", "re_1", 400))
        .then([received("evt_2", "re_1"), disbelieved(&other)]);
    let more = Error::ExceedsCaptured { asked: 2_266, left: 2_265 };
    given::<PaymentIntent>(history())
        .when(said("evt_2", "re_2", 2_266))
        .then([received("evt_2", "re_2"), disbelieved(&more)]);
    // Our own names are for our own calls.
    let ours = key(Refund, 7);
    let unknown = Error::UnknownOperation { key: ours.clone() };
    given::<PaymentIntent>(sold())
        .when(said("evt_1", &ours, 500))
        .then([received("evt_1", &ours), disbelieved(&unknown)]);
    // A provider that names no key can only mean a refund that is none of ours, where we asked for none.
    given::<PaymentIntent>(sold())
        .when(said("evt_1", "", 500))
        .then([received("evt_1", "evt_1"), external("evt_1", 500)]);
}

#[test]
fn a_promise_that_comes_after_a_decline_may_be_wanted_after_all() {
    let late = || with(authorizing(), [declined(), succeeded_late()]);
    let held = given::<PaymentIntent>(late()).when(Command::AcceptLate).then([accepted_late()]);
    assert_eq!((held.status(), held.authorized_minor()), (Some(PaymentStatus::Authorized), TOTAL));
    let capture = Command::RequestCapture { amount_minor: None };
    given::<PaymentIntent>(with(late(), [accepted_late()]))
        .when(capture)
        .then([capture_requested(TOTAL), started(ProviderOperation::Capture, 1, TOTAL)]);
    // Once it is being let go, it stays so.
    let let_go = [void_requested(), started(Void, 1, TOTAL), void_failed()];
    let refused = Error::NotAuthorized { status: PaymentStatus::SucceededLate };
    given::<PaymentIntent>(with(late(), let_go)).when(Command::AcceptLate).then_refused(refused);
}

#[test]
fn a_person_sees_to_a_refund_that_never_comes_through() {
    let settle = |amount_minor| Command::SettleRefund {
        refund_id: "ret_1".to_owned(),
        amount_minor,
        reason: SEEN.to_owned(),
    };
    let tried =
        with(sold(), [reserved(500), refund_requested(500), started(Refund, 1, 500), refund_failed()]);
    let done = given::<PaymentIntent>(tried.clone()).when(settle(500)).then([refund_settled(500)]);
    assert_eq!((done.refunded_minor(), done.refund_pending_minor()), (500, 0));
    given::<PaymentIntent>(with(tried, [refund_settled(500)])).when(settle(500)).then_nothing();
    // Of an account that has less left, no more than that went back.
    let other = RefundSucceeded { key: key(Refund, 1), refund_id: "rfd_1".to_owned(), amount_minor: 2_500 };
    let emptied = with(with(sold(), asked("rfd_1", 1, 2_500, false)), [Event::RefundSucceeded(other)]);
    given::<PaymentIntent>(emptied).when(settle(500)).then([refund_settled(265)]);
    // One that nobody answered waits for nobody any more.
    let unknown = [refund_requested(500), started(Refund, 1, 500), unknown(Refund)];
    let done = given::<PaymentIntent>(with(sold(), unknown)).when(settle(500)).then([refund_settled(500)]);
    assert_eq!((done.open_operation(), done.refunded_minor()), (None, 500));
}

#[test]
fn a_person_sees_to_a_capture_or_to_all_of_it() {
    let reason = || SEEN.to_owned();
    let capturing = with(
        authorizing(),
        [authorized(), capture_requested(TOTAL), started(ProviderOperation::Capture, 1, TOTAL)],
    );
    let taken = given::<PaymentIntent>(capturing)
        .when(Command::SettleCapture { reason: reason() })
        .then([capture_settled(TOTAL)]);
    assert_eq!((taken.status(), taken.open_operation()), (Some(PaymentStatus::Captured), None));

    let settle = || Command::Settle { reason: reason() };
    let back = given::<PaymentIntent>(with(sold(), [reserved(500)])).when(settle()).then([settled(TOTAL)]);
    assert_eq!((back.status(), back.refund_pending_minor()), (Some(PaymentStatus::Refunded), 0));
    let voiding =
        with(authorizing(), [authorized(), void_requested(), started(Void, 1, TOTAL), unknown(Void)]);
    let gone = given::<PaymentIntent>(voiding).when(settle()).then([settled(0)]);
    assert_eq!((gone.status(), gone.open_operation()), (Some(PaymentStatus::Voided), None));
    // What the provider says after that is judged as ever.
    let asked = with(
        authorizing(),
        [unknown(Authorize), void_requested(), started(Void, 1, TOTAL), unknown(Void), settled(0)],
    );
    given::<PaymentIntent>(asked).when(answer(Authorize, 1, yes_authorized())).then([succeeded_late()]);
}

#[test]
fn a_payment_is_not_asked_for_something_for_ever() {
    let mut history = sold();
    for n in 1..=998 {
        let id = format!("rfd_{n}");
        history.extend(asked(&id, n, 1, false));
        let (key, code) = (key(Refund, n), "try_later".to_owned());
        history.push(Event::RefundFailed(RefundFailed { key, refund_id: id, code, amount_minor: Some(1) }));
    }
    let state = given::<PaymentIntent>(history).state();
    let decide = |command: Command| crate::Aggregate::decide(&state, &command, Timestamp::default());
    assert_eq!(decide(by_hand("rfd_x", Some(1))), Err(Error::TooManyOperations));
    assert_eq!(decide(reversal(999)), Ok(asked("pay_1.1.reversal.999", 999, TOTAL, true).to_vec()));
}
