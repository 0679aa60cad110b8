//! The aggregates in memory, bounded by their weight.

use lru::LruCache;
use shopstream_domain::model::State;
use shopstream_domain::{StreamId, StreamKind, Timestamp, Version};
use shopstream_eventlog::Offset;

use crate::dedup::Remembered;

/// Least recently used entries go first; those with an append in flight stay.
pub(super) struct Cache {
    entries: LruCache<StreamId, Entry>,
    bytes: usize,
    bytes_max: usize,
}

/// An aggregate, ahead of the log by what is in flight.
pub(super) struct Entry {
    pub(super) state: State,
    pub(super) version: Version,
    pub(super) remembered: Remembered,
    /// Of its last append, while that is in flight; else 0.
    pub(super) last_seq: u64,
    /// Of its last commit that counts.
    pub(super) last_offset: Option<Offset>,
    pub(super) last_recorded_at: Timestamp,
    /// The version of its last snapshot, or of the last one that was asked for.
    pub(super) snapshotted: Version,
    weight: usize,
}

/// A snapshot that is twice, three times … as heavy as this is made after twice, three times … as many events: about
/// the room that those take in the journal. So no snapshot costs more than what it spares.
const SNAPSHOT_BYTES: usize = 128 << 10;

impl Entry {
    pub(super) fn empty(kind: StreamKind) -> Self {
        Self {
            state: State::empty(kind),
            version: 0,
            remembered: Remembered::default(),
            last_seq: 0,
            last_offset: None,
            last_recorded_at: Timestamp::default(),
            snapshotted: 0,
            weight: 0,
        }
    }

    pub(super) fn weigh(&mut self) -> usize {
        self.weight = size_of::<Self>() + self.state.weight() + self.remembered.weight();
        self.weight
    }

    /// Whether another snapshot is due at `version`, of a stream that gets one every so many events.
    pub(super) fn is_due(&self, version: Version, every: u64) -> bool {
        let times = 1 + (self.weight / SNAPSHOT_BYTES) as u64;
        version.saturating_sub(self.snapshotted) >= every.saturating_mul(times)
    }

    /// Whether so many events are behind its last snapshot.
    pub(super) const fn has_gone_on(&self, events: u64) -> bool {
        self.version.saturating_sub(self.snapshotted) >= events
    }
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    pub(super) fn contains(&self, stream: &StreamId) -> bool {
        self.entries.contains(stream)
    }

    /// The entry, marked as used.
    pub(super) fn get(&mut self, stream: &StreamId) -> Option<&Entry> {
        self.entries.get(stream)
    }

    pub(super) fn insert(&mut self, stream: StreamId, mut entry: Entry) {
        self.bytes += entry.weigh();
        if let Some(old) = self.entries.put(stream, entry) {
            self.bytes -= old.weight;
        }
    }

    /// Changes an entry that is there and weighs it again; `false` where it is not there or the change says so.
    pub(super) fn update(&mut self, stream: &StreamId, change: impl FnOnce(&mut Entry) -> bool) -> bool {
        let Some(entry) = self.entries.get_mut(stream) else { return false };
        self.bytes -= entry.weight;
        let done = change(entry);
        self.bytes += entry.weigh();
        done
    }

    /// The append `seq` of this stream counts, at `offset`. Answers whether a snapshot of the stream is due with it,
    /// once: the next one is due after so many events more.
    pub(super) fn confirmed(&mut self, stream: &StreamId, seq: u64, offset: Offset, every: u64) -> bool {
        let Some(entry) = self.entries.peek_mut(stream) else { return false };
        let version = entry.remembered.confirmed(seq, offset);
        entry.last_offset = Some(offset);
        if entry.last_seq == seq {
            entry.last_seq = 0;
        }
        let Some(version) = version.filter(|version| entry.is_due(*version, every)) else { return false };
        entry.snapshotted = version;
        true
    }

    /// A snapshot has come so far.
    pub(super) fn snapshotted(&mut self, stream: &StreamId, version: Version) {
        if let Some(entry) = self.entries.peek_mut(stream) {
            entry.snapshotted = entry.snapshotted.max(version);
        }
    }

    pub(super) fn remove(&mut self, stream: &StreamId) {
        if let Some(entry) = self.entries.pop(stream) {
            self.bytes -= entry.weight;
        }
    }

    /// Makes room; what is `kept` stays.
    pub(super) fn evict(&mut self, kept: impl Fn(&StreamId) -> bool) {
        let mut staying = 0;
        while self.bytes > self.bytes_max && staying < self.entries.len() {
            let Some((stream, entry)) = self.entries.pop_lru() else { break };
            if entry.last_seq == 0 && !kept(&stream) {
                self.bytes -= entry.weight;
            } else {
                // What is in flight cannot go before the log has answered; it is moved out of the way.
                staying += 1;
                self.entries.put(stream, entry);
            }
        }
    }
}
