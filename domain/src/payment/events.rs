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
        /// Money is set aside to go back; nobody else can have it.
        RefundReserved(RefundReserved) = 1,
        /// It need not go back after all.
        RefundReservationReleased(RefundReservationReleased) = 1,
        /// What was reported cannot be true, given what is known.
        SignalDisbelieved(ProviderSignalDisbelieved) = 1,
        /// Money went back at the provider's own site.
        ExternalRefund(ExternalRefundRecorded) = 1,
        /// Money that came late is wanted after all.
        AcceptedLate(PaymentAcceptedLate) = 1,
        /// A person says that the rest was taken another way.
        CaptureSettled(PaymentCaptureSettled) = 1,
        /// A person says that a refund was made another way.
        RefundSettled(RefundSettled) = 1,
        /// A person says that nothing is held or owed any more.
        Settled(PaymentSettled) = 1,
        /// The rest of it is not wanted any more.
        GivenUp(PaymentGivenUp) = 1,
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
    /// How much was not taken; absent where the record is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor: Option<i64>,
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
    /// It takes back all that there was: nothing of this payment is wanted any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reversal: bool,
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
    /// How much did not go back; absent where the record is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_minor: Option<i64>,
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
    /// Whether the provider said so itself; else the sequence orders nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stamped: bool,
}

/// Money is set aside to go back under this refund, before anything else is done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefundReserved {
    /// Names the refund within the payment.
    pub refund_id: String,
    /// How much.
    pub amount_minor: i64,
}

/// What was set aside need not go back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefundReservationReleased {
    /// Which refund.
    pub refund_id: String,
}

/// The report before this event is not believed, and changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderSignalDisbelieved {
    /// The rule that it breaks, such as `PROVIDER_AMOUNT_MISMATCH`.
    pub reason: String,
    /// The same for people.
    pub detail: String,
}

/// The provider gave money back that we did not ask it to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExternalRefundRecorded {
    /// The provider's key of that refund; its report's id where it names none.
    pub key: String,
    /// How much.
    pub amount_minor: i64,
}

/// The money that came late is wanted: an order waits for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentAcceptedLate {
    /// The call that brought it.
    pub key: String,
    /// How much is held.
    pub amount_minor: i64,
}

/// What was left to be taken counts as taken. Who said so is in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentCaptureSettled {
    /// How much.
    pub amount_minor: i64,
    /// What the operator found or did.
    pub reason: String,
}

/// A refund counts as made. Who said so is in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefundSettled {
    /// Which refund.
    pub refund_id: String,
    /// How much of it went back out of this payment.
    pub amount_minor: i64,
    /// What the operator found or did.
    pub reason: String,
}

/// Nothing is held any more, and what was taken counts as given back. Who said so is in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentSettled {
    /// How much counts as given back by this.
    pub amount_minor: i64,
    /// What the operator found or did.
    pub reason: String,
}

/// A part was taken, so that the rest cannot be let go; but it is not wanted any more, and never captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentGivenUp {}
