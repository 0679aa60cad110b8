//! The owner's memory of commands, and what it does with one.

use std::collections::BTreeSet;

use super::{Action, Answer, Flaw, Idempotency, Request, State};

/// An owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shard {
    /// The aggregate, if it is in memory.
    pub entry: Option<Entry>,
    /// From which commit on it has what counts in memory.
    pub tail: usize,
    /// Whether the journal had the stream, once it has said so.
    pub journaled: Option<bool>,
    /// Whether this owner has seen the stream.
    pub seen: bool,
    /// The aggregate is being loaded.
    pub load: Option<Load>,
    /// Appended, and not yet known to count.
    pub in_flight: Vec<Request>,
}

/// An aggregate in memory, ahead of the log by what is in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its version.
    pub version: u8,
    /// The last commands, oldest first, each with its version.
    pub recent: Vec<(Request, u8)>,
    /// What the filter was told.
    pub older: BTreeSet<u8>,
}

/// A load under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// Where the journal was when it began: what the tail must keep for it.
    pub floor: usize,
    /// How much of the history the journal gave.
    pub history: Option<usize>,
}

/// Somebody waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// What was sent.
    pub request: Request,
    /// How far it is.
    pub at: At,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// Not decided.
    Queue {
        /// The journal did not have it when the aggregate had this version.
        looked_up: Option<u8>,
    },
    /// The aggregate is being loaded.
    Parked,
    /// The journal is asked for it.
    Asking {
        /// The aggregate's version then.
        version: u8,
    },
    /// The journal has answered.
    Asked {
        /// The aggregate's version when it was asked; `None`: it went back since.
        version: Option<u8>,
        /// The effect, if the journal has one.
        found: Option<u8>,
    },
    /// Everything is decided, and rests on this version, which is in flight.
    Waiting {
        /// What must count first.
        on: u8,
        /// What it will hear then.
        answer: Answer,
    },
}

impl Idempotency {
    /// Takes a step; `None` where nothing comes of it.
    pub(super) fn take(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Claim => {
                let tail = state.journal;
                state.shard = Some(Shard { tail, seen: tail < state.log.len(), ..Shard::default() });
            }
            Action::Send(request) => {
                state.calls.push(Call { request, at: At::Queue { looked_up: None } });
            }
            Action::Decide(place) => self.decide(state, place)?,
            Action::Ask(place) => {
                let call = &mut state.calls[place];
                let At::Asking { version } = call.at else { return None };
                let found = version_of(&state.log[..state.journal], call.request.id);
                call.at = At::Asked { version: Some(version), found };
            }
            Action::Hear(place) => self.hear(state, place)?,
            Action::AskStreams => state.shard.as_mut()?.journaled = Some(state.journal > 0),
            Action::AskHistory => {
                state.shard.as_mut()?.load.as_mut()?.history = Some(state.journal);
            }
            Action::Load => self.load(state)?,
            Action::Confirm => state.settle(1)?,
            Action::Lose(counting) => state.lose(counting)?,
            Action::Crash(counting) => {
                state.settle(counting)?;
                state.shard = None;
                // Nobody is told anything; whoever wants to know sends again.
                state.calls.clear();
            }
            Action::Advance => {
                state.journal += 1;
                if let Some(shard) = &mut state.shard {
                    let kept = shard.load.filter(|_| self.flaw != Some(Flaw::PruneAheadOfLoads));
                    let floor = kept.map_or(state.journal, |load| load.floor.min(state.journal));
                    shard.tail = shard.tail.max(floor);
                }
            }
            Action::Evict => state.shard.as_mut()?.entry = None,
        }
        Some(())
    }

    fn decide(&self, state: &mut State, place: usize) -> Option<()> {
        let Call { request, at } = state.calls[place];
        let At::Queue { looked_up } = at else { return None };
        let shard = state.shard.as_mut()?;
        if shard.entry.is_none() {
            let waits_for_load = shard.load.is_some() && self.flaw != Some(Flaw::NewWhileLoading);
            if waits_for_load || shard.journaled != Some(false) || shard.seen {
                shard.load.get_or_insert(Load { floor: state.journal, history: None });
                state.calls[place].at = At::Parked;
                return Some(());
            }
            shard.entry = Some(Entry::default());
        }
        let in_flight_from = state.log.len() as u8 + 1;
        let entry = shard.entry.as_mut()?;
        // What an answer rests on while anything is in flight: the last of it.
        let rests_on = entry.version;
        if let Some((known, version)) = entry.recent.iter().rev().find(|(known, _)| known.id == request.id) {
            let answer = self.again(*known, request, *version);
            let repeats_in_flight = *version >= in_flight_from;
            let on = if repeats_in_flight { *version } else { rests_on };
            let early = self.flaw == Some(Flaw::EarlyRepeat);
            state.answer(place, if early { 0 } else { on }, answer);
            return Some(());
        }
        let perhaps = entry.older.contains(&request.id) || state.mistaken == Some(request.id);
        if perhaps && !looked_up.is_some_and(|version| self.still_true(entry, version)) {
            let in_tail = version_of(&state.log[shard.tail..], request.id);
            let version = entry.version;
            match in_tail.filter(|_| self.flaw != Some(Flaw::LookUpWithoutTail)) {
                Some(found) => {
                    let found = found + shard.tail as u8;
                    let answer = self.again(state.log[usize::from(found) - 1], request, found);
                    state.answer(place, 0, answer);
                }
                None => state.calls[place].at = At::Asking { version },
            }
            return Some(());
        }
        if entry.version >= self.bounds.units {
            let on = if self.flaw == Some(Flaw::EarlyRefusal) { 0 } else { rests_on };
            let founded = state.log.len() >= usize::from(self.bounds.units);
            // Whether it is founded is seen when it is answered.
            state.answer(place, on, Answer::Refused { founded });
            return Some(());
        }
        entry.version += 1;
        let version = entry.version;
        entry.remember(request, version, self.bounds.recent);
        shard.in_flight.push(request);
        shard.seen = true;
        state.calls[place].at = At::Waiting { on: version, answer: Answer::Done(version) };
        Some(())
    }

    /// Whether what the journal did not have at this version cannot have come since: all since is remembered.
    fn still_true(&self, entry: &Entry, version: u8) -> bool {
        self.flaw == Some(Flaw::StaleLookUp) || entry.version.saturating_sub(version) <= self.bounds.recent
    }

    fn again(&self, known: Request, request: Request, version: u8) -> Answer {
        let same = known.body == request.body || self.flaw == Some(Flaw::BodyIgnored);
        if same { Answer::Done(version) } else { Answer::Reused }
    }

    fn hear(&self, state: &mut State, place: usize) -> Option<()> {
        let Call { request, at } = state.calls[place];
        let At::Asked { version, found } = at else { return None };
        match found {
            Some(found) => {
                let answer = self.again(state.log[usize::from(found) - 1], request, found);
                state.answer(place, 0, answer);
            }
            None => state.calls[place].at = At::Queue { looked_up: version },
        }
        Some(())
    }

    fn load(&self, state: &mut State) -> Option<()> {
        let shard = state.shard.as_mut()?;
        let Load { history, .. } = shard.load.take()?;
        let mut known = history?;
        if self.flaw != Some(Flaw::LoadWithoutTail) && known < state.log.len() {
            state.gap |= shard.tail > known;
            known = state.log.len();
        }
        let mut entry = Entry { version: known as u8, ..Entry::default() };
        if self.flaw != Some(Flaw::NothingRebuilt) {
            for (request, version) in state.log[..known].iter().zip(1..) {
                entry.remember(*request, version, self.bounds.recent);
            }
        }
        shard.entry = Some(entry);
        for call in &mut state.calls {
            if call.at == At::Parked {
                call.at = At::Queue { looked_up: None };
            }
        }
        Some(())
    }
}

