//! One key, one operation: a client's key is tried for several things, at the same time and again and again.
//!
//! Target 0 is the order that the key names by itself, in the shard of the key's stream; the others are anywhere. Each
//! target remembers the key's first command on it, as the model of [`idempotency`](crate::idempotency) shows; here a
//! command is one step. The key's stream says what the key stands for. Whoever finds it taken uses up what it stands for,
//! and then takes it, if it still stands for the same. What a target allows changes at any time, and whoever carries a
//! request out may be gone after any step.
//!
//! Left out: bodies and methods (the target's memory tells them apart), what a command is made of, time.

use std::collections::BTreeSet;

use stateright::{Model, Property};

/// Things that the key is tried for.
const TARGETS: usize = 3;
/// Requests that are under way at one time.
const CALLS: usize = 2;

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A key is passed on and what it stood for may still be carried out.
    NotUsedUp,
    /// A key is taken from whatever it stands for by then.
    NotCompared,
    /// Whoever claims a key does not look whether the order is there that it names.
    OrderIgnored,
    /// The order that a key names does not look what the key stands for.
    ClaimIgnored,
}

/// The model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Which rule is left out.
    pub flaw: Option<Flaw>,
}

/// The key's first command on a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Id {
    /// Never seen.
    #[default]
    Fresh,
    /// Carried out.
    Done,
    /// It never will be.
    UsedUp,
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// What it is about.
    pub target: usize,
    /// How far it is.
    pub at: At,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// It has to claim its key; of the key's own order, to be carried out.
    Asked,
    /// The key was found to stand for this.
    Taken(usize),
    /// That was used up.
    Free(usize),
    /// The key stands for it.
    Claimed,
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// It is carried out, now or before.
    Done,
    /// The key was used for something else.
    Reused,
    /// The target does not allow it.
    Refused,
}

/// Everything there is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// What the key stands for.
    pub claim: Option<usize>,
    /// What it was ever claimed for: such a claim is known again.
    pub claimed: [bool; TARGETS],
    /// The key's command on each target.
    pub ids: [Id; TARGETS],
    /// What each target allows just now.
    pub allowed: [bool; TARGETS],
    /// In no order.
    pub calls: Vec<Call>,
    /// What was told of which target.
    pub answers: BTreeSet<(usize, Answer)>,
}

/// Something that happens. A place is one among the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client asks, for the first time or again.
    Ask(usize),
    /// A target changes what it allows.
    Turn(usize),
    /// A request takes its next step.
    Step(usize),
    /// Whoever carries a request out is gone.
    Vanish(usize),
}

impl Model for Keys {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..TARGETS).map(Action::Turn));
        if state.calls.len() < CALLS {
            actions.extend((0..TARGETS).map(Action::Ask));
        }
        actions.extend((0..state.calls.len()).flat_map(|place| [Action::Step(place), Action::Vanish(place)]));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Ask(target) => next.calls.push(Call { target, at: At::Asked }),
            Action::Turn(target) => next.allowed[target] ^= true,
            Action::Vanish(place) => {
                next.calls.remove(place);
            }
            Action::Step(place) => {
                let call = next.calls.remove(place);
                match self.step(&mut next, call) {
                    Ok(at) => next.calls.push(Call { at, ..call }),
                    Err(answer) => {
                        next.answers.insert((call.target, answer));
                    }
                }
            }
        }
        next.calls.sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a key has one effect", |_, state: &State| {
                state.ids.iter().filter(|id| **id == Id::Done).count() <= 1
            }),
            Property::always("what is acknowledged is carried out", |_, state: &State| {
                let done = state.answers.iter().filter(|(_, answer)| *answer == Answer::Done);
                done.into_iter().all(|(target, _)| state.ids[*target] == Id::Done)
            }),
            Property::always("only a key that was used is refused", |_, state: &State| {
                let used = state.ids.contains(&Id::Done);
                let reused = state.answers.iter().filter(|(_, answer)| *answer == Answer::Reused);
                reused.into_iter().all(|(target, _)| used || state.ids[*target] == Id::UsedUp)
            }),
            Property::sometimes("a key whose request was refused has another effect", |_, state: &State| {
                state.answers.contains(&(1, Answer::Refused)) && state.ids[2] == Id::Done
            }),
            Property::sometimes(
                "the order that a key names is made after a refusal elsewhere",
                |_, state: &State| state.answers.contains(&(1, Answer::Refused)) && state.ids[0] == Id::Done,
            ),
            Property::sometimes("a late copy finds its command used up", |_, state: &State| {
                let late = |call: &Call| call.at == At::Claimed && state.ids[call.target] == Id::UsedUp;
                state.calls.iter().any(late)
            }),
        ]
    }
}

impl Keys {
    fn step(&self, state: &mut State, Call { target, at }: Call) -> Result<At, Answer> {
        match at {
            At::Asked if target == 0 => {
                let other = state.claim.filter(|claim| *claim != 0 && self.flaw != Some(Flaw::ClaimIgnored));
                match (state.ids[0], other) {
                    (Id::Fresh, Some(other)) => Ok(At::Taken(other)),
                    _ => Err(carry_out(state, 0)),
                }
            }
            At::Asked => Ok(self.claim(state, target, None)),
            At::Taken(other) => match state.ids[other] {
                Id::Done => Err(Answer::Reused),
                Id::Fresh | Id::UsedUp => {
                    if self.flaw != Some(Flaw::NotUsedUp) {
                        state.ids[other] = Id::UsedUp;
                    }
                    Ok(At::Free(other))
                }
            },
            At::Free(other) => Ok(match self.claim(state, target, Some(other)) {
                // It looks once more.
                At::Claimed if target == 0 => At::Asked,
                at => at,
            }),
            At::Claimed => Err(carry_out(state, target)),
        }
    }

    fn claim(&self, state: &mut State, target: usize, instead_of: Option<usize>) -> At {
        if state.claimed[target] {
            return At::Claimed;
        }
        let looks = target != 0 && instead_of != Some(0) && self.flaw != Some(Flaw::OrderIgnored);
        if looks && state.ids[0] != Id::Fresh {
            return At::Taken(0);
        }
        match state.claim {
            Some(other) if other != target && Some(other) != instead_of => {
                if instead_of.is_none() || self.flaw != Some(Flaw::NotCompared) {
                    return At::Taken(other);
                }
            }
            Some(_) | None => {}
        }
        state.claim = Some(target);
        state.claimed[target] = true;
        At::Claimed
    }
}

fn carry_out(state: &mut State, target: usize) -> Answer {
    match state.ids[target] {
        Id::Done => Answer::Done,
        Id::UsedUp => Answer::Reused,
        Id::Fresh if state.allowed[target] => {
            state.ids[target] = Id::Done;
            Answer::Done
        }
        Id::Fresh => Answer::Refused,
    }
}
