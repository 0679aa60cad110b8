//! Why a call is not answered as asked, before it is put into the words of gRPC ([`crate::status`]).

use std::fmt;

use shopstream_command_handlers::CommandError;
use shopstream_domain::text::TextError;
use shopstream_domain::{Partition, Refusal, RefusalFamily, Refused};
use shopstream_eventlog::{JournalError, Position};
use shopstream_projections::{DatabaseError, ReleaseError};

use crate::reservations::ReservationError;

pub use shopstream_proto::VIOLATIONS_MAX;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The request alone is wrong.
    #[error("{}", summary(.0))]
    Invalid(Vec<Violation>),
    /// A rule stands in the way.
    #[error("{0}")]
    Refused(Refused),
    /// A rule stands in the way that time will take away: the same request may pass later.
    #[error("{0}")]
    NotYet(Refused),
    /// The write path did not carry the command out.
    #[error(transparent)]
    Command(CommandError),
    /// The caller's version is not the present one.
    #[error("{what} is at version {actual}, expected {expected}")]
    Stale {
        /// What was to change.
        what: String,
        /// What the caller expected.
        expected: u64,
        /// Where it is.
        actual: u64,
    },
    /// The caller's time is nearly over and nobody knows yet what became of the command.
    #[error("not known in time: ask again with the same request id")]
    OutcomeUnknown,
    /// The caller's time is nearly over and the answer is not there.
    #[error("not answered in time: ask again")]
    TooLate,
    /// The read model has not got as far as the caller asked.
    #[error("the read model {model} has not reached position {wanted}: it is at {reached}")]
    Behind {
        /// Which.
        model: &'static str,
        /// What the caller has seen.
        wanted: Position,
        /// The next offset that the read model wants there.
        reached: u64,
    },
    /// The caller names a place on another log.
    #[error("{field}: of the log {given}, and this is the log {here}: forget it, and read again")]
    AnotherLog {
        /// Where it stands in the request.
        field: String,
        /// The log that gave it out.
        given: String,
        /// This one.
        here: String,
    },
    /// The caller names a place that the log has not reached.
    #[error(
        "{field}: the log has not reached {wanted}, its partition ends before offset {end}: forget it, and read again"
    )]
    BeyondEnd {
        /// Where it stands in the request.
        field: String,
        /// The place.
        wanted: Position,
        /// The end of its partition.
        end: u64,
    },
    /// Something that the answer needs is away.
    #[error("{what} is not available now")]
    Away {
        /// What.
        what: &'static str,
    },
    /// Whoever has parked an aggregate has not come to do what was wished for it.
    #[error(
        "{keeper} has not come to it yet: it stays wished for and will be done; `shopstream parked list` shows when, or the \
         same call again"
    )]
    WishWaits {
        /// Who has parked it.
        keeper: &'static str,
    },
    /// The client of a stream reads more slowly than things happen.
    #[error("the stream was read too slowly: go on from its last token")]
    SlowReader,
    /// There is no room for another one of these.
    #[error("{0}: come again in a moment")]
    Crowded(Crowd),
    /// The client took too long to send its message.
    #[error("the message did not arrive in time")]
    TooSlow,
    /// What a call says outside its message is too long.
    #[error("{bytes} bytes of metadata are more than 16384")]
    MetadataTooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// The node carries out as many calls as it can.
    #[error("this node has as much to do as it can: come again in a moment")]
    Busy,
    /// As many calls wait for something as may.
    #[error("as many calls wait on this node as may wait: come again in a moment, or name no min_position")]
    TooManyWait,
    /// This node is stopping.
    #[error("this node is stopping: go on with another, or with this one in a moment")]
    Stopping,
    /// The log contradicts its own history.
    #[error("partition {partition} of the log is halted: {detail}")]
    LogHalted {
        /// Which.
        partition: Partition,
        /// What was found.
        detail: String,
    },
    /// A bug or a broken machine. The detail is for our log only.
    #[error("{0}")]
    Internal(String),
}

/// What there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// Streams of all clients.
    Streams,
    /// Streams of one address.
    StreamsOfPeer,
    /// Calls of one address, while there are others.
    CallsOfPeer,
    /// Streams that read the log from an earlier place on.
    LogReaders,
    /// Comparisons of read models with their replay.
    Replays,
    /// Messages that arrive.
    Arriving,
}

impl Crowd {
    /// For `ErrorInfo`.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Streams => "TOO_MANY_STREAMS",
            Self::StreamsOfPeer => "TOO_MANY_STREAMS_OF_PEER",
            Self::CallsOfPeer => "TOO_MANY_CALLS_OF_PEER",
            Self::LogReaders => "TOO_MANY_LOG_READERS",
            Self::Replays => "REPLAY_RUNNING",
            Self::Arriving => "NODE_BUSY",
        }
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streams => "as many streams are open on this node as may be",
            Self::StreamsOfPeer => "as many streams are open from this address as may be",
            Self::CallsOfPeer => {
                "as many calls are under way from this address as may be while there are others"
            }
            Self::LogReaders => "as many streams read the log from an earlier place as may do so at once",
            Self::Replays => "read models are being compared already",
            Self::Arriving => "as much is arriving at this node as it can hold",
        })
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path, such as `lines[3].quantity`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Failure {
    /// One field of the request is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// The same failure of a message that stands in `path` of the request.
    pub fn inside(mut self, path: &str) -> Self {
        let prefix = |field: &mut String| *field = format!("{path}.{field}");
        match &mut self {
            Self::Invalid(violations) => {
                violations.iter_mut().for_each(|violation| prefix(&mut violation.field))
            }
            Self::Refused(Refused { field: Some(field), .. }) => prefix(field),
            _ => {}
        }
        self
    }

    /// There is no such thing.
    pub fn not_found(reason: &'static str, detail: String) -> Self {
        Self::Refused(Refused { reason: reason.into(), family: RefusalFamily::NotFound, field: None, detail })
    }

    /// The state does not allow it.
    pub fn precondition(reason: &'static str, field: impl Into<String>, detail: String) -> Self {
        let field = Some(field.into());
        Self::Refused(Refused { reason: reason.into(), family: RefusalFamily::Precondition, field, detail })
    }

    /// A rule of the domain, met while the request was translated.
    pub fn refused(refusal: &impl Refusal) -> Self {
        Self::Refused(refusal.refused())
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refused) => Self::Refused(refused),
            other => Self::Command(other),
        }
    }
}

