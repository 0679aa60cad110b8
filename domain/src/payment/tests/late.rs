//! Answers that come twice, late, out of order or against what is settled.

use super::*;
use crate::payment::ProviderOperation::{Authorize, Capture, Refund, Void};

fn voiding_unknown() -> Vec<Event> {
    with(authorizing(), [unknown(Authorize), void_requested(), started(Void, 1, TOTAL)])
}

#[test]
fn an_answer_told_again_is_no_news() {
    let history = with(authorizing(), [authorized()]);
    given::<PaymentIntent>(history.clone()).when(answer(Authorize, 1, yes_authorized())).then_nothing();
    let contradiction = Error::Contradiction { key: key(Authorize, 1), answer: "failed" };
    given::<PaymentIntent>(history).when(answer(Authorize, 1, no("no"))).then_refused(contradiction);
    given::<PaymentIntent>(with(authorizing(), [declined()]))
        .when(answer(Authorize, 1, no("no")))
        .then_nothing();
}

#[test]
fn an_unknown_authorisation_can_still_be_answered() {
    let lost = || given::<PaymentIntent>(with(authorizing(), [unknown(Authorize)]));
    assert!(lost().state().open_operation().unwrap().is_unknown());
    lost().when(answer(Authorize, 1, yes_authorized())).then([authorized()]);
    let decline = Answer::Declined { code: "insufficient_funds".to_owned(), retryable: true };
    lost().when(answer(Authorize, 1, decline)).then([declined()]);
}

#[test]
fn a_void_goes_after_an_unknown_authorisation() {
    let payment = given::<PaymentIntent>(with(authorizing(), [unknown(Authorize)]))
        .when(Command::RequestVoid)
        .then([void_requested(), started(Void, 1, TOTAL)]);
    assert_eq!(payment.open_operation().unwrap().operation, Void);
    let payment =
        given::<PaymentIntent>(voiding_unknown()).when(answer(Void, 1, Answer::Voided)).then([voided(1)]);
    assert_eq!((payment.status(), payment.open_operation()), (Some(PaymentStatus::Voided), None));
}

#[test]
fn after_a_failed_void_the_authorisation_is_the_question_again() {
    let payment = given::<PaymentIntent>(voiding_unknown())
        .when(answer(Void, 1, no("try_later")))
        .then([void_failed()]);
    let open = payment.open_operation().unwrap();
    assert_eq!((open.operation, open.is_unknown()), (Authorize, true));
    given::<PaymentIntent>(with(voiding_unknown(), [void_failed()]))
        .when(Command::RequestVoid)
        .then([void_requested(), started(Void, 2, TOTAL)]);
}

#[test]
fn money_that_comes_after_the_void_is_let_go_again() {
    let given_up = with(voiding_unknown(), [voided(1)]);
    let payment = given::<PaymentIntent>(given_up.clone())
        .when(signal("evt_1", Authorize, yes_authorized(), 1))
        .then([signal_received("evt_1", Authorize, 1), succeeded_late()]);
    assert_eq!((payment.status(), payment.authorized_minor()), (Some(PaymentStatus::SucceededLate), TOTAL));
    let late = || given::<PaymentIntent>(with(given_up.clone(), [succeeded_late()]));
    let not_wanted = Error::NotAuthorized { status: PaymentStatus::SucceededLate };
    late().when(Command::RequestCapture { amount_minor: None }).then_refused(not_wanted);
    late().when(Command::RequestVoid).then([void_requested(), started(Void, 2, TOTAL)]);
    late().when(answer(Authorize, 1, yes_authorized())).then_nothing();
}

#[test]
fn a_decline_after_the_void_changes_nothing() {
    let given_up = with(voiding_unknown(), [voided(1)]);
    given::<PaymentIntent>(given_up).when(answer(Authorize, 1, no("never_seen"))).then_nothing();
}

