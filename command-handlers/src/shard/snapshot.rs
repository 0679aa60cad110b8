//! A snapshot: an aggregate as bytes, and back, if the bytes can be believed.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | XXH3 of what follows, seeded with that of the stream's name |
//! | 8..12 | [`FORMAT`] |
//! | 12.. | a prost message; the state in it is JSON |
//!
//! Only a cache (`quality.md` I18): what is not believed costs the reading of the whole history, and nothing else. It is
//! believed where the checksum is right, the format is this program's, and the journal has the very commit that it ends
//! with. A journal that was cut back, filled from another log or not filled yet makes it void.

use prost::Message;
use shopstream_domain::model::{Event, State};
use shopstream_domain::{StreamId, StreamKind, Timestamp, Version};
use shopstream_eventlog::{CommandId, CommitRecord, Offset, Snapshot};
use tracing::warn;
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::cache::Entry;
use crate::dedup::{Done, DoneAt, Remembered, Seen};
use crate::filter::GrowingFilter;

/// Another number, whenever a program folds or writes a state in another way than the one before, or hashes into its
/// filters in another way: what the older one wrote is then ignored. A test notices.
const FORMAT: u32 = 2;
const CHECKSUM: usize = size_of::<u64>();
const HEAD: usize = CHECKSUM + size_of::<u32>();

/// Why a snapshot is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// These are not the bytes that were written, or not of this stream.
    #[error("its checksum is wrong")]
    Checksum,
    /// Another version of the program wrote it.
    #[error("it is of another format")]
    Format,
    /// Nothing that this program writes, though the checksum is right.
    #[error("it does not read")]
    Content,
    /// The journal has no such commit as the one it ends with.
    #[error("the journal does not go on from it")]
    Journal,
}

impl Distrust {
    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checksum => "checksum",
            Self::Format => "format",
            Self::Content => "content",
            Self::Journal => "journal",
        }
    }
}

/// What a snapshot says, for those who check it.
pub struct Said {
    /// The state.
    pub state: State,
    /// The version after the last event in it.
    pub version: Version,
    /// Where its last commit is.
    pub offset: Offset,
    remembered: Remembered,
}

impl Said {
    /// Whether the command is known to have been carried out, or may have been.
    pub fn remembers(&self, command: CommandId) -> bool {
        self.remembered.seen(command) != Seen::Never
    }
}

/// What the snapshot of `stream` says, whether or not the journal goes on from it.
///
/// # Errors
/// See [`Distrust`].
pub fn read_snapshot(stream: &StreamId, bytes: &[u8]) -> Result<Said, Distrust> {
    let Entry { state, version, last_offset, remembered, .. } = Entry::read(stream, bytes)?;
    Ok(Said { state, version, offset: last_offset.ok_or(Distrust::Content)?, remembered })
}

impl Entry {
    /// The snapshot of this aggregate, whose last commit is `last`; `None` while some of it is in flight, or where it
    /// cannot be written down.
    pub(super) fn snapshot(&self, stream: &StreamId, last: &CommitRecord) -> Option<Snapshot> {
        let state = serde_json::to_vec(&self.state)
            .inspect_err(|error| warn!(%stream, %error, "no snapshot: the state is not JSON"))
            .ok()?;
        let body = Body {
            version: self.version,
            recorded_at: self.last_recorded_at.micros(),
            state,
            recent: self.remembered.recent().map(Command::of).collect::<Option<_>>()?,
            older: self
                .remembered
                .older()
                .levels()
                .map(|(hashes, bits)| Level { hashes, bits: bits.to_vec() })
                .collect(),
            room: self.remembered.older().room() as u64,
        };
        let mut bytes = vec![0; CHECKSUM];
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(body.encode_to_vec());
        let sum = checksum(stream, &bytes[CHECKSUM..]);
        bytes[..CHECKSUM].copy_from_slice(&sum);
        let (from, position) = (last.commit.first_version, last.position);
        Some(Snapshot { stream: stream.clone(), from, position, bytes: bytes.into() })
    }

