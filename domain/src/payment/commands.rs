//! What somebody wants of a payment, and what the provider said.

use serde::{Deserialize, Serialize};

use super::ProviderOperation;
use crate::{Currency, OrderId, PaymentId, Timestamp};

/// A command for a [`PaymentIntent`](super::PaymentIntent).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Authorise this amount.
    Initiate {
        /// The payment.
        payment_id: PaymentId,
        /// The order it pays.
        order_id: OrderId,
        /// How much.
        amount_minor: i64,
        /// In which currency.
        currency: Currency,
        /// The provider's reference to the payment method.
        method_token: String,
    },
    /// The provider answered a call (effect runner).
    RecordAnswer {
        /// The key of the call.
        key: String,
        /// What it said.
        answer: Answer,
    },
    /// The call ended without an answer (effect runner).
    MarkOutcomeUnknown {
        /// The key of the call.
        key: String,
    },
    /// Take the authorised money.
    RequestCapture {
        /// How much; all that is left where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount_minor: Option<i64>,
    },
    /// Give captured money back.
    RequestRefund {
        /// Names this refund within the payment; one refund is made once.
        refund_id: String,
        /// How much; all that is left where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount_minor: Option<i64>,
    },
    /// Set captured money aside for a refund that is yet to be made.
    ReserveRefund {
        /// Names the refund within the payment.
        refund_id: String,
        /// How much.
        amount_minor: i64,
    },
    /// The money that was set aside for a refund need not go back.
    ReleaseRefund {
        /// The refund.
        refund_id: String,
    },
    /// Give all back that was captured and is not back yet, whoever it was set aside for: the order is undone.
    RequestReversal {
        /// Names this refund within the payment.
        refund_id: String,
    },
    /// Nothing more is to be captured, where a void can let nothing go any more: a part was taken (checkout).
    GiveUp,
    /// Money that came after a decline is wanted after all (checkout).
    AcceptLate,
    /// What is left to be captured was taken another way (operator, through a process).
    SettleCapture {
        /// What the operator found or did.
        reason: String,
    },
    /// A refund was made another way (operator, through a process).
    SettleRefund {
        /// The refund.
        refund_id: String,
        /// How much it is of.
        amount_minor: i64,
        /// What the operator found or did.
        reason: String,
    },
    /// Nothing is held or owed any more (operator, through a process).
    Settle {
        /// What the operator found or did.
        reason: String,
    },
    /// Let the authorisation go, whether or not it is known to have succeeded.
    RequestVoid,
    /// The provider reported something by itself (inbox).
    RecordSignal {
        /// The provider's id of this report.
        provider_event_id: String,
        /// The key of the call it is about; empty where the provider does not say.
        key: String,
        /// What sort of call it is about, for a report without a key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<ProviderOperation>,
        /// What it says.
        answer: Answer,
        /// The provider's order of its reports about one call; 0 where it does not say.
        sequence: u64,
    },
}

/// What a provider says about one of its operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The money is held.
    Authorized {
        /// How much of it.
        amount_minor: i64,
        /// When the hold lapses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        capture_before: Option<Timestamp>,
    },
    /// The money is not to be had.
    Declined {
        /// The provider's word for it.
        code: String,
        /// Whether another attempt could succeed.
        retryable: bool,
    },
    /// The money is ours.
    Captured {
        /// How much of it.
        amount_minor: i64,
    },
    /// The money went back.
    Refunded {
        /// How much of it.
        amount_minor: i64,
    },
    /// The hold is gone, or there never was one.
    Voided,
    /// The operation did not happen.
    Failed {
        /// The provider's word for it.
        code: String,
    },
}

impl Answer {
    /// The word on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Authorized { .. } => "authorized",
            Self::Declined { .. } => "declined",
            Self::Captured { .. } => "captured",
            Self::Refunded { .. } => "refunded",
            Self::Voided => "voided",
            Self::Failed { .. } => "failed",
        }
    }
}
