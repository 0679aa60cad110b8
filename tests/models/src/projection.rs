//! Exactly once into a database: the cursor moves with the rows, compared and swapped (`rulings.md` 31 and 41).
//!
//! A log that grows, one projection, and projectors of which each believes that it is the only one: one may be
//! paused, another started in its place. Each reads a batch from the cursor that it knows and commits it.
//!
//! Left out: what rows say, several partitions (the cursor is one value), a log that changes behind a cursor.

use std::collections::BTreeMap;

use stateright::{Model, Property};

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The rows are committed, then the cursor in a transaction of its own.
    RowsThenCursor,
    /// The cursor is committed, then the rows in a transaction of their own.
    CursorThenRows,
    /// The cursor is set without a look at where it was.
    NoCompare,
}

/// The model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Events.
    pub events: u8,
    /// Projectors.
    pub projectors: u8,
    /// Which rule is left out.
    pub flaw: Option<Flaw>,
}

impl Projection {
    /// What is exhausted in a moment.
    pub const SHORT: Self = Self { events: 5, projectors: 3, flaw: None };
}

/// Everything there is at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// How many events the log has.
    pub log: u8,
    /// How often each event is in the rows; not at all: not there.
    pub rows: BTreeMap<u8, u8>,
    /// The cursor in the database.
    pub cursor: u8,
    /// The projectors.
    pub projectors: Vec<Projector>,
}

/// A projector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Projector {
    /// Not running, or refused by the database.
    #[default]
    Off,
    /// It knows where the cursor is, or was.
    At(u8),
    /// It has read a batch.
    Read {
        /// From its cursor.
        from: u8,
        /// To the one before this.
        to: u8,
    },
    /// It has committed the first half of its batch, as only a flaw lets it.
    Half {
        /// From its cursor.
        from: u8,
        /// To the one before this.
        to: u8,
    },
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The log gets an event.
    Append,
    /// A projector starts and reads the cursor.
    Start(usize),
    /// It reads the log up to here.
    Read(usize, u8),
    /// It commits, or the half of it that comes next.
    Commit(usize),
    /// It ends.
    Crash(usize),
}

impl Model for Projection {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let projectors = vec![Projector::Off; usize::from(self.projectors)];
        vec![State { log: 0, rows: BTreeMap::new(), cursor: 0, projectors }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.log < self.events {
            actions.push(Action::Append);
        }
        for (which, projector) in state.projectors.iter().enumerate() {
            match *projector {
                Projector::Off => actions.push(Action::Start(which)),
                Projector::At(from) => {
                    actions.extend((from + 1..=state.log).map(|to| Action::Read(which, to)));
                    actions.push(Action::Crash(which));
                }
                Projector::Read { .. } | Projector::Half { .. } => {
                    actions.extend([Action::Commit(which), Action::Crash(which)]);
                }
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Append => next.log += 1,
            Action::Start(which) => next.projectors[which] = Projector::At(state.cursor),
            Action::Read(which, to) => {
                let Projector::At(from) = state.projectors[which] else { return None };
                next.projectors[which] = Projector::Read { from, to };
            }
            Action::Commit(which) => next.projectors[which] = self.commit(&mut next, which)?,
            Action::Crash(which) => next.projectors[which] = Projector::Off,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("each event before the cursor is in the rows once, and no other", exactly_once),
            Property::sometimes("all events are in the rows", |model: &Self, state: &State| {
                state.cursor == model.events
            }),
            Property::sometimes("a projector is behind the cursor", |_, state: &State| {
                let behind =
                    |it: &Projector| matches!(it, Projector::Read { from, .. } if *from < state.cursor);
                state.projectors.iter().any(behind)
            }),
        ]
    }
}

impl Projection {
    /// What the projector is then.
    fn commit(&self, state: &mut State, which: usize) -> Option<Projector> {
        let (from, to, second) = match state.projectors[which] {
            Projector::Read { from, to } => (from, to, false),
            Projector::Half { from, to } => (from, to, true),
            Projector::Off | Projector::At(_) => return None,
        };
        let (rows, cursor) = match (self.flaw, second) {
            (Some(Flaw::RowsThenCursor), false) | (Some(Flaw::CursorThenRows), true) => (true, false),
            (Some(Flaw::RowsThenCursor), true) | (Some(Flaw::CursorThenRows), false) => (false, true),
            (Some(Flaw::NoCompare) | None, _) => (true, true),
        };
        // The comparison is in the statement that moves the cursor, and undoes what else is in its transaction.
        if cursor && state.cursor != from && self.flaw != Some(Flaw::NoCompare) {
            return Some(Projector::Off);
        }
        if cursor {
            state.cursor = to;
        }
        if rows {
            (from..to).for_each(|event| *state.rows.entry(event).or_default() += 1);
        }
        Some(if rows == cursor || second { Projector::At(to) } else { Projector::Half { from, to } })
    }
}

/// Between its two transactions a flawed projector breaks this by itself: that is not held against it.
fn exactly_once(model: &Projection, state: &State) -> bool {
    let halfway = state.projectors.iter().any(|it| matches!(it, Projector::Half { .. }));
    let times = |event| state.rows.get(&event).copied().unwrap_or(0);
    halfway || (0..model.events).all(|event| times(event) == u8::from(event < state.cursor))
}
