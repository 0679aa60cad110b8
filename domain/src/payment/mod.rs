//! Payments: money promised, taken and given back by a provider.
//!
//! Every call to a provider is written down before it is made, under a key that never changes, so that after a
//! crash the provider can be asked what became of it.

mod commands;
mod error;
mod events;
mod intent;
mod operation;
mod outcome;
mod requests;
mod status;
#[cfg(test)]
mod tests;
mod token;

pub use commands::{Answer, Command};
pub use error::Error;
pub use events::{
    Event, PaymentAuthorized, PaymentCaptureFailed, PaymentCaptureRequested, PaymentCaptured,
    PaymentDeclined, PaymentInitiated, PaymentOutcomeUnknown, PaymentSucceededLate, PaymentVoidFailed,
    PaymentVoidRequested, PaymentVoided, ProviderOperationStarted, ProviderSignalReceived, RefundFailed,
    RefundRequested, RefundSucceeded,
};
pub use intent::PaymentIntent;
pub use operation::{Operation, OperationState, ProviderOperation, provider_key};
pub use status::PaymentStatus;
pub use token::{METHOD_TOKEN_MAX, is_method_token};
