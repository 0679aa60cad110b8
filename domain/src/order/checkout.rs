//! The checkout's memory: how far it came, what it holds, what it waits for.
//!
//! The process itself lives in the crate `sagas`; here is only what it may write down after what. Legal steps are
//! the table of [`Stage`](super::Stage).

use serde::{Deserialize, Serialize};

use super::{
    CancelReason, CheckoutCommand, CheckoutError, CheckoutEvent, CheckoutNeedsAttention, CheckoutResumed,
    CheckoutSettled, CheckoutStarted, Stage, Step, Timer, Undo,
};
use crate::aggregate::cqrs_aggregate;
use crate::text::REASON;
use crate::{Aggregate, PaymentId, StoredEvent, StreamKind, Timestamp};

/// A checkout as its history tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkout {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<Stage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interrupted: Option<Stage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<CheckoutStarted>,
    #[serde(default)]
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payment_method_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secured_minor: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<CancelReason>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    undo: Vec<Undo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timer: Option<Timer>,
    /// All steps so far, to know one that is told again. A checkout has about five, a troubled one a few dozen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step>,
    /// A person saw to the money that this stage moves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    money_settled: bool,
    /// A person saw to the stock that this stage moves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stock_settled: bool,
}

impl Checkout {
    /// Where it is; `None` for an empty stream.
    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// Where it was when it stopped for an operator; `None` unless it waits for one.
    pub fn interrupted(&self) -> Option<Stage> {
        self.interrupted
    }

    /// What an operator must look at; `None` unless it waits for one.
    pub fn attention(&self) -> Option<&CheckoutNeedsAttention> {
        match self.steps.last() {
            Some(Step::NeedsAttention(attention)) => Some(attention),
            Some(_) | None => None,
        }
    }

    /// How it started.
    pub fn started(&self) -> Option<&CheckoutStarted> {
        self.started.as_ref()
    }

    /// The attempt to pay that runs, counted from 1; 0 before the first.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The payment of the attempt that runs; `None` before the first.
    pub fn payment_id(&self) -> Option<PaymentId> {
        let order_id = &self.started.as_ref()?.order_id;
        (self.attempt > 0).then(|| order_id.payment(self.attempt))
    }

    /// The payment method of the attempt that runs or comes next.
    pub fn payment_method_token(&self) -> Option<&str> {
        let first = self.started.as_ref().map(|started| started.payment_method_token.as_str());
        self.payment_method_token.as_deref().or(first)
    }

    /// What the payment covers; `None` until it is secured.
    pub fn secured_minor(&self) -> Option<i64> {
        self.secured_minor
    }

    /// Why it undoes or was cancelled.
    pub fn reason(&self) -> Option<CancelReason> {
        self.reason
    }

    /// What is left to undo, first things first.
    pub fn undo(&self) -> &[Undo] {
        &self.undo
    }

    /// What it waits for.
    pub fn timer(&self) -> Option<Timer> {
        self.timer
    }

    /// What the operator said who saw to the money, where one did.
    pub fn money_settled(&self) -> Option<&str> {
        self.settled_because(self.money_settled, |settled| settled.money)
    }

    /// What the operator said who saw to the stock, where one did.
    pub fn stock_settled(&self) -> Option<&str> {
        self.settled_because(self.stock_settled, |settled| settled.stock)
    }

    fn settled_because(&self, is_settled: bool, which: fn(&CheckoutSettled) -> bool) -> Option<&str> {
        let because = |step: &'_ Step| matches!(step, Step::Settled(settled) if which(settled));
        match self.steps.iter().rfind(|step| is_settled && because(step))? {
            Step::Settled(settled) => Some(&settled.reason),
            _ => None,
        }
    }

