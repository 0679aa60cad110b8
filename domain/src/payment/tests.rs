//! Every command of a payment in every state.

mod account;
mod golden;
mod late;
mod properties;

use super::*;
use crate::testing::given;
use crate::{Currency, OrderId, PaymentId, Refusal, Timestamp};

const TOTAL: i64 = 2_765;

fn payment_id() -> PaymentId {
    OrderId::new("ord_1").unwrap().payment(1)
}

fn key(operation: ProviderOperation, n: u32) -> String {
    provider_key(&payment_id(), operation, n)
}

fn capture_before() -> Option<Timestamp> {
    Some(Timestamp::from_seconds(604_800))
}

fn initiate_of(amount_minor: i64, method_token: &str) -> Command {
    Command::Initiate {
        payment_id: payment_id(),
        order_id: OrderId::new("ord_1").unwrap(),
        amount_minor,
        currency: Currency::GBP,
        method_token: method_token.to_owned(),
    }
}

fn initiate() -> Command {
    initiate_of(TOTAL, "tok_approve")
}

fn initiated() -> Event {
    Event::Initiated(PaymentInitiated {
        payment_id: payment_id(),
        order_id: OrderId::new("ord_1").unwrap(),
        amount_minor: TOTAL,
        currency: Currency::GBP,
        method_token: "tok_approve".to_owned(),
    })
}

fn started(operation: ProviderOperation, n: u32, amount_minor: i64) -> Event {
    let refund_id = (operation == ProviderOperation::Refund).then(|| "ret_1".to_owned());
    Event::OperationStarted(ProviderOperationStarted {
        operation,
        key: key(operation, n),
        amount_minor,
        refund_id,
    })
}

fn authorized() -> Event {
    let key = key(ProviderOperation::Authorize, 1);
    Event::Authorized(PaymentAuthorized { key, amount_minor: TOTAL, capture_before: capture_before() })
}

fn declined() -> Event {
    let (key, code) = (key(ProviderOperation::Authorize, 1), "insufficient_funds".to_owned());
    Event::Declined(PaymentDeclined { key, code, retryable: true })
}

fn unknown(operation: ProviderOperation) -> Event {
    Event::OutcomeUnknown(PaymentOutcomeUnknown { key: key(operation, 1) })
}

fn capture_requested(amount_minor: i64) -> Event {
    Event::CaptureRequested(PaymentCaptureRequested { amount_minor })
}

fn captured(n: u32, amount_minor: i64) -> Event {
    Event::Captured(PaymentCaptured { key: key(ProviderOperation::Capture, n), amount_minor })
}

fn capture_failed() -> Event {
    let (key, code) = (key(ProviderOperation::Capture, 1), "try_later".to_owned());
    Event::CaptureFailed(PaymentCaptureFailed { key, code, amount_minor: Some(TOTAL) })
}

fn void_requested() -> Event {
    Event::VoidRequested(PaymentVoidRequested {})
}

fn voided(n: u32) -> Event {
    Event::Voided(PaymentVoided { key: key(ProviderOperation::Void, n) })
}

fn void_failed() -> Event {
    let (key, code) = (key(ProviderOperation::Void, 1), "try_later".to_owned());
    Event::VoidFailed(PaymentVoidFailed { key, code })
}

fn refund_requested(amount_minor: i64) -> Event {
    let (refund_id, reversal) = ("ret_1".to_owned(), false);
    Event::RefundRequested(RefundRequested { refund_id, amount_minor, reversal })
}

fn refunded(n: u32, amount_minor: i64) -> Event {
    let (key, refund_id) = (key(ProviderOperation::Refund, n), "ret_1".to_owned());
    Event::RefundSucceeded(RefundSucceeded { key, refund_id, amount_minor })
}

fn refund_failed() -> Event {
    let key = key(ProviderOperation::Refund, 1);
    let (refund_id, code) = ("ret_1".to_owned(), "try_later".to_owned());
    Event::RefundFailed(RefundFailed { key, refund_id, code, amount_minor: Some(500) })
}

fn succeeded_late() -> Event {
    let key = key(ProviderOperation::Authorize, 1);
    Event::SucceededLate(PaymentSucceededLate { key, amount_minor: TOTAL })
}

fn signal_received(id: &str, operation: ProviderOperation, sequence: u64) -> Event {
    let (provider_event_id, key) = (id.to_owned(), key(operation, 1));
    Event::SignalReceived(ProviderSignalReceived { provider_event_id, key, sequence, stamped: sequence > 0 })
}

