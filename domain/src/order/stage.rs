//! Where a checkout is, and where it may go from there.
//!
//! | at | may go to |
//! |---|---|
//! | (nowhere) | Started |
//! | Started | StockHeld, PaymentPending, AwaitingCustomer, PaymentUnknown, PaymentSecured, Compensating, Cancelled |
//! | StockHeld | as Started, without StockHeld and Cancelled |
//! | PaymentPending | AwaitingCustomer, PaymentUnknown, PaymentSecured, Compensating |
//! | AwaitingCustomer | PaymentPending (next attempt), PaymentUnknown, PaymentSecured, Compensating |
//! | PaymentUnknown | PaymentUnknown (asked again), AwaitingCustomer, PaymentSecured, Compensating |
//! | PaymentSecured | StockCommitted, Done, Compensating, Reversing |
//! | StockCommitted | Done, Reversing |
//! | Done | Reversing (F-14), NeedsAttention (another attempt came to hold money, which does not go back) |
//! | Compensating | Compensating (another list), Cancelled |
//! | Reversing | Reversing (another list), Cancelled |
//! | Cancelled | Compensating (F-11: a payment succeeded late) |
//! | any but Cancelled | NeedsAttention |
//! | NeedsAttention | Resumed or Settled (back to where it was, by an operator), and wherever that stage may go |
//!
//! What a stored reply implies need not be recorded, so a run may skip StockHeld, PaymentPending of its first
//! attempt, and StockCommitted; PaymentSecured it may not, because money is never assumed. PaymentSecured may be
//! reversed because the pivot may be behind it unrecorded.

use serde::{Deserialize, Serialize};

use super::Step;

/// Where a checkout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Taken on; stock is being reserved.
    Started,
    /// Stock is held.
    StockHeld,
    /// A payment is being authorised.
    PaymentPending,
    /// The customer must act.
    AwaitingCustomer,
    /// Nobody knows whether the payment went through.
    PaymentUnknown,
    /// The payment covers the total.
    PaymentSecured,
    /// The pivot is behind.
    StockCommitted,
    /// Confirmed and captured.
    Done,
    /// Undoing before the pivot.
    Compensating,
    /// Undoing after the pivot.
    Reversing,
    /// Cancelled, nothing held.
    Cancelled,
    /// Waiting for an operator.
    NeedsAttention,
}

impl Stage {
    /// Every stage, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::Started,
        Self::StockHeld,
        Self::PaymentPending,
        Self::AwaitingCustomer,
        Self::PaymentUnknown,
        Self::PaymentSecured,
        Self::StockCommitted,
        Self::Done,
        Self::Compensating,
        Self::Reversing,
        Self::Cancelled,
        Self::NeedsAttention,
    ];

    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::StockHeld => "stock_held",
            Self::PaymentPending => "payment_pending",
            Self::AwaitingCustomer => "awaiting_customer",
            Self::PaymentUnknown => "payment_unknown",
            Self::PaymentSecured => "payment_secured",
            Self::StockCommitted => "stock_committed",
            Self::Done => "done",
            Self::Compensating => "compensating",
            Self::Reversing => "reversing",
            Self::Cancelled => "cancelled",
            Self::NeedsAttention => "needs_attention",
        }
    }

    /// Whether nothing is left to do unless a new fact arrives.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }

    /// Whether the table above leads from here to `to`.
    pub const fn may_go_to(self, to: Self) -> bool {
        use Stage::{
            AwaitingCustomer, Cancelled, Compensating, Done, NeedsAttention, PaymentPending, PaymentSecured,
            PaymentUnknown, Reversing, Started, StockCommitted, StockHeld,
        };
        match to {
            Started => false,
            StockHeld => matches!(self, Started),
            PaymentPending => matches!(self, Started | StockHeld | AwaitingCustomer),
            AwaitingCustomer => matches!(self, Started | StockHeld | PaymentPending | PaymentUnknown),
            PaymentUnknown => {
                matches!(self, Started | StockHeld | PaymentPending | AwaitingCustomer | PaymentUnknown)
            }
            PaymentSecured => {
                matches!(self, Started | StockHeld | PaymentPending | AwaitingCustomer | PaymentUnknown)
            }
            StockCommitted => matches!(self, PaymentSecured),
            Done => matches!(self, PaymentSecured | StockCommitted),
            Compensating => self.is_before_pivot() || matches!(self, Compensating | Cancelled),
            Reversing => matches!(self, PaymentSecured | StockCommitted | Done | Reversing),
            Cancelled => matches!(self, Started | Compensating | Reversing),
            NeedsAttention => !matches!(self, Cancelled),
        }
    }

    const fn is_before_pivot(self) -> bool {
        match self {
            Self::Started
            | Self::StockHeld
            | Self::PaymentPending
            | Self::AwaitingCustomer
            | Self::PaymentUnknown
            | Self::PaymentSecured => true,
            Self::StockCommitted
            | Self::Done
            | Self::Compensating
            | Self::Reversing
            | Self::Cancelled
            | Self::NeedsAttention => false,
        }
    }
}

impl Step {
    /// The stage that this step leads to; `None` for [`Step::Resumed`] and [`Step::Settled`], which lead back.
    pub const fn stage(&self) -> Option<Stage> {
        match self {
            Self::Started(_) => Some(Stage::Started),
            Self::StockHeld(_) => Some(Stage::StockHeld),
            Self::PaymentPending(_) => Some(Stage::PaymentPending),
            Self::AwaitingCustomer(_) => Some(Stage::AwaitingCustomer),
            Self::PaymentUnknown(_) => Some(Stage::PaymentUnknown),
            Self::PaymentSecured(_) => Some(Stage::PaymentSecured),
            Self::StockCommitted(_) => Some(Stage::StockCommitted),
            Self::Done(_) => Some(Stage::Done),
            Self::Compensating(_) => Some(Stage::Compensating),
            Self::Reversing(_) => Some(Stage::Reversing),
            Self::Cancelled(_) => Some(Stage::Cancelled),
            Self::NeedsAttention(_) => Some(Stage::NeedsAttention),
            Self::Resumed(_) | Self::Settled(_) => None,
        }
    }
}