impl From<ReservationError> for Failure {
    fn from(error: ReservationError) -> Self {
        match error {
            ReservationError::Refused(refused) => Self::Refused(refused),
            ReservationError::Unavailable { detail } => {
                tracing::warn!(detail, "a reservation was not settled in time");
                Self::OutcomeUnknown
            }
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unreadable { .. } => Self::Internal(error.to_string()),
            // Only reads come here, and what they are asked with is the client's. A repeat would be told the same.
            wrong if wrong.is_about_data() => Self::invalid(
                "request",
                "a text in it is none that the shop can keep: leave out control characters",
            ),
            // Its text has addresses and statements that no client needs.
            away => {
                tracing::warn!(cause = %away, "a query failed");
                Self::Away { what: "the database" }
            }
        }
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::Refused(error.refused())
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Unavailable { detail } => {
                tracing::warn!(detail, "the journal did not answer");
                Self::Away { what: "the database" }
            }
            JournalError::Damaged { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        let detail = error.to_string();
        match error {
            ReleaseError::NotParked { .. } => {
                Self::not_found("NOT_PARKED", format!("{detail}: see `shopstream parked list`"))
            }
            ReleaseError::Elsewhere { parked, .. } => Self::precondition(
                "PARKED_ELSEWHERE",
                "version",
                format!(
                    "{detail}: look at that event with `shopstream parked explain {} {}`",
                    parked.keeper, parked.stream
                ),
            ),
            ReleaseError::Replaced { .. } => Self::precondition("WISH_REPLACED", "stream_id", detail),
            ReleaseError::Waits { keeper } => Self::WishWaits { keeper: keeper.name() },
            ReleaseError::Database(error) => error.into(),
        }
    }
}

impl From<shopstream_proto::ValidationError> for Failure {
    fn from(error: shopstream_proto::ValidationError) -> Self {
        let named = error.violations().iter().take(VIOLATIONS_MAX);
        Self::Invalid(
            named
                .map(|violation| Violation {
                    field: violation.field_path(),
                    description: in_words(violation.message()),
                })
                .collect(),
        )
    }
}

/// What a validation rule says, for people: they know ids, not expressions.
fn in_words(message: &str) -> String {
    let pattern =
        message.strip_prefix("does not match regex pattern `").and_then(|rest| rest.strip_suffix('`'));
    let Some(pattern) = pattern else { return message.to_owned() };
    let id = |prefix: &str| format!("must be `{prefix}_` and 1 to 60 letters, digits, `_` or `-`");
    let known = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')).unwrap_or(pattern);
    match known.split_once("_[A-Za-z0-9_-]{1,60}") {
        Some(("(chk|ret)", "")) => id("chk_` or `ret"),
        Some((prefix, "")) => id(prefix),
        Some((prefix, "\\.[0-9]{1,4}")) => format!("{}, then `.` and the number of the attempt", id(prefix)),
        Some((prefix, "(\\.[0-9]{1,4})?")) => {
            format!("{}, with `.` and a number behind it for one of an order's own", id(prefix))
        }
        _ if known == "[A-Z]{3}" => "must be an ISO 4217 code in capitals, such as `EUR`".to_owned(),
        _ if known == "[A-Za-z0-9][A-Za-z0-9._-]{0,63}" => {
            "must be 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit".to_owned()
        }
        _ => message.to_owned(),
    }
}

/// How many fields the text for people names; the rest is in the details.
const NAMED: usize = 5;

fn summary(violations: &[Violation]) -> String {
    let named = violations.iter().take(NAMED).map(|one| format!("{}: {}", one.field, one.description));
    let named = named.collect::<Vec<_>>().join("; ");
    match violations.len() {
        0 => "the request is not valid".to_owned(),
        1..=NAMED => named,
        all => format!("{named} (and {} more)", all - NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_the_protos_has_words() {
        for pattern in shopstream_proto::patterns() {
            let words = in_words(&format!("does not match regex pattern `{pattern}`"));
            assert!(words.starts_with("must be") && !words.contains('^'), "{pattern}: {words}");
        }
    }

    #[test]
    fn the_text_for_people_names_the_fields() {
        let violations = |count: usize| {
            let one = |i| Violation { field: format!("f{i}"), description: "no".to_owned() };
            summary(&(0..count).map(one).collect::<Vec<_>>())
        };
        assert_eq!(violations(2), "f0: no; f1: no");
        assert_eq!(violations(7), "f0: no; f1: no; f2: no; f3: no; f4: no (and 2 more)");
    }
}
