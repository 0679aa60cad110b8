//! What a payment answers to those who want something of it.

use super::status::Phase;
use super::{
    Error, Event, Operation, OperationState, PaymentCaptureRequested, PaymentInitiated, PaymentIntent,
    PaymentOutcomeUnknown, PaymentStatus, PaymentVoidRequested, ProviderOperation, ProviderOperationStarted,
    RefundRequested, is_method_token, provider_key,
};
use crate::stream::is_name;

/// Characters. The longest is a payment's own id, a word and a number, as a checkout names what it takes back.
const REFUND_ID_MAX: usize = 96;
/// How many calls to the provider one payment may ask for over the API. Ordinary ones have two or three.
const OPERATIONS_MAX: usize = 1_000;

impl PaymentIntent {
    pub(super) fn initiate(&self, wanted: PaymentInitiated) -> Result<Vec<Event>, Error> {
        match &self.initiated {
            Some(known) if **known == wanted => return Ok(vec![]),
            Some(_) => return Err(Error::AlreadyExists),
            None => {}
        }
        if wanted.amount_minor < 0 {
            return Err(Error::Amount { found: wanted.amount_minor });
        }
        if !is_method_token(&wanted.method_token) {
            return Err(Error::MethodToken);
        }
        let started = ProviderOperationStarted {
            operation: ProviderOperation::Authorize,
            key: provider_key(&wanted.payment_id, ProviderOperation::Authorize, 1),
            amount_minor: wanted.amount_minor,
            refund_id: None,
        };
        Ok(vec![Event::Initiated(wanted), Event::OperationStarted(started)])
    }

    pub(super) fn request_capture(&self, amount_minor: Option<i64>) -> Result<Vec<Event>, Error> {
        let (phase, status) = self.found()?;
        match phase {
            Phase::Authorized => {}
            Phase::Initiated | Phase::Declined | Phase::Voided | Phase::SucceededLate => {
                let answers = self.open_operation().filter(|_| phase == Phase::Initiated);
                return Err(answers.map_or(Error::NotAuthorized { status }, in_flight));
            }
        }
        if self.is_given_up() {
            return Err(Error::GivenUp);
        }
        let left = self.authorized_minor().saturating_sub(self.captured_minor());
        // Whoever wants all that is left has it where all is taken, or is being taken. Who names an amount wants as much
        // once more.
        let wants_rest = amount_minor.is_none();
        if let Some(open) = self.open_operation() {
            let takes_rest = open.operation == ProviderOperation::Capture && open.amount_minor == left;
            return if wants_rest && takes_rest { Ok(vec![]) } else { Err(in_flight(open)) };
        }
        if wants_rest && left == 0 && self.has_captured() {
            return Ok(vec![]);
        }
        let amount_minor = amount_minor.unwrap_or(left);
        if amount_minor < 0 || (amount_minor == 0 && self.authorized_minor() > 0) {
            return Err(Error::Amount { found: amount_minor });
        }
        if amount_minor > left {
            return Err(Error::ExceedsAuthorized { asked: amount_minor, left });
        }
        if amount_minor < left {
            // The last capture takes all that is left and is always possible.
            self.check_room()?;
        }
        let requested = Event::CaptureRequested(PaymentCaptureRequested { amount_minor });
        Ok(vec![requested, self.start(ProviderOperation::Capture, amount_minor, None)?])
    }

