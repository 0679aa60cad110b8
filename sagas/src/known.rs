//! A stream as its process knows it.
//!
//! A process decides on aggregates, not on notes of its own: it folds them from history once and moves them on by
//! the replies to its own commands. The reply says at which version the stream is then; where that is not what
//! the same decision made here, somebody else wrote too, and the history is read again.

use std::sync::Arc;

use shopstream_command_handlers::Reply;
use shopstream_domain::model::Event;
use shopstream_domain::{
    Aggregate, StoredEvent, StreamId, Timestamp, Version, inventory, order, payment, returns,
};
use shopstream_eventlog::{CommandId, CommitRecord, Journal, JournalError, Position, schema};

use crate::issue::Cause;
use crate::ports::Obstacle;

/// An aggregate at a version.
pub(crate) struct Known<A: Aggregate> {
    pub(crate) stream: StreamId,
    state: A,
    version: Version,
    /// The last commit that is known of.
    at: Option<Position>,
    /// The last commit that was read, as what made somebody act.
    cause: Option<Cause>,
    /// Something is on the stream that the state does not show.
    stale: bool,
    /// Which events are worth keeping beside the state, and the last of them.
    marks: fn(&A::Event) -> bool,
    mark: Option<A::Event>,
}

impl<A: Aggregate> Known<A> {
    /// A stream believed to be empty. If it is not, the first reply says so.
    pub(crate) fn empty(stream: StreamId) -> Self {
        Self::marking(stream, |_| false)
    }

    /// The same, and keeps the last event of those for which `marks` holds: what the state forgets.
    pub(crate) fn marking(stream: StreamId, marks: fn(&A::Event) -> bool) -> Self {
        Self {
            stream,
            state: A::default(),
            version: 0,
            at: None,
            cause: None,
            stale: false,
            marks,
            mark: None,
        }
    }

    pub(crate) fn state(&self) -> &A {
        &self.state
    }

    #[cfg(feature = "testing")]
    pub(crate) fn into_state(self) -> A {
        self.state
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(crate) fn set_stale(&mut self) {
        self.stale = true;
    }

    /// What happened last on the stream, as far as it was read.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Counts what was recorded: the attempt of commands that may be given more than once.
    pub(crate) fn attempt(&self) -> u32 {
        u32::try_from(self.version).unwrap_or(u32::MAX)
    }

    /// The last marked event.
    pub(crate) fn mark(&self) -> Option<&A::Event> {
        self.mark.as_ref()
    }

    /// Takes the last marked event away.
    pub(crate) fn take_mark(&mut self) -> Option<A::Event> {
        self.mark.take()
    }

    fn evolve(&mut self, event: A::Event) {
        self.state.evolve(&event);
        if (self.marks)(&event) {
            self.mark = Some(event);
        }
    }

    /// The last commit that is known of; `None` where nothing is.
    pub(crate) fn at(&self) -> Option<Position> {
        self.at
    }

    /// Moves the state on by what `command` did, now that `reply` counts.
    pub(crate) fn replied(&mut self, command: &A::Command, reply: &Reply, now: Timestamp) {
        self.at = Some(reply.position);
        let events = self.state.decide(command, now).unwrap_or_default();
        let same = !reply.repeated
            && reply.version == self.version + events.len() as Version
            && reply.outcome == events.last().map(StoredEvent::event_type);
        if !same {
            self.stale = true;
            return;
        }
        for event in events {
            self.evolve(event);
        }
        self.version = reply.version;
    }
}

impl<A: Aggregate<Event: FromModel>> Known<A> {
    /// Starts again from what `history` says.
    ///
    /// # Errors
    /// An event is not one of this aggregate's.
    pub(crate) fn refold(&mut self, history: &[CommitRecord]) -> Result<(), Obstacle> {
        *self = Self::marking(self.stream.clone(), self.marks);
        history.iter().try_for_each(|record| self.push(record))
    }

    /// Goes on with one more commit.
    ///
    /// # Errors
    /// As [`Known::refold`].
    pub(crate) fn push(&mut self, record: &CommitRecord) -> Result<(), Obstacle> {
        for (version, data) in (record.commit.first_version..).zip(&record.commit.events) {
            let decoded = schema::decode(A::KIND, data).map_err(|error| error.to_string());
            if let Ok(Event::Nothing(_)) = decoded {
                continue;
            }
            let event = decoded.and_then(|event| {
                A::Event::from_model(event).ok_or_else(|| format!("{} is out of place", data.event_type))
            });
            let event = event.map_err(|detail| Obstacle {
                stream: self.stream.clone(),
                version,
                position: record.position,
                detail,
            })?;
            self.evolve(event);
        }
        self.version = record.commit.last_version();
        self.at = Some(record.position);
        self.cause = Some(Cause::of(record));
        Ok(())
    }
}

/// An aggregate's own event out of the model's.
pub(crate) trait FromModel: Sized {
    /// `None`: it is another aggregate's.
    fn from_model(event: Event) -> Option<Self>;
}

macro_rules! from_model {
    ($($kind:ident($event:ty)),+ $(,)?) => {
        $(impl FromModel for $event {
            fn from_model(event: Event) -> Option<Self> {
                if let Event::$kind(event) = event { Some(event) } else { None }
            }
        })+
    };
}

from_model! {
    Reservation(inventory::ReservationEvent),
    Stock(inventory::StockEvent),
    Order(order::Event),
    Checkout(order::CheckoutEvent),
    Payment(payment::Event),
    Return(returns::Event),
}

/// How far the log was seen to be, by partition: what a history has to show at least.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached(Vec<Position>);

impl Reached {
    pub(crate) fn see(&mut self, position: Position) {
        match self.0.iter_mut().find(|seen| seen.partition == position.partition) {
            Some(seen) => seen.offset = seen.offset.max(position.offset),
            None => self.0.push(position),
        }
    }

    /// Whether `position` was seen, or one behind it.
    pub(crate) fn has(&self, position: Position) -> bool {
        self.0.iter().any(|seen| seen.partition == position.partition && seen.offset >= position.offset)
    }

    pub(crate) fn positions(self) -> Vec<Position> {
        self.0
    }

    pub(crate) fn see_all(&mut self, other: &Self) {
        other.0.iter().for_each(|position| self.see(*position));
    }
}

/// The journal, asked not before it is where the question is.
#[derive(Clone)]
pub(crate) struct Histories(pub(crate) Arc<dyn Journal>);

impl Histories {
    /// The commits of each stream, at least up to what was `reached`.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub(crate) async fn load(
        &self,
        streams: &[StreamId],
        reached: &Reached,
    ) -> Result<Vec<Vec<CommitRecord>>, JournalError> {
        self.wait_for(reached).await?;
        self.0.load(streams).await
    }

    /// The commit that a command made.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub(crate) async fn find(
        &self,
        stream: &StreamId,
        command: CommandId,
        at: Position,
    ) -> Result<Option<CommitRecord>, JournalError> {
        self.wait_for(&Reached(vec![at])).await?;
        self.0.find(stream, command).await
    }

    async fn wait_for(&self, reached: &Reached) -> Result<(), JournalError> {
        let mut progress = self.0.progress();
        let there = progress.wait_for(|next| {
            let next = |partition: u16| next.get(usize::from(partition)).copied().unwrap_or(0);
            reached.0.iter().all(|position| next(position.partition) > position.offset)
        });
        let ended = |_| JournalError::Unavailable { detail: "it has ended".to_owned() };
        there.await.map(|_| ()).map_err(ended)
    }
}
