//! The answers that are no success, in the words of gRPC. No other file names a status code.
//!
//! Four families (`architecture.md` §10): refused by a rule, conflict, not now, ours. Every answer is a
//! `google.rpc.Status` with `ErrorInfo` (a stable reason to branch on); a wrong field is named by `BadRequest`, a
//! state in the way by `PreconditionFailure`, and what is worth a repeat carries `RetryInfo`.

use std::collections::HashMap;
use std::time::Duration;

use shopstream_command_handlers::CommandError;
use shopstream_domain::{RefusalFamily, Refused};
use shopstream_proto::codec::FIELD_KEY;
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

/// Rules that stand in the way only until a process or the provider has gone on, which they do by themselves.
const PASSING: [&str; 2] = ["PAYMENT_OPERATION_IN_FLIGHT", "PAYMENT_NOT_CAPTURED"];

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
            Failure::Stale { expected, actual, .. } => Self::new(Code::Aborted, "VERSION_STALE", message)
                .with("expected", expected)
                .with("actual", actual),
            Failure::OutcomeUnknown => Self::new(Code::Unavailable, "OUTCOME_UNKNOWN", message).retry(SOON),
            Failure::TooLate => Self::new(Code::Unavailable, "TOO_LATE", message).retry(SOON),
            Failure::Behind { model, wanted, reached } => {
                Self::new(Code::Unavailable, "READ_MODEL_BEHIND", message)
                    .retry(SOON)
                    .with("read_model", model)
                    .with("partition", wanted.partition)
                    .with("wanted_offset", wanted.offset)
                    .with("next_offset", reached)
            }
            // Both of no use again, whenever: what the caller has is not of this log's history.
            Failure::AnotherLog { field, given, here } => Self {
                violations: vec![Violation { field, description: message.clone() }],
                ..Self::new(Code::InvalidArgument, "POSITION_OF_ANOTHER_LOG", message)
            }
            .with("given_log_id", given)
            .with("log_id", here),
            Failure::BeyondEnd { field, wanted, end } => Self {
                violations: vec![Violation { field, description: message.clone() }],
                ..Self::new(Code::OutOfRange, "POSITION_BEYOND_END", message)
            }
            .with("partition", wanted.partition)
            .with("wanted_offset", wanted.offset)
            .with("end_offset", end),
            Failure::Away { .. } => Self::new(Code::Unavailable, "NOT_AVAILABLE", message).retry(LATER),
            Failure::WishWaits { keeper } => {
                Self::new(Code::Unavailable, "WISH_WAITS", message).retry(LATER).with("projection", keeper)
            }
            Failure::SlowReader => Self::new(Code::ResourceExhausted, "SLOW_READER", message).retry(SOON),
            Failure::Crowded(crowd) => {
                Self::new(Code::ResourceExhausted, crowd.reason(), message).retry(LATER)
            }
            Failure::TooSlow => Self::new(Code::DeadlineExceeded, "MESSAGE_TOO_SLOW", message),
            Failure::MetadataTooLarge { bytes } => {
                Self::new(Code::ResourceExhausted, "METADATA_TOO_LARGE", message).with("bytes", bytes)
            }
            Failure::Busy => Self::new(Code::ResourceExhausted, "NODE_BUSY", message).retry(SOON),
            Failure::TooManyWait => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_WAITING", message).retry(LATER)
            }
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
        let passes = PASSING.contains(&refused.reason.as_ref());
        let answer = Self { violations, ..Self::new(code, refused.reason, refused.detail) };
        if passes { answer.retry(LATER) } else { answer }
    }
}