/// The provider may have carried out the void first and the authorisation after it.
#[test]
fn an_authorisation_that_is_heard_of_while_its_void_runs_is_voided_once_more() {
    let payment = given::<PaymentIntent>(voiding_unknown())
        .when(answer(Authorize, 1, yes_authorized()))
        .then([authorized()]);
    assert_eq!(payment.open_operation().unwrap().operation, Void);
    let heard = || with(voiding_unknown(), [authorized()]);
    for (voids, report) in [
        (answer(Void, 1, Answer::Voided), None),
        (signal("evt_1", Void, Answer::Voided, 1), Some(signal_received("evt_1", Void, 1))),
    ] {
        let events = report.into_iter().chain([voided(1), succeeded_late()]);
        let payment = given::<PaymentIntent>(heard()).when(voids).then(events);
        let found = (payment.status(), payment.authorized_minor(), payment.open_operation());
        assert_eq!(found, (Some(PaymentStatus::SucceededLate), TOTAL, None));
    }
    // The second void was asked for when the money was known of: its answer is the last word.
    let again = [voided(1), succeeded_late(), void_requested(), started(Void, 2, TOTAL)];
    let payment =
        given::<PaymentIntent>(with(heard(), again)).when(answer(Void, 2, Answer::Voided)).then([voided(2)]);
    assert_eq!((payment.status(), payment.authorized_minor()), (Some(PaymentStatus::Voided), 0));
}

#[test]
fn a_void_that_was_asked_for_when_the_money_was_known_of_is_the_last_word() {
    let voiding = [authorized(), void_requested(), started(Void, 1, TOTAL)];
    given::<PaymentIntent>(with(authorizing(), voiding))
        .when(answer(Void, 1, Answer::Voided))
        .then([voided(1)]);
    let failed = [authorized(), void_failed(), void_requested(), started(Void, 2, TOTAL)];
    given::<PaymentIntent>(with(voiding_unknown(), failed))
        .when(answer(Void, 2, Answer::Voided))
        .then([voided(2)]);
}

#[test]
fn a_capture_that_had_failed_may_turn_out_to_have_happened() {
    let asked = [capture_requested(TOTAL), started(Capture, 1, TOTAL), capture_failed()];
    let failed = with(with(authorizing(), [authorized()]), asked);
    let happened = answer(Capture, 1, Answer::Captured { amount_minor: TOTAL });
    given::<PaymentIntent>(failed.clone()).when(happened.clone()).then([captured(1, TOTAL)]);
    // Not beside another call for the same money: one of the two cannot be true.
    let again = with(failed, [capture_requested(TOTAL), started(Capture, 2, TOTAL)]);
    let contradiction = Error::Contradiction { key: key(Capture, 1), answer: "captured" };
    given::<PaymentIntent>(again).when(happened).then_refused(contradiction);
}

#[test]
fn a_refund_that_had_failed_may_turn_out_to_have_happened() {
    let asked = [refund_requested(500), started(Refund, 1, 500), refund_failed()];
    given::<PaymentIntent>(with(captured_up_to(TOTAL), asked))
        .when(answer(Refund, 1, Answer::Refunded { amount_minor: 500 }))
        .then([refunded(1, 500)]);
}

#[test]
fn a_void_that_had_failed_is_news_only_while_something_is_held() {
    let asked = [authorized(), void_requested(), started(Void, 1, TOTAL), void_failed()];
    let failed = with(authorizing(), asked);
    given::<PaymentIntent>(failed.clone()).when(answer(Void, 1, Answer::Voided)).then([voided(1)]);
    let captured = with(failed, [capture_requested(TOTAL), started(Capture, 1, TOTAL), captured(1, TOTAL)]);
    let contradiction = Error::Contradiction { key: key(Void, 1), answer: "voided" };
    given::<PaymentIntent>(captured).when(answer(Void, 1, Answer::Voided)).then_refused(contradiction);
}

#[test]
fn a_report_is_applied_once() {
    let history = with(authorizing(), [signal_received("evt_1", Authorize, 1), authorized()]);
    given::<PaymentIntent>(history).when(signal("evt_1", Authorize, no("no"), 9)).then_nothing();
}

#[test]
fn an_older_report_about_the_same_call_is_not_believed() {
    let failed = || {
        let asked = [refund_requested(500), started(Refund, 1, 500)];
        with(captured_up_to(TOTAL), asked)
            .into_iter()
            .chain([signal_received("evt_2", Refund, 5), refund_failed()])
            .collect::<Vec<_>>()
    };
    let said = |sequence| signal("evt_1", Refund, Answer::Refunded { amount_minor: 500 }, sequence);
    let older = Error::OlderReport { key: key(Refund, 1) };
    given::<PaymentIntent>(failed())
        .when(said(4))
        .then([signal_received("evt_1", Refund, 4), disbelieved(&older)]);
    // Two reports of one moment are two, and one without a time orders nothing.
    for sequence in [5, 0] {
        given::<PaymentIntent>(failed())
            .when(said(sequence))
            .then([signal_received("evt_1", Refund, sequence), refunded(1, 500)]);
    }
}

