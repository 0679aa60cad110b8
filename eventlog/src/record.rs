//! The bytes of a record, the same in every backend.
//!
//! A fixed little-endian prefix, then a prost message by kind:
//!
//! | bytes | field |
//! |---|---|
//! | 0..2 | magic `SS` |
//! | 2 | format, 1 |
//! | 3 | kind |
//! | 4..8 | CRC32C of bytes 0..4 and 8.. |
//! | 8..16 | epoch |
//! | 16..24 | nonce |
//! | 24..32 | seq |
//! | 32.. | body |
//!
//! The prefix is enough for the claim rule, so a reader that only folds never parses a body. An unknown format or
//! kind stops the reader: guessing would make two readers disagree.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use serde::{Deserialize, Serialize};
use shopstream_domain::{StreamId, StreamIdError, Timestamp, Version};
use uuid::Uuid;

use crate::cursor::{LogId, Position};
use crate::fold::Fence;

const MAGIC: [u8; 2] = *b"SS";
const FORMAT: u8 = 1;
/// Length of the prefix.
pub const PREFIX: usize = 32;
/// The largest record an owner appends. Below Kafka's default of 1,000,000 for one message, with room for framing.
pub const MAX_RECORD: usize = 900_000;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first record of a partition: which log this is.
    Genesis = 1,
    /// Somebody takes the partition over.
    Claim = 2,
    /// The new owner says on what history it opened.
    Opened = 3,
    /// A command's events.
    Commit = 4,
    /// Nothing but its place: read back, it proves that all before it has been read.
    Barrier = 5,
    /// The owner steps down.
    Release = 6,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Genesis,
            2 => Self::Claim,
            3 => Self::Opened,
            4 => Self::Commit,
            5 => Self::Barrier,
            6 => Self::Release,
            _ => return None,
        })
    }
}

/// Who wrote a record, and its place among that owner's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: Kind,
    /// The epoch of the owner's claim; 0 in a genesis.
    pub epoch: u64,
    /// The nonce of the owner's claim; 0 in a genesis.
    pub nonce: u64,
    /// 0 for a claim, then 1, 2, 3 …
    pub seq: u64,
}

/// A record as read, its body decoded as far as the log itself needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The prefix.
    pub header: Header,
    /// The checksum in the prefix.
    pub crc: u32,
    /// The rest.
    pub body: Body,
}

/// What follows the prefix.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Of [`Kind::Genesis`].
    Genesis(Genesis),
    /// Of [`Kind::Claim`].
    Claim(Claim),
    /// Of [`Kind::Opened`].
    Opened(Opened),
    /// Of [`Kind::Commit`], still encoded: see [`Commit::decode`].
    Commit(Bytes),
    /// Of [`Kind::Barrier`] and [`Kind::Release`].
    Empty,
}

impl Record {
    /// Parses a record and checks its checksum.
    ///
    /// # Errors
    /// Not a record of this format, or damaged.
    pub fn parse(bytes: &Bytes) -> Result<Self, RecordError> {
        let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
            return Err(RecordError::Short { length: bytes.len() });
        };
        if prefix[0..2] != MAGIC || prefix[2] != FORMAT {
            return Err(RecordError::Format { magic: [prefix[0], prefix[1]], format: prefix[2] });
        }
        let crc = u32::from_le_bytes(field(prefix, 4));
        if checksum(bytes) != crc {
            return Err(RecordError::Checksum);
        }
        let kind = Kind::from_byte(prefix[3]).ok_or(RecordError::Kind { kind: prefix[3] })?;
        let header = Header {
            kind,
            epoch: u64::from_le_bytes(field(prefix, 8)),
            nonce: u64::from_le_bytes(field(prefix, 16)),
            seq: u64::from_le_bytes(field(prefix, 24)),
        };
        let body = bytes.slice(PREFIX..);
        let body = match kind {
            Kind::Genesis => Body::Genesis(Genesis::decode(body)?),
            Kind::Claim => Body::Claim(Claim::decode(body)?),
            Kind::Opened => Body::Opened(Opened::decode(body)?),
            Kind::Commit => Body::Commit(body),
            Kind::Barrier | Kind::Release => Body::Empty,
        };
        Ok(Self { header, crc, body })
    }
}

fn field<const N: usize>(prefix: &[u8; PREFIX], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&prefix[at..at + N]);
    bytes
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..])
}

