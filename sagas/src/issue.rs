//! Commands of processes: each with an id derived from what it means, sent until somebody answers.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use shopstream_command_handlers::{CommandEnvelope, CommandError, Commands, Origin, Reply, body_hash};
use shopstream_domain::{Refused, StreamId, TenantId, model};
use shopstream_eventlog::{CommandId, CommitRecord};
use tracing::warn;

/// What made a process act: an event, and the trace of whoever made that.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    /// `stream@version`.
    event: Arc<str>,
    traceparent: Arc<str>,
}

impl Cause {
    /// The last event of `record`.
    pub(crate) fn of(record: &CommitRecord) -> Self {
        let commit = &record.commit;
        Self {
            event: format!("{}@{}", commit.stream, commit.last_version()).into(),
            traceparent: commit.traceparent.as_str().into(),
        }
    }
}

/// Which process instance a command comes from, and in the course of what.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) tenant: TenantId,
    /// `checkout`, `stock`, `payment` or `return`.
    kind: &'static str,
    id: Arc<str>,
    origin: Origin,
}

impl Process {
    /// The process of this kind and id. What set it off is said by [`Process::because_of`].
    pub(crate) fn new(tenant: TenantId, kind: &'static str, id: &str, correlation: &str) -> Self {
        let origin = Origin {
            actor: format!("{}{kind}", Origin::PROCESS).into(),
            correlation_id: correlation.into(),
            causation_id: "".into(),
            traceparent: "".into(),
        };
        Self { tenant, kind, id: id.into(), origin }
    }

    /// The same process, whose commits name `cause`.
    pub(crate) fn because_of(mut self, cause: &Cause) -> Self {
        self.origin.causation_id = cause.event.clone();
        self.origin.traceparent = cause.traceparent.clone();
        self
    }

    /// The same process, set off by what set `other` off.
    pub(crate) fn like(mut self, other: &Self) -> Self {
        self.origin.correlation_id = other.origin.correlation_id.clone();
        self.origin.causation_id = other.origin.causation_id.clone();
        self.origin.traceparent = other.origin.traceparent.clone();
        self
    }

    /// The same process on somebody's behalf: the commits name who asked.
    pub(crate) fn asked_by(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// The same process, whose commits are news to other processes: see [`is_own`].
    pub(crate) fn announced(mut self) -> Self {
        self.origin.actor = format!("{}{}", Origin::EFFECT, self.kind).into();
        self
    }

    /// The id of a step's command.
    pub(crate) fn command_id(&self, step: Step<'_>) -> CommandId {
        let Step { name, attempt, index } = step;
        let (attempt, index) = (attempt.to_string(), index.to_string());
        CommandId::derive(&[self.tenant.as_str(), self.kind, &self.id, name, &attempt, &index])
    }

    /// The command of one step. The same step, attempt and index always give the same id (`rulings.md` 22), so
    /// whoever takes the process up again repeats it without effect.
    pub(crate) fn command(
        &self,
        step: Step<'_>,
        stream: StreamId,
        command: model::Command,
    ) -> CommandEnvelope {
        let command_id = self.command_id(step);
        CommandEnvelope {
            stream,
            command_id,
            // The id says all that the process means. The command's body also holds times and settings, which a
            // repeat years later may not have again.
            body_hash: body_hash(command_id.0.as_bytes()),
            expected_version: None,
            effective_at: None,
            origin: self.origin.clone(),
            command,
            request: None,
        }
    }
}

/// Whether a commit was made by a process that follows its own replies and needs no log for them.
pub(crate) fn is_own(actor: &str) -> bool {
    actor.starts_with(Origin::PROCESS)
}

/// A step of a process. `attempt` grows only by a recorded decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) attempt: u32,
    pub(crate) index: usize,
}

impl<'a> Step<'a> {
    pub(crate) const fn new(name: &'a str, attempt: u32) -> Self {
        Self { name, attempt, index: 0 }
    }

    pub(crate) const fn at(self, index: usize) -> Self {
        Self { index, ..self }
    }
}

/// Nobody carried a command out, nor refused it, however often it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stream} did not answer: {error}")]
pub(crate) struct Unanswered {
    pub(crate) stream: StreamId,
    pub(crate) error: CommandError,
}

/// Sends commands, and sends them again.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) commands: Commands,
    pub(crate) resend_after: Duration,
    pub(crate) patience: Duration,
}

impl Issuer {
    /// Sends `count` commands in one batch and waits for all answers; those that nobody took are made and sent
    /// again. A command that was taken and is not answered is not sent again, for that would only make the queue
    /// longer. Nobody is waited for longer than this issuer is patient.
    ///
    /// # Errors
    /// Somebody did not answer. What was sent may still be carried out.
    pub(crate) async fn send(
        &self,
        count: usize,
        envelope: impl Fn(usize) -> CommandEnvelope + Send + Sync,
    ) -> Result<Vec<Result<Reply, Refused>>, Unanswered> {
        let mut last = None;
        let answered = self.send_until_answered(count, &envelope, &mut last);
        if let Ok(answered) = tokio::time::timeout(self.patience, answered).await {
            return answered;
        }
        Err(last.unwrap_or_else(|| {
            let stream = envelope(0).stream;
            let partition = stream.partition(self.commands.partitions());
            let error = CommandError::Unavailable { partition, detail: "no answer in time".to_owned() };
            Unanswered { stream, error }
        }))
    }

    /// Keeps the `last` of those who did not take theirs.
    async fn send_until_answered(
        &self,
        count: usize,
        envelope: &(impl Fn(usize) -> CommandEnvelope + Send + Sync),
        last: &mut Option<Unanswered>,
    ) -> Result<Vec<Result<Reply, Refused>>, Unanswered> {
        let mut answers: Vec<Option<Result<Reply, Refused>>> = vec![None; count];
        let mut open: Vec<usize> = (0..count).collect();
        loop {
            let replies = self.commands.submit_all(open.iter().map(|index| envelope(*index)).collect()).await;
            let mut unanswered = None;
            let mut still_open = Vec::new();
            for (index, reply) in open.into_iter().zip(replies) {
                match reply {
                    Ok(reply) => answers[index] = Some(Ok(reply)),
                    Err(CommandError::Refused(refused)) => answers[index] = Some(Err(refused)),
                    Err(error) => {
                        still_open.push(index);
                        unanswered = Some(Unanswered { stream: envelope(index).stream, error });
                    }
                }
            }
            let Some(unanswered) = unanswered else { break };
            if !is_passing(&unanswered.error) {
                return Err(unanswered);
            }
            counter!("shopstream_saga_resends_total").increment(still_open.len() as u64);
            let Unanswered { stream, error } = &unanswered;
            warn!(%stream, %error, "{} commands are sent again", still_open.len());
            *last = Some(unanswered);
            open = still_open;
            tokio::time::sleep(self.resend_after).await;
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// Whether the same command may find an answer later. The others are bugs, and an operator must look.
fn is_passing(error: &CommandError) -> bool {
    match error {
        CommandError::Overloaded { .. }
        | CommandError::NotApplied
        | CommandError::NotOwner { .. }
        | CommandError::Unavailable { .. }
        | CommandError::Halted { .. } => true,
        CommandError::Refused(_)
        | CommandError::StaleVersion { .. }
        | CommandError::RequestReused { .. }
        | CommandError::TooLarge { .. }
        | CommandError::Quarantined { .. } => false,
    }
}
