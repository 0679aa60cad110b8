//! The rules that stand in the way of payments.

use super::{PaymentStatus, ProviderOperation};
use crate::text::TextError;
use crate::{Refusal, RefusalFamily};

/// Why a payment refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A text that cannot be kept.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The stream is empty.
    #[error("there is no such payment")]
    NotFound,
    /// The stream holds another payment already.
    #[error("the payment exists already with other contents")]
    AlreadyExists,
    /// An amount that cannot be.
    #[error("an amount of {found} is not possible here")]
    Amount {
        /// The offending amount in minor units.
        found: i64,
    },
    /// Text that cannot be the token of a payment method.
    #[error("a payment method token has 1 to 255 visible ASCII characters and is never a card number")]
    MethodToken,
    /// Text that cannot name a refund.
    #[error("a refund id has 1 to 80 letters, digits, '_', '-' or '.'")]
    RefundId,
    /// Text that cannot be the provider's id of a report.
    #[error("a provider event id has 1 to 255 visible ASCII characters")]
    ProviderEventId,
    /// Text that cannot be the provider's key of a call.
    #[error("a provider key has 1 to 255 visible ASCII characters")]
    ProviderKey,
    /// The provider is busy with this payment.
    #[error("the provider has not yet answered {key}")]
    OperationInFlight {
        /// Which call.
        operation: ProviderOperation,
        /// Its key.
        key: String,
    },
    /// Nothing is held that could be taken.
    #[error("the payment is {status:?}, not authorized")]
    NotAuthorized {
        /// Where it is.
        status: PaymentStatus,
    },
    /// Taken money is given back by a refund.
    #[error("the payment is {status:?}: refund it instead")]
    NotVoidable {
        /// Where it is.
        status: PaymentStatus,
    },
    /// More than is held.
    #[error("{asked} exceed the {left} that are authorized and not captured")]
    ExceedsAuthorized {
        /// How much was asked for, in minor units.
        asked: i64,
        /// How much is left.
        left: i64,
    },
    /// More than was taken.
    #[error("{asked} exceed the {left} that are captured and not refunded")]
    ExceedsCaptured {
        /// How much was asked for, in minor units.
        asked: i64,
        /// How much is left.
        left: i64,
    },
    /// All of it is back, or about to be.
    #[error("nothing is left to refund")]
    NothingToRefund,
    /// The money is promised and not taken yet: once it is, it may go back.
    #[error("nothing was captured yet, so there is nothing to give back")]
    NotCaptured,
    /// The money is being let go or given back.
    #[error("the order is undone, and its money let go or given back")]
    GivenUp,
    /// More calls than a payment has.
    #[error("the provider was asked for too much in this payment's name")]
    TooManyOperations,
    /// A report that names no call, where there are several.
    #[error("the payment has several operations of the kind {}: name one by its provider key", .operation.name())]
    ProviderKeyNeeded {
        /// The kind.
        operation: ProviderOperation,
    },
    /// Something later was heard about the same call.
    #[error("a later report about {key} was received")]
    OlderReport {
        /// The call.
        key: String,
    },
    /// One refund id, two amounts.
    #[error("refund {refund_id} is of {amount_minor}")]
    RefundIdReused {
        /// The refund.
        refund_id: String,
        /// Its amount in minor units.
        amount_minor: i64,
    },
    /// Nobody made such a call.
    #[error("no operation {key} was started")]
    UnknownOperation {
        /// The offending key.
        key: String,
    },
    /// The answer is not one to this call.
    #[error("{answer} is no answer to {key}")]
    AnswerMismatch {
        /// The call.
        key: String,
        /// The answer's name.
        answer: &'static str,
    },
    /// The provider speaks of another amount than it was asked for.
    #[error("{key} was for {expected}, not {found}")]
    AmountMismatch {
        /// The call.
        key: String,
        /// Its amount in minor units.
        expected: i64,
        /// The provider's.
        found: i64,
    },
    /// The answer denies what is settled.
    #[error("{answer} contradicts what is settled about {key}")]
    Contradiction {
        /// The call.
        key: String,
        /// The answer's name.
        answer: &'static str,
    },
}

