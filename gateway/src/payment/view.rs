//! Payments as a caller sees them.

use shopstream_domain::payment::PaymentStatus;
use shopstream_projections::payment::PaymentView;
use shopstream_proto::payment::v1 as wire;

use crate::positions::position;
use crate::wire::{int, money, time};

pub(super) fn view(payment: &PaymentView) -> wire::Payment {
    let amount = |minor| Some(money(minor, payment.currency));
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
        decline_code: payment.decline_code.clone().unwrap_or_default(),
        decline_retryable: payment.decline_retryable,
        capture_before_time: payment.capture_before.map(time),
        create_time: Some(time(payment.created_at)),
        update_time: Some(time(payment.updated_at)),
        version: int(payment.version),
        position: Some(position(payment.position())),
    }
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