    fn record(&self, step: &Step) -> Result<Vec<CheckoutEvent>, CheckoutError> {
        let step = &step.tidied();
        let told = self.steps.last() == Some(step) || (step.is_once() && self.steps.contains(step));
        if told {
            return Ok(vec![]);
        }
        match self.legal(step) {
            Ok(()) => Ok(vec![step.clone()]),
            // Told again after the process went on: it happened, and happened then.
            Err(_) if self.steps.contains(step) => Ok(vec![]),
            Err(refusal) => Err(refusal),
        }
    }

    fn settle(&self, settled: CheckoutSettled) -> Result<Vec<CheckoutEvent>, CheckoutError> {
        match self.stage.ok_or(CheckoutError::NotFound)? {
            Stage::NeedsAttention => {
                REASON.check("reason", &settled.reason)?;
                Ok(vec![Step::Settled(settled)])
            }
            stage => Err(CheckoutError::NotStopped { stage }),
        }
    }

    fn resume(&self, reason: &str) -> Result<Vec<CheckoutEvent>, CheckoutError> {
        match self.stage.ok_or(CheckoutError::NotFound)? {
            Stage::NeedsAttention => {
                REASON.check("reason", reason)?;
                let resumed = CheckoutResumed { reason: Some(reason.to_owned()), timer: None };
                Ok(vec![Step::Resumed(resumed)])
            }
            stage => Err(CheckoutError::NotStopped { stage }),
        }
    }

    fn legal(&self, step: &Step) -> Result<(), CheckoutError> {
        if !self.leads_to(step) {
            return Err(CheckoutError::IllegalStep { from: self.stage, step: step.event_type() });
        }
        match step {
            Step::PaymentPending(pending) => self.next_attempt(pending.attempt, &pending.payment_id),
            Step::AwaitingCustomer(awaiting) => self.this_attempt(&awaiting.payment_id),
            Step::PaymentUnknown(unknown) => self.this_attempt(&unknown.payment_id),
            Step::PaymentSecured(secured) => {
                self.this_attempt(&secured.payment_id)?;
                self.covered(secured.amount_minor)
            }
            Step::Started(_)
            | Step::StockHeld(_)
            | Step::StockCommitted(_)
            | Step::Done(_)
            | Step::Compensating(_)
            | Step::Reversing(_)
            | Step::Cancelled(_)
            | Step::NeedsAttention(_)
            | Step::Resumed(_)
            | Step::Settled(_) => Ok(()),
        }
    }

    fn leads_to(&self, step: &Step) -> bool {
        match (self.stage, step.stage()) {
            (None, to) => to == Some(Stage::Started),
            // No process resumes itself, nor says that a person saw to it.
            (Some(_), None) => false,
            (Some(from), Some(to)) => self.interrupted.unwrap_or(from).may_go_to(to),
        }
    }

    fn next_attempt(&self, attempt: u32, payment_id: &PaymentId) -> Result<(), CheckoutError> {
        let expected = self.attempt.saturating_add(1);
        if attempt != expected {
            return Err(CheckoutError::OtherAttempt { expected, found: attempt });
        }
        self.is_payment(expected, payment_id)
    }

    /// The first attempt may run without a record of its own.
    fn this_attempt(&self, payment_id: &PaymentId) -> Result<(), CheckoutError> {
        self.is_payment(self.attempt.max(1), payment_id)
    }