impl Entry {
    fn remember(&mut self, request: Request, version: u8, recent: u8) {
        if self.recent.len() == usize::from(recent) {
            self.older.insert(self.recent.remove(0).0.id);
        }
        self.recent.push((request, version));
    }
}

impl State {
    /// Answers a call when `on` counts; at once where it does already.
    fn answer(&mut self, place: usize, on: u8, answer: Answer) {
        if usize::from(on) > self.log.len() {
            self.calls[place].at = At::Waiting { on, answer };
        } else {
            let call = self.calls.remove(place);
            self.answers.insert((call.request, answer));
        }
    }

    /// So many appends in flight count.
    fn settle(&mut self, counting: usize) -> Option<()> {
        let shard = self.shard.as_mut()?;
        self.log.extend(shard.in_flight.drain(..counting));
        let log = self.log.len();
        let answers = &mut self.answers;
        self.calls.retain(|call| match call.at {
            At::Waiting { on, answer } if usize::from(on) <= log => {
                let answer = match answer {
                    Answer::Refused { .. } => Answer::Refused { founded: true },
                    Answer::Done(_) | Answer::Reused => answer,
                };
                answers.insert((call.request, answer));
                false
            }
            _ => true,
        });
        Some(())
    }

    /// So many appends in flight count, the others never will: whoever waits for them is told to send again, and
    /// the aggregate is loaded anew.
    fn lose(&mut self, counting: usize) -> Option<()> {
        self.settle(counting)?;
        let shard = self.shard.as_mut()?;
        shard.in_flight.clear();
        shard.entry = None;
        self.calls.retain(|call| !matches!(call.at, At::Waiting { .. }));
        for call in &mut self.calls {
            // Versions are given again now, so none of before says how much has come since.
            match &mut call.at {
                At::Queue { looked_up } => *looked_up = None,
                At::Asking { .. } => call.at = At::Queue { looked_up: None },
                At::Asked { version, .. } => *version = None,
                At::Parked | At::Waiting { .. } => {}
            }
        }
        Some(())
    }
}

/// The version of this command's effect in a piece of the log, counted from the piece's begin.
fn version_of(log: &[Request], id: u8) -> Option<u8> {
    log.iter().position(|request| request.id == id).map(|place| place as u8 + 1)
}
