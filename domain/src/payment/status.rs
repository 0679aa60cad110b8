//! Where a payment is: two words, one for the decisions and one for people.

use serde::{Deserialize, Serialize};

use super::{Operation, PaymentIntent};

/// What is settled about the authorisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Initiated,
    Authorized,
    Declined,
    Voided,
    SucceededLate,
}

/// Where a payment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The provider is asked to hold the money.
    Authorizing,
    /// Nobody knows whether it does.
    OutcomeUnknown,
    /// It does.
    Authorized,
    /// It does not and will not.
    Declined,
    /// Some of the held money is taken.
    PartiallyCaptured,
    /// All of it is taken.
    Captured,
    /// Some of the taken money went back.
    PartiallyRefunded,
    /// All of it went back.
    Refunded,
    /// Nothing is held any more.
    Voided,
    /// Money is held that nobody wants any more.
    SucceededLate,
}

impl PaymentStatus {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorizing => "authorizing",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Authorized => "authorized",
            Self::Declined => "declined",
            Self::PartiallyCaptured => "partially_captured",
            Self::Captured => "captured",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
            Self::Voided => "voided",
            Self::SucceededLate => "succeeded_late",
        }
    }
}

impl PaymentStatus {
    /// Whether the provider holds or has money under such a payment, or may have: then no other attempt is begun.
    pub const fn may_hold_money(self) -> bool {
        match self {
            Self::Declined | Self::Voided | Self::Refunded => false,
            Self::Authorizing
            | Self::OutcomeUnknown
            | Self::Authorized
            | Self::PartiallyCaptured
            | Self::Captured
            | Self::PartiallyRefunded
            | Self::SucceededLate => true,
        }
    }
}

impl PaymentIntent {
    /// Where it is; `None` for an empty stream.
    pub fn status(&self) -> Option<PaymentStatus> {
        Some(match self.phase? {
            Phase::Initiated if self.operations.iter().any(Operation::is_unknown) => {
                PaymentStatus::OutcomeUnknown
            }
            Phase::Initiated => PaymentStatus::Authorizing,
            Phase::Authorized => self.settled(),
            Phase::Declined => PaymentStatus::Declined,
            Phase::Voided => PaymentStatus::Voided,
            Phase::SucceededLate => PaymentStatus::SucceededLate,
        })
    }

    fn settled(&self) -> PaymentStatus {
        if !self.has_captured() {
            PaymentStatus::Authorized
        } else if self.refunded_minor > 0 && self.refunded_minor == self.captured_minor {
            PaymentStatus::Refunded
        } else if self.refunded_minor > 0 {
            PaymentStatus::PartiallyRefunded
        } else if self.captured_minor < self.authorized_minor {
            PaymentStatus::PartiallyCaptured
        } else {
            PaymentStatus::Captured
        }
    }
}