fn disbelieved(disbelief: &Error) -> Event {
    let (reason, detail) = (disbelief.reason().to_owned(), disbelief.to_string());
    Event::SignalDisbelieved(ProviderSignalDisbelieved { reason, detail })
}

fn yes_authorized() -> Answer {
    Answer::Authorized { amount_minor: TOTAL, capture_before: capture_before() }
}

fn no(code: &str) -> Answer {
    Answer::Failed { code: code.to_owned() }
}

fn answer(operation: ProviderOperation, n: u32, answer: Answer) -> Command {
    Command::RecordAnswer { key: key(operation, n), answer }
}

fn signal(id: &str, operation: ProviderOperation, answer: Answer, sequence: u64) -> Command {
    let (provider_event_id, key) = (id.to_owned(), key(operation, 1));
    Command::RecordSignal { provider_event_id, key, operation: None, answer, sequence }
}

fn refund(amount_minor: i64) -> Command {
    Command::RequestRefund { refund_id: "ret_1".to_owned(), amount_minor: Some(amount_minor) }
}

fn authorizing() -> Vec<Event> {
    vec![initiated(), started(ProviderOperation::Authorize, 1, TOTAL)]
}

fn with(history: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    history.into_iter().chain(more).collect()
}

/// Authorised, and captured as far as `amount_minor`.
fn captured_up_to(amount_minor: i64) -> Vec<Event> {
    let capture = started(ProviderOperation::Capture, 1, amount_minor);
    with(authorizing(), [authorized(), capture_requested(amount_minor), capture, captured(1, amount_minor)])
}

