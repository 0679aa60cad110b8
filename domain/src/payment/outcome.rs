//! What an answer of the provider means, given what is known. The same for answers to our calls and for reports
//! that the provider sends by itself: either may come first, twice, or long after the matter was given up.

use super::status::Phase;
use super::{
    Answer, Error, Event, Operation, OperationState, PaymentAuthorized, PaymentCaptureFailed,
    PaymentCaptured, PaymentDeclined, PaymentIntent, PaymentSucceededLate, PaymentVoidFailed, PaymentVoided,
    ProviderOperation, RefundFailed, RefundSucceeded,
};
use crate::Timestamp;
use crate::text::LABEL;

/// An answer, read as one to a given operation.
enum Verdict<'a> {
    Happened { capture_before: Option<Timestamp> },
    DidNot { code: &'a str, retryable: bool },
}

impl PaymentIntent {
    /// The events that `answer` implies; none where it says nothing new.
    pub(super) fn implied(&self, key: &str, answer: &Answer) -> Result<Vec<Event>, Error> {
        let outcome = self.outcome(key, answer)?;
        let overtaken = outcome.as_ref().and_then(|outcome| self.held_after_all(outcome));
        Ok(outcome.into_iter().chain(overtaken).collect())
    }

    /// A blind void was carried out, and meanwhile the authorisation was heard of. Which of the two reached the
    /// provider last nobody knows, so the money counts as held until a void that was asked for since is answered.
    fn held_after_all(&self, outcome: &Event) -> Option<Event> {
        let Event::Voided(voided) = outcome else { return None };
        let held = match self.phase? {
            Phase::Authorized | Phase::SucceededLate => self.operation(&voided.key)?.blind,
            Phase::Initiated | Phase::Declined | Phase::Voided => false,
        };
        let (key, amount_minor) = (self.authorization_key()?.to_owned(), self.authorized_minor());
        held.then_some(Event::SucceededLate(PaymentSucceededLate { key, amount_minor }))
    }

    fn outcome(&self, key: &str, answer: &Answer) -> Result<Option<Event>, Error> {
        let operation = self.operation(key).ok_or_else(|| Error::UnknownOperation { key: key.to_owned() })?;
        let verdict = read(operation, answer)?;
        let contradiction = || Error::Contradiction { key: key.to_owned(), answer: answer.name() };
        match (verdict, operation.state) {
            (Verdict::Happened { .. }, OperationState::Succeeded)
            | (Verdict::DidNot { .. }, OperationState::Failed | OperationState::Settled) => Ok(None),
            (Verdict::DidNot { .. }, OperationState::Succeeded) => Err(contradiction()),
            (
                Verdict::Happened { capture_before },
                OperationState::Open
                | OperationState::Unknown
                | OperationState::Superseded
                | OperationState::Failed
                | OperationState::Settled,
            ) => self.happened(operation, capture_before).map(Some).ok_or_else(contradiction),
            (
                Verdict::DidNot { code, retryable },
                OperationState::Open | OperationState::Unknown | OperationState::Superseded,
            ) => Ok(self.did_not(operation, code, retryable)),
        }
    }

    /// The event of an operation that happened; `None` where that cannot be, given what is settled.
    fn happened(&self, operation: &Operation, capture_before: Option<Timestamp>) -> Option<Event> {
        let (key, amount_minor) = (operation.key.clone(), operation.amount_minor);
        match operation.operation {
            ProviderOperation::Authorize => match self.phase? {
                Phase::Initiated => {
                    Some(Event::Authorized(PaymentAuthorized { key, amount_minor, capture_before }))
                }
                Phase::Declined | Phase::Voided => {
                    Some(Event::SucceededLate(PaymentSucceededLate { key, amount_minor }))
                }
                Phase::Authorized | Phase::SucceededLate => None,
            },
            ProviderOperation::Capture => self
                .can_have_captured(operation)
                .then_some(Event::Captured(PaymentCaptured { key, amount_minor })),
            ProviderOperation::Void => {
                self.can_have_voided(operation).then_some(Event::Voided(PaymentVoided { key }))
            }
            ProviderOperation::Refund => {
                let refund_id = operation.refund_id.clone()?;
                self.can_have_refunded(operation).then_some(Event::RefundSucceeded(RefundSucceeded {
                    key,
                    refund_id,
                    amount_minor,
                }))
            }
        }
    }

