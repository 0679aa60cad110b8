//! All aggregates in one place: the enums by which the layers above hold any command, event or state.

use serde::{Deserialize, Serialize};

use crate::requests::NothingChanged;
use crate::{
    Aggregate, DecodeError, Refusal, Refused, StoredEvent, StreamKind, Timestamp, catalog, inventory, order,
    payment, pricing, requests, returns,
};

/// Declares [`Command`], [`Event`] and [`State`] over the aggregates, one line per stream kind.
macro_rules! model {
    ($($kind:ident($aggregate:ty)),+ $(,)?) => {
        /// A command for any aggregate.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Command {
            $(#[doc = concat!("For a stream of kind `", stringify!($kind), "`.")]
            $kind(<$aggregate as Aggregate>::Command),)+
            /// For a stream of this kind, whatever its state: asks whether its id was used before.
            Recall(StreamKind),
            /// For a stream of this kind, whatever its state: uses its id up.
            Void(StreamKind),
        }

        impl Command {
            /// The kind of stream this command is for.
            pub const fn kind(&self) -> StreamKind {
                match self {
                    $(Self::$kind(_) => StreamKind::$kind,)+
                    Self::Recall(kind) | Self::Void(kind) => *kind,
                }
            }
        }

        /// An event of any aggregate.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $(#[doc = concat!("In a stream of kind `", stringify!($kind), "`.")]
            $kind(<$aggregate as Aggregate>::Event),)+
            /// In a stream of any kind: the memory of a command that changed nothing.
            Nothing(requests::NothingChanged),
        }

        impl Event {
            /// See [`StoredEvent::event_type`].
            pub fn event_type(&self) -> &'static str {
                match self {
                    $(Self::$kind(event) => event.event_type(),)+
                    Self::Nothing(_) => NothingChanged::TYPE.0,
                }
            }

            /// See [`StoredEvent::schema_version`].
            pub fn schema_version(&self) -> u16 {
                match self {
                    $(Self::$kind(event) => event.schema_version(),)+
                    Self::Nothing(_) => NothingChanged::TYPE.1,
                }
            }

            /// See [`StoredEvent::encode`].
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$kind(event) => event.encode(),)+
                    Self::Nothing(_) => b"{}".to_vec(),
                }
            }

            /// The event from its payload in its current schema version.
            ///
            /// # Errors
            /// Streams of this kind have no such event, or the payload does not fit it.
            pub fn decode(kind: StreamKind, event_type: &str, payload: &[u8]) -> Result<Self, DecodeError> {
                if event_type == NothingChanged::TYPE.0 {
                    let decoded = serde_json::from_slice(payload).map(Self::Nothing);
                    let event_type = NothingChanged::TYPE.0;
                    return decoded.map_err(|source| DecodeError::Payload { event_type, source });
                }
                match kind {
                    $(StreamKind::$kind => <$aggregate as Aggregate>::Event::decode(event_type, payload).map(Self::$kind),)+
                }
            }

            /// Every event type that streams of this kind alone have, with its current schema version. Beside them they
            /// all have [`NothingChanged`].
            pub const fn types(kind: StreamKind) -> &'static [(&'static str, u16)] {
                match kind { $(StreamKind::$kind => <$aggregate as Aggregate>::Event::TYPES,)+ }
            }
        }

        $(impl From<<$aggregate as Aggregate>::Event> for Event {
            fn from(event: <$aggregate as Aggregate>::Event) -> Self {
                Self::$kind(event)
            }
        }

        impl From<<$aggregate as Aggregate>::Command> for Command {
            fn from(command: <$aggregate as Aggregate>::Command) -> Self {
                Self::$kind(command)
            }
        })+

        /// The folded state of any aggregate.
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        pub enum State {
            $(#[doc = concat!("Of a stream of kind `", stringify!($kind), "`.")]
            $kind($aggregate),)+
        }

        impl State {
            /// The state before the first event.
            pub fn empty(kind: StreamKind) -> Self {
                match kind { $(StreamKind::$kind => Self::$kind(<$aggregate>::default()),)+ }
            }

            /// The kind of stream this is the state of.
            pub const fn kind(&self) -> StreamKind {
                match self { $(Self::$kind(_) => StreamKind::$kind,)+ }
            }

            /// See [`Aggregate::decide`].
            ///
            /// # Errors
            /// The rule that forbids it.
            ///
            /// # Panics
            /// The command is for another kind of stream: a bug of the caller, who has both at hand.
            pub fn decide(&self, command: &Command, now: Timestamp) -> Result<Vec<Event>, Refused> {
                match (self, command) {
                    $((Self::$kind(state), Command::$kind(command)) => match state.decide(command, now) {
                        Ok(events) => Ok(events.into_iter().map(Event::$kind).collect()),
                        Err(refusal) => Err(refusal.refused()),
                    },)+
                    (state, Command::Recall(kind)) if state.kind() == *kind => Ok(vec![]),
                    (state, Command::Void(kind)) if state.kind() == *kind => {
                        Ok(vec![Event::Nothing(NothingChanged {})])
                    }
                    (state, command) => panic!("a {:?} command met the state {state:?}", command.kind()),
                }
            }

            /// See [`Aggregate::evolve`].
            ///
            /// # Panics
            /// The event is of another kind of stream: a bug of the caller, who has both at hand.
            pub fn evolve(&mut self, event: &Event) {
                match (self, event) {
                    $((Self::$kind(state), Event::$kind(event)) => state.evolve(event),)+
                    (_, Event::Nothing(_)) => {}
                    (state, event) => panic!("a {} met the state {state:?}", event.event_type()),
                }
            }

            /// See [`Aggregate::weight`].
            pub fn weight(&self) -> usize {
                match self { $(Self::$kind(state) => state.weight(),)+ }
            }
        }
    };
}

model! {
    Product(catalog::Product),
    Sku(catalog::SkuClaim),
    Price(pricing::Price),
    Stock(inventory::StockItem),
    Reservation(inventory::Reservation),
    Order(order::Order),
    Checkout(order::Checkout),
    Payment(payment::PaymentIntent),
    Return(returns::Return),
    Request(requests::Claim),
}
