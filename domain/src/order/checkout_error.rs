//! The rules that stand in the way of a checkout's next step.

use super::Stage;
use crate::text::TextError;
use crate::{PaymentId, Refusal, RefusalFamily};

/// Why a checkout does not take a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckoutError {
    /// A text that cannot be kept.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The stream is empty.
    #[error("there is no such checkout")]
    NotFound,
    /// It waits for nobody.
    #[error("the checkout is at {stage:?} and goes on by itself: only one that needs attention is resumed")]
    NotStopped {
        /// Where it is.
        stage: Stage,
    },
    /// The step is not in the table of legal transitions.
    #[error("a checkout at {from:?} does not go to {step}")]
    IllegalStep {
        /// Where the checkout is; `None` before it started.
        from: Option<Stage>,
        /// The wire name of the step.
        step: &'static str,
    },
    /// The step names another payment than the attempt that runs.
    #[error("the checkout is at payment {expected}, not {found}")]
    OtherPayment {
        /// The payment of the attempt that runs or comes next.
        expected: PaymentId,
        /// The payment that the step names.
        found: PaymentId,
    },
    /// The attempt is not the next one.
    #[error("attempt {expected} comes next, not {found}")]
    OtherAttempt {
        /// The next attempt.
        expected: u32,
        /// The attempt that the step names.
        found: u32,
    },
    /// The secured amount does not cover the total.
    #[error("{secured} secured do not cover a total of {total}")]
    NotCovered {
        /// The secured amount in minor units.
        secured: i64,
        /// The order's total in minor units.
        total: i64,
    },
}

impl Refusal for CheckoutError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Text(error) => error.reason(),
            Self::NotFound => "CHECKOUT_NOT_FOUND",
            Self::NotStopped { .. } => "PROCESS_NOT_STOPPED",
            Self::IllegalStep { .. } => "CHECKOUT_ILLEGAL_STEP",
            Self::OtherPayment { .. } => "CHECKOUT_OTHER_PAYMENT",
            Self::OtherAttempt { .. } => "CHECKOUT_OTHER_ATTEMPT",
            Self::NotCovered { .. } => "CHECKOUT_NOT_COVERED",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::Text(error) => error.family(),
            Self::NotFound => RefusalFamily::NotFound,
            Self::NotStopped { .. }
            | Self::IllegalStep { .. }
            | Self::OtherPayment { .. }
            | Self::OtherAttempt { .. }
            | Self::NotCovered { .. } => RefusalFamily::Precondition,
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Text(error) => error.field(),
            Self::NotFound
            | Self::NotStopped { .. }
            | Self::IllegalStep { .. }
            | Self::OtherPayment { .. }
            | Self::OtherAttempt { .. }
            | Self::NotCovered { .. } => None,
        }
    }
}
