//! What lies between a consumer's thread and a reader: bounded, and never in the way of another reader.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::raw::{RawError, RawRecord};

/// Records on their way to one reader. It may overshoot its bound by what was under way when it filled.
pub(super) struct Queue {
    limit: usize,
    state: Mutex<State>,
    readable: Notify,
    room: Condvar,
}

#[derive(Default)]
struct State {
    records: VecDeque<RawRecord>,
    bytes: usize,
    error: Option<RawError>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), readable: Notify::new(), room: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record; whether there is room for more.
    pub(super) fn push(&self, record: RawRecord) -> bool {
        let mut state = self.state();
        state.bytes += record.bytes.len();
        state.records.push_back(record);
        if state.records.len() == 1 {
            self.readable.notify_one();
        }
        state.bytes < self.limit
    }

    /// Ends the queue: the reader gets this after the records that are there.
    pub(super) fn fail(&self, error: RawError) {
        self.state().error.get_or_insert(error);
        self.readable.notify_one();
    }

    /// Whether it has been emptied far enough to go on filling it.
    pub(super) fn has_room(&self) -> bool {
        self.state().bytes < self.limit / 2
    }

    /// Waits until there is room, the reader is gone, or `timeout` is over; whether there is room.
    pub(super) fn wait_for_room(&self, timeout: Duration) -> bool {
        let full = |state: &mut State| state.bytes >= self.limit && !state.closed;
        let waited = self.room.wait_timeout_while(self.state(), timeout, full);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.bytes < self.limit
    }

    /// The reader is gone.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.records.clear();
        self.room.notify_one();
    }

    /// Nothing put here will be read any more.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.closed || state.error.is_some()
    }

    /// See [`crate::raw::RawReader::next`].
    pub(super) async fn next(&self, max_bytes: usize, records: &mut Vec<RawRecord>) -> Result<(), RawError> {
        loop {
            if self.take(max_bytes, records)? {
                return Ok(());
            }
            self.readable.notified().await;
        }
    }

    fn take(&self, max_bytes: usize, records: &mut Vec<RawRecord>) -> Result<bool, RawError> {
        let mut state = self.state();
        let mut taken = 0;
        while taken < max_bytes.max(1)
            && let Some(record) = state.records.pop_front()
        {
            // An empty record counts too, or a run of them would be taken without bound.
            taken += record.bytes.len().max(1);
            state.bytes -= record.bytes.len();
            records.push(record);
        }
        if taken > 0 {
            if state.bytes < self.limit {
                self.room.notify_one();
            }
            if !state.records.is_empty() {
                // So that `push` need not tell of what is already known.
                self.readable.notify_one();
            }
            return Ok(true);
        }
        state.error.clone().map_or(Ok(false), Err)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(offset: u64) -> RawRecord {
        RawRecord { partition: 0, offset, bytes: Bytes::from_static(b"0123456789") }
    }

    #[tokio::test]
    async fn a_reader_gets_what_is_there_and_then_the_error() {
        let queue = Queue::new(25);
        assert!(queue.push(record(0)) && queue.push(record(1)));
        assert!(!queue.push(record(2)), "full");
        queue.fail(RawError::Full);
        let mut records = Vec::new();
        queue.next(20, &mut records).await.unwrap();
        assert_eq!(records, [record(0), record(1)]);
        assert!(queue.has_room());
        queue.next(20, &mut records).await.unwrap();
        assert_eq!(records.len(), 3);
        assert_eq!(queue.next(20, &mut records).await, Err(RawError::Full));
    }
}
