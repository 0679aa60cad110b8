//! A command on its way, and what comes back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shopstream_domain::{Partition, Refused, StreamId, Timestamp, Version, model};
use shopstream_eventlog::{CommandId, Position};
use xxhash_rust::xxh3::xxh3_64;

use crate::Location;

/// A command for one stream, with everything that makes it repeatable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandEnvelope {
    /// The stream it is for.
    pub stream: StreamId,
    /// The same for every retry of this command, and for no other. Scope: the stream.
    pub command_id: CommandId,
    /// Hash of what the caller meant, see [`body_hash`]: the same id with another hash is refused.
    pub body_hash: u64,
    /// Refuse unless the stream is at this version.
    pub expected_version: Option<Version>,
    /// When it was true in the business, where that is not now.
    pub effective_at: Option<Timestamp>,
    /// Where it comes from.
    pub origin: Origin,
    /// What is wanted.
    pub command: model::Command,
    /// What only a client's command has. A process's has none: its commands do no harm when they are repeated in any
    /// state, and need no memory where they change nothing.
    #[serde(default)]
    pub request: Option<Request>,
}

/// The request of a client that a command comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Hash of the body alone, by which older programs knew a repeat: only their records can have it.
    pub old_body_hash: u64,
    /// The caller's key, where it counts in the whole tenant.
    pub key: Option<Key>,
}

/// An idempotency key that stands for one operation in the whole tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// As the client chose it.
    pub id: Arc<str>,
    /// The stream that says what it stands for. A command whose stream shares its root is refused by the shard if the
    /// key stands for something else; any other has to claim the key before. Of a claim, it is the other way round: the
    /// order that the key alone would name, which needs no claim.
    pub stream: StreamId,
}

impl CommandEnvelope {
    /// Asks what became of this command when it was given before, and does nothing else.
    #[must_use]
    pub fn recalling(self) -> Self {
        let command = model::Command::Recall(self.stream.kind());
        Self { command, expected_version: None, ..self }
    }

    /// Whether a command that was carried out with this hash is this one.
    pub(crate) fn is_meant_by(&self, body_hash: u64) -> bool {
        let older = self.request.as_ref().map(|request| request.old_body_hash);
        body_hash == self.body_hash || Some(body_hash) == older
    }

    /// Whether it is to be remembered though it changes nothing. A claim is not: the state is its memory.
    pub(crate) fn is_memorable(&self) -> bool {
        let recalls = matches!(self.command, model::Command::Recall(_) | model::Command::Request(_));
        self.request.is_some() && !recalls
    }

    /// The stream of this shard that may say that the caller's key stands for something else.
    pub(crate) fn rival(&self) -> Option<&StreamId> {
        let key = &self.request.as_ref()?.key.as_ref()?.stream;
        key.shares_root(&self.stream).then_some(key)
    }
}

/// Who asked, and in the course of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// A user, a service, a provider or a process of the shop.
    pub actor: Arc<str>,
    /// What the whole conversation shares, such as an order id.
    pub correlation_id: Arc<str>,
    /// The event that made this command, as `stream@version`; empty for a client's own.
    pub causation_id: Arc<str>,
    /// W3C trace context, or empty.
    pub traceparent: Arc<str>,
}

impl Origin {
    /// What the actor of a process begins with. The process follows the replies to its own commands and ignores
    /// their commits on the log, so nobody else may be called so.
    pub const PROCESS: &str = "process:";
    /// What the actor of a process begins with whose commits are news to other processes.
    pub const EFFECT: &str = "effect:";

    /// Whether a client may not be called so.
    pub fn is_reserved(actor: &str) -> bool {
        [Self::PROCESS, Self::EFFECT].iter().any(|prefix| actor.starts_with(prefix))
    }
}

/// Hash of what a caller meant: of the method and the request without its id and without anything added on the way, so
/// that an honest retry hashes the same and nothing else does.
pub fn body_hash(meant: &[u8]) -> u64 {
    xxh3_64(meant)
}

/// A command that was carried out, now or the first time it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// The version of the stream after it.
    pub version: Version,
    /// Where its commit is; for a process's command that changed nothing, the stream's last commit.
    pub position: Position,
    /// The type of its last event: what a process branches on. `None` where it changed nothing.
    pub outcome: Option<&'static str>,
    /// It had been carried out before; nothing was appended this time.
    pub repeated: bool,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CommandError {
    /// A rule forbids it.
    #[error("{0}")]
    Refused(Refused),
    /// The stream is not at the expected version: read again, decide again.
    #[error("stream {stream} is at version {actual}, expected {expected}")]
    StaleVersion {
        /// The stream.
        stream: StreamId,
        /// What the caller expected.
        expected: Version,
        /// Where the stream is.
        actual: Version,
    },
    /// The same command id came before with another body, or the caller's key stands for something else.
    #[error("this request id was used before on {stream} for something else")]
    RequestReused {
        /// The stream that it was used on.
        stream: StreamId,
    },
    /// Its events do not fit into one record.
    #[error("the events of this command take {bytes} bytes, more than one record holds")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Too much is waiting already: try again after a moment.
    #[error("partition {partition} has too many commands waiting")]
    Overloaded {
        /// The partition.
        partition: Partition,
    },
    /// It was not applied and never will be: try again with the same id.
    #[error("the command was not applied: the log lost it before it counted")]
    NotApplied,
    /// This node does not own the partition.
    #[error("partition {partition} is owned by {}", owner_name(owner.as_ref()))]
    NotOwner {
        /// The partition.
        partition: Partition,
        /// Who does, where known.
        owner: Option<Location>,
    },
    /// The partition cannot be served now.
    #[error("partition {partition} is not available: {detail}")]
    Unavailable {
        /// The partition.
        partition: Partition,
        /// Why.
        detail: String,
    },
    /// The partition's log contradicts its history; an operator must act.
    #[error("partition {partition} is halted: {detail}")]
    Halted {
        /// The partition.
        partition: Partition,
        /// What was found.
        detail: String,
    },
    /// A bug was met in this aggregate; it takes no commands until the program is mended.
    #[error("stream {stream} is quarantined after an internal error")]
    Quarantined {
        /// The stream.
        stream: StreamId,
    },
}

fn owner_name(owner: Option<&Location>) -> String {
    owner.map_or_else(|| "nobody that is known here".to_owned(), Location::to_string)
}
