//! What the clients of a run saw: every call with its times and its end. Written by the clients themselves, outside the
//! system under test.

use shopstream_domain::Version;
use shopstream_eventlog::{CommandId, Position};
use tonic::{Code, Status};

use super::feeds::Subscription;

/// All calls of all clients.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The actor under which these clients wrote, and nobody else.
    pub actor: String,
    /// Every attempt to have a command carried out; a request that was sent again is several.
    pub commands: Vec<CommandCall>,
    /// Every question.
    pub queries: Vec<QueryCall>,
    /// Every reader of the log.
    pub subscriptions: Vec<Subscription>,
}

/// When a call was made and when it ended, in microseconds of one clock that never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// It had not been sent before.
    pub called: u64,
    /// Its end was known by then.
    pub returned: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It was done, and this is the answer.
    Ok(T),
    /// It was surely not done by this call.
    Fail(String),
    /// Nobody knows, and it may still happen.
    Unknown(String),
}

impl<T> Outcome<T> {
    /// What the answer of a call means.
    pub fn of(answer: Result<T, Status>) -> Self {
        match answer {
            Ok(answer) => Self::Ok(answer),
            Err(status) => {
                let said = format!("{:?}: {}", status.code(), status.message());
                match status.code() {
                    Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::FailedPrecondition
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unimplemented
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::ResourceExhausted => Self::Fail(said),
                    Code::Ok
                    | Code::Cancelled
                    | Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss => Self::Unknown(said),
                }
            }
        }
    }

    /// The answer, if there was one.
    pub const fn answer(&self) -> Option<&T> {
        match self {
            Self::Ok(answer) => Some(answer),
            Self::Fail(_) | Self::Unknown(_) => None,
        }
    }

    /// Whether it may have been done.
    pub const fn may_be_done(&self) -> bool {
        match self {
            Self::Ok(_) | Self::Unknown(_) => true,
            Self::Fail(_) => false,
        }
    }
}

/// One attempt at a command.
#[derive(Clone, Debug)]
pub struct CommandCall {
    /// When.
    pub span: Span,
    /// The stream that it is about, in full.
    pub stream: String,
    /// The client's own key.
    pub request_id: String,
    /// The id of the command on that stream.
    pub command_id: CommandId,
    /// Ids of the other commands that the same request may carry out, the claim of its key among them.
    pub further: Vec<CommandId>,
    /// Hash of the method and of the request without its key.
    pub meant: u64,
    /// Refuse unless the stream is at this version.
    pub expected_version: Option<Version>,
    /// How it ended.
    pub outcome: Outcome<Answer>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Version of the stream after it.
    pub version: Version,
    /// Where it is on the log.
    pub position: Position,
    /// The whole answer, encoded.
    pub body: Vec<u8>,
}

/// One question about one stream.
#[derive(Clone, Debug)]
pub struct QueryCall {
    /// When.
    pub span: Span,
    /// The stream that it is about, in full.
    pub stream: String,
    /// The answer has to reflect these.
    pub min_position: Vec<Position>,
    /// The version that the answer showed; 0: no such thing.
    pub outcome: Outcome<Version>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_not_done_is_a_failure() {
        let of = |code| Outcome::<()>::of(Err(Status::new(code, "")));
        assert!(matches!(of(Code::Aborted), Outcome::Fail(_)));
        assert!(matches!(of(Code::Unavailable), Outcome::Unknown(_)));
        assert!(matches!(of(Code::Unknown), Outcome::Unknown(_)), "a broken connection");
        assert!(of(Code::DeadlineExceeded).may_be_done());
    }
}