    pub(super) fn request_refund(
        &self,
        refund_id: &str,
        amount_minor: Option<i64>,
    ) -> Result<Vec<Event>, Error> {
        let (phase, _) = self.found()?;
        check_refund_id(refund_id)?;
        if let Some(found) = amount_minor.filter(|amount| *amount <= 0) {
            return Err(Error::Amount { found });
        }
        let reserved = self.set_aside(Some(refund_id)).map(|reserved| reserved.amount_minor);
        let known = self.refund(refund_id);
        if let Some(amount) = reserved.or_else(|| known.map(|known| known.amount_minor))
            && amount_minor.is_some_and(|asked| asked != amount)
        {
            let refund_id = refund_id.to_owned();
            return Err(Error::RefundIdReused { refund_id, amount_minor: amount });
        }
        let settled = self.settled.iter().any(|settled| settled.refund_id == refund_id);
        if settled || known.is_some_and(|known| known.state != OperationState::Failed) {
            return Ok(vec![]);
        }
        if let Some(open) = self.open_operation() {
            return Err(in_flight(open));
        }
        if phase == Phase::Authorized && !self.has_captured() && !self.is_given_up() {
            return Err(Error::NotCaptured);
        }
        let left = self.left_for(refund_id);
        // What was set aside is there, unless a refund at the provider's own site took it.
        let amount_minor = reserved.map(|reserved| reserved.min(left)).or(amount_minor).unwrap_or(left);
        if amount_minor == 0 {
            return Err(Error::NothingToRefund);
        }
        if amount_minor > left {
            return Err(Error::ExceedsCaptured { asked: amount_minor, left });
        }
        if reserved.is_none() {
            self.check_room()?;
        }
        let refund_id = refund_id.to_owned();
        let started = self.start(ProviderOperation::Refund, amount_minor, Some(refund_id.clone()))?;
        let requested = RefundRequested { refund_id, amount_minor, reversal: false };
        Ok(vec![Event::RefundRequested(requested), started])
    }

    pub(super) fn request_void(&self) -> Result<Vec<Event>, Error> {
        let (phase, status) = self.found()?;
        let amount_minor = match phase {
            // Nothing is held: asking for that has already succeeded.
            Phase::Declined | Phase::Voided => return Ok(vec![]),
            Phase::Initiated => self.amount_minor(),
            Phase::Authorized | Phase::SucceededLate => self.authorized_minor(),
        };
        match self.open_operation() {
            Some(open) if open.operation == ProviderOperation::Void => return Ok(vec![]),
            Some(open) if open.operation == ProviderOperation::Authorize && open.is_unknown() => {}
            Some(open) => return Err(in_flight(open)),
            None if self.has_captured() => return Err(Error::NotVoidable { status }),
            None => {}
        }
        let started = self.start(ProviderOperation::Void, amount_minor, None)?;
        Ok(vec![Event::VoidRequested(PaymentVoidRequested {}), started])
    }

    pub(super) fn mark_unknown(&self, key: &str) -> Result<Vec<Event>, Error> {
        self.found()?;
        let operation = self.operation(key).ok_or_else(|| Error::UnknownOperation { key: key.to_owned() })?;
        Ok(match operation.state {
            OperationState::Open => {
                vec![Event::OutcomeUnknown(PaymentOutcomeUnknown { key: key.to_owned() })]
            }
            OperationState::Unknown
            | OperationState::Superseded
            | OperationState::Succeeded
            | OperationState::Failed
            | OperationState::Settled => vec![],
        })
    }

    /// A payment that is asked for something again and again must not grow for ever. What undoes an order, or was set
    /// aside before, is not stopped by this.
    fn check_room(&self) -> Result<(), Error> {
        if self.operations.len() < OPERATIONS_MAX { Ok(()) } else { Err(Error::TooManyOperations) }
    }

    pub(super) fn found(&self) -> Result<(Phase, PaymentStatus), Error> {
        self.phase.zip(self.status()).ok_or(Error::NotFound)
    }

    pub(super) fn start(
        &self,
        operation: ProviderOperation,
        amount_minor: i64,
        refund_id: Option<String>,
    ) -> Result<Event, Error> {
        let payment_id = self.payment_id().ok_or(Error::NotFound)?;
        let before = self.operations.iter().filter(|known| known.operation == operation).count();
        let n = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
        let key = provider_key(payment_id, operation, n);
        Ok(Event::OperationStarted(ProviderOperationStarted { operation, key, amount_minor, refund_id }))
    }
}

pub(super) fn in_flight(open: &Operation) -> Error {
    Error::OperationInFlight { operation: open.operation, key: open.key.clone() }
}

pub(super) fn check_refund_id(refund_id: &str) -> Result<(), Error> {
    if is_name(refund_id, REFUND_ID_MAX) { Ok(()) } else { Err(Error::RefundId) }
}
