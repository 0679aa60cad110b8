//! The account of a payment: what was taken, what went back, and what is promised to go back.
//!
//! Refunds by hand, for returns, for an order that is undone, and at the provider's own site all draw on one account,
//! so whoever wants more than is left is refused before anything else moves. A return sets its money aside first and
//! has it for sure afterwards, however often the provider says no in between.

use serde::{Deserialize, Serialize};

use super::requests::{check_refund_id, in_flight};
use super::status::Phase;
use super::{
    Error, Event, Operation, OperationState, PaymentAcceptedLate, PaymentCaptureSettled, PaymentGivenUp,
    PaymentIntent, PaymentSettled, ProviderOperation, RefundRequested, RefundReservationReleased,
    RefundReserved, RefundSettled,
};

/// Money that is to go back under a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The refund.
    pub refund_id: String,
    /// How much.
    pub amount_minor: i64,
}

impl PaymentIntent {
    /// What was taken, is not back, and is not promised to go back: what may still be refunded.
    pub fn refundable_minor(&self) -> i64 {
        let taken = self.captured_minor().saturating_sub(self.refunded_minor());
        taken.saturating_sub(self.refund_pending_minor()).max(0)
    }

    /// What is promised to go back and is not known to be: set aside, or asked of the provider.
    pub fn refund_pending_minor(&self) -> i64 {
        let set_aside = self.reserved.iter().map(|reserved| reserved.amount_minor);
        let asked = self.open_refund().filter(|open| self.set_aside(open.refund_id.as_deref()).is_none());
        set_aside.chain(asked.map(|open| open.amount_minor)).fold(0, i64::saturating_add)
    }

    /// What is set aside for refunds that are yet to be made.
    pub fn reserved(&self) -> &[SetAside] {
        &self.reserved
    }

    /// Refunds that a person saw to another way.
    pub fn settled_refunds(&self) -> &[SetAside] {
        &self.settled
    }

    /// Whether nobody wants the money any more: it is being let go or given back, and nothing more is captured.
    pub fn is_given_up(&self) -> bool {
        self.reversed || self.operations.iter().any(|known| known.operation == ProviderOperation::Void)
    }

    pub(super) fn set_aside(&self, refund_id: Option<&str>) -> Option<&SetAside> {
        self.reserved.iter().find(|reserved| Some(reserved.refund_id.as_str()) == refund_id)
    }

    /// What a refund under this id may be of at most.
    pub(super) fn left_for(&self, refund_id: &str) -> i64 {
        let own = self.set_aside(Some(refund_id)).map_or(0, |reserved| reserved.amount_minor);
        let taken = self.captured_minor().saturating_sub(self.refunded_minor());
        taken.saturating_sub(self.refund_pending_minor().saturating_sub(own)).max(0)
    }

    fn open_refund(&self) -> Option<&Operation> {
        self.open_operation().filter(|open| open.operation == ProviderOperation::Refund)
    }

    pub(super) fn reserve_refund(&self, refund_id: &str, amount_minor: i64) -> Result<Vec<Event>, Error> {
        self.found()?;
        check_refund_id(refund_id)?;
        if amount_minor <= 0 {
            return Err(Error::Amount { found: amount_minor });
        }
        let asked = self.refund(refund_id).filter(|known| known.state != OperationState::Failed);
        let known = self.set_aside(Some(refund_id)).map(|reserved| reserved.amount_minor);
        if let Some(known) = known.or_else(|| asked.map(|known| known.amount_minor)) {
            let reused = || Error::RefundIdReused { refund_id: refund_id.to_owned(), amount_minor: known };
            return if known == amount_minor { Ok(vec![]) } else { Err(reused()) };
        }
        if self.reversed {
            return Err(Error::GivenUp);
        }
        let left = self.refundable_minor();
        if amount_minor > left {
            return Err(Error::ExceedsCaptured { asked: amount_minor, left });
        }
        Ok(vec![Event::RefundReserved(RefundReserved { refund_id: refund_id.to_owned(), amount_minor })])
    }

    pub(super) fn release_refund(&self, refund_id: &str) -> Result<Vec<Event>, Error> {
        self.found()?;
        match self.open_operation() {
            Some(open) if open.refund_id.as_deref() == Some(refund_id) => Err(in_flight(open)),
            _ => Ok(self.set_aside(Some(refund_id)).into_iter().map(released).collect()),
        }
    }

