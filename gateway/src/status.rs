//! The answers that are no success, in the words of gRPC. No other file names a status code.
//!
//! Four families (`architecture.md` §10): refused by a rule, conflict, not now, ours. Every answer is a
//! `google.rpc.Status` with `ErrorInfo` (a stable reason to branch on); a wrong field is named by `BadRequest`, a
//! state in the way by `PreconditionFailure`, and what is worth a repeat carries `RetryInfo`.

use std::collections::HashMap;
use std::time::Duration;

use shopstream_command_handlers::CommandError;
use shopstream_domain::{RefusalFamily, Refused};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use uuid::Uuid;

use crate::failure::{Failure, VIOLATIONS_MAX, Violation};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "shopstream";

/// After what passes by itself within moments: a claim, a read model that is behind.
const SOON: Duration = Duration::from_millis(200);
/// After what takes longer: a queue to drain, a backend to come back.
const LATER: Duration = Duration::from_secs(1);

/// What a failure is in gRPC, before it is packed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) violations: Vec<Violation>,
    retry_after: Option<Duration>,
    metadata: HashMap<String, String>,
}

impl Answer {
    fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let (reason, message) = (reason.into(), message.into());
        Self { code, reason, message, violations: Vec::new(), retry_after: None, metadata: HashMap::new() }
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Invalid(mut violations) => {
                violations.truncate(VIOLATIONS_MAX);
                Self { violations, ..Self::new(Code::InvalidArgument, "REQUEST_INVALID", message) }
            }
            Failure::Refused(refused) => Self::from(refused),
            Failure::NotYet(refused) => Self::from(refused).retry(LATER),
            Failure::Command(error) => command(error, message),
            Failure::Stale { expected, actual, .. } => {
                Self::new(Code::Aborted, "VERSION_STALE", message).with("expected", expected).with("actual", actual)
            }
            Failure::OutcomeUnknown => Self::new(Code::Unavailable, "OUTCOME_UNKNOWN", message).retry(SOON),
            Failure::TooLate => Self::new(Code::Unavailable, "TOO_LATE", message).retry(SOON),
            Failure::Behind { model, wanted, reached } => Self::new(Code::Unavailable, "READ_MODEL_BEHIND", message)
                .retry(SOON)
                .with("read_model", model)
                .with("partition", wanted.partition)
                .with("wanted_offset", wanted.offset)
                .with("next_offset", reached),
            Failure::Away { .. } => Self::new(Code::Unavailable, "NOT_AVAILABLE", message).retry(LATER),
            Failure::SlowReader => Self::new(Code::ResourceExhausted, "SLOW_READER", message).retry(SOON),
            Failure::Stopping => Self::new(Code::Unavailable, "NODE_STOPPING", message).retry(LATER),
            Failure::LogHalted { partition, .. } => {
                Self::new(Code::DataLoss, "LOG_HALTED", message).with("partition", partition)
            }
            Failure::Internal(detail) => internal(&detail),
        }
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let code = match refused.family {
            RefusalFamily::Invalid => Code::InvalidArgument,
            RefusalFamily::Precondition => Code::FailedPrecondition,
            RefusalFamily::NotFound => Code::NotFound,
            RefusalFamily::AlreadyExists => Code::AlreadyExists,
        };
        let violations = refused
            .field
            .map(|field| Violation { field, description: refused.detail.clone() })
            .into_iter()
            .collect();
        Self { violations, ..Self::new(code, refused.reason, refused.detail) }
    }
}

fn command(error: CommandError, message: String) -> Answer {
    match error {
        CommandError::Refused(refused) => refused.into(),
        CommandError::StaleVersion { expected, actual, .. } => {
            Answer::new(Code::Aborted, "VERSION_STALE", message).with("expected", expected).with("actual", actual)
        }
        CommandError::RequestReused { .. } => {
            let violations = vec![Violation { field: "request_id".to_owned(), description: message.clone() }];
            Answer { violations, ..Answer::new(Code::InvalidArgument, "REQUEST_ID_REUSED", message) }
        }
        CommandError::TooLarge { bytes } => {
            Answer::new(Code::InvalidArgument, "COMMAND_TOO_LARGE", message).with("bytes", bytes)
        }
        CommandError::Overloaded { partition } => {
            Answer::new(Code::ResourceExhausted, "OVERLOADED", message).retry(LATER).with("partition", partition)
        }
        CommandError::NotApplied => Answer::new(Code::Unavailable, "NOT_APPLIED", message).retry(SOON),
        CommandError::NotOwner { partition, .. } => {
            Answer::new(Code::Unavailable, "NOT_OWNER", message).retry(SOON).with("partition", partition)
        }
        CommandError::Unavailable { partition, .. } => {
            Answer::new(Code::Unavailable, "PARTITION_UNAVAILABLE", message).retry(LATER).with("partition", partition)
        }
        CommandError::Halted { partition, .. } => {
            Answer::new(Code::DataLoss, "LOG_HALTED", message).with("partition", partition)
        }
        // Ours, and already logged where it happened; the stream is worth naming, the cause is not.
        CommandError::Quarantined { .. } => Answer::new(Code::Internal, "QUARANTINED", message),
    }
}

/// Logs what went wrong under an id, and answers nothing but the id.
fn internal(detail: &str) -> Answer {
    let id = Uuid::new_v4().simple().to_string();
    tracing::error!(error.id = %id, detail, "internal error {id}");
    Answer::new(Code::Internal, "INTERNAL", format!("internal error {id}: name this id when you report it"))
        .with("error_id", id)
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Answer::from(failure).into()
    }
}

impl From<Answer> for Status {
    fn from(answer: Answer) -> Self {
        let mut details = ErrorDetails::with_error_info(answer.reason.as_str(), DOMAIN, answer.metadata);
        if answer.code == Code::FailedPrecondition {
            let subject = answer.violations.first().map_or("", |violation| &violation.field);
            details.add_precondition_failure_violation(&answer.reason, subject, &answer.message);
        }
        if !answer.violations.is_empty() {
            let named = answer.violations.into_iter().map(|v| FieldViolation::new(v.field, v.description));
            details.set_bad_request(named.collect::<Vec<_>>());
        }
        if let Some(delay) = answer.retry_after {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(answer.code, answer.message, details)
    }
}

/// Gives a status that tonic made by itself the `ErrorInfo` that every error of ours has (`rulings.md` 11).
/// `None` where it has details already, or is no error.
pub(crate) fn explain(status: &Status) -> Option<Status> {
    if status.code() == Code::Ok || !status.details().is_empty() {
        return None;
    }
    let reason = match status.code() {
        // Tonic says this of a message beyond the limit, and of nothing else.
        Code::OutOfRange => "MESSAGE_TOO_LARGE",
        Code::Unimplemented => "METHOD_UNKNOWN",
        Code::ResourceExhausted => "OVERLOADED",
        Code::DeadlineExceeded | Code::Cancelled => "DEADLINE_EXCEEDED",
        Code::Unavailable => "NOT_AVAILABLE",
        _ => "PROTOCOL_ERROR",
    };
    let message = match (status.code(), status.message()) {
        (Code::Unimplemented, "") => "this server has no such method: see its reflection service",
        (_, message) => message,
    };
    Some(Answer::new(status.code(), reason, message).into())
}

/// The answer to a call whose handler panicked.
pub(crate) fn panicked(method: &str) -> Status {
    internal(&format!("the handler of {method} panicked")).into()
}

/// The word for metrics.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
