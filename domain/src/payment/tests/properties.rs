//! What holds for every payment, whatever anybody asks or the provider says.

use proptest::prelude::*;

use super::{initiate, key};
use crate::payment::{
    Answer, Command, Event, Operation, OperationState, PaymentIntent, PaymentStatus, ProviderOperation,
};
use crate::{Aggregate, Timestamp};

const AMOUNTS: [i64; 7] = [1, 500, 1_000, 1_765, 2_765, 2_766, i64::MAX];

fn amount() -> impl Strategy<Value = i64> {
    proptest::sample::select(AMOUNTS.to_vec())
}

fn operation() -> impl Strategy<Value = ProviderOperation> {
    use ProviderOperation::{Authorize, Capture, Refund, Void};
    proptest::sample::select(vec![Authorize, Capture, Void, Refund])
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        amount().prop_map(|amount_minor| Answer::Authorized { amount_minor, capture_before: None }),
        amount().prop_map(|amount_minor| Answer::Captured { amount_minor }),
        amount().prop_map(|amount_minor| Answer::Refunded { amount_minor }),
        any::<bool>().prop_map(|retryable| Answer::Declined { code: "no".to_owned(), retryable }),
        Just(Answer::Voided),
        Just(Answer::Failed { code: "no".to_owned() }),
    ]
}

/// What the provider would say to an operation of this payment: its own amount, or that it did not happen.
fn fitting(payment: &PaymentIntent, key: &str, happened: bool) -> Answer {
    let Some(operation) = payment.operation(key).filter(|_| happened) else {
        return Answer::Failed { code: "no".to_owned() };
    };
    let amount_minor = operation.amount_minor;
    match operation.operation {
        ProviderOperation::Authorize => Answer::Authorized { amount_minor, capture_before: None },
        ProviderOperation::Capture => Answer::Captured { amount_minor },
        ProviderOperation::Refund => Answer::Refunded { amount_minor },
        ProviderOperation::Void => Answer::Voided,
    }
}

/// Something that happens to a payment.
#[derive(Clone, Debug)]
enum Happening {
    Capture(Option<i64>),
    Refund(u8, Option<i64>),
    Reserve(u8, i64),
    Release(u8),
    Reverse(u8),
    AcceptLate,
    GiveUp,
    SettleCapture,
    SettleRefund(u8, i64),
    Settle,
    External(u8, i64),
    Void,
    Unknown(ProviderOperation, u32),
    Answer(ProviderOperation, u32, Option<bool>, Answer),
    Signal(u8, ProviderOperation, u32, u64, Option<bool>, Answer),
    OpenAnswered(bool),
    /// One that was said to have failed had happened after all.
    FailedAfterAll(proptest::sample::Index),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::{
        AcceptLate, Answer, Capture, External, FailedAfterAll, GiveUp, OpenAnswered, Refund, Release,
        Reserve, Reverse, Settle, SettleCapture, SettleRefund, Signal, Unknown, Void,
    };
    let fits = || proptest::option::weighted(0.8, any::<bool>());
    prop_oneof![
        2 => proptest::option::of(amount()).prop_map(Capture),
        2 => (0_u8..4, proptest::option::of(amount())).prop_map(|(id, amount)| Refund(id, amount)),
        2 => (0_u8..4, amount()).prop_map(|(id, amount)| Reserve(id, amount)),
        1 => (0_u8..4).prop_map(Release),
        1 => (0_u8..4).prop_map(Reverse),
        1 => Just(AcceptLate),
        1 => Just(GiveUp),
        1 => Just(SettleCapture),
        1 => (0_u8..4, amount()).prop_map(|(id, amount)| SettleRefund(id, amount)),
        1 => Just(Settle),
        1 => (0_u8..4, amount()).prop_map(|(id, amount)| External(id, amount)),
        1 => Just(Void),
        2 => (operation(), 1_u32..3).prop_map(|(operation, n)| Unknown(operation, n)),
        3 => (operation(), 1_u32..4, fits(), any_answer()).prop_map(|(op, n, fits, said)| Answer(op, n, fits, said)),
        3 => (0_u8..8, operation(), 1_u32..4, 0_u64..12, fits(), any_answer())
            .prop_map(|(id, op, n, sequence, fits, said)| Signal(id, op, n, sequence, fits, said)),
        4 => proptest::bool::weighted(0.7).prop_map(OpenAnswered),
        2 => any::<proptest::sample::Index>().prop_map(FailedAfterAll),
    ]
}

