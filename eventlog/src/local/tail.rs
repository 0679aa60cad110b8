//! The live tail: one thread reads back from the file what the writer made durable, and hands it to whoever follows.
//!
//! Nothing comes from the writer's memory (`rulings.md` 39): what a follower sees was read from the file and its
//! checksums were right. A follower's queue is bounded in bytes, or by one group where that is larger. Where it does
//! not keep up it is let go; what is in its queue is a run without a hole, and it goes on from the file behind that.
//! It never slows the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use shopstream_domain::Partition;
use tokio::sync::Notify;

use super::index::Place;
use super::scan::{Bucket, Scan};
use super::{Shared, lock};
use crate::raw::{RawError, RawRecord};

/// How much is read back at once when the tail is behind.
const READ_BYTES: usize = 4 << 20;

/// Who follows, and up to where they were served.
pub(super) struct Tail {
    state: Mutex<State>,
    queue_bytes: usize,
}

struct State {
    /// Every group before it was handed out.
    at: Place,
    followers: Vec<Weak<Follower>>,
    ended: Option<RawError>,
}

/// One reader's end of the tail.
pub(super) struct Follower {
    partitions: Vec<Partition>,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<RawRecord>,
    bytes: usize,
    end: Option<End>,
}

/// Why nothing more comes.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The follower was too slow.
    Slow,
    /// The tail itself ended.
    Tail(RawError),
}

impl Tail {
    pub(super) fn new(at: Place, queue_bytes: usize) -> Self {
        Self { state: Mutex::new(State { at, followers: Vec::new(), ended: None }), queue_bytes }
    }

    /// From now on the follower gets every record of `partitions` in groups at or after the place answered.
    pub(super) fn follow(&self, partitions: Vec<Partition>) -> Result<(Arc<Follower>, Place), RawError> {
        let mut state = lock(&self.state);
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let follower = Arc::new(Follower { partitions, queue: Mutex::default(), news: Notify::new() });
        state.followers.push(Arc::downgrade(&follower));
        Ok((follower, state.at))
    }

    /// The thread: ends when the log is closed and everything durable was handed out, or when it cannot be read.
    pub(super) fn run(shared: &Shared, mut scan: Scan) {
        let mut buckets: Vec<Bucket> = Vec::new();
        buckets.resize_with(usize::from(shared.partitions), Bucket::default);
        let ended = loop {
            let Some(durable) = shared.store.index.wait_beyond(scan.place()) else {
                break RawError::Unavailable { detail: "the log was closed".into() };
            };
            let read =
                scan.read(durable, READ_BYTES.min(shared.tail.queue_bytes), |partition, offset, record| {
                    buckets[usize::from(partition)].push(offset, record);
                });
            if let Err(error) = read {
                shared.poison(&error);
                break error;
            }
            shared.tail.hand_out(&mut buckets, scan.place());
        };
        shared.tail.end(&ended);
    }

    fn hand_out(&self, buckets: &mut [Bucket], at: Place) {
        let records: Vec<Vec<RawRecord>> = (0..)
            .zip(buckets)
            .map(
                |(partition, bucket)| {
                    if bucket.is_empty() { Vec::new() } else { bucket.take(partition).collect() }
                },
            )
            .collect();
        // The lock covers both, so that who comes in between gets a place that fits what it will be given.
        let mut state = lock(&self.state);
        state.followers.retain(|follower| {
            follower.upgrade().is_some_and(|follower| follower.give(&records, self.queue_bytes))
        });
        state.at = at;
    }

    /// Nothing more is handed out, to anybody.
    pub(super) fn end(&self, error: &RawError) {
        let mut state = lock(&self.state);
        state.ended.get_or_insert_with(|| error.clone());
        for follower in state.followers.drain(..).filter_map(|follower| follower.upgrade()) {
            follower.end(End::Tail(error.clone()));
        }
    }
}

impl Follower {
    /// Whether it still follows.
    fn give(&self, records: &[Vec<RawRecord>], limit: usize) -> bool {
        let wanted = || self.partitions.iter().flat_map(|partition| &records[usize::from(*partition)]);
        let bytes: usize = wanted().map(size).sum();
        if bytes == 0 {
            return true;
        }
        let mut queue = lock(&self.queue);
        if queue.bytes > 0 && queue.bytes + bytes > limit {
            drop(queue);
            metrics::counter!("shopstream_log_local_slow_followers_total").increment(1);
            self.end(End::Slow);
            return false;
        }
        queue.bytes += bytes;
        queue.records.extend(wanted().cloned());
        drop(queue);
        self.news.notify_one();
        true
    }

    fn end(&self, end: End) {
        lock(&self.queue).end.get_or_insert(end);
        self.news.notify_one();
    }

    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        lock(&self.queue).bytes
    }

    /// Waits for records or the end, then takes what is there up to about `max_bytes`. Records come before the end.
    /// Cancel-safe.
    pub(super) async fn take(&self, max_bytes: usize, take: &mut Vec<RawRecord>) -> Result<(), End> {
        loop {
            if self.take_now(max_bytes, take)? {
                return Ok(());
            }
            self.news.notified().await;
        }
    }

    fn take_now(&self, max_bytes: usize, take: &mut Vec<RawRecord>) -> Result<bool, End> {
        let mut queue = lock(&self.queue);
        let mut bytes = 0;
        while bytes < max_bytes.max(1) {
            let Some(record) = queue.records.pop_front() else { break };
            bytes += size(&record);
            take.push(record);
        }
        queue.bytes -= bytes;
        match &queue.end {
            Some(end) if bytes == 0 => Err(end.clone()),
            _ => Ok(bytes > 0),
        }
    }
}

/// What a record in a queue costs.
const fn size(record: &RawRecord) -> usize {
    record.bytes.len() + size_of::<RawRecord>()
}