#[test]
fn reports_about_different_calls_have_nothing_to_do_with_each_other() {
    let asked = [refund_requested(500), started(Refund, 1, 500), refund_failed()];
    let history = with(captured_up_to(TOTAL), asked)
        .into_iter()
        .chain([signal_received("evt_2", Authorize, 9)])
        .collect::<Vec<_>>();
    given::<PaymentIntent>(history)
        .when(signal("evt_1", Refund, Answer::Refunded { amount_minor: 500 }, 4))
        .then([signal_received("evt_1", Refund, 4), refunded(1, 500)]);
}

#[test]
fn a_report_without_a_key_is_about_the_call_that_waits_or_the_only_one() {
    let unnamed = |answer, operation| Command::RecordSignal {
        provider_event_id: "evt_1".to_owned(),
        key: String::new(),
        operation: Some(operation),
        answer,
        sequence: 0,
    };
    let captured_answer = || Answer::Captured { amount_minor: TOTAL };
    let capturing = with(authorizing(), [authorized(), capture_requested(TOTAL), started(Capture, 1, TOTAL)]);
    let first = || with(capturing.clone(), [capture_failed()]);
    given::<PaymentIntent>(first())
        .when(unnamed(captured_answer(), Capture))
        .then([signal_received("evt_1", Capture, 0), captured(1, TOTAL)]);
    let again = || with(first(), [capture_requested(TOTAL), started(Capture, 2, TOTAL)]);
    let about_second = ProviderSignalReceived {
        provider_event_id: "evt_1".to_owned(),
        key: key(Capture, 2),
        sequence: 0,
        stamped: false,
    };
    given::<PaymentIntent>(again())
        .when(unnamed(captured_answer(), Capture))
        .then([Event::SignalReceived(about_second), captured(2, TOTAL)]);
    let needed = Error::ProviderKeyNeeded { operation: Capture };
    let nobodys = ProviderSignalReceived {
        provider_event_id: "evt_1".to_owned(),
        key: String::new(),
        sequence: 0,
        stamped: false,
    };
    given::<PaymentIntent>(with(again(), [captured(2, TOTAL)]))
        .when(unnamed(captured_answer(), Capture))
        .then([Event::SignalReceived(nobodys), disbelieved(&needed)]);
}

#[test]
fn a_report_against_what_is_settled_is_kept_and_not_believed() {
    let contradiction = Error::Contradiction { key: key(Authorize, 1), answer: "failed" };
    given::<PaymentIntent>(with(authorizing(), [authorized()]))
        .when(signal("evt_1", Authorize, no("no"), 1))
        .then([signal_received("evt_1", Authorize, 1), disbelieved(&contradiction)]);
    let unknown = Error::UnknownOperation { key: key(Capture, 1) };
    given::<PaymentIntent>(authorizing())
        .when(signal("evt_1", Capture, Answer::Captured { amount_minor: 1 }, 1))
        .then([signal_received("evt_1", Capture, 1), disbelieved(&unknown)]);
    let less = Answer::Authorized { amount_minor: 1, capture_before: None };
    let amount = Error::AmountMismatch { key: key(Authorize, 1), expected: TOTAL, found: 1 };
    given::<PaymentIntent>(authorizing())
        .when(signal("evt_1", Authorize, less, 1))
        .then([signal_received("evt_1", Authorize, 1), disbelieved(&amount)]);
    given::<PaymentIntent>(authorizing())
        .when(signal("", Authorize, yes_authorized(), 1))
        .then_refused(Error::ProviderEventId);
}

#[test]
fn the_verdict_on_a_report_is_its_last_event() {
    for event in golden::samples() {
        let name = crate::StoredEvent::event_type(&event);
        let implied = matches!(
            event,
            Event::Authorized(_)
                | Event::Declined(_)
                | Event::Captured(_)
                | Event::CaptureFailed(_)
                | Event::Voided(_)
                | Event::VoidFailed(_)
                | Event::RefundSucceeded(_)
                | Event::RefundFailed(_)
                | Event::SucceededLate(_)
                | Event::ExternalRefund(_)
        );
        let expected = match event {
            Event::SignalDisbelieved(_) => Verdict::NotBelieved,
            _ if implied => Verdict::Applied,
            _ => Verdict::AlreadyKnown,
        };
        assert_eq!(Verdict::of(Some(name)), expected, "{name}");
    }
    assert_eq!(Verdict::of(None), Verdict::AlreadyKnown);
}