fn command(payment: &PaymentIntent, happening: Happening) -> Option<Command> {
    let n_th = |operation, n| key(operation, 1).replace(":1", &format!(":{n}"));
    let said = |key: &str, fits: Option<bool>, answer| fits.map_or(answer, |yes| fitting(payment, key, yes));
    Some(match happening {
        Happening::Capture(amount_minor) => Command::RequestCapture { amount_minor },
        Happening::Refund(id, amount_minor) => {
            Command::RequestRefund { refund_id: format!("ret_{id}"), amount_minor }
        }
        Happening::Reserve(id, amount_minor) => {
            Command::ReserveRefund { refund_id: format!("ret_{id}"), amount_minor }
        }
        Happening::Release(id) => Command::ReleaseRefund { refund_id: format!("ret_{id}") },
        Happening::Reverse(id) => Command::RequestReversal { refund_id: format!("reversal.{id}") },
        Happening::AcceptLate => Command::AcceptLate,
        Happening::GiveUp => Command::GiveUp,
        Happening::SettleCapture => Command::SettleCapture { reason: "by hand".to_owned() },
        Happening::SettleRefund(id, amount_minor) => Command::SettleRefund {
            refund_id: format!("ret_{id}"),
            amount_minor,
            reason: "by hand".to_owned(),
        },
        Happening::Settle => Command::Settle { reason: "by hand".to_owned() },
        Happening::External(id, amount_minor) => Command::RecordSignal {
            provider_event_id: format!("ext_{id}"),
            key: format!("re_{id}"),
            operation: None,
            answer: Answer::Refunded { amount_minor },
            sequence: 0,
        },
        Happening::Void => Command::RequestVoid,
        Happening::Unknown(operation, n) => Command::MarkOutcomeUnknown { key: n_th(operation, n) },
        Happening::Answer(operation, n, fits, answer) => {
            let key = n_th(operation, n);
            Command::RecordAnswer { answer: said(&key, fits, answer), key }
        }
        Happening::Signal(id, operation, n, sequence, fits, answer) => {
            let key = n_th(operation, n);
            let answer = said(&key, fits, answer);
            let provider_event_id = format!("evt_{id}");
            Command::RecordSignal { provider_event_id, key, operation: Some(operation), answer, sequence }
        }
        Happening::OpenAnswered(happened) => {
            let key = payment.open_operation()?.key.clone();
            Command::RecordAnswer { answer: fitting(payment, &key, happened), key }
        }
        Happening::FailedAfterAll(index) => {
            let failed = |op: &&Operation| op.state == OperationState::Failed;
            let failed: Vec<_> = payment.operations.iter().filter(failed).collect();
            let key = failed.get(index.index(failed.len().max(1)))?.key.clone();
            Command::RecordAnswer { answer: fitting(payment, &key, true), key }
        }
    })
}

fn check(payment: &PaymentIntent, by_hand: [i64; 2]) -> Result<(), TestCaseError> {
    prop_assert!(payment.captured_minor() <= payment.authorized_minor());
    prop_assert!(payment.refunded_minor() <= payment.captured_minor());
    prop_assert!(payment.refunded_minor() >= 0 && payment.authorized_minor() <= payment.amount_minor());
    let gone = matches!(payment.status(), Some(PaymentStatus::Voided | PaymentStatus::Declined));
    prop_assert!(!gone || payment.captured_minor() == 0, "captured money was let go");
    let open = payment.operations.iter().filter(|operation| operation.is_open()).count();
    prop_assert!(open <= 1, "{open} operations in flight");
    let sum = |kind| {
        let succeeded = |state| state == OperationState::Succeeded;
        let of = payment.operations.iter().filter(|op| op.operation == kind && succeeded(op.state));
        of.map(|op| op.amount_minor).sum::<i64>()
    };
    prop_assert_eq!(sum(ProviderOperation::Capture) + by_hand[0], payment.captured_minor());
    prop_assert_eq!(sum(ProviderOperation::Refund) + by_hand[1], payment.refunded_minor());
    Ok(())
}

/// Nothing of ours promises more than is left; what goes back at the provider's own site, or was said to have failed,
/// may yet take of what was promised.
fn check_promises(payment: &PaymentIntent, command: &Command) -> Result<(), TestCaseError> {
    let promising = matches!(command, Command::RequestRefund { .. } | Command::ReserveRefund { .. });
    let taken = payment.captured_minor() - payment.refunded_minor();
    prop_assert!(!promising || payment.refund_pending_minor() <= taken, "more is promised than there is");
    Ok(())
}

fn apply(payment: &mut PaymentIntent, command: &Command) -> Vec<Event> {
    let events = payment.decide(command, Timestamp::default()).unwrap_or_default();
    for event in &events {
        payment.evolve(event);
    }
    events
}

/// What a person says was taken, and given back.
fn settled(event: &Event) -> [i64; 2] {
    match event {
        Event::CaptureSettled(settled) => [settled.amount_minor, 0],
        Event::RefundSettled(settled) => [0, settled.amount_minor],
        Event::Settled(settled) => [0, settled.amount_minor],
        _ => [0, 0],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn money_is_conserved_whatever_happens(happenings in proptest::collection::vec(happening(), 0..60)) {
        let mut payment = PaymentIntent::default();
        apply(&mut payment, &initiate());
        let mut by_hand = [0, 0];
        for happening in happenings {
            let Some(command) = command(&payment, happening) else { continue };
            let was_given_up = payment.is_given_up();
            let events = apply(&mut payment, &command);
            for [taken, back] in events.iter().map(settled) {
                by_hand = [by_hand[0] + taken, by_hand[1] + back];
            }
            check(&payment, by_hand)?;
            if !events.is_empty() {
                check_promises(&payment, &command)?;
            }
            let captures = events.iter().any(|event| matches!(event, Event::CaptureRequested(_)));
            prop_assert!(!(was_given_up && captures), "captured what nobody wants");
            if let Command::RecordSignal { .. } = &command {
                prop_assert_eq!(apply(&mut payment, &command), vec![], "a report was applied twice");
            }
        }
    }
}
