//! One attempt to pay an order.
//!
//! ```text
//! Authorizing ⇄ OutcomeUnknown → Authorized → PartiallyCaptured → Captured → PartiallyRefunded → Refunded
//!      └──────────────┴→ Declined      └→ Voided
//! Declined or Voided → SucceededLate → Voided (F-11, and where an authorisation may have overtaken its void)
//! ```
//!
//! Always: captured ≤ authorised, refunded ≤ captured, at most one provider operation in flight.

use serde::{Deserialize, Serialize};

use super::status::Phase;
use super::{
    Command, Error, Event, Operation, OperationState, PaymentInitiated, ProviderOperation,
    ProviderOperationStarted, ProviderSignalReceived,
};
use crate::aggregate::cqrs_aggregate;
use crate::{Aggregate, Currency, OrderId, PaymentId, StreamKind, Timestamp};

/// A payment as its history tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaymentIntent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) initiated: Option<Box<PaymentInitiated>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<Phase>,
    #[serde(default)]
    pub(super) authorized_minor: i64,
    #[serde(default)]
    pub(super) captured_minor: i64,
    #[serde(default)]
    pub(super) refunded_minor: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capture_before: Option<Timestamp>,
    /// Every call to the provider, oldest first. Only the last one may be in flight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) operations: Vec<Operation>,
    /// The provider's reports that were received. A payment gets a handful, so they are kept for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) signals: Vec<String>,
    /// The newest of them in the provider's own order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
}

impl PaymentIntent {
    /// The provider operation in flight, for whoever carries it out.
    pub fn open_operation(&self) -> Option<&Operation> {
        self.operations.iter().rfind(|operation| operation.is_open())
    }

    /// The operation with this key.
    pub fn operation(&self, key: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.key == key)
    }

    /// The key of the authorisation, by which the provider knows what to capture, void or refund.
    pub fn authorization_key(&self) -> Option<&str> {
        self.operations.first().map(|authorize| authorize.key.as_str())
    }

    /// Its id.
    pub fn payment_id(&self) -> Option<&PaymentId> {
        self.initiated.as_ref().map(|initiated| &initiated.payment_id)
    }

    /// The order it pays.
    pub fn order_id(&self) -> Option<&OrderId> {
        self.initiated.as_ref().map(|initiated| &initiated.order_id)
    }

    /// The currency of its amounts.
    pub fn currency(&self) -> Option<Currency> {
        self.initiated.as_ref().map(|initiated| initiated.currency)
    }

    /// The provider's reference to the payment method.
    pub fn method_token(&self) -> Option<&str> {
        self.initiated.as_ref().map(|initiated| initiated.method_token.as_str())
    }

    /// What was asked for.
    pub fn amount_minor(&self) -> i64 {
        self.initiated.as_ref().map_or(0, |initiated| initiated.amount_minor)
    }

    /// What is or was held; 0 once let go.
    pub fn authorized_minor(&self) -> i64 {
        self.authorized_minor
    }

    /// What was taken.
    pub fn captured_minor(&self) -> i64 {
        self.captured_minor
    }

    /// What went back.
    pub fn refunded_minor(&self) -> i64 {
        self.refunded_minor
    }

    /// When the hold lapses, if the provider said so.
    pub fn capture_before(&self) -> Option<Timestamp> {
        self.capture_before
    }

    /// What is known of this refund's last call; `None` where none was made.
    pub fn refund(&self, refund_id: &str) -> Option<&Operation> {
        self.operations.iter().rfind(|operation| operation.refund_id.as_deref() == Some(refund_id))
    }

    pub(super) fn has_captured(&self) -> bool {
        let captured = |op: &Operation| {
            op.operation == ProviderOperation::Capture && op.state == OperationState::Succeeded
        };
        self.operations.iter().any(captured)
    }

    fn started(&mut self, event: &ProviderOperationStarted) {
        if event.operation == ProviderOperation::Void {
            self.supersede();
        }
        self.operations.push(Operation {
            operation: event.operation,
            key: event.key.clone(),
            amount_minor: event.amount_minor,
            refund_id: event.refund_id.clone(),
            state: OperationState::Open,
            blind: event.operation == ProviderOperation::Void && self.phase == Some(Phase::Initiated),
        });
    }

    /// A void goes after an authorisation of unknown outcome: the void is now the one in flight.
    fn supersede(&mut self) {
        for operation in &mut self.operations {
            if operation.operation == ProviderOperation::Authorize && operation.is_open() {
                operation.state = OperationState::Superseded;
            }
        }
    }

    /// The void failed: what became of the authorisation is the question again.
    fn reinstate(&mut self) {
        for operation in &mut self.operations {
            if operation.state == OperationState::Superseded {
                operation.state = OperationState::Unknown;
            }
        }
    }

    /// Nothing is held any more, so a void still in flight has nothing left to answer.
    fn close_voids(&mut self) {
        for operation in &mut self.operations {
            if operation.operation == ProviderOperation::Void && operation.is_open() {
                operation.state = OperationState::Succeeded;
            }
        }
    }

    fn set(&mut self, key: &str, state: OperationState) {
        if let Some(operation) = self.operations.iter_mut().find(|operation| operation.key == key) {
            operation.state = state;
        }
    }

    fn hold(&mut self, phase: Phase, amount_minor: i64, capture_before: Option<Timestamp>) {
        self.phase = Some(phase);
        self.authorized_minor = amount_minor;
        self.capture_before = capture_before;
    }
}

