//! Every step of a checkout at every stage.

use super::{order_id, placement};
use crate::order::{
    CancelReason, Checkout, CheckoutAwaitingCustomer, CheckoutCancelled, CheckoutCommand,
    CheckoutCompensating, CheckoutDone, CheckoutError, CheckoutNeedsAttention, CheckoutPaymentPending,
    CheckoutPaymentSecured, CheckoutPaymentUnknown, CheckoutResumed, CheckoutReversing, CheckoutSettled,
    CheckoutStarted, CheckoutStockCommitted, CheckoutStockHeld, Stage, Step, Timer, TimerKind, Undo,
};
use crate::testing::{Given, given};
use crate::{Currency, PaymentId, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn timer(kind: TimerKind, seconds: i64) -> Option<Timer> {
    Some(Timer { kind, due_at: at(seconds) })
}

fn pay(attempt: u32) -> PaymentId {
    order_id().payment(attempt)
}

fn started() -> Step {
    Step::Started(CheckoutStarted {
        order_id: order_id(),
        reservation_id: order_id().reservation_of_old(),
        total_minor: placement().total_minor,
        currency: Currency::GBP,
        payment_method_token: "tok_approve".to_owned(),
        hold_until: Some(at(1_800)),
        timer: timer(TimerKind::Hold, 1_800),
    })
}

fn held(time: i64) -> Step {
    Step::StockHeld(CheckoutStockHeld { until: at(time), timer: timer(TimerKind::Hold, time) })
}

fn pending(attempt: u32, token: Option<&str>) -> Step {
    // Another method comes from the customer, whose time is then the hold's.
    let timer = token.and_then(|_| timer(TimerKind::Hold, 1_800));
    let payment_method_token = token.map(str::to_owned);
    Step::PaymentPending(CheckoutPaymentPending {
        payment_id: pay(attempt),
        attempt,
        payment_method_token,
        timer,
    })
}

fn awaiting(attempt: u32, time: i64) -> Step {
    Step::AwaitingCustomer(CheckoutAwaitingCustomer {
        payment_id: pay(attempt),
        code: "insufficient_funds".to_owned(),
        until: at(time),
        timer: timer(TimerKind::CustomerAction, time),
    })
}

fn unknown(attempt: u32, time: i64) -> Step {
    let timer = timer(TimerKind::PaymentCheck, time);
    Step::PaymentUnknown(CheckoutPaymentUnknown { payment_id: pay(attempt), check_at: at(time), timer })
}

fn secured(attempt: u32, amount_minor: i64) -> Step {
    let timer = timer(TimerKind::CaptureBefore, 604_800);
    Step::PaymentSecured(CheckoutPaymentSecured { payment_id: pay(attempt), amount_minor, timer })
}

fn committed(time: i64) -> Step {
    Step::StockCommitted(CheckoutStockCommitted { timer: timer(TimerKind::CaptureBefore, time) })
}

fn done() -> Step {
    Step::Done(CheckoutDone {})
}

fn compensating(time: i64) -> Step {
    Step::Compensating(CheckoutCompensating {
        reason: CancelReason::PaymentDeclined,
        undo: vec![Undo::VoidPayment { payment_id: pay(1) }, Undo::ReleaseStock],
        timer: timer(TimerKind::Undo, time),
    })
}

fn reversing(time: i64) -> Step {
    let refund = Undo::RefundPayment { payment_id: pay(1), amount_minor: placement().total_minor };
    Step::Reversing(CheckoutReversing {
        reason: CancelReason::Customer,
        undo: vec![refund, Undo::ReleaseStock],
        timer: timer(TimerKind::Undo, time),
    })
}

fn cancelled(reason: CancelReason) -> Step {
    Step::Cancelled(CheckoutCancelled { reason })
}

fn attention(detail: &str) -> Step {
    Step::NeedsAttention(CheckoutNeedsAttention { step: "void".to_owned(), detail: detail.to_owned() })
}

fn resumed() -> Step {
    Step::Resumed(CheckoutResumed { reason: None, timer: timer(TimerKind::Undo, 60) })
}

fn resumed_because(reason: &str) -> Step {
    Step::Resumed(CheckoutResumed { reason: Some(reason.to_owned()), timer: None })
}

fn settled() -> Step {
    Step::Settled(CheckoutSettled { money: true, stock: true, reason: "paid by hand".to_owned() })
}

fn settle() -> CheckoutCommand {
    CheckoutCommand::Settle { money: true, stock: true, reason: "paid by hand".to_owned() }
}

/// One of each event, as its golden file holds it.
pub(super) fn samples() -> Vec<Step> {
    vec![
        started(),
        held(1_800),
        pending(2, Some("tok_other")),
        awaiting(1, 900),
        unknown(1, 30),
        secured(1, 2_765),
        committed(604_800),
        done(),
        compensating(60),
        reversing(60),
        cancelled(CancelReason::PaymentDeclined),
        attention("the provider does not answer"),
        resumed(),
        settled(),
    ]
}

fn record(step: Step) -> CheckoutCommand {
    CheckoutCommand::Record(step)
}

fn resume(reason: &str) -> CheckoutCommand {
    CheckoutCommand::Resume { reason: reason.to_owned() }
}

/// A way to each stage, in the order of [`Stage::ALL`].
fn history(stage: Stage) -> Vec<Step> {
    let total = placement().total_minor;
    match stage {
        Stage::Started => vec![started()],
        Stage::StockHeld => vec![started(), held(1)],
        Stage::PaymentPending => vec![started(), pending(1, None)],
        Stage::AwaitingCustomer => vec![started(), pending(1, None), awaiting(1, 1)],
        Stage::PaymentUnknown => vec![started(), pending(1, None), unknown(1, 1)],
        Stage::PaymentSecured => vec![started(), pending(1, None), secured(1, total)],
        Stage::StockCommitted => vec![started(), secured(1, total), committed(1)],
        Stage::Done => vec![started(), pending(1, None), secured(1, total), done()],
        Stage::Compensating => vec![started(), pending(1, None), compensating(1)],
        Stage::Reversing => vec![started(), secured(1, total), done(), reversing(1)],
        Stage::Cancelled => vec![started(), cancelled(CancelReason::OutOfStock)],
        Stage::NeedsAttention => vec![started(), pending(1, None), compensating(1), attention("once")],
    }
}

/// New steps of every kind but the operator's, in the order of the columns below.
fn steps(checkout: &Checkout) -> [Step; 12] {
    let this = checkout.attempt().max(1);
    [
        started(),
        held(2),
        pending(checkout.attempt() + 1, None),
        awaiting(this, 2),
        unknown(this, 2),
        secured(this, placement().total_minor + 1),
        committed(2),
        done(),
        compensating(2),
        reversing(2),
        cancelled(CancelReason::Timeout),
        attention("twice"),
    ]
}

/// `x` is recorded, `=` was told before, `.` is refused.
fn mark(given: Given<Checkout>, command: CheckoutCommand) -> char {
    let words = given.when(command).in_words();
    match words.as_str() {
        "nothing" => '=',
        "CHECKOUT_ILLEGAL_STEP" | "PROCESS_NOT_STOPPED" => '.',
        event if event.starts_with("Checkout") => 'x',
        other => panic!("{other}"),
    }
}

#[test]
fn every_step_at_every_stage() {
    let rows = Stage::ALL.map(|stage| {
        let at = || given::<Checkout>(history(stage));
        assert_eq!(at().state().stage(), Some(stage));
        let steps = steps(&at().state()).into_iter().map(record);
        let row: String =
            steps.chain([resume("seen to"), settle()]).map(|command| mark(at(), command)).collect();
        format!("{row} {}", stage.name())
    });
    // Started, StockHeld, PaymentPending, AwaitingCustomer, PaymentUnknown, PaymentSecured, StockCommitted, Done,
    // Compensating, Reversing, Cancelled, NeedsAttention, Resumed, Settled
    let expected = [
        "=xxxxx..x.xx.. started",
        "=.xxxx..x..x.. stock_held",
        "=..xxx..x..x.. payment_pending",
        "=.x.xx..x..x.. awaiting_customer",
        "=..xxx..x..x.. payment_unknown",
        "=.....xxxx.x.. payment_secured",
        "=......x.x.x.. stock_committed",
        "=......=.x.x.. done",
        "=.......x.xx.. compensating",
        "=......=.xxx.. reversing",
        "=.......x..... cancelled",
        "=.......x.xxxx needs_attention",
    ];
    assert_eq!(rows.each_ref().map(String::as_str), expected);
}

#[test]
fn nothing_comes_before_the_start() {
    for step in samples() {
        let step_is_start = step == started();
        let found = mark(given::<Checkout>([]), record(step));
        assert_eq!(found, if step_is_start { 'x' } else { '.' });
    }
    given::<Checkout>([]).when(resume("seen to")).then_refused(CheckoutError::NotFound);
}

#[test]
fn every_step_told_twice_is_told_once() {
    for stage in Stage::ALL {
        let history = history(stage);
        let last = history.last().cloned();
        for step in
            history.iter().filter(|step| step.stage() < Some(Stage::Compensating)).cloned().chain(last)
        {
            given::<Checkout>(history.clone()).when(record(step)).then_nothing();
        }
    }
}

#[test]
fn another_start_is_refused() {
    let Step::Started(start) = started() else { unreachable!() };
    let other = Step::Started(CheckoutStarted { total_minor: 1, ..start });
    given::<Checkout>([started()])
        .when(record(other))
        .then_refused(CheckoutError::IllegalStep { from: Some(Stage::Started), step: "CheckoutStarted" });
}

#[test]
fn attempts_count_up_and_keep_to_their_payment() {
    let declined = || given::<Checkout>([started(), pending(1, None), awaiting(1, 900)]);
    let checkout = declined().when(record(pending(2, Some("tok_b")))).then([pending(2, Some("tok_b"))]);
    assert_eq!((checkout.attempt(), checkout.payment_id()), (2, Some(pay(2))));
    assert_eq!(checkout.payment_method_token(), Some("tok_b"));
    declined()
        .when(record(pending(3, None)))
        .then_refused(CheckoutError::OtherAttempt { expected: 2, found: 3 });
    let wrong = Step::PaymentPending(CheckoutPaymentPending {
        payment_id: pay(1),
        attempt: 2,
        payment_method_token: None,
        timer: None,
    });
    let other = |expected, found| CheckoutError::OtherPayment { expected: pay(expected), found: pay(found) };
    declined().when(record(wrong)).then_refused(other(2, 1));
    let second = declined().and([pending(2, Some("tok_b"))]);
    second.when(record(secured(1, 2_765))).then_refused(other(2, 1));
}

#[test]
fn a_payment_that_does_not_cover_the_total_secures_nothing() {
    given::<Checkout>([started()])
        .when(record(secured(1, 2_764)))
        .then_refused(CheckoutError::NotCovered { secured: 2_764, total: 2_765 });
}

#[test]
fn the_first_attempt_needs_no_record_of_its_own() {
    let checkout = given::<Checkout>([started()]).when(record(secured(1, 2_765))).then([secured(1, 2_765)]);
    assert_eq!((checkout.attempt(), checkout.secured_minor()), (1, Some(2_765)));
}

#[test]
fn each_step_replaces_the_timer() {
    let steps = [started(), held(5), pending(1, None), done()];
    let timers = [timer(TimerKind::Hold, 1_800), timer(TimerKind::Hold, 5), None, None];
    for (at, timer) in timers.into_iter().enumerate() {
        assert_eq!(given::<Checkout>(steps[..=at].to_vec()).state().timer(), timer);
    }
}

#[test]
fn an_operator_sends_a_checkout_back_to_where_it_stopped() {
    let stopped = || given::<Checkout>(history(Stage::NeedsAttention));
    assert_eq!(stopped().state().interrupted(), Some(Stage::Compensating));
    assert_eq!(stopped().state().attention().map(|attention| attention.detail.as_str()), Some("once"));
    let checkout = stopped().when(resume("seen to")).then([resumed_because("seen to")]);
    assert_eq!((checkout.stage(), checkout.interrupted()), (Some(Stage::Compensating), None));
    assert_eq!(checkout.attention(), None);
    let twice = stopped().and([resumed_because("seen to")]).when(resume("seen to"));
    twice.then_refused(CheckoutError::NotStopped { stage: Stage::Compensating });
    // The process cannot send itself back.
    let itself = CheckoutError::IllegalStep { from: Some(Stage::NeedsAttention), step: "CheckoutResumed" };
    stopped().when(record(resumed())).then_refused(itself);
    // The same trouble after that is news again.
    let again = stopped().and([resumed()]).when(record(attention("once"))).then([attention("once")]);
    assert_eq!(again.stage(), Some(Stage::NeedsAttention));
}

#[test]
fn an_operator_sees_to_what_stopped_a_checkout() {
    let stopped = || given::<Checkout>(history(Stage::NeedsAttention));
    let checkout = stopped().when(settle()).then([settled()]);
    assert_eq!((checkout.stage(), checkout.attention()), (Some(Stage::Compensating), None));
    assert_eq!(checkout.money_settled(), Some("paid by hand"));
    assert_eq!(checkout.stock_settled(), Some("paid by hand"));
    // It is about what was under way, not about what comes to light after the end.
    let over = stopped().and([settled()]).when(record(cancelled(CancelReason::Customer)));
    let over = over.then([cancelled(CancelReason::Customer)]);
    assert_eq!((over.money_settled(), over.stock_settled()), (None, None));
    let itself = CheckoutError::IllegalStep { from: Some(Stage::NeedsAttention), step: "CheckoutSettled" };
    stopped().when(record(settled())).then_refused(itself);
}

#[test]
fn a_compensation_remembers_what_is_left_to_undo() {
    let checkout = given::<Checkout>(history(Stage::Compensating)).state();
    assert_eq!(checkout.undo(), [Undo::VoidPayment { payment_id: pay(1) }, Undo::ReleaseStock]);
    let ended = given::<Checkout>(history(Stage::Compensating))
        .when(record(cancelled(CancelReason::PaymentDeclined)))
        .then([cancelled(CancelReason::PaymentDeclined)]);
    assert_eq!((ended.undo(), ended.reason()), ([].as_slice(), Some(CancelReason::PaymentDeclined)));
}
