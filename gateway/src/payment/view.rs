//! Payments as a caller sees them.

use shopstream_domain::payment::{Operation, OperationState, PaymentStatus, ProviderOperation};
use shopstream_projections::payment::PaymentView;
use shopstream_proto::payment::v1 as wire;

use crate::positions::position;
use crate::wire::{int, money, time};

pub(super) fn view(payment: &PaymentView) -> wire::Payment {
    let amount = |minor| Some(money(minor, payment.currency));
    // The money may have come since.
    let is_declined = payment.status == PaymentStatus::Declined;
    wire::Payment {
        payment_id: payment.payment_id.as_str().to_owned(),
        order_id: payment.order_id.as_str().to_owned(),
        attempt: payment.attempt(),
        status: status(payment.status).into(),
        amount: amount(payment.amount_minor),
        authorized: amount(payment.authorized_minor),
        captured: amount(payment.captured_minor),
        refunded: amount(payment.refunded_minor),
        // There is one provider, and it has no name of its own yet.
        provider: String::new(),
        decline_code: payment.decline_code.clone().filter(|_| is_declined).unwrap_or_default(),
        decline_retryable: payment.decline_retryable && is_declined,
        capture_before_time: payment.capture_before.map(time),
        create_time: Some(time(payment.created_at)),
        update_time: Some(time(payment.updated_at)),
        version: int(payment.version),
        position: Some(position(payment.position())),
        refundable: amount(payment.state.0.refundable_minor()),
        refund_pending: amount(payment.state.0.refund_pending_minor()),
        refunds: refunds(payment),
        capture_failure_code: capture_failure(payment),
    }
}

/// How many refunds an answer shows, the last ones.
const REFUNDS_MAX: usize = 100;

/// Those that are only set aside or were seen to by hand first, then those that the provider knows.
fn refunds(payment: &PaymentView) -> Vec<wire::Refund> {
    let state = &payment.state.0;
    let amount = |minor| Some(money(minor, payment.currency));
    let named = |refund_id: &str, amount_minor, status: wire::RefundStatus| wire::Refund {
        refund_id: refund_id.to_owned(),
        amount: amount(amount_minor),
        status: status.into(),
        ..wire::Refund::default()
    };
    let is_asked = |refund_id: &str| state.refund(refund_id).is_some_and(Operation::is_open);
    let set_aside = state.reserved().iter().filter(|it| !is_asked(&it.refund_id));
    let set_aside = set_aside.map(|it| named(&it.refund_id, it.amount_minor, wire::RefundStatus::SetAside));
    let settled = state.settled_refunds().iter();
    let settled = settled.map(|it| named(&it.refund_id, it.amount_minor, wire::RefundStatus::Settled));
    // One that a person has seen to is shown once.
    let asked = state.operations().iter().filter(|known| {
        known.operation == ProviderOperation::Refund && known.state != OperationState::Settled
    });
    let asked = asked.map(|known| wire::Refund {
        refund_id: known.refund_id.clone().unwrap_or_default(),
        amount: amount(known.amount_minor),
        status: refund_status(known.state).into(),
        failure_code: known.code.clone().unwrap_or_default(),
        provider_key: known.key.clone(),
    });
    let mut refunds: Vec<_> = set_aside.chain(settled).chain(asked).collect();
    refunds.drain(..refunds.len().saturating_sub(REFUNDS_MAX));
    refunds
}

const fn refund_status(state: OperationState) -> wire::RefundStatus {
    match state {
        OperationState::Open => wire::RefundStatus::Pending,
        OperationState::Unknown | OperationState::Superseded => wire::RefundStatus::OutcomeUnknown,
        OperationState::Succeeded => wire::RefundStatus::Succeeded,
        OperationState::Failed => wire::RefundStatus::Failed,
        OperationState::Settled => wire::RefundStatus::Settled,
    }
}

/// The last capture's, if that is one that the provider refused.
fn capture_failure(payment: &PaymentView) -> String {
    let mut captures = payment.state.0.operations().iter();
    let last = captures.rfind(|known| known.operation == ProviderOperation::Capture);
    let failed = last.filter(|capture| capture.state == OperationState::Failed);
    failed.and_then(|capture| capture.code.clone()).unwrap_or_default()
}

const fn status(status: PaymentStatus) -> wire::PaymentStatus {
    match status {
        PaymentStatus::Authorizing => wire::PaymentStatus::Initiated,
        PaymentStatus::OutcomeUnknown => wire::PaymentStatus::OutcomeUnknown,
        // Held after all, though nobody wants it any more: the checkout lets it go.
        PaymentStatus::Authorized | PaymentStatus::SucceededLate => wire::PaymentStatus::Authorized,
        PaymentStatus::Declined => wire::PaymentStatus::Declined,
        PaymentStatus::PartiallyCaptured => wire::PaymentStatus::PartiallyCaptured,
        PaymentStatus::Captured => wire::PaymentStatus::Captured,
        PaymentStatus::PartiallyRefunded => wire::PaymentStatus::PartiallyRefunded,
        PaymentStatus::Refunded => wire::PaymentStatus::Refunded,
        PaymentStatus::Voided => wire::PaymentStatus::Voided,
    }
}
