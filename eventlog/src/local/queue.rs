//! From the appenders to the writer: one queue for all partitions, and a report for each record back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shopstream_domain::Partition;
use tokio::sync::Notify;

use super::{Shared, lock, wait, wait_timeout};
use crate::cursor::Offset;
use crate::raw::{Appender, RawError, Report};

/// What waits for the writer.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
}

#[derive(Default)]
struct Inner {
    pending: VecDeque<Pending>,
    closed: bool,
}

/// A record on its way.
pub(super) struct Pending {
    pub(super) owner: Arc<Owner>,
    pub(super) partition: Partition,
    pub(super) record: Bytes,
    /// Given by the writer; 0 before.
    pub(super) offset: Offset,
}

/// What the writer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Records.
    Records,
    /// Nothing for as long as it would wait.
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

impl Queue {
    fn push(&self, pending: Pending) -> Result<(), RawError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(RawError::Unavailable { detail: "the log was closed".into() });
        }
        inner.pending.push_back(pending);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for records, then takes all of them. `empty` is empty.
    pub(super) fn take(&self, empty: &mut VecDeque<Pending>, patience: Option<Duration>) -> Found {
        let mut inner = lock(&self.inner);
        let mut patience = patience;
        loop {
            if !inner.pending.is_empty() {
                std::mem::swap(&mut inner.pending, empty);
                return Found::Records;
            }
            if inner.closed {
                return Found::Closed;
            }
            inner = match patience {
                None => wait(&self.filled, inner),
                Some(Duration::ZERO) => return Found::Nothing,
                Some(left) => {
                    patience = Some(Duration::ZERO);
                    wait_timeout(&self.filled, inner, left)
                }
            };
        }
    }

    /// Nothing more is taken; what is in the queue is still written.
    pub(super) fn close(&self) {
        lock(&self.inner).closed = true;
        self.filled.notify_all();
    }
}

/// The side of an appender that the writer knows.
#[derive(Default)]
pub(super) struct Owner {
    in_flight: AtomicUsize,
    reports: Mutex<Vec<Report>>,
    news: Notify,
    /// Set with the first error: nothing of this appender is written behind a record that was not.
    broken: OnceLock<RawError>,
}

impl Owner {
    pub(super) fn broken(&self) -> Option<&RawError> {
        self.broken.get()
    }
}

/// Reports on the first `count` of `pending`, in order, and takes them out.
pub(super) fn report(
    pending: &mut VecDeque<Pending>,
    count: usize,
    mut become_of: impl FnMut(&Pending) -> Report,
) {
    let mut left = count;
    while left > 0 {
        let Some(owner) = pending.front().map(|first| first.owner.clone()) else { return };
        // An owner's records mostly stand together: one lock and one wake-up for the run.
        let mut bytes = 0;
        let mut inbox = lock(&owner.reports);
        while left > 0 && pending.front().is_some_and(|first| Arc::ptr_eq(&first.owner, &owner)) {
            let Some(first) = pending.pop_front() else { break };
            let report = become_of(&first);
            if let Err(error) = &report {
                owner.broken.get_or_init(|| error.clone());
            }
            inbox.push(report);
            bytes += cost(first.record.len());
            left -= 1;
        }
        // Before the inbox is let go: who has the report must find the room too, or it could wait for ever.
        owner.in_flight.fetch_sub(bytes, Ordering::AcqRel);
        drop(inbox);
        owner.news.notify_one();
    }
}

/// What a record counts while it is in flight; more than nothing even where it is empty.
const fn cost(length: usize) -> usize {
    length + 64
}

/// Appends to one partition.
pub(super) struct LocalAppender {
    shared: Arc<Shared>,
    partition: Partition,
    owner: Arc<Owner>,
}

impl LocalAppender {
    pub(super) fn new(shared: Arc<Shared>, partition: Partition) -> Self {
        Self { shared, partition, owner: Arc::default() }
    }
}

#[async_trait]
impl Appender for LocalAppender {
    fn submit(&mut self, record: Bytes) -> Result<(), RawError> {
        if let Some(error) = self.owner.broken().cloned().or_else(|| self.shared.poisoned()) {
            return Err(error);
        }
        let length = record.len();
        if length > self.shared.record_max {
            let detail = format!("a record of {length} bytes is over {}", self.shared.record_max);
            return Err(RawError::Refused { detail });
        }
        // Only this appender adds, so what is seen here can only have become less. Alone, a record is always taken.
        let in_flight = self.owner.in_flight.load(Ordering::Acquire);
        let cost = cost(length);
        if in_flight > 0 && in_flight + cost > self.shared.in_flight_bytes {
            return Err(RawError::Full);
        }
        self.owner.in_flight.fetch_add(cost, Ordering::AcqRel);
        let pending = Pending { owner: self.owner.clone(), partition: self.partition, record, offset: 0 };
        self.shared.queue.push(pending).inspect_err(|_| {
            self.owner.in_flight.fetch_sub(cost, Ordering::AcqRel);
        })
    }

    async fn reports(&mut self, reports: &mut Vec<Report>) {
        loop {
            {
                let mut inbox = lock(&self.owner.reports);
                if !inbox.is_empty() {
                    reports.append(&mut inbox);
                    return;
                }
            }
            self.owner.news.notified().await;
        }
    }
}