impl Refusal for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Text(error) => error.reason(),
            Self::NotFound => "PAYMENT_NOT_FOUND",
            Self::AlreadyExists => "PAYMENT_EXISTS",
            Self::Amount { .. } => "AMOUNT_INVALID",
            Self::MethodToken => "PAYMENT_METHOD_INVALID",
            Self::RefundId => "REFUND_ID_INVALID",
            Self::ProviderEventId => "PROVIDER_EVENT_ID_INVALID",
            Self::OperationInFlight { .. } => "PAYMENT_OPERATION_IN_FLIGHT",
            Self::NotAuthorized { .. } => "PAYMENT_NOT_AUTHORIZED",
            Self::NotVoidable { .. } => "PAYMENT_NOT_VOIDABLE",
            Self::ExceedsAuthorized { .. } => "AMOUNT_EXCEEDS_AUTHORIZED",
            Self::ExceedsCaptured { .. } => "AMOUNT_EXCEEDS_CAPTURED",
            Self::ProviderKey => "PROVIDER_KEY_INVALID",
            Self::NothingToRefund => "NOTHING_TO_REFUND",
            Self::NotCaptured => "PAYMENT_NOT_CAPTURED",
            Self::GivenUp => "PAYMENT_GIVEN_UP",
            Self::TooManyOperations => "PAYMENT_OPERATIONS_EXHAUSTED",
            Self::ProviderKeyNeeded { .. } => "PROVIDER_KEY_NEEDED",
            Self::OlderReport { .. } => "PROVIDER_REPORT_OLDER",
            Self::RefundIdReused { .. } => "REFUND_ID_REUSED",
            Self::UnknownOperation { .. } => "PROVIDER_OPERATION_UNKNOWN",
            Self::AnswerMismatch { .. } => "PROVIDER_ANSWER_MISMATCH",
            Self::AmountMismatch { .. } => "PROVIDER_AMOUNT_MISMATCH",
            Self::Contradiction { .. } => "PROVIDER_CONTRADICTION",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::Amount { .. }
            | Self::MethodToken
            | Self::RefundId
            | Self::ProviderEventId
            | Self::ProviderKey => RefusalFamily::Invalid,
            Self::Text(error) => error.family(),
            Self::NotFound => RefusalFamily::NotFound,
            Self::AlreadyExists => RefusalFamily::AlreadyExists,
            Self::OperationInFlight { .. }
            | Self::NotAuthorized { .. }
            | Self::NotVoidable { .. }
            | Self::ExceedsAuthorized { .. }
            | Self::ExceedsCaptured { .. }
            | Self::NothingToRefund
            | Self::NotCaptured
            | Self::GivenUp
            | Self::TooManyOperations
            | Self::ProviderKeyNeeded { .. }
            | Self::OlderReport { .. }
            | Self::RefundIdReused { .. }
            | Self::UnknownOperation { .. }
            | Self::AnswerMismatch { .. }
            | Self::AmountMismatch { .. }
            | Self::Contradiction { .. } => RefusalFamily::Precondition,
        }
    }

    fn field(&self) -> Option<String> {
        let field = match self {
            Self::Amount { .. } | Self::ExceedsAuthorized { .. } | Self::ExceedsCaptured { .. } => "amount",
            Self::Text(error) => return error.field(),
            Self::MethodToken => "payment_method_token",
            Self::RefundId | Self::RefundIdReused { .. } => "refund_id",
            Self::ProviderEventId => "provider_event_id",
            Self::ProviderKey | Self::ProviderKeyNeeded { .. } => "provider_key",
            Self::UnknownOperation { .. } | Self::OlderReport { .. } => "key",
            Self::AnswerMismatch { .. } | Self::AmountMismatch { .. } | Self::Contradiction { .. } => {
                "answer"
            }
            Self::NotFound
            | Self::AlreadyExists
            | Self::OperationInFlight { .. }
            | Self::NotAuthorized { .. }
            | Self::NothingToRefund
            | Self::NotCaptured
            | Self::GivenUp
            | Self::TooManyOperations
            | Self::NotVoidable { .. } => return None,
        };
        Some(field.to_owned())
    }
}
