//! Calls to the provider, as a payment remembers them.

use serde::{Deserialize, Serialize};

use crate::{PaymentId, TenantId};

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

/// The idempotency key of the payment's `n`-th operation of its kind, counted from 1, as the log has it.
pub fn provider_key(payment_id: &PaymentId, operation: ProviderOperation, n: u32) -> String {
    format!("{payment_id}:{}:{n}", operation.name())
}

/// What stands between a tenant and the name of something of its own; no tenant id has one.
const OF_TENANT: char = '/';

/// What the provider is told for the name that the log has of a payment or of an operation. Tenants choose the ids of
/// their orders, and so two may have the same payment; at the provider they meet, and there each has names of its own.
/// Those of the default tenant are the log's.
pub fn at_provider(tenant: &TenantId, name: &str) -> String {
    if *tenant == TenantId::default_tenant() { name.to_owned() } else { format!("{tenant}{OF_TENANT}{name}") }
}

/// The tenant, and the name on the log, of what the provider calls so: [`at_provider`] backwards. `None`: no tenant of
/// ours gave that name.
pub fn from_provider(name: &str) -> Option<(TenantId, &str)> {
    match name.split_once(OF_TENANT) {
        None => Some((TenantId::default_tenant(), name)),
        Some((tenant, name)) => Some((TenantId::new(tenant).ok()?, name)),
    }
}

/// One call to the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which call.
    pub operation: ProviderOperation,
    /// Its idempotency key, which no other operation of its tenant has; the provider is told it with the tenant
    /// ([`at_provider`]).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tenants_have_one_name_at_the_provider() {
        let tenant = |id| TenantId::new(id).unwrap();
        let key = "pay_1.1:authorize:1";
        assert_eq!(
            at_provider(&tenant("default"), key),
            key,
            "what is open while a shop is upgraded is found"
        );
        let named = ["default", "acme", "acme.pay_1.1", "Default"].map(|id| at_provider(&tenant(id), key));
        assert_eq!(named.iter().collect::<std::collections::BTreeSet<_>>().len(), named.len(), "{named:?}");
        for (id, name) in ["default", "acme", "acme.pay_1.1", "Default"].into_iter().zip(&named) {
            assert_eq!(from_provider(name), Some((tenant(id), key)));
        }
        assert_eq!(from_provider("not a tenant/pay_1.1"), None);
    }
}