    /// The aggregate that `bytes` say, whose history goes on with `next`, the last commit that they hold.
    ///
    /// # Errors
    /// See [`Distrust`].
    pub(super) fn believe(
        stream: &StreamId,
        bytes: &[u8],
        next: Option<&CommitRecord>,
    ) -> Result<Self, Distrust> {
        let entry = Self::read(stream, bytes)?;
        let is_there = next.is_some_and(|CommitRecord { position, commit, .. }| {
            let last = entry.remembered.recent().next_back();
            commit.last_version() == entry.version
                && Some(position.offset) == entry.last_offset
                && commit.recorded_at == entry.last_recorded_at
                && last.is_some_and(|last| {
                    (last.command_id, last.body_hash) == (commit.command_id, commit.body_hash)
                })
        });
        if is_there { Ok(entry) } else { Err(Distrust::Journal) }
    }

    fn read(stream: &StreamId, bytes: &[u8]) -> Result<Self, Distrust> {
        let (sum, rest) = bytes.split_at_checked(CHECKSUM).ok_or(Distrust::Checksum)?;
        if sum != checksum(stream, rest) {
            return Err(Distrust::Checksum);
        }
        let (format, body) = rest.split_at_checked(HEAD - CHECKSUM).ok_or(Distrust::Content)?;
        if format != FORMAT.to_le_bytes() {
            return Err(Distrust::Format);
        }
        let body = Body::decode(body).map_err(|_| Distrust::Content)?;
        body.into_entry(stream.kind()).ok_or(Distrust::Content)
    }
}

fn checksum(stream: &StreamId, bytes: &[u8]) -> [u8; CHECKSUM] {
    xxh3_64_with_seed(bytes, xxh3_64(stream.as_str().as_bytes())).to_le_bytes()
}

/// An entry with nothing in flight.
#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(int64, tag = "2")]
    recorded_at: i64,
    #[prost(bytes = "vec", tag = "3")]
    state: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    recent: Vec<Command>,
    #[prost(message, repeated, tag = "5")]
    older: Vec<Level>,
    #[prost(uint64, tag = "6")]
    room: u64,
}

/// A command that is remembered exactly.
#[derive(Clone, PartialEq, Message)]
struct Command {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(fixed64, tag = "2")]
    body_hash: u64,
    #[prost(uint64, tag = "3")]
    version: u64,
    #[prost(string, optional, tag = "4")]
    outcome: Option<String>,
    #[prost(uint64, tag = "5")]
    offset: u64,
}

/// A level of the filter of all commands before those.
#[derive(Clone, PartialEq, Message)]
struct Level {
    #[prost(uint32, tag = "1")]
    hashes: u32,
    #[prost(fixed64, repeated, tag = "2")]
    bits: Vec<u64>,
}

impl Body {
    fn into_entry(self, kind: StreamKind) -> Option<Entry> {
        let recent = self.recent.iter().map(|command| command.done(kind)).collect::<Option<Vec<_>>>()?;
        let levels = self.older.into_iter().map(|level| (level.hashes, level.bits));
        let older = GrowingFilter::restore(levels, self.room.try_into().ok()?)?;
        let state: State = serde_json::from_slice(&self.state).ok()?;
        let last = recent.last()?;
        if state.kind() != kind || last.version != self.version {
            return None;
        }
        let DoneAt::Offset(offset) = last.at else { return None };
        let mut entry = Entry::empty(kind);
        entry.state = state;
        (entry.version, entry.snapshotted) = (self.version, self.version);
        entry.last_offset = Some(offset);
        entry.last_recorded_at = Timestamp::from_micros(self.recorded_at);
        entry.remembered = Remembered::restore(recent, older);
        Some(entry)
    }
}

impl Command {
    /// `None`: it is in flight.
    fn of(done: &Done) -> Option<Self> {
        let DoneAt::Offset(offset) = done.at else { return None };
        Some(Self {
            id: done.command_id.0.as_bytes().to_vec(),
            body_hash: done.body_hash,
            version: done.version,
            outcome: done.outcome.map(str::to_owned),
            offset,
        })
    }

    fn done(&self, kind: StreamKind) -> Option<Done> {
        let named = |outcome: &String| Event::types(kind).iter().find(|(name, _)| name == outcome);
        let outcome = match &self.outcome {
            Some(outcome) => Some(named(outcome)?.0),
            None => None,
        };
        Some(Done {
            command_id: CommandId(Uuid::from_slice(&self.id).ok()?),
            body_hash: self.body_hash,
            version: self.version,
            outcome,
            at: DoneAt::Offset(self.offset),
        })
    }
}

#[cfg(test)]
mod tests;
