//! One attempt to pay an order.
//!
//! ```text
//! Authorizing ⇄ OutcomeUnknown → Authorized → PartiallyCaptured → Captured → PartiallyRefunded → Refunded
//!      └──────────────┴→ Declined      └→ Voided
//! Declined or Voided → SucceededLate → Voided (F-11, and where an authorisation may have overtaken its void)
//! Declined → SucceededLate → Authorized (where an order still waits for it)
//! ```
//!
//! Always: captured ≤ authorised, refunded ≤ captured, at most one provider operation in flight; and no more is
//! promised to go back than is left ([`account`](super::account)).

use serde::{Deserialize, Serialize};

use super::status::Phase;
use super::{
    Command, Error, Event, Operation, OperationState, PaymentInitiated, ProviderOperation,
    ProviderOperationStarted, RefundReserved, RefundSettled, SetAside,
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
    /// The provider's last reports that were received, by their ids; a payment gets a handful. One that is so old that
    /// it is no longer here is known by what it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) signals: Vec<String>,
    /// The newest of them in the provider's own order. Nothing is decided by it: each call has its own order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    /// Set aside for refunds that are yet to be made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) reserved: Vec<SetAside>,
    /// Refunds that a person saw to another way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) settled: Vec<SetAside>,
    /// All of it is to go back: the order is undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) reversed: bool,
}

/// How many reports are known by their ids.
const SIGNALS_MAX: usize = 100;

impl PaymentIntent {
    /// The provider operation in flight, for whoever carries it out.
    pub fn open_operation(&self) -> Option<&Operation> {
        self.operations.iter().rfind(|operation| operation.is_open())
    }

    /// Every call to the provider, oldest first, and the refunds that it made without being asked.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
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

    /// How many calls were made for this refund.
    pub fn refund_calls(&self, refund_id: &str) -> usize {
        self.operations.iter().filter(|operation| operation.refund_id.as_deref() == Some(refund_id)).count()
    }

    pub(super) fn has_captured(&self) -> bool {
        let captured = |op: &Operation| {
            op.operation == ProviderOperation::Capture && op.state == OperationState::Succeeded
        };
        self.captured_minor > 0 || self.operations.iter().any(captured)
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
            code: None,
            reported: None,
            external: false,
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

    fn failed(&mut self, key: &str, code: &str, amount_minor: Option<i64>) {
        self.set(key, OperationState::Failed);
        // Records without an amount are those of programs that kept no code: what they folded stays as it is.
        if let Some(operation) = self.known_mut(key).filter(|_| amount_minor.is_some()) {
            operation.code = Some(code.to_owned());
        }
    }

    fn known_mut(&mut self, key: &str) -> Option<&mut Operation> {
        self.operations.iter_mut().find(|operation| operation.key == key)
    }

    fn set(&mut self, key: &str, state: OperationState) {
        if let Some(operation) = self.known_mut(key) {
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
            Command::ReserveRefund { refund_id, amount_minor } => {
                self.reserve_refund(refund_id, *amount_minor)
            }
            Command::ReleaseRefund { refund_id } => self.release_refund(refund_id),
            Command::RequestReversal { refund_id } => self.request_reversal(refund_id),
            Command::GiveUp => self.give_up(),
            Command::AcceptLate => self.accept_late(),
            Command::SettleCapture { reason } => self.settle_capture(reason),
            Command::SettleRefund { refund_id, amount_minor, reason } => {
                self.settle_refund(refund_id, *amount_minor, reason)
            }
            Command::Settle { reason } => self.settle(reason),
            Command::RequestVoid => self.request_void(),
            Command::RecordSignal { provider_event_id, key, operation, answer, sequence } => {
                self.record_signal(provider_event_id, key, *operation, answer, *sequence)
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
            Event::CaptureRequested(_) | Event::VoidRequested(_) | Event::SignalDisbelieved(_) => {}
            Event::RefundRequested(requested) => self.reversed |= requested.reversal,
            Event::Captured(captured) => {
                self.set(&captured.key, OperationState::Succeeded);
                self.captured_minor = self.captured_minor.saturating_add(captured.amount_minor);
            }
            Event::CaptureFailed(failed) => self.failed(&failed.key, &failed.code, failed.amount_minor),
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
                self.spend(&refunded.refund_id);
            }
            Event::RefundFailed(failed) => self.failed(&failed.key, &failed.code, failed.amount_minor),
            Event::SucceededLate(late) => {
                self.set(&late.key, OperationState::Succeeded);
                self.hold(Phase::SucceededLate, late.amount_minor, None);
            }
            Event::SignalReceived(signal) => {
                if self.signals.len() >= SIGNALS_MAX {
                    self.signals.remove(0);
                }
                self.signals.push(signal.provider_event_id.clone());
                self.sequence = self.sequence.max(Some(signal.sequence));
                if let Some(operation) = self.known_mut(&signal.key).filter(|_| signal.stamped) {
                    operation.reported = operation.reported.max(Some(signal.sequence));
                }
            }
            Event::RefundReserved(RefundReserved { refund_id, amount_minor }) => {
                let (refund_id, amount_minor) = (refund_id.clone(), *amount_minor);
                self.reserved.push(SetAside { refund_id, amount_minor });
            }
            Event::RefundReservationReleased(released) => self.spend(&released.refund_id),
            Event::ExternalRefund(refund) => {
                self.refunded_minor = self.refunded_minor.saturating_add(refund.amount_minor);
                self.operations.push(Operation {
                    operation: ProviderOperation::Refund,
                    key: refund.key.clone(),
                    amount_minor: refund.amount_minor,
                    refund_id: None,
                    state: OperationState::Succeeded,
                    blind: false,
                    code: None,
                    reported: None,
                    external: true,
                });
            }
            Event::GivenUp(_) => self.reversed = true,
            Event::AcceptedLate(accepted) => self.hold(Phase::Authorized, accepted.amount_minor, None),
            Event::CaptureSettled(settled) => {
                self.captured_minor = self.captured_minor.saturating_add(settled.amount_minor);
                self.close(|operation| operation.operation == ProviderOperation::Capture);
            }
            Event::RefundSettled(RefundSettled { refund_id, amount_minor, reason: _ }) => {
                self.refunded_minor = self.refunded_minor.saturating_add(*amount_minor);
                self.close(|operation| operation.refund_id.as_ref() == Some(refund_id));
                self.spend(refund_id);
                let (refund_id, amount_minor) = (refund_id.clone(), *amount_minor);
                self.settled.push(SetAside { refund_id, amount_minor });
            }
            Event::Settled(settled) => {
                self.refunded_minor = self.refunded_minor.saturating_add(settled.amount_minor);
                self.close(|_| true);
                self.reserved.clear();
                self.reversed = true;
                if !self.has_captured() {
                    self.hold(Phase::Voided, 0, None);
                }
            }
        }
    }

    fn weight(&self) -> usize {
        let signals = self.signals.iter().map(|id| id.len() + size_of::<String>()).sum::<usize>();
        size_of::<Self>()
            + size_of::<PaymentInitiated>()
            + 128
            + self.operations.capacity() * (size_of::<Operation>() + 80)
            + (self.reserved.capacity() + self.settled.capacity()) * (size_of::<SetAside>() + 64)
            + signals
    }
}

cqrs_aggregate!(PaymentIntent, "payment");
