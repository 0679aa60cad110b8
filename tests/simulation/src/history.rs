//! What the clients saw. Kept outside the system, and never told to it.

use shopstream_command_handlers::{CommandEnvelope, CommandError, Reply};
use shopstream_domain::{StreamId, Timestamp, Version};
use shopstream_eventlog::CommandId;

/// Every command that a client ever asked for.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they were first asked for.
    pub asked: Vec<Asked>,
}

/// One command, and every attempt to have it carried out.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The stream that it is for.
    pub stream: StreamId,
    /// What makes it recognisable.
    pub command_id: CommandId,
    /// What it means: the same id with another hash is another command.
    pub body_hash: u64,
    /// Refuse unless the stream is at this version.
    pub expected_version: Option<Version>,
    /// One after the other.
    pub attempts: Vec<Attempt>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// It had not been sent before.
    pub called: Timestamp,
    /// Its end was known by then.
    pub returned: Timestamp,
    /// How it ended.
    pub end: End,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was carried out, now or before.
    Done(Reply),
    /// It was surely not carried out by this attempt.
    Failed(CommandError),
    /// Nobody knows, and it may still happen.
    Unknown,
}

impl End {
    /// What an answer means; `None`: there was none in time.
    pub fn of(answer: Option<Result<Reply, CommandError>>) -> Self {
        match answer {
            Some(Ok(reply)) => Self::Done(reply),
            Some(Err(
                error @ (CommandError::Refused(_)
                | CommandError::StaleVersion { .. }
                | CommandError::RequestReused { .. }
                | CommandError::TooLarge { .. }
                | CommandError::Overloaded { .. }
                | CommandError::NotApplied
                | CommandError::NotOwner { .. }
                | CommandError::Quarantined { .. }),
            )) => Self::Failed(error),
            Some(Err(CommandError::Unavailable { .. } | CommandError::Halted { .. })) | None => Self::Unknown,
        }
    }

    /// Whether asking again is of no use.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Done(_) => true,
            Self::Failed(error) => match error {
                CommandError::Refused(_)
                | CommandError::StaleVersion { .. }
                | CommandError::RequestReused { .. }
                | CommandError::TooLarge { .. }
                | CommandError::Quarantined { .. } => true,
                CommandError::Overloaded { .. }
                | CommandError::NotApplied
                | CommandError::NotOwner { .. }
                | CommandError::Unavailable { .. }
                | CommandError::Halted { .. } => false,
            },
            Self::Unknown => false,
        }
    }
}

impl History {
    pub(crate) fn begin(&mut self, envelope: &CommandEnvelope) -> usize {
        self.asked.push(Asked {
            stream: envelope.stream.clone(),
            command_id: envelope.command_id,
            body_hash: envelope.body_hash,
            expected_version: envelope.expected_version,
            attempts: Vec::new(),
        });
        self.asked.len() - 1
    }
}

impl Asked {
    /// The answers that told of events, each with its attempt.
    pub fn effects(&self) -> impl Iterator<Item = (&Attempt, &Reply)> {
        self.attempts.iter().filter_map(|attempt| match &attempt.end {
            End::Done(reply) if reply.outcome.is_some() => Some((attempt, reply)),
            End::Done(_) | End::Failed(_) | End::Unknown => None,
        })
    }

    /// Whether it may have been carried out.
    pub fn may_be_done(&self) -> bool {
        self.attempts.iter().any(|attempt| !matches!(attempt.end, End::Failed(_)))
    }
}
