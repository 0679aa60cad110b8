//! One effect per command id, and the same answer for ever (`rulings.md` 7–9, `event-log.md` §2.4 and §2.5).
//!
//! One aggregate at one owner after another; that there is one at a time is what [`ownership`](crate::ownership)
//! shows. Clients send the same commands again whenever they like. The owner remembers the last commands exactly
//! and older ones by a filter that may err; what it has not in memory it loads from the journal, which lags, and from
//! its own tail of what counts. Aggregates are evicted, appends are lost, owners crash and others take over. A rule
//! of the aggregate takes so many effects and refuses more.
//!
//! Left out: several aggregates, epochs, the order of the queue (any command may be next), time.

mod promises;
mod shard;

use std::collections::BTreeSet;

use stateright::{Model, Property};

pub use self::shard::{At, Call, Entry, Load, Shard};

/// How large the model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Command ids.
    pub commands: u8,
    /// Effects that the aggregate takes.
    pub units: u8,
    /// Calls that wait for an answer at one time.
    pub calls: u8,
    /// How many commands an owner remembers exactly.
    pub recent: u8,
}

impl Bounds {
    /// What is exhausted in seconds, with refusals.
    pub const SHORT: Self = Self { commands: 3, units: 2, calls: 2, recent: 1 };
    /// What is exhausted in seconds, with more effects and none refused.
    pub const ROOMY: Self = Self { commands: 2, units: 3, calls: 2, recent: 1 };
}

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A loaded aggregate remembers no commands.
    NothingRebuilt,
    /// An old command is looked for in the journal and not in the tail.
    LookUpWithoutTail,
    /// An aggregate is loaded from the journal and not from the tail.
    LoadWithoutTail,
    /// The tail drops what the journal has got, whatever a load has read before that.
    PruneAheadOfLoads,
    /// An aggregate that is being loaded is begun anew when the journal says that it never had its stream.
    NewWhileLoading,
    /// That the journal did not have a command is believed however much was carried out since.
    StaleLookUp,
    /// A refusal is answered before what it rests on counts.
    EarlyRefusal,
    /// A repeat is answered before what it repeats counts.
    EarlyRepeat,
    /// The same id with another body is taken for a repeat.
    BodyIgnored,
}

/// The model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// How large.
    pub bounds: Bounds,
    /// Which rule is left out.
    pub flaw: Option<Flaw>,
}

/// A command as a client sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    /// Its id.
    pub id: u8,
    /// What it means; another body under the same id is a mistake of the client's.
    pub body: u8,
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// It is carried out; its effect has this version.
    Done(u8),
    /// This id means something else.
    Reused,
    /// The aggregate takes no more effects.
    Refused {
        /// Whether that was so of what counted then.
        founded: bool,
    },
}

/// Everything there is at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The effects that count, in order; the first has version 1.
    pub log: Vec<Request>,
    /// How many of them the journal has.
    pub journal: usize,
    /// The owner, if there is one.
    pub shard: Option<Shard>,
    /// Who waits for an answer, in no order.
    pub calls: Vec<Call>,
    /// What was told to whom.
    pub answers: BTreeSet<(Request, Answer)>,
    /// An id that the filter takes for one it knows.
    pub mistaken: Option<u8>,
    /// A history had a gap.
    pub gap: bool,
}

/// Something that happens. A number is a place among the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node takes the partition.
    Claim,
    /// A client sends a command, for the first time or again.
    Send(Request),
    /// The owner looks at a command.
    Decide(usize),
    /// The journal answers whether it has a command.
    Ask(usize),
    /// The owner takes that answer.
    Hear(usize),
    /// The journal answers which streams it has.
    AskStreams,
    /// The journal answers with the aggregate's history.
    AskHistory,
    /// The owner takes that history.
    Load,
    /// The first append in flight counts.
    Confirm,
    /// In doubt: so many appends in flight count, the others never will.
    Lose(usize),
    /// The owner ends; so many appends in flight count all the same.
    Crash(usize),
    /// The journal gets one more commit.
    Advance,
    /// The owner forgets the aggregate.
    Evict,
}

impl Model for Idempotency {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |mistaken| State {
            log: Vec::new(),
            journal: 0,
            shard: None,
            calls: Vec::new(),
            answers: BTreeSet::new(),
            mistaken,
            gap: false,
        };
        vec![state(None), state(Some(0))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.journal < state.log.len() {
            actions.push(Action::Advance);
        }
        let Some(shard) = &state.shard else { return actions.push(Action::Claim) };
        if state.calls.len() < usize::from(self.bounds.calls) {
            let ids = (0..self.bounds.commands).map(|id| Request { id, body: 0 });
            let other_body = Request { id: 0, body: 1 };
            actions.extend(ids.chain([other_body]).map(Action::Send));
        }
        for (place, call) in state.calls.iter().enumerate() {
            match call.at {
                At::Queue { .. } => actions.push(Action::Decide(place)),
                At::Asking { .. } => actions.push(Action::Ask(place)),
                At::Asked { .. } => actions.push(Action::Hear(place)),
                At::Parked | At::Waiting { .. } => {}
            }
        }
        match shard.load {
            Some(Load { history: None, .. }) => actions.push(Action::AskHistory),
            Some(Load { history: Some(_), .. }) => actions.push(Action::Load),
            None => {}
        }
        if shard.journaled.is_none() {
            actions.push(Action::AskStreams);
        }
        let in_flight = shard.in_flight.len();
        if in_flight > 0 {
            actions.push(Action::Confirm);
            actions.extend((0..in_flight).map(Action::Lose));
        }
        actions.extend((0..=in_flight).map(Action::Crash));
        if in_flight == 0 && shard.entry.is_some() {
            actions.push(Action::Evict);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, action)?;
        // Calls have no order: states that differ in it only are one.
        next.calls.sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::of(self.bounds)
    }
}