    /// The event of an operation that did not happen; `None` where that changes nothing any more.
    fn did_not(&self, operation: &Operation, code: &str, retryable: bool) -> Option<Event> {
        let (key, code) = (operation.key.clone(), LABEL.tidy(code).into_owned());
        let amount_minor = Some(operation.amount_minor);
        match operation.operation {
            ProviderOperation::Authorize => match self.phase? {
                Phase::Initiated => Some(Event::Declined(PaymentDeclined { key, code, retryable })),
                // Voided before anybody knew: there was nothing to void.
                Phase::Authorized | Phase::Declined | Phase::Voided | Phase::SucceededLate => None,
            },
            ProviderOperation::Capture => {
                Some(Event::CaptureFailed(PaymentCaptureFailed { key, code, amount_minor }))
            }
            ProviderOperation::Void => Some(Event::VoidFailed(PaymentVoidFailed { key, code })),
            ProviderOperation::Refund => {
                let refund_id = operation.refund_id.clone()?;
                Some(Event::RefundFailed(RefundFailed { key, refund_id, code, amount_minor }))
            }
        }
    }

    /// Whether this capture fits beside what is captured and what another call is capturing.
    fn can_have_captured(&self, capture: &Operation) -> bool {
        let taken = self.captured_minor().checked_add(self.others_in_flight(capture));
        let taken = taken.and_then(|taken| taken.checked_add(capture.amount_minor));
        let voiding = self.open_operation().is_some_and(|open| open.operation == ProviderOperation::Void);
        self.phase == Some(Phase::Authorized)
            && !voiding
            && taken.is_some_and(|taken| taken <= self.authorized_minor())
    }

    /// Whether nothing was captured or is being captured that this void would deny.
    fn can_have_voided(&self, void: &Operation) -> bool {
        let capturing =
            self.open_operation().is_some_and(|open| open.operation == ProviderOperation::Capture);
        // A void that had failed is news only while something is held.
        let holding = match self.phase {
            Some(Phase::Initiated | Phase::Authorized | Phase::SucceededLate) => true,
            Some(Phase::Declined | Phase::Voided) | None => false,
        };
        !self.has_captured() && !capturing && (void.is_open() || holding)
    }

    /// Whether this refund fits beside what is refunded and what another call is refunding.
    fn can_have_refunded(&self, refund: &Operation) -> bool {
        let given = self.refunded_minor().checked_add(self.others_in_flight(refund));
        let given = given.and_then(|given| given.checked_add(refund.amount_minor));
        given.is_some_and(|given| given <= self.captured_minor())
    }

    /// The amount of the operation in flight, if it is of the same kind and another one.
    fn others_in_flight(&self, operation: &Operation) -> i64 {
        self.open_operation()
            .filter(|open| open.operation == operation.operation && open.key != operation.key)
            .map_or(0, |open| open.amount_minor)
    }
}

/// Reads `answer` as one to `operation`.
fn read<'a>(operation: &Operation, answer: &'a Answer) -> Result<Verdict<'a>, Error> {
    use ProviderOperation::{Authorize, Capture, Refund, Void};
    match (operation.operation, answer) {
        (Authorize, Answer::Authorized { amount_minor, capture_before }) => {
            same_amount(operation, *amount_minor)?;
            Ok(Verdict::Happened { capture_before: *capture_before })
        }
        (Capture, Answer::Captured { amount_minor }) | (Refund, Answer::Refunded { amount_minor }) => {
            same_amount(operation, *amount_minor)?;
            Ok(Verdict::Happened { capture_before: None })
        }
        (Void, Answer::Voided) => Ok(Verdict::Happened { capture_before: None }),
        (Authorize | Capture | Void | Refund, Answer::Declined { code, retryable }) => {
            Ok(Verdict::DidNot { code, retryable: *retryable })
        }
        (Authorize | Capture | Void | Refund, Answer::Failed { code }) => {
            Ok(Verdict::DidNot { code, retryable: true })
        }
        (
            Authorize | Capture | Void | Refund,
            Answer::Authorized { .. } | Answer::Captured { .. } | Answer::Refunded { .. } | Answer::Voided,
        ) => Err(Error::AnswerMismatch { key: operation.key.clone(), answer: answer.name() }),
    }
}

fn same_amount(operation: &Operation, found: i64) -> Result<(), Error> {
    let expected = operation.amount_minor;
    if found == expected {
        Ok(())
    } else {
        Err(Error::AmountMismatch { key: operation.key.clone(), expected, found })
    }
}
