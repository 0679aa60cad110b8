//! What the tests of all services need.

use shopstream_domain::payment::{
    Event, ExternalRefundRecorded, PaymentCaptured, PaymentIntent, PaymentStatus,
};
use shopstream_domain::{Aggregate, Currency, CustomerId, OrderId, PaymentId, Timestamp};
use shopstream_projections::Folded;
use shopstream_projections::order::{OrderDetail, OrderStatus};
use shopstream_projections::payment::PaymentView;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::call::Call;
use crate::failure::Failure;

/// A moment in 2023.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A call without metadata.
pub(crate) fn call() -> Call {
    Call::of(&MetadataMap::new()).expect("no metadata is fine")
}

/// The order ord_1 of c1 in GBP, nothing of it refunded or returned.
pub(crate) fn order_detail(status: OrderStatus, total_minor: i64) -> OrderDetail {
    OrderDetail {
        tenant_id: call().tenant,
        order_id: OrderId::new("ord_1").expect("valid"),
        customer_id: CustomerId::new("c1").expect("valid"),
        status,
        currency: Currency::GBP,
        total_minor,
        refunded_minor: 0,
        returned: Vec::new(),
        payments: Vec::new(),
        reservation_id: None,
        cancel_reason: None,
        created_at: NOW,
        effective_at: NOW,
        updated_at: NOW,
        version: 2,
        partition: 0,
        offset: 9,
    }
}

/// A payment for ord_1 in GBP whose whole amount was taken.
pub(crate) fn captured(payment_id: &str, amount_minor: i64) -> PaymentView {
    refunded(payment_id, amount_minor, 0)
}

/// The same, and some of it went back.
pub(crate) fn refunded(payment_id: &str, amount_minor: i64, refunded_minor: i64) -> PaymentView {
    let mut state = Folded::<PaymentIntent>::default();
    let key = format!("{payment_id}:capture:1");
    state.0.evolve(&Event::Captured(PaymentCaptured { key, amount_minor }));
    if refunded_minor > 0 {
        let (key, amount_minor) = ("re_1".to_owned(), refunded_minor);
        state.0.evolve(&Event::ExternalRefund(ExternalRefundRecorded { key, amount_minor }));
    }
    PaymentView {
        tenant_id: call().tenant,
        payment_id: PaymentId::new(payment_id).expect("valid"),
        order_id: OrderId::new("ord_1").expect("valid"),
        status: PaymentStatus::Captured,
        currency: Currency::GBP,
        amount_minor,
        authorized_minor: amount_minor,
        captured_minor: amount_minor,
        refunded_minor,
        decline_code: None,
        decline_retryable: false,
        capture_before: None,
        open: false,
        state,
        created_at: NOW,
        updated_at: NOW,
        version: 4,
        partition: 0,
        offset: 9,
    }
}

/// The code and the first field of a refusal, as a client sees them.
pub(crate) fn refusal<T: std::fmt::Debug>(refused: Result<T, Failure>) -> (Code, String) {
    let status = Status::from(refused.expect_err("to be refused"));
    let details = status.get_error_details();
    assert!(details.error_info().is_some_and(|info| info.domain == crate::DOMAIN && !info.reason.is_empty()));
    let named = details.bad_request().and_then(|bad| bad.field_violations.first().map(|v| v.field.clone()));
    (status.code(), named.unwrap_or_default())
}
