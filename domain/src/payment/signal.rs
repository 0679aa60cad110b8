//! What the provider reports by itself, and whether it is believed.
//!
//! A report is never refused for what it says: it is on the log either way. It counts if it is news and can be true. The
//! reports about one call are in the provider's order; those about different calls have nothing to do with each other,
//! and one without a time of the provider's orders nothing.

use super::{
    Answer, Error, Event, ExternalRefundRecorded, Operation, OperationState, PaymentIntent,
    ProviderOperation, ProviderSignalDisbelieved, ProviderSignalReceived,
};
use crate::Refusal;

/// Bytes of a provider's own names: of a report, and of the call it is about.
pub const PROVIDER_TEXT_MAX: usize = 255;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was news, and is in the books.
    Applied,
    /// It said what was known, or came before.
    AlreadyKnown,
    /// It cannot be true, given what is known.
    NotBelieved,
}

impl Verdict {
    /// The verdict of a recorded report, by the last event that it led to.
    pub fn of(outcome: Option<&str>) -> Self {
        match outcome {
            Some("ProviderSignalDisbelieved") => Self::NotBelieved,
            Some(
                "PaymentAuthorized"
                | "PaymentDeclined"
                | "PaymentCaptured"
                | "PaymentCaptureFailed"
                | "PaymentVoided"
                | "PaymentVoidFailed"
                | "RefundSucceeded"
                | "RefundFailed"
                | "PaymentSucceededLate"
                | "ExternalRefundRecorded",
            ) => Self::Applied,
            Some(_) | None => Self::AlreadyKnown,
        }
    }
}

/// What a report is about.
enum Subject<'a> {
    Ours(&'a Operation),
    /// A refund that we did not ask for, under its key.
    Theirs(String),
}

impl PaymentIntent {
    pub(super) fn record_signal(
        &self,
        provider_event_id: &str,
        key: &str,
        operation: Option<ProviderOperation>,
        answer: &Answer,
        sequence: u64,
    ) -> Result<Vec<Event>, Error> {
        self.found()?;
        if !is_visible(provider_event_id) {
            return Err(Error::ProviderEventId);
        }
        if !key.is_empty() && !is_visible(key) {
            return Err(Error::ProviderKey);
        }
        if self.signals.iter().any(|known| known == provider_event_id) {
            return Ok(vec![]);
        }
        let subject = self.subject(provider_event_id, key, operation, answer);
        let about = match &subject {
            Ok(Subject::Ours(operation)) => operation.key.clone(),
            Ok(Subject::Theirs(key)) => key.clone(),
            Err(_) => key.to_owned(),
        };
        let implied = match subject {
            Ok(Subject::Ours(operation)) => self.news(operation, answer, sequence),
            Ok(Subject::Theirs(key)) => self.external_refund(key, answer),
            Err(disbelief) => Err(disbelief),
        };
        let received = Event::SignalReceived(ProviderSignalReceived {
            provider_event_id: provider_event_id.to_owned(),
            key: about,
            sequence,
            stamped: sequence > 0,
        });
        let rest = implied.unwrap_or_else(|disbelief| {
            let (reason, detail) = (disbelief.reason().to_owned(), disbelief.to_string());
            vec![Event::SignalDisbelieved(ProviderSignalDisbelieved { reason, detail })]
        });
        Ok(std::iter::once(received).chain(rest).collect())
    }

    fn subject(
        &self,
        provider_event_id: &str,
        key: &str,
        operation: Option<ProviderOperation>,
        answer: &Answer,
    ) -> Result<Subject<'_>, Error> {
        let refunded = matches!(answer, Answer::Refunded { .. });
        if !key.is_empty() {
            let ours = self.payment_id().is_some_and(|id| key.starts_with(&format!("{id}:")));
            return match self.operation(key) {
                Some(operation) => Ok(Subject::Ours(operation)),
                // Not under a name that a later call of ours may need.
                None if refunded && !ours => Ok(Subject::Theirs(key.to_owned())),
                None => Err(Error::UnknownOperation { key: key.to_owned() }),
            };
        }
        let operation = operation.unwrap_or_else(|| kind_of(answer));
        let of_kind = || self.operations.iter().filter(|op| op.operation == operation && !op.external);
        if let Some(open) = of_kind().rfind(|op| op.is_open() || op.state == OperationState::Superseded) {
            return Ok(Subject::Ours(open));
        }
        match of_kind().count() {
            0 if refunded => Ok(Subject::Theirs(provider_event_id.to_owned())),
            0 => Err(Error::UnknownOperation { key: operation.name().to_owned() }),
            1 => of_kind().next().map(Subject::Ours).ok_or(Error::ProviderKeyNeeded { operation }),
            _ => Err(Error::ProviderKeyNeeded { operation }),
        }
    }

    /// What the report about a call of ours implies, unless a newer one about it was heard.
    fn news(&self, operation: &Operation, answer: &Answer, sequence: u64) -> Result<Vec<Event>, Error> {
        let implied = self.implied(&operation.key, answer)?;
        let newer = operation.reported.filter(|newest| sequence > 0 && sequence < *newest);
        match newer {
            Some(_) if !implied.is_empty() => Err(Error::OlderReport { key: operation.key.clone() }),
            Some(_) | None => Ok(implied),
        }
    }

    /// What went back at the provider's own site is out of the account, whoever it was promised to.
    fn external_refund(&self, key: String, answer: &Answer) -> Result<Vec<Event>, Error> {
        let Answer::Refunded { amount_minor } = *answer else {
            return Err(Error::UnknownOperation { key });
        };
        let open = self.open_operation().filter(|open| open.operation == ProviderOperation::Refund);
        let asked = open.map_or(0, |open| open.amount_minor);
        let left = self.captured_minor().saturating_sub(self.refunded_minor()).saturating_sub(asked).max(0);
        if amount_minor <= 0 {
            return Err(Error::Amount { found: amount_minor });
        }
        if amount_minor > left {
            return Err(Error::ExceedsCaptured { asked: amount_minor, left });
        }
        Ok(vec![Event::ExternalRefund(ExternalRefundRecorded { key, amount_minor })])
    }
}

/// What sort of call an answer is one to, where nobody says.
const fn kind_of(answer: &Answer) -> ProviderOperation {
    match answer {
        Answer::Authorized { .. } | Answer::Declined { .. } | Answer::Failed { .. } => {
            ProviderOperation::Authorize
        }
        Answer::Captured { .. } => ProviderOperation::Capture,
        Answer::Refunded { .. } => ProviderOperation::Refund,
        Answer::Voided => ProviderOperation::Void,
    }
}

fn is_visible(text: &str) -> bool {
    (1..=PROVIDER_TEXT_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
