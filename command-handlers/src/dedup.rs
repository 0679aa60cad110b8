//! What an aggregate remembers of the commands it carried out (`rulings.md` 9).

use std::collections::VecDeque;

use shopstream_domain::Version;
use shopstream_eventlog::{CommandId, Offset};

use crate::filter::GrowingFilter;

/// How many commands are remembered exactly.
pub(crate) const RECENT: usize = 64;

/// The last commands exactly, all earlier ones by a filter.
#[derive(Default)]
pub(crate) struct Remembered {
    recent: VecDeque<Done>,
    older: GrowingFilter,
}

/// A command that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) command_id: CommandId,
    pub(crate) body_hash: u64,
    /// Of its last event.
    pub(crate) version: Version,
    /// The type of its last event.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) at: DoneAt,
}

/// Where its commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoneAt {
    /// In flight under this seq.
    Seq(u64),
    /// Confirmed at this offset.
    Offset(Offset),
}

/// Whether a command was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Never,
    Done(Done),
    /// Only the journal knows.
    Perhaps,
}

impl Remembered {
    pub(crate) fn seen(&self, command_id: CommandId) -> Seen {
        if let Some(done) = self.recent.iter().rev().find(|done| done.command_id == command_id) {
            return Seen::Done(*done);
        }
        if self.older.contains(command_id.0.as_bytes()) { Seen::Perhaps } else { Seen::Never }
    }

    pub(crate) fn push(&mut self, done: Done) {
        if self.recent.len() == RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.older.insert(oldest.command_id.0.as_bytes());
        }
        self.recent.push_back(done);
    }

    /// The commit of `seq` is at `offset`; answers the version after it, if it is remembered exactly.
    pub(crate) fn confirmed(&mut self, seq: u64, offset: Offset) -> Option<Version> {
        // What is confirmed is among the last few, so the search from the back is short.
        let done = self.recent.iter_mut().rev().find(|done| done.at == DoneAt::Seq(seq))?;
        done.at = DoneAt::Offset(offset);
        Some(done.version)
    }

    /// What `recent` and `older` remember together. Of more than fit the first go the way of all that is older.
    pub(crate) fn restore(recent: impl IntoIterator<Item = Done>, older: GrowingFilter) -> Self {
        let mut remembered = Self { recent: VecDeque::new(), older };
        recent.into_iter().for_each(|done| remembered.push(done));
        remembered
    }

    /// The last commands, oldest first.
    pub(crate) fn recent(&self) -> impl DoubleEndedIterator<Item = &Done> {
        self.recent.iter()
    }

    /// All commands before those.
    pub(crate) const fn older(&self) -> &GrowingFilter {
        &self.older
    }

    pub(crate) fn weight(&self) -> usize {
        self.recent.capacity() * size_of::<Done>() + self.older.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_are_exact_and_the_rest_perhaps() {
        let id = |n: u32| CommandId::derive(&[&n.to_string()]);
        let mut remembered = Remembered::default();
        for n in 0..100 {
            let at = DoneAt::Offset(n.into());
            remembered.push(Done { command_id: id(n), body_hash: 7, version: n.into(), outcome: None, at });
        }
        assert!(matches!(remembered.seen(id(99)), Seen::Done(done) if done.version == 99));
        assert!(matches!(remembered.seen(id(36)), Seen::Done(_)));
        assert_eq!(remembered.seen(id(35)), Seen::Perhaps);
        assert_eq!(remembered.seen(id(1000)), Seen::Never);
    }
}