/// Every state that makes a difference, in the order of the columns below.
fn states() -> [(&'static str, Vec<Event>); 13] {
    use ProviderOperation::{Authorize, Capture, Refund, Void};
    let refunding = |amount| [refund_requested(amount), started(Refund, 1, amount)];
    let voiding = || [void_requested(), started(Void, 1, TOTAL)];
    [
        ("missing", vec![]),
        ("authorizing", authorizing()),
        ("unknown", with(authorizing(), [unknown(Authorize)])),
        ("voiding unknown", with(with(authorizing(), [unknown(Authorize)]), voiding())),
        ("authorized", with(authorizing(), [authorized()])),
        (
            "capturing",
            with(authorizing(), [authorized(), capture_requested(TOTAL), started(Capture, 1, TOTAL)]),
        ),
        ("captured", captured_up_to(TOTAL)),
        ("partly captured", captured_up_to(1_000)),
        ("refunding", with(captured_up_to(TOTAL), refunding(500))),
        ("partly refunded", with(with(captured_up_to(TOTAL), refunding(500)), [refunded(1, 500)])),
        ("declined", with(authorizing(), [declined()])),
        ("voided", with(with(authorizing(), [authorized()]), with(voiding().to_vec(), [voided(1)]))),
        ("succeeded late", with(authorizing(), [declined(), succeeded_late()])),
    ]
}

/// What each command leads to in each state. The match has no wildcard, so a new command asks for its row.
fn expected(command: &Command) -> [&'static str; 13] {
    const ABSENT: &str = "PAYMENT_NOT_FOUND";
    const BUSY: &str = "PAYMENT_OPERATION_IN_FLIGHT";
    const NOT_HELD: &str = "PAYMENT_NOT_AUTHORIZED";
    const SO: &str = "nothing";
    match command {
        Command::Initiate { .. } => {
            ["PaymentInitiated ProviderOperationStarted", SO, SO, SO, SO, SO, SO, SO, SO, SO, SO, SO, SO]
        }
        Command::RecordAnswer { .. } => {
            let (held, late) = ("PaymentAuthorized", "PaymentSucceededLate");
            // A void of a held authorisation does not deny that it was held.
            [ABSENT, held, held, held, SO, SO, SO, SO, SO, SO, late, SO, SO]
        }
        Command::MarkOutcomeUnknown { .. } => {
            [ABSENT, "PaymentOutcomeUnknown", SO, SO, SO, SO, SO, SO, SO, SO, SO, SO, SO]
        }
        Command::RequestCapture { .. } => {
            let yes = "PaymentCaptureRequested ProviderOperationStarted";
            [ABSENT, BUSY, BUSY, BUSY, yes, SO, SO, yes, BUSY, SO, NOT_HELD, NOT_HELD, NOT_HELD]
        }
        Command::RequestRefund { .. } => {
            let (yes, none) = ("RefundRequested ProviderOperationStarted", "AMOUNT_EXCEEDS_CAPTURED");
            let early = "PAYMENT_NOT_CAPTURED";
            [ABSENT, BUSY, BUSY, BUSY, early, BUSY, yes, yes, SO, SO, none, none, none]
        }
        Command::RequestVoid => {
            let (yes, taken) = ("PaymentVoidRequested ProviderOperationStarted", "PAYMENT_NOT_VOIDABLE");
            [ABSENT, BUSY, yes, SO, yes, BUSY, taken, taken, BUSY, taken, SO, SO, yes]
        }
        Command::RecordSignal { .. } => {
            let held = "ProviderSignalReceived PaymentAuthorized";
            let late = "ProviderSignalReceived PaymentSucceededLate";
            let only = "ProviderSignalReceived";
            [ABSENT, held, held, held, only, only, only, only, only, only, late, only, only]
        }
        Command::ReserveRefund { .. } => {
            let (yes, none) = ("RefundReserved", "AMOUNT_EXCEEDS_CAPTURED");
            // Under this id money is on its way already, or went back.
            [ABSENT, none, none, none, none, none, yes, yes, SO, SO, none, none, none]
        }
        Command::ReleaseRefund { .. } => [ABSENT, SO, SO, SO, SO, SO, SO, SO, BUSY, SO, SO, SO, SO],
        Command::RequestReversal { .. } => {
            let (yes, none) = ("RefundRequested ProviderOperationStarted", "NOTHING_TO_REFUND");
            [ABSENT, BUSY, BUSY, BUSY, none, BUSY, yes, yes, BUSY, yes, none, none, none]
        }
        Command::GiveUp => {
            let yes = "PaymentGivenUp";
            [ABSENT, SO, SO, SO, SO, SO, yes, yes, yes, yes, SO, SO, SO]
        }
        Command::AcceptLate => {
            let yes = "PaymentAcceptedLate";
            [ABSENT, NOT_HELD, NOT_HELD, NOT_HELD, SO, SO, SO, SO, SO, SO, NOT_HELD, NOT_HELD, yes]
        }
        Command::SettleCapture { .. } => {
            let (yes, no) = ("PaymentCaptureSettled", NOT_HELD);
            [ABSENT, no, no, no, yes, yes, SO, yes, SO, SO, no, no, no]
        }
        Command::SettleRefund { .. } => {
            let yes = "RefundSettled";
            [ABSENT, yes, yes, yes, yes, yes, yes, yes, yes, SO, yes, yes, yes]
        }
        Command::Settle { .. } => {
            let yes = "PaymentSettled";
            [ABSENT, yes, yes, yes, yes, yes, yes, yes, yes, yes, SO, SO, yes]
        }
    }
}

#[test]
fn every_command_in_every_state() {
    use ProviderOperation::Authorize;
    let commands = [
        initiate(),
        answer(Authorize, 1, yes_authorized()),
        Command::MarkOutcomeUnknown { key: key(Authorize, 1) },
        Command::RequestCapture { amount_minor: None },
        refund(500),
        Command::RequestVoid,
        signal("evt_1", Authorize, yes_authorized(), 1),
        Command::ReserveRefund { refund_id: "ret_1".to_owned(), amount_minor: 500 },
        Command::ReleaseRefund { refund_id: "ret_1".to_owned() },
        Command::RequestReversal { refund_id: "pay_1.1.reversal.1".to_owned() },
        Command::GiveUp,
        Command::AcceptLate,
        Command::SettleCapture { reason: "paid by hand".to_owned() },
        Command::SettleRefund {
            refund_id: "ret_1".to_owned(),
            amount_minor: 500,
            reason: "paid by hand".to_owned(),
        },
        Command::Settle { reason: "paid by hand".to_owned() },
    ];
    for command in commands {
        for ((state, history), expected) in states().into_iter().zip(expected(&command)) {
            let found = given::<PaymentIntent>(history).when(command.clone()).in_words();
            assert_eq!(found, expected, "{command:?} when {state}");
        }
    }
}

#[test]
fn the_status_follows_the_money() {
    let expected = [
        None,
        Some(PaymentStatus::Authorizing),
        Some(PaymentStatus::OutcomeUnknown),
        Some(PaymentStatus::OutcomeUnknown),
        Some(PaymentStatus::Authorized),
        Some(PaymentStatus::Authorized),
        Some(PaymentStatus::Captured),
        Some(PaymentStatus::PartiallyCaptured),
        Some(PaymentStatus::Captured),
        Some(PaymentStatus::PartiallyRefunded),
        Some(PaymentStatus::Declined),
        Some(PaymentStatus::Voided),
        Some(PaymentStatus::SucceededLate),
    ];
    for ((state, history), expected) in states().into_iter().zip(expected) {
        assert_eq!(given::<PaymentIntent>(history).state().status(), expected, "{state}");
    }
    let all_back =
        [refund_requested(TOTAL), started(ProviderOperation::Refund, 1, TOTAL), refunded(1, TOTAL)];
    let payment = given::<PaymentIntent>(with(captured_up_to(TOTAL), all_back)).state();
    assert_eq!(payment.status(), Some(PaymentStatus::Refunded));
}

#[test]
fn a_payment_is_written_down_before_the_provider_is_called() {
    let payment = given::<PaymentIntent>([]).when(initiate()).then(authorizing());
    let open = payment.open_operation().unwrap();
    assert_eq!(open.key, "pay_1.1:authorize:1");
    assert_eq!((open.operation, open.amount_minor), (ProviderOperation::Authorize, TOTAL));
    assert_eq!(payment.authorization_key(), Some("pay_1.1:authorize:1"));
}

#[test]
fn what_cannot_be_paid_is_refused() {
    given::<PaymentIntent>([]).when(initiate_of(-1, "tok")).then_refused(Error::Amount { found: -1 });
    given::<PaymentIntent>([]).when(initiate_of(1, "4111 1111")).then_refused(Error::MethodToken);
    given::<PaymentIntent>(authorizing()).when(initiate_of(1, "tok")).then_refused(Error::AlreadyExists);
}

#[test]
fn nothing_may_be_paid_for_nothing() {
    let free = |amount_minor| Answer::Authorized { amount_minor, capture_before: None };
    let start = given::<PaymentIntent>([]).when(initiate_of(0, "tok")).outcome().unwrap();
    let held = given::<PaymentIntent>(start.clone()).when(answer(ProviderOperation::Authorize, 1, free(0)));
    let history = with(start, held.outcome().unwrap());
    let capture = Command::RequestCapture { amount_minor: None };
    let asked = given::<PaymentIntent>(history.clone()).when(capture.clone()).outcome().unwrap();
    let history = with(with(history, asked), [captured(1, 0)]);
    assert_eq!(given::<PaymentIntent>(history.clone()).state().status(), Some(PaymentStatus::Captured));
    given::<PaymentIntent>(history).when(capture).then_nothing();
}

#[test]
fn a_capture_takes_all_that_is_left_or_a_part_of_it() {
    let capture = |amount_minor| Command::RequestCapture { amount_minor };
    let partly = || given::<PaymentIntent>(captured_up_to(1_000));
    let rest = started(ProviderOperation::Capture, 2, 1_765);
    partly().when(capture(None)).then([capture_requested(1_765), rest]);
    partly()
        .when(capture(Some(765)))
        .then([capture_requested(765), started(ProviderOperation::Capture, 2, 765)]);
    let exceeds = Error::ExceedsAuthorized { asked: 1_766, left: 1_765 };
    partly().when(capture(Some(1_766))).then_refused(exceeds);
    partly().when(capture(Some(0))).then_refused(Error::Amount { found: 0 });
    let all = || given::<PaymentIntent>(captured_up_to(TOTAL));
    all().when(capture(None)).then_nothing();
    let exceeds = Error::ExceedsAuthorized { asked: TOTAL, left: 0 };
    all().when(capture(Some(TOTAL))).then_refused(exceeds);
}

#[test]
fn who_names_an_amount_wants_it_once_more() {
    let capture = |amount_minor| Command::RequestCapture { amount_minor };
    let busy = || Error::OperationInFlight {
        operation: ProviderOperation::Capture,
        key: key(ProviderOperation::Capture, 1),
    };
    let capturing = |amount_minor| {
        let asked = [capture_requested(amount_minor), started(ProviderOperation::Capture, 1, amount_minor)];
        given::<PaymentIntent>(with(with(authorizing(), [authorized()]), asked))
    };
    capturing(TOTAL).when(capture(Some(TOTAL))).then_refused(busy());
    capturing(TOTAL).when(capture(None)).then_nothing();
    capturing(1_000).when(capture(None)).then_refused(busy());
    capturing(1_000).when(capture(Some(1_000))).then_refused(busy());
}

#[test]
fn a_failed_capture_may_be_tried_again_under_a_new_key() {
    let asked = [authorized(), capture_requested(TOTAL), started(ProviderOperation::Capture, 1, TOTAL)];
    let capturing = with(authorizing(), asked);
    given::<PaymentIntent>(capturing.clone())
        .when(answer(ProviderOperation::Capture, 1, no("try_later")))
        .then([capture_failed()]);
    given::<PaymentIntent>(with(capturing, [capture_failed()]))
        .when(Command::RequestCapture { amount_minor: None })
        .then([capture_requested(TOTAL), started(ProviderOperation::Capture, 2, TOTAL)]);
}

#[test]
fn a_refund_is_made_once_and_again_only_after_it_failed() {
    let asked = [refund_requested(500), started(ProviderOperation::Refund, 1, 500)];
    let refunding = with(captured_up_to(TOTAL), asked);
    let reused = Error::RefundIdReused { refund_id: "ret_1".to_owned(), amount_minor: 500 };
    given::<PaymentIntent>(refunding.clone()).when(refund(501)).then_refused(reused);
    let failed = with(refunding, [refund_failed()]);
    let second = started(ProviderOperation::Refund, 2, 500);
    given::<PaymentIntent>(failed).when(refund(500)).then([refund_requested(500), second]);
    let too_much = Error::ExceedsCaptured { asked: TOTAL + 1, left: TOTAL };
    given::<PaymentIntent>(captured_up_to(TOTAL)).when(refund(TOTAL + 1)).then_refused(too_much);
    given::<PaymentIntent>(captured_up_to(TOTAL)).when(refund(0)).then_refused(Error::Amount { found: 0 });
    let unnamed = Command::RequestRefund { refund_id: "a b".to_owned(), amount_minor: Some(1) };
    given::<PaymentIntent>(captured_up_to(TOTAL)).when(unnamed).then_refused(Error::RefundId);
}

/// The provider cannot be asked to say it otherwise.
#[test]
fn a_code_of_the_provider_that_no_reader_holds_is_made_fit() {
    use ProviderOperation::{Authorize, Capture, Refund, Void};
    let raw = || format!("card\0declined{}", "x".repeat(300));
    let fit = format!("card\u{FFFD}declined{}", "x".repeat(242));
    let capturing = [authorized(), capture_requested(TOTAL), started(Capture, 1, TOTAL)];
    let refunding = [refund_requested(500), started(Refund, 1, 500)];
    let declined = Answer::Declined { code: raw(), retryable: true };
    for (history, said) in [
        (authorizing(), answer(Authorize, 1, declined.clone())),
        (authorizing(), signal("evt_1", Authorize, declined, 1)),
        (with(authorizing(), capturing), answer(Capture, 1, no(&raw()))),
        (
            with(authorizing(), [authorized(), void_requested(), started(Void, 1, TOTAL)]),
            answer(Void, 1, no(&raw())),
        ),
        (with(captured_up_to(TOTAL), refunding), answer(Refund, 1, no(&raw()))),
    ] {
        let events = given::<PaymentIntent>(history).when(said.clone()).outcome().unwrap();
        let code = events.iter().find_map(|event| match event {
            Event::Declined(PaymentDeclined { code, .. })
            | Event::CaptureFailed(PaymentCaptureFailed { code, .. })
            | Event::VoidFailed(PaymentVoidFailed { code, .. })
            | Event::RefundFailed(RefundFailed { code, .. }) => Some(code),
            _ => None,
        });
        assert_eq!(code, Some(&fit), "{said:?}");
    }
}

#[test]
fn an_answer_must_fit_its_operation() {
    use ProviderOperation::{Authorize, Capture};
    let open = || given::<PaymentIntent>(authorizing());
    let unknown = Error::UnknownOperation { key: key(Capture, 1) };
    open().when(answer(Capture, 1, Answer::Captured { amount_minor: TOTAL })).then_refused(unknown.clone());
    open().when(Command::MarkOutcomeUnknown { key: key(Capture, 1) }).then_refused(unknown);
    let mismatch = Error::AnswerMismatch { key: key(Authorize, 1), answer: "voided" };
    open().when(answer(Authorize, 1, Answer::Voided)).then_refused(mismatch);
    let less = Answer::Authorized { amount_minor: 1, capture_before: None };
    let amount = Error::AmountMismatch { key: key(Authorize, 1), expected: TOTAL, found: 1 };
    open().when(answer(Authorize, 1, less)).then_refused(amount);
    let decline = Answer::Declined { code: "insufficient_funds".to_owned(), retryable: true };
    open().when(answer(Authorize, 1, decline)).then([declined()]);
}
