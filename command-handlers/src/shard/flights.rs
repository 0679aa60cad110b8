//! Appends on their way, and who waits for each.

use std::collections::VecDeque;

use shopstream_domain::Version;
use shopstream_eventlog::{Commit, Position};
use tokio::sync::oneshot;

use super::Heard;
use crate::{CommandError, Reply};

/// Appends in order of seq.
#[derive(Default)]
pub(super) struct Flights(VecDeque<Flight>);

/// One append.
pub(super) struct Flight {
    seq: u64,
    /// `None`: a barrier.
    pub(super) commit: Option<Commit>,
    pub(super) waiters: Vec<Waiter>,
}

/// A caller and what it will hear if the append it waits for counts.
pub(super) struct Waiter {
    pub(super) reply: oneshot::Sender<Heard>,
    pub(super) answer: Answer,
}

pub(super) enum Answer {
    /// Success at the position of the append.
    AtCommit { version: Version, outcome: Option<&'static str>, repeated: bool },
    /// This, wherever the append lands.
    Ready(Result<Reply, CommandError>),
}

impl Flights {
    pub(super) fn push_commit(&mut self, seq: u64, commit: Commit, waiter: Waiter) {
        self.0.push_back(Flight { seq, commit: Some(commit), waiters: vec![waiter] });
    }

    pub(super) fn push_barrier(&mut self, seq: u64, waiters: Vec<Waiter>) {
        self.0.push_back(Flight { seq, commit: None, waiters });
    }

    /// Lets `waiter` wait for `seq`; gives it back where that is not in flight.
    pub(super) fn join(&mut self, seq: u64, waiter: Waiter) -> Option<Waiter> {
        let Ok(index) = self.0.binary_search_by_key(&seq, |flight| flight.seq) else { return Some(waiter) };
        self.0[index].waiters.push(waiter);
        None
    }

    /// Takes the append of `seq` out; the ones before it must have been taken.
    pub(super) fn take(&mut self, seq: u64) -> Option<Flight> {
        self.0.pop_front_if(|flight| flight.seq == seq)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Flight> {
        std::mem::take(&mut self.0).into_iter()
    }
}

impl Waiter {
    /// The append it waited for counts, at `position`. A caller that has gone away needs no answer.
    pub(super) fn send(self, position: Position) {
        let answer = match self.answer {
            Answer::AtCommit { version, outcome, repeated } => {
                Ok(Reply { version, position, outcome, repeated })
            }
            Answer::Ready(answer) => answer,
        };
        let _ = self.reply.send(Heard::Answer(answer));
    }

    /// What it waited for counted long ago.
    pub(super) fn send_ready(self) {
        if let Answer::Ready(answer) = self.answer {
            let _ = self.reply.send(Heard::Answer(answer));
        }
    }

    pub(super) fn fail(self, error: CommandError) {
        let _ = self.reply.send(Heard::Answer(Err(error)));
    }
}
