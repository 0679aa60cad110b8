//! The shape of an aggregate: `decide` looks, `evolve` folds.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Refusal, StreamKind, Timestamp};

/// A consistency boundary whose history is one stream of events.
///
/// Both functions are pure. `decide` may be called on speculative state and thrown away; `evolve` is also called
/// with events that were decided years ago, so it never refuses.
pub trait Aggregate:
    Default + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Which streams hold this aggregate.
    const KIND: StreamKind;
    /// What somebody wants.
    type Command: Serialize + DeserializeOwned + Clone + Debug + PartialEq + Send + Sync + 'static;
    /// What happened.
    type Event: StoredEvent;
    /// The fact that stood in the way.
    type Error: Refusal + PartialEq + Send + Sync + 'static;

    /// What happens if `command` arrives at `now`. No events: it has already happened, or changes nothing.
    ///
    /// # Errors
    /// The rule that forbids it.
    fn decide(&self, command: &Self::Command, now: Timestamp) -> Result<Vec<Self::Event>, Self::Error>;

    /// Folds one event into the state.
    fn evolve(&mut self, event: &Self::Event);

    /// About how many bytes this state takes in memory; the aggregate cache is bounded by the sum.
    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// An event as the log keeps it: a type name and schema version that are never reused, and a JSON payload.
pub trait StoredEvent: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// Every event type of this enum with its current schema version.
    const TYPES: &'static [(&'static str, u16)];

    /// The wire name of this event, such as `OrderSubmitted`.
    fn event_type(&self) -> &'static str;

    /// The schema version that [`StoredEvent::encode`] writes.
    fn schema_version(&self) -> u16;

    /// The JSON payload.
    fn encode(&self) -> Vec<u8>;

    /// The event of this type from a payload of its current schema version.
    ///
    /// # Errors
    /// The type is unknown here or the payload does not fit it.
    fn decode(event_type: &str, payload: &[u8]) -> Result<Self, DecodeError>;
}

/// Why a stored payload is not an event of this program.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nobody here wrote such an event.
    #[error("unknown event type {event_type}")]
    UnknownType {
        /// The name on the log.
        event_type: String,
    },
    /// The payload does not have the fields of its type.
    #[error("payload of {event_type} does not fit")]
    Payload {
        /// The event's type.
        event_type: &'static str,
        /// What serde found.
        source: serde_json::Error,
    },
}

/// A command with the time at which it is decided: the command type under [`cqrs_es::Aggregate`], whose `handle`
/// has no other way to receive it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct At<C> {
    /// When the decision is made.
    pub now: Timestamp,
    /// What is wanted.
    pub command: C,
}

/// Declares an event enum and its stored form. One line per event: variant(payload struct) = version.
///
/// The payload struct's name is the wire name, so it is spelled out and unique in the whole domain.
macro_rules! events {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident($payload:ident) = $version:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* $variant($payload),)+
        }

        impl $crate::StoredEvent for $name {
            const TYPES: &'static [(&'static str, u16)] = &[$((stringify!($payload), $version)),+];

            fn event_type(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($payload),)+ }
            }

            fn schema_version(&self) -> u16 {
                match self { $(Self::$variant(_) => $version,)+ }
            }

            fn encode(&self) -> Vec<u8> {
                let encoded = match self { $(Self::$variant(payload) => serde_json::to_vec(payload),)+ };
                // Payloads hold strings, integers, lists and options only: nothing that JSON can refuse.
                encoded.expect("an event payload is always JSON")
            }

            fn decode(event_type: &str, payload: &[u8]) -> Result<Self, $crate::DecodeError> {
                match event_type {
                    $(stringify!($payload) => serde_json::from_slice(payload).map(Self::$variant).map_err(|source| {
                        $crate::DecodeError::Payload { event_type: stringify!($payload), source }
                    }),)+
                    _ => Err($crate::DecodeError::UnknownType { event_type: event_type.to_owned() }),
                }
            }
        }

        impl cqrs_es::DomainEvent for $name {
            fn event_type(&self) -> String {
                $crate::StoredEvent::event_type(self).to_owned()
            }

            fn event_version(&self) -> String {
                $crate::StoredEvent::schema_version(self).to_string()
            }
        }
    };
}
pub(crate) use events;

/// Gives an aggregate the `cqrs_es::Aggregate` shape: `handle` is `decide`, `apply` is `evolve`.
macro_rules! cqrs_aggregate {
    ($aggregate:ty, $type:literal) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = $type;
            type Command = $crate::At<<Self as $crate::Aggregate>::Command>;
            type Event = <Self as $crate::Aggregate>::Event;
            type Error = <Self as $crate::Aggregate>::Error;
            type Services = ();

            async fn handle(
                &mut self,
                command: Self::Command,
                _services: &(),
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in $crate::Aggregate::decide(self, &command.command, command.now)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: Self::Event) {
                $crate::Aggregate::evolve(self, &event);
            }
        }
    };
}
pub(crate) use cqrs_aggregate;