    fn is_payment(&self, attempt: u32, found: &PaymentId) -> Result<(), CheckoutError> {
        match self.started.as_ref().map(|started| started.order_id.payment(attempt)) {
            Some(expected) if expected != *found => {
                Err(CheckoutError::OtherPayment { expected, found: found.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn covered(&self, secured: i64) -> Result<(), CheckoutError> {
        let total = self.started.as_ref().map_or(0, |started| started.total_minor);
        if secured >= total { Ok(()) } else { Err(CheckoutError::NotCovered { secured, total }) }
    }

    /// What was seen to by hand was what this part of the process moves, and no later one.
    fn settle_nothing(&mut self) {
        (self.money_settled, self.stock_settled) = (false, false);
    }

    fn move_on(&mut self, step: &Step) {
        match step.stage() {
            Some(Stage::NeedsAttention) => {
                self.interrupted = self.interrupted.or(self.stage);
                self.stage = Some(Stage::NeedsAttention);
            }
            Some(to) => {
                self.interrupted = None;
                self.stage = Some(to);
            }
            None => self.stage = self.interrupted.take().or(self.stage),
        }
        self.timer = step.timer();
        self.steps.push(step.clone());
    }

    fn undoing(&mut self, reason: CancelReason, undo: &[Undo]) {
        self.settle_nothing();
        self.reason = Some(reason);
        self.undo = undo.to_vec();
    }
}

impl Step {
    /// Whether this very step can happen only once. Trouble may come back in the same words.
    fn is_once(&self) -> bool {
        match self {
            Self::Started(_)
            | Self::StockHeld(_)
            | Self::PaymentPending(_)
            | Self::AwaitingCustomer(_)
            | Self::PaymentUnknown(_)
            | Self::PaymentSecured(_)
            | Self::StockCommitted(_)
            | Self::Done(_) => true,
            Self::Compensating(_)
            | Self::Reversing(_)
            | Self::Cancelled(_)
            | Self::NeedsAttention(_)
            | Self::Resumed(_)
            | Self::Settled(_) => false,
        }
    }

    /// The timer that this step sets.
    pub fn timer(&self) -> Option<Timer> {
        match self {
            Self::Started(step) => step.timer,
            Self::StockHeld(step) => step.timer,
            Self::PaymentPending(step) => step.timer,
            Self::AwaitingCustomer(step) => step.timer,
            Self::PaymentUnknown(step) => step.timer,
            Self::PaymentSecured(step) => step.timer,
            Self::StockCommitted(step) => step.timer,
            Self::Compensating(step) => step.timer,
            Self::Reversing(step) => step.timer,
            Self::Resumed(step) => step.timer,
            Self::Done(_) | Self::Cancelled(_) | Self::NeedsAttention(_) | Self::Settled(_) => None,
        }
    }
}

impl Aggregate for Checkout {
    const KIND: StreamKind = StreamKind::Checkout;
    type Command = CheckoutCommand;
    type Event = CheckoutEvent;
    type Error = CheckoutError;

    fn decide(
        &self,
        command: &CheckoutCommand,
        _now: Timestamp,
    ) -> Result<Vec<CheckoutEvent>, CheckoutError> {
        match command {
            CheckoutCommand::Record(step) => self.record(step),
            CheckoutCommand::Resume { reason } => self.resume(reason),
            CheckoutCommand::Settle { money, stock, reason } => {
                self.settle(CheckoutSettled { money: *money, stock: *stock, reason: reason.clone() })
            }
        }
    }

    fn evolve(&mut self, event: &CheckoutEvent) {
        self.move_on(event);
        match event {
            Step::Started(started) => self.started = Some(started.clone()),
            Step::PaymentPending(pending) => {
                self.attempt = pending.attempt;
                if let Some(token) = &pending.payment_method_token {
                    self.payment_method_token = Some(token.clone());
                }
            }
            Step::AwaitingCustomer(_) | Step::PaymentUnknown(_) => self.attempt = self.attempt.max(1),
            Step::PaymentSecured(secured) => {
                self.attempt = self.attempt.max(1);
                self.secured_minor = Some(secured.amount_minor);
            }
            Step::Compensating(step) => self.undoing(step.reason, &step.undo),
            Step::Reversing(step) => self.undoing(step.reason, &step.undo),
            Step::Cancelled(cancelled) => self.undoing(cancelled.reason, &[]),
            Step::Done(_) => self.settle_nothing(),
            Step::Settled(settled) => {
                self.money_settled |= settled.money;
                self.stock_settled |= settled.stock;
            }
            Step::StockHeld(_) | Step::StockCommitted(_) | Step::NeedsAttention(_) | Step::Resumed(_) => {}
        }
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + (self.steps.len() + self.undo.len()) * 256
    }
}

cqrs_aggregate!(Checkout, "checkout");
