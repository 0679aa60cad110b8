//! Stored shapes to domain events: what was written by any version of this program can be read by this one.
//!
//! An event whose schema version is older than the domain's goes through the upcasters below, one step at a time,
//! as JSON. Every event is still at version 1, so there is none yet.

use shopstream_domain::model::Event;
use shopstream_domain::requests::NothingChanged;
use shopstream_domain::{DecodeError, StreamKind};

use crate::record::EventData;

/// Why a stored event is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer program wrote it: stop, do not guess.
    #[error("{event_type} has schema version {found}, this program knows up to {known}: run a newer program")]
    Newer {
        /// The event's type.
        event_type: String,
        /// The version on the log.
        found: u16,
        /// The version of the domain.
        known: u16,
    },
    /// No upcaster leads from its version to today's.
    #[error("{event_type} has schema version {found}, from which nothing leads to {known}")]
    NoUpcaster {
        /// The event's type.
        event_type: String,
        /// The version on the log.
        found: u16,
        /// The version of the domain.
        known: u16,
    },
    /// The payload is not what its type and version say.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The domain event that `data`, stored in a stream of `kind`, stands for today.
///
/// # Errors
/// See [`SchemaError`].
pub fn decode(kind: StreamKind, data: &EventData) -> Result<Event, SchemaError> {
    let mut types = Event::types(kind).iter().chain([&NothingChanged::TYPE]);
    let known = types.find(|(name, _)| *name == data.event_type).map(|(_, version)| *version);
    let (event_type, found) = (&data.event_type, data.schema_version);
    match known {
        Some(known) if found > known => {
            Err(SchemaError::Newer { event_type: event_type.clone(), found, known })
        }
        Some(known) if found < known => {
            Err(SchemaError::NoUpcaster { event_type: event_type.clone(), found, known })
        }
        Some(_) | None => Ok(Event::decode(kind, event_type, &data.payload)?),
    }
}

/// `event` as the log stores it.
pub fn encode(event: &Event) -> EventData {
    EventData {
        event_type: event.event_type().to_owned(),
        schema_version: event.schema_version(),
        payload: event.encode().into(),
    }
}
