//! Calls to the provider, as a payment remembers them.

use serde::{Deserialize, Serialize};

use crate::PaymentId;

/// What the provider is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderOperation {
    /// Hold money.
    Authorize,
    /// Take held money.
    Capture,
    /// Let held money go.
    Void,
    /// Give taken money back.
    Refund,
}

impl ProviderOperation {
    /// The word on the wire and in keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }
}

/// The provider's idempotency key of the `n`-th operation of its kind, counted from 1.
pub fn provider_key(payment_id: &PaymentId, operation: ProviderOperation, n: u32) -> String {
    format!("{payment_id}:{}:{n}", operation.name())
}

/// One call to the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which call.
    pub operation: ProviderOperation,
    /// Its idempotency key.
    pub key: String,
    /// How much.
    pub amount_minor: i64,
    /// Which refund, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_id: Option<String>,
    /// What is known of it.
    pub state: OperationState,
    /// A void that was asked for while nobody knew whether there was anything to let go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
    /// The provider's word for its refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The newest of the provider's own reports about it, in the provider's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<u64>,
    /// The provider did it by itself, or for somebody else than us.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

/// What is known of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Started, not answered.
    Open,
    /// It ended without an answer: ask again by its key.
    Unknown,
    /// Unknown, and a void is on its way after it.
    Superseded,
    /// It happened.
    Succeeded,
    /// It did not happen.
    Failed,
    /// A person saw to it another way.
    Settled,
}

impl Operation {
    /// Whether this call is the one in flight.
    pub fn is_open(&self) -> bool {
        match self.state {
            OperationState::Open | OperationState::Unknown => true,
            OperationState::Superseded
            | OperationState::Succeeded
            | OperationState::Failed
            | OperationState::Settled => false,
        }
    }

    /// Whether nobody knows what became of it.
    pub fn is_unknown(&self) -> bool {
        match self.state {
            OperationState::Unknown | OperationState::Superseded => true,
            OperationState::Open
            | OperationState::Succeeded
            | OperationState::Failed
            | OperationState::Settled => false,
        }
    }
}