/// A record's bytes: `header` and the encoding of `body`.
pub fn encode(header: Header, body: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + body.encoded_len());
    bytes.put_slice(&MAGIC);
    bytes.put_u8(FORMAT);
    bytes.put_u8(header.kind as u8);
    bytes.put_u32_le(0);
    bytes.put_u64_le(header.epoch);
    bytes.put_u64_le(header.nonce);
    bytes.put_u64_le(header.seq);
    body.encode_raw(&mut bytes);
    let crc = checksum(&bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes.freeze()
}

/// The checksum in the prefix of an encoded record.
pub fn crc_of(record: &[u8]) -> u32 {
    record.first_chunk::<PREFIX>().map_or(0, |prefix| u32::from_le_bytes(field(prefix, 4)))
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Less than a prefix.
    #[error("{length} bytes are less than a record's prefix")]
    Short {
        /// How many there are.
        length: usize,
    },
    /// Another magic or format.
    #[error("magic {magic:02x?} format {format} is not ours")]
    Format {
        /// The first two bytes.
        magic: [u8; 2],
        /// The third.
        format: u8,
    },
    /// A kind this program does not know; a newer one wrote it.
    #[error("unknown record kind {kind}: a newer program wrote it")]
    Kind {
        /// The fourth byte.
        kind: u8,
    },
    /// The bytes changed since they were written.
    #[error("the checksum does not match")]
    Checksum,
    /// The body is not the message of its kind.
    #[error("the body does not decode")]
    Body(#[from] prost::DecodeError),
    /// A commit names no valid stream.
    #[error("the commit's stream is not one")]
    Stream(#[from] StreamIdError),
    /// A commit's command id has not 16 bytes.
    #[error("the commit's command id is not one")]
    CommandId,
}

/// Which log a partition belongs to. Record 0 of every partition.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Genesis {
    /// The log's identity, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub log_id: Bytes,
    /// Counts the topics that the same shop has had; a growth of N is a new generation.
    #[prost(uint32, tag = "2")]
    pub generation: u32,
    /// N, the number of partitions.
    #[prost(uint32, tag = "3")]
    pub partitions: u32,
    /// Which function maps roots to partitions; 1 is [`shopstream_domain::partition_of`].
    #[prost(uint32, tag = "4")]
    pub hash_version: u32,
}

impl Genesis {
    /// The log's identity; `None` where it has not 16 bytes.
    pub fn log(&self) -> Option<LogId> {
        Uuid::from_slice(&self.log_id).ok().map(LogId)
    }

    /// The record.
    pub fn encode_record(&self) -> Bytes {
        encode(Header { kind: Kind::Genesis, epoch: 0, nonce: 0, seq: 0 }, self)
    }
}

/// Who takes a partition over, and where to reach it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Claim {
    /// The node's name.
    #[prost(string, tag = "1")]
    pub node: String,
    /// The address at which it takes forwarded commands.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// On what history a new owner opened: the fold just before its claim.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Opened {
    /// The highest epoch before the claim.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The nonce of the owner before; 0 where it had released.
    #[prost(fixed64, tag = "2")]
    pub nonce: u64,
    /// The next sequence number of the owner before; 0 where it had released.
    #[prost(uint64, tag = "3")]
    pub next_seq: u64,
    /// The digest before the claim.
    #[prost(fixed64, tag = "4")]
    pub digest: u64,
}

impl Opened {
    /// The body for a fold that stood at `fence` and `digest`.
    pub const fn new(fence: Fence, digest: u64) -> Self {
        match fence {
            Fence::Released { epoch } => Self { epoch, nonce: 0, next_seq: 0, digest },
            Fence::Open { epoch, nonce, next_seq } => Self { epoch, nonce, next_seq, digest },
        }
    }
}

/// Makes a command recognisable when it comes again. Derived by the caller, never drawn where a retry could not
/// draw it again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub Uuid);

