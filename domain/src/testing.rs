//! Given a history, when a command arrives, then these events: how every rule of this crate is tested.
//!
//! Each `when` also proves what holds for every aggregate: that `cqrs_es` would have answered the same, that the
//! events survive the log and that the state survives a snapshot.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use cqrs_es::event_sink::EventSink;

use crate::{Aggregate, At, Refusal, StoredEvent, Timestamp};

/// Starts a test from the history of one stream: `given::<Product>([…])`.
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    Given { history: events.into_iter().collect(), now: Timestamp::default() }
}

/// A history, before the command.
#[derive(Debug)]
pub struct Given<A: Aggregate> {
    history: Vec<A::Event>,
    now: Timestamp,
}

impl<A: Aggregate> Given<A> {
    /// Sets the time at which the command will be decided; the Unix epoch if never called.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    /// Goes on with more history.
    #[must_use]
    pub fn and(mut self, events: impl IntoIterator<Item = A::Event>) -> Self {
        self.history.extend(events);
        self
    }

    /// The state after this history.
    pub fn state(&self) -> A {
        fold(&self.history)
    }
}

impl<A> Given<A>
where
    A: Aggregate
        + cqrs_es::Aggregate<
            Command = At<<A as Aggregate>::Command>,
            Event = <A as Aggregate>::Event,
            Error = <A as Aggregate>::Error,
            Services = (),
        >,
{
    /// Lets the command arrive.
    ///
    /// # Panics
    /// `cqrs_es` would have answered otherwise, or an event or the state does not survive being stored.
    pub fn when(self, command: <A as Aggregate>::Command) -> When<A> {
        let outcome = handle_equals_decide_and_fold::<A>(&self.history, command, self.now);
        let mut state: A = fold(&self.history);
        for event in outcome.iter().flatten() {
            assert_survives_the_log(event);
            state.evolve(event);
        }
        assert_survives_a_snapshot(&state);
        When { outcome, state }
    }
}

/// What a command led to.
#[derive(Debug)]
pub struct When<A: Aggregate> {
    outcome: Result<Vec<A::Event>, A::Error>,
    state: A,
}

impl<A: Aggregate> When<A> {
    /// Exactly these events, in this order. Answers the state after them.
    ///
    /// # Panics
    /// It was refused, or other events came.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) -> A {
        assert_eq!(self.outcome, Ok(expected.into_iter().collect::<Vec<_>>()));
        self.state
    }

    /// Nothing happens, successfully: it is already so.
    ///
    /// # Panics
    /// It was refused, or events came.
    #[track_caller]
    pub fn then_nothing(self) -> A {
        self.then([])
    }

    /// Refused, for exactly this reason.
    ///
    /// # Panics
    /// It was allowed, or refused for another reason.
    #[track_caller]
    pub fn then_refused(self, expected: A::Error) {
        assert_eq!(self.outcome, Err(expected));
    }

    /// The outcome in words, for tables: event types, `nothing`, or the reason of the refusal.
    pub fn in_words(self) -> String {
        match self.outcome {
            Ok(events) if events.is_empty() => "nothing".to_owned(),
            Ok(events) => events.iter().map(StoredEvent::event_type).collect::<Vec<_>>().join(" "),
            Err(refusal) => refusal.reason().to_owned(),
        }
    }

    /// The raw outcome.
    ///
    /// # Errors
    /// The refusal, as decided.
    pub fn outcome(self) -> Result<Vec<A::Event>, A::Error> {
        self.outcome
    }
}

/// Proves for a history and a command that `cqrs_es`'s `handle` is our `decide` followed by the fold, and answers
/// what was decided.
///
/// # Errors
/// The refusal, as decided.
///
/// # Panics
/// They differ.
pub fn handle_equals_decide_and_fold<A>(
    history: &[<A as Aggregate>::Event],
    command: <A as Aggregate>::Command,
    now: Timestamp,
) -> Result<Vec<<A as Aggregate>::Event>, <A as Aggregate>::Error>
where
    A: Aggregate
        + cqrs_es::Aggregate<
            Command = At<<A as Aggregate>::Command>,
            Event = <A as Aggregate>::Event,
            Error = <A as Aggregate>::Error,
            Services = (),
        >,
{
    let mut ours: A = fold(history);
    let decided = ours.decide(&command, now);
    for event in decided.iter().flatten() {
        ours.evolve(event);
    }
    let mut theirs = A::default();
    for event in history {
        theirs.apply(event.clone());
    }
    let sink = EventSink::default();
    let handled = ready(theirs.handle(At { now, command }, &(), &sink)).map(|()| ready(sink.collect()));
    assert_eq!(handled, decided, "cqrs_es decides otherwise");
    assert_eq!(theirs, ours, "cqrs_es folds otherwise");
    decided
}

fn fold<A: Aggregate>(history: &[A::Event]) -> A {
    history.iter().fold(A::default(), |mut state, event| {
        state.evolve(event);
        state
    })
}

fn assert_survives_the_log<E: StoredEvent>(event: &E) {
    let (name, payload) = (event.event_type(), event.encode());
    let read =
        E::decode(name, &payload).unwrap_or_else(|error| panic!("{name} cannot be read back: {error:?}"));
    assert_eq!(&read, event, "{name} reads back differently");
    assert!(E::TYPES.contains(&(name, event.schema_version())), "{name} is not listed");
}

fn assert_survives_a_snapshot<A: Aggregate>(state: &A) {
    let snapshot = serde_json::to_vec(state).expect("a state is always JSON");
    let restored: A = serde_json::from_slice(&snapshot).expect("a snapshot reads back");
    assert_eq!(&restored, state, "the state is not what its snapshot says");
}

/// The value of a future that never really waits.
fn ready<T: Debug>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an aggregate waited for something"),
    }
}
