//! What every process works with.

use std::sync::Arc;

use shopstream_command_handlers::Clock;
use shopstream_domain::{Aggregate, Duration, Refused, StreamId, Timestamp, model};
use shopstream_eventlog::JournalError;

use crate::Settings;
use crate::issue::{Issuer, Process, Step, Unanswered};
use crate::known::{FromModel, Histories, Known, Reached};
use crate::ports::Obstacle;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) issuer: Issuer,
    pub(crate) histories: Histories,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Arc<Settings>,
}

/// Why a process cannot go on just now. It is tried again later, from its streams.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stuck {
    /// A command found no answer.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The history cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An event of the history cannot be read: nothing is decided on what is known without it.
    #[error(transparent)]
    Unreadable(#[from] Obstacle),
    /// A stream lacks what every stream of its kind begins with.
    #[error("{stream} does not begin as it must")]
    OutOfPlace {
        /// Which.
        stream: StreamId,
    },
    /// A step that cannot be refused was: a bug, or a hand in the data.
    #[error("{step} was refused: {refused}")]
    Refused {
        /// The step.
        step: &'static str,
        /// The rule.
        refused: Refused,
    },
}

impl Stuck {
    /// Something is away that everything stands on: it comes back without anybody looking at this process.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Journal(JournalError::Unavailable { .. }))
    }
}

impl Means {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When to look again after `tries` vain looks: twice as long each time, up to the longest wait.
    pub(crate) fn look_again_at(&self, tries: u32) -> Timestamp {
        let Settings { check_after_seconds, check_after_seconds_max, .. } = *self.settings;
        let seconds = check_after_seconds.saturating_mul(2_u32.saturating_pow(tries));
        self.now() + Duration::from_seconds(seconds.min(check_after_seconds_max))
    }

    /// Sends one command to a stream and moves the stream on by the reply. A refusal marks it as stale: the rule
    /// stood on something that is not seen here.
    ///
    /// # Errors
    /// Nobody answered.
    pub(crate) async fn tell<A>(
        &self,
        process: &Process,
        step: Step<'_>,
        known: &mut Known<A>,
        command: A::Command,
    ) -> Result<Result<(), Refused>, Unanswered>
    where
        A: Aggregate<Command: Into<model::Command>>,
    {
        let stream = known.stream.clone();
        let envelope = |_| process.command(step, stream.clone(), command.clone().into());
        let answer = self.issuer.send(1, envelope).await?.pop();
        match answer {
            Some(Ok(reply)) => {
                known.replied(&command, &reply, self.now());
                Ok(Ok(()))
            }
            Some(Err(refused)) => {
                known.set_stale();
                Ok(Err(refused))
            }
            // One command has one answer.
            None => Ok(Ok(())),
        }
    }

    /// A stream from its history, at least up to what was reached.
    ///
    /// # Errors
    /// The journal does not answer, or answers nonsense.
    pub(crate) async fn load<A>(&self, known: &mut Known<A>, reached: &Reached) -> Result<(), Stuck>
    where
        A: Aggregate<Event: FromModel>,
    {
        let mut reached = reached.clone();
        known.at().into_iter().for_each(|position| reached.see(position));
        let history = self.histories.load(std::slice::from_ref(&known.stream), &reached).await?;
        Ok(known.refold(history.first().map_or(&[], Vec::as_slice))?)
    }
}