    pub(super) fn request_reversal(&self, refund_id: &str) -> Result<Vec<Event>, Error> {
        self.found()?;
        check_refund_id(refund_id)?;
        if self.refund(refund_id).is_some_and(|known| known.state != OperationState::Failed) {
            return Ok(vec![]);
        }
        if let Some(open) = self.open_operation() {
            return Err(in_flight(open));
        }
        let amount_minor = self.captured_minor().saturating_sub(self.refunded_minor());
        if amount_minor <= 0 {
            return Err(Error::NothingToRefund);
        }
        let refund_id = refund_id.to_owned();
        let started = self.start(ProviderOperation::Refund, amount_minor, Some(refund_id.clone()))?;
        let requested = RefundRequested { refund_id, amount_minor, reversal: true };
        // An order that is undone takes no return any more, so nobody needs what was set aside for one.
        let released = self.reserved.iter().map(released);
        Ok(released.chain([Event::RefundRequested(requested), started]).collect())
    }

    pub(super) fn give_up(&self) -> Result<Vec<Event>, Error> {
        self.found()?;
        let takes_more = self.has_captured() && !self.is_given_up();
        Ok(if takes_more { vec![Event::GivenUp(PaymentGivenUp {})] } else { vec![] })
    }

    /// An authorisation that was declined and came after all is as good as any other, where an order waits for it.
    pub(super) fn accept_late(&self) -> Result<Vec<Event>, Error> {
        let (phase, status) = self.found()?;
        match phase {
            Phase::Authorized => return Ok(vec![]),
            Phase::SucceededLate if !self.is_given_up() => {}
            Phase::SucceededLate | Phase::Initiated | Phase::Declined | Phase::Voided => {
                return Err(Error::NotAuthorized { status });
            }
        }
        let key = self.authorization_key().ok_or(Error::NotFound)?.to_owned();
        let amount_minor = self.authorized_minor();
        Ok(vec![Event::AcceptedLate(PaymentAcceptedLate { key, amount_minor })])
    }

    pub(super) fn settle_capture(&self, reason: &str) -> Result<Vec<Event>, Error> {
        let (phase, status) = self.found()?;
        if phase != Phase::Authorized || self.is_given_up() {
            return Err(Error::NotAuthorized { status });
        }
        let amount_minor = self.authorized_minor().saturating_sub(self.captured_minor());
        if amount_minor == 0 {
            return Ok(vec![]);
        }
        let reason = reason.to_owned();
        Ok(vec![Event::CaptureSettled(PaymentCaptureSettled { amount_minor, reason })])
    }

    pub(super) fn settle_refund(
        &self,
        refund_id: &str,
        amount_minor: i64,
        reason: &str,
    ) -> Result<Vec<Event>, Error> {
        self.found()?;
        check_refund_id(refund_id)?;
        let made = self.refund(refund_id).is_some_and(|known| known.state == OperationState::Succeeded);
        if made || self.settled.iter().any(|settled| settled.refund_id == refund_id) {
            return Ok(vec![]);
        }
        // What came from elsewhere is none of this payment's: no more goes back out of it than came in.
        let own = self.open_refund().filter(|open| open.refund_id.as_deref() == Some(refund_id));
        let own = own.filter(|_| self.set_aside(Some(refund_id)).is_none());
        let left = self.left_for(refund_id).saturating_add(own.map_or(0, |own| own.amount_minor));
        let (refund_id, reason) = (refund_id.to_owned(), reason.to_owned());
        let amount_minor = amount_minor.clamp(0, left);
        Ok(vec![Event::RefundSettled(RefundSettled { refund_id, amount_minor, reason })])
    }

    pub(super) fn settle(&self, reason: &str) -> Result<Vec<Event>, Error> {
        let (phase, _) = self.found()?;
        let amount_minor = self.captured_minor().saturating_sub(self.refunded_minor()).max(0);
        let gone = matches!(phase, Phase::Declined | Phase::Voided) || self.captured_minor() > 0;
        if gone && amount_minor == 0 && self.open_operation().is_none() && self.reserved.is_empty() {
            return Ok(vec![]);
        }
        Ok(vec![Event::Settled(PaymentSettled { amount_minor, reason: reason.to_owned() })])
    }

    /// Takes what was set aside for this refund out of the account: it went back, or need not.
    pub(super) fn spend(&mut self, refund_id: &str) {
        self.reserved.retain(|reserved| reserved.refund_id != refund_id);
    }

    /// Operations that a person has seen to wait for no answer.
    pub(super) fn close(&mut self, which: impl Fn(&Operation) -> bool) {
        for operation in &mut self.operations {
            let waits = operation.is_open() || operation.state == OperationState::Superseded;
            if waits && which(operation) {
                operation.state = OperationState::Settled;
            }
        }
    }
}

fn released(reserved: &SetAside) -> Event {
    Event::RefundReservationReleased(RefundReservationReleased { refund_id: reserved.refund_id.clone() })
}