impl Aggregate for PaymentIntent {
    const KIND: StreamKind = StreamKind::Payment;
    type Command = Command;
    type Event = Event;
    type Error = Error;

    fn decide(&self, command: &Command, _now: Timestamp) -> Result<Vec<Event>, Error> {
        match command {
            Command::Initiate { payment_id, order_id, amount_minor, currency, method_token } => self
                .initiate(PaymentInitiated {
                    payment_id: payment_id.clone(),
                    order_id: order_id.clone(),
                    amount_minor: *amount_minor,
                    currency: *currency,
                    method_token: method_token.clone(),
                }),
            Command::RecordAnswer { key, answer } => {
                self.found()?;
                self.implied(key, answer)
            }
            Command::MarkOutcomeUnknown { key } => self.mark_unknown(key),
            Command::RequestCapture { amount_minor } => self.request_capture(*amount_minor),
            Command::RequestRefund { refund_id, amount_minor } => {
                self.request_refund(refund_id, *amount_minor)
            }
            Command::RequestVoid => self.request_void(),
            Command::RecordSignal { provider_event_id, key, answer, sequence } => {
                let (provider_event_id, key) = (provider_event_id.clone(), key.clone());
                let signal = ProviderSignalReceived { provider_event_id, key, sequence: *sequence };
                self.record_signal(&signal, answer)
            }
        }
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Initiated(initiated) => {
                self.phase = Some(Phase::Initiated);
                self.initiated = Some(Box::new(initiated.clone()));
            }
            Event::OperationStarted(started) => self.started(started),
            Event::Authorized(authorized) => {
                self.set(&authorized.key, OperationState::Succeeded);
                self.hold(Phase::Authorized, authorized.amount_minor, authorized.capture_before);
            }
            Event::Declined(declined) => {
                self.set(&declined.key, OperationState::Failed);
                self.hold(Phase::Declined, 0, None);
            }
            Event::OutcomeUnknown(unknown) => self.set(&unknown.key, OperationState::Unknown),
            Event::CaptureRequested(_) | Event::VoidRequested(_) | Event::RefundRequested(_) => {}
            Event::Captured(captured) => {
                self.set(&captured.key, OperationState::Succeeded);
                self.captured_minor = self.captured_minor.saturating_add(captured.amount_minor);
            }
            Event::CaptureFailed(failed) => self.set(&failed.key, OperationState::Failed),
            Event::Voided(voided) => {
                self.set(&voided.key, OperationState::Succeeded);
                self.supersede();
                self.close_voids();
                self.hold(Phase::Voided, 0, None);
            }
            Event::VoidFailed(failed) => {
                self.set(&failed.key, OperationState::Failed);
                self.reinstate();
            }
            Event::RefundSucceeded(refunded) => {
                self.set(&refunded.key, OperationState::Succeeded);
                self.refunded_minor = self.refunded_minor.saturating_add(refunded.amount_minor);
            }
            Event::RefundFailed(failed) => self.set(&failed.key, OperationState::Failed),
            Event::SucceededLate(late) => {
                self.set(&late.key, OperationState::Succeeded);
                self.hold(Phase::SucceededLate, late.amount_minor, None);
            }
            Event::SignalReceived(signal) => {
                self.signals.push(signal.provider_event_id.clone());
                self.sequence = self.sequence.max(Some(signal.sequence));
            }
        }
    }

    fn weight(&self) -> usize {
        let signals = self.signals.iter().map(|id| id.len() + size_of::<String>()).sum::<usize>();
        size_of::<Self>()
            + size_of::<PaymentInitiated>()
            + 128
            + self.operations.capacity() * (size_of::<Operation>() + 48)
            + signals
    }
}

cqrs_aggregate!(PaymentIntent, "payment");
