//! Payments: money promised, taken and given back by a provider.
//!
//! Every call to a provider is written down before it is made, under a key that never changes, so that after a
//! crash the provider can be asked what became of it.

mod account;
mod commands;
mod error;
mod events;
mod intent;
mod operation;
mod outcome;
mod requests;
mod signal;
mod status;
#[cfg(test)]
mod tests;
mod token;

pub use account::SetAside;
pub use commands::{Answer, Command};
pub use error::Error;
pub use events::{
    Event, ExternalRefundRecorded, PaymentAcceptedLate, PaymentAuthorized, PaymentCaptureFailed,
    PaymentCaptureRequested, PaymentCaptureSettled, PaymentCaptured, PaymentDeclined, PaymentGivenUp,
    PaymentInitiated, PaymentOutcomeUnknown, PaymentSettled, PaymentSucceededLate, PaymentVoidFailed,
    PaymentVoidRequested, PaymentVoided, ProviderOperationStarted, ProviderSignalDisbelieved,
    ProviderSignalReceived, RefundFailed, RefundRequested, RefundReservationReleased, RefundReserved,
    RefundSettled, RefundSucceeded,
};
pub use intent::PaymentIntent;
pub use operation::{Operation, OperationState, ProviderOperation, at_provider, from_provider, provider_key};
pub use signal::PROVIDER_TEXT_MAX;
pub use signal::Verdict;
pub use status::PaymentStatus;
pub use token::{METHOD_TOKEN_MAX, is_method_token};
