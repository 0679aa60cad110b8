//! From requests to commands for payments.

use shopstream_domain::payment::{Answer, PaymentStatus};
use shopstream_domain::{TenantId, Timestamp, model};
use shopstream_projections::order::{OrderDetail, OrderStatus};
use shopstream_proto::payment::v1 as wire;
use shopstream_proto::payment::v1::ProviderSignalKind;
use shopstream_proto::r#type::v1::Money;
use tonic::Code;

use super::*;
use crate::testing::{NOW, call, captured, order_detail, refusal};
use crate::wire::time;

fn signal(kind: ProviderSignalKind) -> RecordProviderSignalRequest {
    RecordProviderSignalRequest {
        request_id: "r".to_owned(),
        payment_id: "pay_1.2".to_owned(),
        provider_event_id: "evt_9".to_owned(),
        kind: kind.into(),
        decline_code: "insufficient_funds".to_owned(),
        decline_retryable: true,
        ..RecordProviderSignalRequest::default()
    }
}

fn recorded(request: RecordProviderSignalRequest) -> Result<(String, Answer, u64), Failure> {
    recorded_of("default", request)
}

fn recorded_of(tenant: &str, request: RecordProviderSignalRequest) -> Result<(String, Answer, u64), Failure> {
    let mut call = call();
    call.tenant = TenantId::new(tenant).expect("valid");
    let envelope = Signal::of(request)?.command(&call, None, NOW)?;
    match envelope.command {
        model::Command::Payment(Command::RecordSignal { key, answer, sequence, .. }) => {
            Ok((key, answer, sequence))
        }
        other => panic!("{other:?} records nothing"),
    }
}

/// RecordProviderSignal.
#[test]
fn record_provider_signal_says_what_the_provider_said() {
    let (key, answer, sequence) = recorded(signal(ProviderSignalKind::Declined)).expect("valid");
    // Which call it is about and when it happened, the provider does not say.
    assert_eq!((&*key, sequence), ("", 0));
    assert_eq!(answer, Answer::Declined { code: "insufficient_funds".to_owned(), retryable: true });

    let (provider_key, provider_time) =
        ("pay_1.2:refund:3".to_owned(), Some(time(Timestamp::from_seconds(5))));
    let request = RecordProviderSignalRequest {
        provider_key,
        provider_time,
        ..signal(ProviderSignalKind::RefundFailed)
    };
    let failed = Answer::Failed { code: "insufficient_funds".to_owned() };
    assert_eq!(recorded(request), Ok(("pay_1.2:refund:3".to_owned(), failed, 5_000_000)));
    assert!(matches!(recorded(signal(ProviderSignalKind::Voided)), Ok((_, Answer::Voided, _))));
}

/// The provider may name a call as it was told it, which is the tenant's own name for it, or as the log has it.
#[test]
fn a_signal_names_a_call_of_its_own_tenant() {
    let about = |tenant, key: &str| {
        let provider_key = key.to_owned();
        let request =
            RecordProviderSignalRequest { provider_key, ..signal(ProviderSignalKind::RefundFailed) };
        recorded_of(tenant, request).map(|(key, _, _)| key)
    };
    let own = "pay_1.2:refund:1";
    for (tenant, key) in [("default", own), ("acme", own), ("acme", "acme/pay_1.2:refund:1")] {
        assert_eq!(about(tenant, key).as_deref(), Ok(own), "{tenant} {key}");
    }
    for theirs in ["re_7", "acme/re_7", "re/7:1"] {
        assert_eq!(about("acme", theirs).as_deref(), Ok(theirs), "the provider's own");
    }
    for tenant in ["default", "umbrella"] {
        let refused = refusal(about(tenant, "acme/pay_1.2:refund:1"));
        assert_eq!(refused, (Code::InvalidArgument, "provider_key".to_owned()), "{tenant}");
    }
}

#[test]
fn every_wrong_signal_names_its_field() {
    let cases = [
        (signal(ProviderSignalKind::Unspecified), "kind"),
        (signal(ProviderSignalKind::Captured), "amount"),
        (
            RecordProviderSignalRequest {
                payment_id: "pay_1".to_owned(),
                ..signal(ProviderSignalKind::Voided)
            },
            "payment_id",
        ),
        (
            RecordProviderSignalRequest {
                provider_time: Some(time(NOW + shopstream_domain::Duration::from_seconds(301))),
                ..signal(ProviderSignalKind::Voided)
            },
            "provider_time",
        ),
        (
            RecordProviderSignalRequest {
                provider_event_id: String::new(),
                ..signal(ProviderSignalKind::Voided)
            },
            "provider_event_id",
        ),
    ];
    for (request, field) in cases {
        assert_eq!(refusal(recorded(request)), (Code::InvalidArgument, field.to_owned()));
    }
}

fn order(status: OrderStatus) -> OrderDetail {
    order_detail(status, 500)
}

fn attempt(expected_version: Option<i64>) -> Attempt {
    let (request_id, order_id) = ("r".to_owned(), "ord_1".to_owned());
    let payment_method_token = "tok_approve".to_owned();
    let request = ProcessPaymentRequest { request_id, order_id, payment_method_token, expected_version };
    Attempt::of(request).expect("valid")
}

/// ProcessPayment.
#[test]
fn process_payment_is_a_further_attempt_for_the_whole_order() {
    let order = order(OrderStatus::AwaitingPayment);
    let command = attempt(None).command(&call(), &order, order.order_id.payment(2));
    assert_eq!(command.stream.as_str(), "default/payment/pay_1.2");
    assert!(matches!(
        command.command,
        model::Command::Payment(Command::Initiate { amount_minor: 500, ref method_token, .. })
            if method_token == "tok_approve"
    ));
    assert_eq!(attempt(Some(2)).check(&order, &[]), Ok(()));
}

