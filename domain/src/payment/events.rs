//! What happened to a payment. The payload structs' names are on the log and never reused.

use serde::{Deserialize, Serialize};

use super::ProviderOperation;
use crate::aggregate::events;
use crate::{Currency, OrderId, PaymentId, Timestamp};

events! {
    /// An event of a [`PaymentIntent`](super::PaymentIntent).
    pub enum Event {
        /// Somebody is to pay.
        Initiated(PaymentInitiated) = 1,
        /// A call to the provider is about to be made.
        OperationStarted(ProviderOperationStarted) = 1,
        /// The money is held.
        Authorized(PaymentAuthorized) = 1,
        /// The money is not to be had.
        Declined(PaymentDeclined) = 1,
        /// A call ended without an answer.
        OutcomeUnknown(PaymentOutcomeUnknown) = 1,
        /// The money is to be taken.
        CaptureRequested(PaymentCaptureRequested) = 1,
        /// The money is ours.
        Captured(PaymentCaptured) = 1,
        /// It was not taken.
        CaptureFailed(PaymentCaptureFailed) = 1,
        /// The hold is to go.
        VoidRequested(PaymentVoidRequested) = 1,
        /// The hold is gone.
        Voided(PaymentVoided) = 1,
        /// The hold is still there.
        VoidFailed(PaymentVoidFailed) = 1,
        /// Money is to go back.
        RefundRequested(RefundRequested) = 1,
        /// Money went back.
        RefundSucceeded(RefundSucceeded) = 1,
        /// It did not go back.
        RefundFailed(RefundFailed) = 1,
        /// The money is held after all, when nobody wants it any more (F-11).
        SucceededLate(PaymentSucceededLate) = 1,
        /// The provider reported something by itself.
        SignalReceived(ProviderSignalReceived) = 1,
    }
}

/// An order is to be paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentInitiated {
    /// The payment.
    pub payment_id: PaymentId,
    /// The order.
    pub order_id: OrderId,
    /// How much.
    pub amount_minor: i64,
    /// The currency of every amount of this payment.
    pub currency: Currency,
    /// The provider's reference to the payment method.
    pub method_token: String,
}

/// A call to the provider is about to be made. On the log before the call, so that no call is ever forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderOperationStarted {
    /// Which call.
    pub operation: ProviderOperation,
    /// The provider's idempotency key: `{payment_id}:{operation}:{n}`.
    pub key: String,
    /// How much; for a void, how much is let go at most.
    pub amount_minor: i64,
    /// Which refund, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_id: Option<String>,
}

/// The money is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentAuthorized {
    /// The call that did it.
    pub key: String,
    /// How much.
    pub amount_minor: i64,
    /// When the hold lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_before: Option<Timestamp>,
}

/// The money is not to be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentDeclined {
    /// The call that asked.
    pub key: String,
    /// The provider's word for it.
    pub code: String,
    /// Whether another attempt could succeed.
    pub retryable: bool,
}

/// A call ended without an answer: it may or may not have happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentOutcomeUnknown {
    /// The call.
    pub key: String,
}

/// Authorised money is to be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentCaptureRequested {
    /// How much.
    pub amount_minor: i64,
}

/// The money is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentCaptured {
    /// The call that did it.
    pub key: String,
    /// How much this call took.
    pub amount_minor: i64,
}

/// The money was not taken; it is still held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentCaptureFailed {
    /// The call that failed.
    pub key: String,
    /// The provider's word for it.
    pub code: String,
}

/// The hold is to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentVoidRequested {}

/// Nothing is held any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentVoided {
    /// The call that did it.
    pub key: String,
}

/// The hold could not be let go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentVoidFailed {
    /// The call that failed.
    pub key: String,
    /// The provider's word for it.
    pub code: String,
}

/// Captured money is to go back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefundRequested {
    /// Names the refund within the payment.
    pub refund_id: String,
    /// How much.
    pub amount_minor: i64,
}

/// The money went back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefundSucceeded {
    /// The call that did it.
    pub key: String,
    /// Which refund.
    pub refund_id: String,
    /// How much.
    pub amount_minor: i64,
}

/// The money did not go back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefundFailed {
    /// The call that failed.
    pub key: String,
    /// Which refund.
    pub refund_id: String,
    /// The provider's word for it.
    pub code: String,
}

/// The provider holds money for a payment that was declined or voided: it has to be let go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentSucceededLate {
    /// The call that did it.
    pub key: String,
    /// How much is held.
    pub amount_minor: i64,
}

/// The provider reported something by itself. What it means, if it is news, is the next event of the commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderSignalReceived {
    /// The provider's id of the report.
    pub provider_event_id: String,
    /// The call it is about.
    pub key: String,
    /// The provider's order of its reports.
    pub sequence: u64,
}