impl CommandId {
    /// The id of the command that these parts name: a version 5 UUID (RFC 9562) over them, separated by zero bytes.
    pub fn derive(parts: &[&str]) -> Self {
        Self(Uuid::new_v5(
            &Uuid::from_u128(0x5348_4f50_5354_5245_414d_434f_4d4d_4944),
            parts.join("\0").as_bytes(),
        ))
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One event of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventData {
    /// The wire name.
    pub event_type: String,
    /// The schema version of the payload.
    pub schema_version: u16,
    /// The payload, JSON.
    pub payload: Bytes,
}

/// All events of one command, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The stream they belong to.
    pub stream: StreamId,
    /// The version of the first event; the others follow.
    pub first_version: Version,
    /// The command.
    pub command_id: CommandId,
    /// Hash of what the client meant, to tell a retry from another command under the same id.
    pub body_hash: u64,
    /// Who asked.
    pub actor: String,
    /// What the whole conversation shares, such as an order id.
    pub correlation_id: String,
    /// What made this command: an event's `stream@version`, or empty for a client's own.
    pub causation_id: String,
    /// W3C trace context, or empty.
    pub traceparent: String,
    /// When it was decided.
    pub recorded_at: Timestamp,
    /// When it was true in the business, where that differs.
    pub effective_at: Option<Timestamp>,
    /// The events, at least one.
    pub events: Vec<EventData>,
}

impl Commit {
    /// The version of the last event.
    pub fn last_version(&self) -> Version {
        self.first_version + self.events.len().saturating_sub(1) as Version
    }

    /// The record under which an owner appends this commit.
    pub fn encode_record(&self, epoch: u64, nonce: u64, seq: u64) -> Bytes {
        let wire = wire::Commit {
            stream: self.stream.as_str().to_owned(),
            first_version: self.first_version,
            command_id: Bytes::copy_from_slice(self.command_id.0.as_bytes()),
            body_hash: self.body_hash,
            actor: self.actor.clone(),
            correlation_id: self.correlation_id.clone(),
            causation_id: self.causation_id.clone(),
            traceparent: self.traceparent.clone(),
            recorded_at: self.recorded_at.micros(),
            effective_at: self.effective_at.map(Timestamp::micros),
            events: self
                .events
                .iter()
                .map(|event| wire::Event {
                    event_type: event.event_type.clone(),
                    schema_version: event.schema_version.into(),
                    payload: event.payload.clone(),
                })
                .collect(),
        };
        encode(Header { kind: Kind::Commit, epoch, nonce, seq }, &wire)
    }

    /// The commit in the body of a record.
    ///
    /// # Errors
    /// The body is not one.
    pub fn decode(body: Bytes) -> Result<Self, RecordError> {
        let wire = wire::Commit::decode(body)?;
        Ok(Self {
            stream: wire.stream.parse()?,
            first_version: wire.first_version,
            command_id: CommandId(Uuid::from_slice(&wire.command_id).map_err(|_| RecordError::CommandId)?),
            body_hash: wire.body_hash,
            actor: wire.actor,
            correlation_id: wire.correlation_id,
            causation_id: wire.causation_id,
            traceparent: wire.traceparent,
            recorded_at: Timestamp::from_micros(wire.recorded_at),
            effective_at: wire.effective_at.map(Timestamp::from_micros),
            events: wire
                .events
                .into_iter()
                .map(|event| EventData {
                    event_type: event.event_type,
                    // Beyond a u16 it is newer than any program, and `schema` says so.
                    schema_version: u16::try_from(event.schema_version).unwrap_or(u16::MAX),
                    payload: event.payload,
                })
                .collect(),
        })
    }
}

/// A commit that counts, with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitRecord {
    /// Where it is.
    pub position: Position,
    /// The epoch of the owner that wrote it.
    pub epoch: u64,
    /// What it says.
    pub commit: Commit,
}

/// The prost shape of a commit. Field numbers are part of the stored format.
mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Commit {
        #[prost(string, tag = "1")]
        pub stream: String,
        #[prost(uint64, tag = "2")]
        pub first_version: u64,
        #[prost(bytes = "bytes", tag = "3")]
        pub command_id: Bytes,
        #[prost(fixed64, tag = "4")]
        pub body_hash: u64,
        #[prost(string, tag = "5")]
        pub actor: String,
        #[prost(string, tag = "6")]
        pub correlation_id: String,
        #[prost(string, tag = "7")]
        pub causation_id: String,
        #[prost(string, tag = "8")]
        pub traceparent: String,
        #[prost(int64, tag = "9")]
        pub recorded_at: i64,
        #[prost(int64, optional, tag = "10")]
        pub effective_at: Option<i64>,
        #[prost(message, repeated, tag = "11")]
        pub events: Vec<Event>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Event {
        #[prost(string, tag = "1")]
        pub event_type: String,
        #[prost(uint32, tag = "2")]
        pub schema_version: u32,
        #[prost(bytes = "bytes", tag = "3")]
        pub payload: Bytes,
    }
}