#[test]
fn an_order_that_waits_for_no_payment_refuses_one() {
    let waiting = order(OrderStatus::AwaitingPayment);
    assert_eq!(refusal(attempt(Some(1)).check(&waiting, &[])).0, Code::Aborted);
    for status in [OrderStatus::Draft, OrderStatus::Submitted, OrderStatus::Confirmed, OrderStatus::Cancelled]
    {
        let refused = refusal(attempt(None).check(&order(status), &[]));
        assert_eq!(refused, (Code::FailedPrecondition, "order_id".to_owned()));
    }
}

#[test]
fn an_attempt_waits_until_the_one_before_it_has_come_to_nothing() {
    let order = order(OrderStatus::AwaitingPayment);
    let declined = || PaymentView { status: PaymentStatus::Declined, ..payment() };
    let last = |status, open| {
        let payment_id = PaymentId::new("pay_1.2").expect("valid");
        [declined(), PaymentView { payment_id, status, open, ..payment() }]
    };
    let check = |payments: &[PaymentView]| attempt(None).check(&order, payments);
    assert_eq!(check(&[declined()]), Ok(()));
    for status in [PaymentStatus::Declined, PaymentStatus::Voided, PaymentStatus::Refunded] {
        assert_eq!(check(&last(status, false)), Ok(()), "{status:?}");
        // The provider has something yet to answer.
        assert!(check(&last(status, true)).is_err(), "{status:?}");
    }
    for status in [
        PaymentStatus::Authorizing,
        PaymentStatus::OutcomeUnknown,
        PaymentStatus::Authorized,
        PaymentStatus::PartiallyCaptured,
        PaymentStatus::Captured,
        PaymentStatus::PartiallyRefunded,
        PaymentStatus::SucceededLate,
    ] {
        let refused = check(&last(status, false)).expect_err("one is enough");
        assert!(refused.to_string().contains("pay_1.2"), "{refused}");
        assert_eq!(refusal(Err::<(), _>(refused)), (Code::FailedPrecondition, "order_id".to_owned()));
    }
}

#[test]
fn a_method_token_is_required() {
    let request = ProcessPaymentRequest {
        request_id: "r".to_owned(),
        order_id: "ord_1".to_owned(),
        ..ProcessPaymentRequest::default()
    };
    assert_eq!(refusal(Attempt::of(request)), (Code::InvalidArgument, "payment_method_token".to_owned()));
}

fn payment() -> PaymentView {
    captured("pay_1.1", 500)
}

/// CapturePayment and RefundPayment.
#[test]
fn an_amount_is_above_zero_and_in_the_payments_currency() {
    let amount = |currency: &str, amount_minor| Money { currency_code: currency.to_owned(), amount_minor };
    assert_eq!(above_zero(&amount("GBP", 5), &payment()), Ok(5));
    let refused = |amount: Money| refusal(above_zero(&amount, &payment()));
    assert_eq!(refused(amount("GBP", 0)), (Code::InvalidArgument, "amount.amount_minor".to_owned()));
    assert_eq!(refused(amount("EUR", 5)), (Code::InvalidArgument, "amount.currency_code".to_owned()));
}

/// GetPayment: what goes back and what was refused is seen.
#[test]
fn a_payment_is_shown_with_its_refunds() {
    use shopstream_domain::Aggregate;
    use shopstream_domain::payment::{
        ExternalRefundRecorded, ProviderOperation, ProviderOperationStarted, RefundFailed, RefundReserved,
    };
    let mut payment = payment();
    let (key, amount_minor) = ("pay_1.1:refund:1".to_owned(), 100);
    let refund_id = || "rfd_1".to_owned();
    for event in [
        PaymentEvent::OperationStarted(ProviderOperationStarted {
            operation: ProviderOperation::Refund,
            key: key.clone(),
            amount_minor,
            refund_id: Some(refund_id()),
        }),
        PaymentEvent::RefundFailed(RefundFailed {
            key,
            refund_id: refund_id(),
            code: "account_closed".to_owned(),
            amount_minor: Some(amount_minor),
        }),
        PaymentEvent::ExternalRefund(ExternalRefundRecorded { key: "re_1".to_owned(), amount_minor: 50 }),
        PaymentEvent::RefundReserved(RefundReserved { refund_id: "ret_1".to_owned(), amount_minor: 200 }),
    ] {
        payment.state.0.evolve(&event);
    }
    let shown = view(&payment);
    let refunds: Vec<_> = shown
        .refunds
        .iter()
        .map(|refund| (&*refund.refund_id, &*refund.provider_key, refund.status(), &*refund.failure_code))
        .collect();
    assert_eq!(
        refunds,
        [
            ("ret_1", "", wire::RefundStatus::SetAside, ""),
            ("rfd_1", "pay_1.1:refund:1", wire::RefundStatus::Failed, "account_closed"),
            ("", "re_1", wire::RefundStatus::Succeeded, ""),
        ]
    );
    let minor = |money: Option<Money>| money.map(|money| money.amount_minor);
    assert_eq!((minor(shown.refund_pending), minor(shown.refundable)), (Some(200), Some(250)));
}

/// GetPayment.
#[test]
fn a_payment_is_shown_with_its_sums() {
    let shown = view(&payment());
    assert_eq!((shown.attempt, shown.version), (1, 4));
    assert_eq!(shown.captured.map(|money| money.amount_minor), Some(500));
    assert_eq!(shown.status, i32::from(wire::PaymentStatus::Captured));
}
