//! Snapshots on their way: beside the decisions, one thing at a time, and as well as it goes.
//!
//! Whoever has folded a long history in a cold load saves what came of it. And where an owner has taken a stream so many
//! events further, the stream is recalled from the journal once more, as soon as the journal has them: so a snapshot is
//! only ever of what is confirmed and journaled, and the aggregate in memory is left in peace. A cold load then reads a
//! snapshot and at most [`Options::snapshot_every`](crate::Options) events (more, in proportion, where the snapshot is
//! heavy), besides what was appended while its snapshot was on its way.

use std::collections::VecDeque;
use std::mem::take;

use futures::FutureExt;
use metrics::counter;
use shopstream_domain::{Partition, StreamId};
use shopstream_eventlog::{JournalError, Offset, Snapshot};
use tracing::warn;

use super::Shard;
use super::load::Loaded;
use super::recall::{Recalled, recall};

/// Streams that wait for a snapshot; each has hundreds of events since its last one.
const WANTED_MAX: usize = 256;
/// Bytes of snapshots that wait to be saved.
const MADE_BYTES_MAX: usize = 8 << 20;

/// What is to be made and saved.
#[derive(Default)]
pub(super) struct Snapshots {
    /// Streams, each with the commit that the journal must have first, in the order of the log.
    wanted: VecDeque<(Offset, StreamId)>,
    /// Not yet saved, one per stream.
    made: Vec<Snapshot>,
    /// One is being made, or some are being saved.
    busy: bool,
}

impl Snapshots {
    /// A snapshot of `stream` is due with its commit at `offset`.
    pub(super) fn want(&mut self, stream: StreamId, offset: Offset) {
        if self.wanted.len() < WANTED_MAX {
            self.wanted.push_back((offset, stream));
        } else {
            dropped();
        }
    }

    /// Keeps what came of a recall until it can be saved.
    pub(super) fn keep(&mut self, snapshot: Snapshot) {
        self.made.retain(|older| older.stream != snapshot.stream);
        let bytes: usize = self.made.iter().map(|made| made.bytes.len()).sum();
        if self.made.is_empty() || bytes + snapshot.bytes.len() <= MADE_BYTES_MAX {
            self.made.push(snapshot);
        } else {
            dropped();
        }
    }
}

/// It is due again after as many events more.
fn dropped() {
    counter!("shopstream_snapshots_dropped_total").increment(1);
}

impl Shard {
    /// Goes on with the snapshots, if there is anything to do and nothing being done.
    pub(super) fn keep_snapshots(&mut self) {
        if self.snapshots.busy {
            return;
        }
        let next = if !self.snapshots.made.is_empty() {
            let (journal, made) = (self.journal.clone(), take(&mut self.snapshots.made));
            async move { Loaded::Saved { count: made.len(), saved: journal.save(&made).await } }.boxed()
        } else {
            let journaled = |(offset, _): &mut (Offset, StreamId)| *offset < self.journal_next;
            let Some((_, stream)) = self.snapshots.wanted.pop_front_if(journaled) else { return };
            let (journal, every) = (self.journal.clone(), self.options.snapshot_every);
            // How heavy it is was looked at when it was asked for.
            let recalled = recall(journal, vec![stream.clone()], move |entry| entry.has_gone_on(every));
            recalled.map(|recalled| Loaded::Anew { stream, recalled }).boxed()
        };
        self.snapshots.busy = true;
        self.loads.push(next);
    }

    /// A stream was recalled for its snapshot alone.
    pub(super) fn on_anew(
        &mut self,
        stream: &StreamId,
        recalled: Result<Vec<Recalled>, JournalError>,
        partition: Partition,
    ) {
        self.snapshots.busy = false;
        let recalled = match recalled {
            Ok(recalled) => recalled,
            Err(error) => return failed(partition, 1, &error),
        };
        for Recalled { entry, snapshot } in recalled {
            // The journal may have been further than where the snapshot was asked for.
            if let Ok(entry) = entry {
                self.cache.snapshotted(stream, entry.snapshotted);
            }
            if let Some(snapshot) = snapshot {
                self.snapshots.keep(snapshot);
            }
        }
    }

    pub(super) fn on_saved(&mut self, count: usize, saved: Result<(), JournalError>, partition: Partition) {
        self.snapshots.busy = false;
        match saved {
            Ok(()) => counter!("shopstream_snapshots_saved_total").increment(count as u64),
            Err(error) => failed(partition, count, &error),
        }
    }
}

fn failed(partition: Partition, count: usize, error: &JournalError) {
    warn!(partition, count, %error, "a snapshot was not saved");
    counter!("shopstream_snapshots_failed_total").increment(count as u64);
}