fn command(error: CommandError, message: String) -> Answer {
    match error {
        CommandError::Refused(refused) => refused.into(),
        CommandError::StaleVersion { expected, actual, .. } => {
            Answer::new(Code::Aborted, "VERSION_STALE", message)
                .with("expected", expected)
                .with("actual", actual)
        }
        CommandError::RequestReused { .. } => {
            let violations = vec![Violation { field: "request_id".to_owned(), description: message.clone() }];
            Answer { violations, ..Answer::new(Code::InvalidArgument, "REQUEST_ID_REUSED", message) }
        }
        CommandError::TooLarge { bytes } => {
            Answer::new(Code::InvalidArgument, "COMMAND_TOO_LARGE", message).with("bytes", bytes)
        }
        CommandError::Overloaded { partition } => Answer::new(Code::ResourceExhausted, "OVERLOADED", message)
            .retry(LATER)
            .with("partition", partition),
        CommandError::NotApplied => Answer::new(Code::Unavailable, "NOT_APPLIED", message).retry(SOON),
        CommandError::NotOwner { partition, .. } => {
            Answer::new(Code::Unavailable, "NOT_OWNER", message).retry(SOON).with("partition", partition)
        }
        CommandError::Unavailable { partition, .. } => {
            Answer::new(Code::Unavailable, "PARTITION_UNAVAILABLE", message)
                .retry(LATER)
                .with("partition", partition)
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

/// Bytes of a message in its header. What a client sent is echoed within it at most, and stock clients take 8 kB of headers.
const MESSAGE_BYTES: usize = 1_200;
/// Bytes of the description of one field.
const DESCRIPTION_BYTES: usize = 300;
/// Bytes of the descriptions of all fields.
const DESCRIPTIONS_BYTES: usize = 2_400;

/// A text that takes so many bytes at most in a header, where what is not ASCII takes three for one.
fn fit(text: String, bytes_max: usize) -> String {
    let mut bytes = 0;
    let end = text.char_indices().find_map(|(at, character)| {
        bytes += if matches!(character, ' '..='~') { 1 } else { 3 * character.len_utf8() };
        (bytes > bytes_max).then_some(at)
    });
    match end {
        Some(end) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl From<Answer> for Status {
    fn from(mut answer: Answer) -> Self {
        answer.message = fit(answer.message, MESSAGE_BYTES);
        let mut bytes = 0;
        answer.violations.retain_mut(|Violation { field, description }| {
            *field = fit(std::mem::take(field), DESCRIPTION_BYTES);
            *description = fit(std::mem::take(description), DESCRIPTION_BYTES);
            bytes += field.len() + description.len();
            bytes <= DESCRIPTIONS_BYTES
        });
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
    let code = match status.code() {
        // Ours have details: what the library calls internal is what it could not read of the request.
        Code::Internal => Code::InvalidArgument,
        // What it calls exhausted is a body that is too large once it is unpacked, which no repeat makes smaller.
        Code::ResourceExhausted if status.message().contains("decompress") => Code::OutOfRange,
        code => code,
    };
    let reason = match code {
        Code::InvalidArgument if status.metadata().contains_key(FIELD_KEY) => "REQUEST_INVALID",
        Code::InvalidArgument => "REQUEST_MALFORMED",
        // Tonic says this of a message beyond the limit, and of nothing else.
        Code::OutOfRange => "MESSAGE_TOO_LARGE",
        // Of our own methods it says so where the body is packed in another way.
        Code::Unimplemented if status.message().contains("compressed") => "ENCODING_UNSUPPORTED",
        Code::Unimplemented => "METHOD_UNKNOWN",
        Code::ResourceExhausted => "OVERLOADED",
        Code::DeadlineExceeded | Code::Cancelled => "DEADLINE_EXCEEDED",
        Code::Unavailable => "NOT_AVAILABLE",
        _ => "PROTOCOL_ERROR",
    };
    let message = match (code, status.message()) {
        (Code::Unimplemented, "") => "this server has no such method: see its reflection service",
        (_, message) => message,
    };
    let field = status.metadata().get(FIELD_KEY).and_then(|field| field.to_str().ok());
    let violation = |field: &str| Violation {
        field: field.to_owned(),
        description: message
            .strip_prefix(field)
            .map_or(message, |rest| rest.trim_start_matches(": "))
            .to_owned(),
    };
    let violations = field.map(violation).into_iter().collect();
    Some(Answer { violations, ..Answer::new(code, reason, message) }.into())
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

#[cfg(test)]
mod tests {
    use shopstream_domain::StreamId;
    use shopstream_eventlog::Position;

    use super::*;
    use crate::failure::Crowd;

    fn stream() -> StreamId {
        "default/order/ord_1".parse().expect("a stream")
    }

    fn refused(family: RefusalFamily) -> Refused {
        Refused {
            reason: "RULE".into(),
            family,
            field: Some("lines[2].sku".to_owned()),
            detail: "no".to_owned(),
        }
    }

    /// Failure, code, reason, and whether a repeat is advised.
    fn table() -> Vec<(Failure, Code, &'static str, bool)> {
        let detail = || "cause".to_owned();
        let command = Failure::Command;
        let wanted = Position { partition: 1, offset: 9 };
        vec![
            (Failure::invalid("sku", "wrong"), Code::InvalidArgument, "REQUEST_INVALID", false),
            (Failure::Refused(refused(RefusalFamily::Invalid)), Code::InvalidArgument, "RULE", false),
            (Failure::Refused(refused(RefusalFamily::Precondition)), Code::FailedPrecondition, "RULE", false),
            (Failure::Refused(refused(RefusalFamily::NotFound)), Code::NotFound, "RULE", false),
            (Failure::Refused(refused(RefusalFamily::AlreadyExists)), Code::AlreadyExists, "RULE", false),
            (Failure::NotYet(refused(RefusalFamily::Precondition)), Code::FailedPrecondition, "RULE", true),
            (
                Failure::Refused(Refused {
                    reason: PASSING[0].into(),
                    ..refused(RefusalFamily::Precondition)
                }),
                Code::FailedPrecondition,
                "PAYMENT_OPERATION_IN_FLIGHT",
                true,
            ),
            (
                Failure::Stale { what: detail(), expected: 1, actual: 2 },
                Code::Aborted,
                "VERSION_STALE",
                false,
            ),
            (
                command(CommandError::StaleVersion { stream: stream(), expected: 1, actual: 2 }),
                Code::Aborted,
                "VERSION_STALE",
                false,
            ),
            (
                command(CommandError::RequestReused { stream: stream() }),
                Code::InvalidArgument,
                "REQUEST_ID_REUSED",
                false,
            ),
            (command(CommandError::TooLarge { bytes: 1 }), Code::InvalidArgument, "COMMAND_TOO_LARGE", false),
            (command(CommandError::Overloaded { partition: 1 }), Code::ResourceExhausted, "OVERLOADED", true),
            (command(CommandError::NotApplied), Code::Unavailable, "NOT_APPLIED", true),
            (
                command(CommandError::NotOwner { partition: 1, owner: None }),
                Code::Unavailable,
                "NOT_OWNER",
                true,
            ),
            (
                command(CommandError::Unavailable { partition: 1, detail: detail() }),
                Code::Unavailable,
                "PARTITION_UNAVAILABLE",
                true,
            ),
            (
                command(CommandError::Halted { partition: 1, detail: detail() }),
                Code::DataLoss,
                "LOG_HALTED",
                false,
            ),
            (command(CommandError::Quarantined { stream: stream() }), Code::Internal, "QUARANTINED", false),
            (Failure::OutcomeUnknown, Code::Unavailable, "OUTCOME_UNKNOWN", true),
            (Failure::TooLate, Code::Unavailable, "TOO_LATE", true),
            (
                Failure::Behind { model: "m", wanted, reached: 3 },
                Code::Unavailable,
                "READ_MODEL_BEHIND",
                true,
            ),
            (
                Failure::AnotherLog { field: detail(), given: detail(), here: detail() },
                Code::InvalidArgument,
                "POSITION_OF_ANOTHER_LOG",
                false,
            ),
            (
                Failure::BeyondEnd { field: detail(), wanted, end: 3 },
                Code::OutOfRange,
                "POSITION_BEYOND_END",
                false,
            ),
            (Failure::TooManyWait, Code::ResourceExhausted, "TOO_MANY_WAITING", true),
            (Failure::Away { what: "it" }, Code::Unavailable, "NOT_AVAILABLE", true),
            (Failure::SlowReader, Code::ResourceExhausted, "SLOW_READER", true),
            (Failure::Busy, Code::ResourceExhausted, "NODE_BUSY", true),
            (Failure::Crowded(Crowd::Streams), Code::ResourceExhausted, "TOO_MANY_STREAMS", true),
            (Failure::MetadataTooLarge { bytes: 1 }, Code::ResourceExhausted, "METADATA_TOO_LARGE", false),
            (Failure::TooSlow, Code::DeadlineExceeded, "MESSAGE_TOO_SLOW", false),
            (Failure::Stopping, Code::Unavailable, "NODE_STOPPING", true),
            (Failure::LogHalted { partition: 1, detail: detail() }, Code::DataLoss, "LOG_HALTED", false),
            (Failure::Internal(detail()), Code::Internal, "INTERNAL", false),
        ]
    }

    /// The words of `docs/errors.md`: what clients read is what they are told.
    #[test]
    fn what_the_documents_say_of_an_error_is_so() {
        let document = include_str!("../../docs/errors.md");
        for (failure, code, reason, retry) in
            table().into_iter().filter(|(_, _, reason, _)| *reason != "RULE")
        {
            let code = code_name(code).to_uppercase();
            let advice = if retry { "yes" } else { "no" };
            let row = format!("| `{reason}` | {code} | {advice} |");
            assert!(document.contains(&row), "{failure:?}: no line begins {row}");
        }
        for reason in PASSING {
            assert!(document.contains(&format!("| `{reason}` | FAILED_PRECONDITION | yes |")), "{reason}");
        }
    }

    #[test]
    fn every_failure_has_its_code_reason_and_advice() {
        for (failure, code, reason, retry) in table() {
            let status = Status::from(failure.clone());
            let details = status.get_error_details();
            let info = details.error_info().expect("every error has an ErrorInfo");
            assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{failure:?}");
            assert_eq!(info.domain, DOMAIN);
            assert_eq!(details.retry_info().is_some(), retry, "{failure:?}");
            assert_eq!(
                details.precondition_failure().is_some(),
                code == Code::FailedPrecondition,
                "{failure:?}"
            );
        }
    }

    #[test]
    fn a_refusal_names_its_field() {
        let status = Status::from(Failure::Refused(refused(RefusalFamily::Precondition)));
        let details = status.get_error_details();
        let named = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
        assert_eq!(named.as_deref(), Some("lines[2].sku"));
    }

    /// Stock clients give up on 8 kB of headers, and then nobody reads what was wrong.
    #[test]
    fn an_answer_fits_into_headers_whatever_is_echoed() {
        let violations =
            (0..40).map(|i| Violation { field: format!("lines[{i}].sku"), description: "☃".repeat(4_000) });
        for failure in [Failure::Invalid(violations.collect()), Failure::not_found("X", "x".repeat(100_000))]
        {
            let status = Status::from(failure);
            let response: http::Response<()> = status.into_http();
            let bytes: usize =
                response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!(bytes <= 8_000, "{bytes}");
        }
    }

    #[test]
    fn what_went_wrong_inside_is_never_shown() {
        let status = Status::from(Failure::Internal("password=secret".to_owned()));
        assert!(!format!("{status:?}").contains("secret"));
        assert!(
            status
                .get_error_details()
                .error_info()
                .is_some_and(|info| info.metadata.contains_key("error_id"))
        );
    }

    #[test]
    fn what_tonic_refuses_by_itself_is_explained() {
        let too_large = explain(&Status::out_of_range("decoded message length too large")).expect("bare");
        let reason =
            |status: &Status| status.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(
            (too_large.code(), reason(&too_large).as_deref()),
            (Code::OutOfRange, Some("MESSAGE_TOO_LARGE"))
        );
        let unpacked =
            "Error decompressing: size limit, of 4194304 bytes, exceeded while decompressing message";
        let unpacked = explain(&Status::resource_exhausted(unpacked)).expect("bare");
        assert_eq!(
            (unpacked.code(), reason(&unpacked).as_deref()),
            (Code::OutOfRange, Some("MESSAGE_TOO_LARGE"))
        );
        assert!(unpacked.get_error_details().retry_info().is_none());
        let unknown = explain(&Status::unimplemented("")).expect("bare");
        assert_eq!(reason(&unknown).as_deref(), Some("METHOD_UNKNOWN"));
        assert!(explain(&too_large).is_none(), "explained already");
        let unread = explain(&Status::internal("failed to decode Protobuf message: buffer underflow"));
        let unread = unread.expect("bare");
        assert_eq!(
            (unread.code(), reason(&unread).as_deref()),
            (Code::InvalidArgument, Some("REQUEST_MALFORMED"))
        );
        let mut counted = Status::invalid_argument("lines: must have at most 1000 items");
        counted.metadata_mut().insert(FIELD_KEY, "lines".parse().expect("ASCII"));
        let counted = explain(&counted).expect("bare");
        assert_eq!(reason(&counted).as_deref(), Some("REQUEST_INVALID"));
        let bad = counted.get_error_details().bad_request().cloned().expect("a field");
        let named: Vec<_> = bad.field_violations.iter().map(|v| (&*v.field, &*v.description)).collect();
        assert_eq!(named, [("lines", "must have at most 1000 items")]);
    }
}
