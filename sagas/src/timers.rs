//! Who wakes when. One time per process: a new one replaces the old.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;
use shopstream_domain::{StreamId, Timestamp};

/// The times at which resting processes are woken.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, StreamId)>>,
    /// What counts; an entry of the heap that says otherwise was replaced.
    resting: FxHashMap<StreamId, (Timestamp, u32)>,
}

impl Timers {
    /// Wakes `stream` at `at`; `tries` is given back then.
    pub(crate) fn set(&mut self, stream: StreamId, at: Timestamp, tries: u32) {
        self.resting.insert(stream.clone(), (at, tries));
        self.heap.push(Reverse((at, stream)));
    }

    /// Lets `stream` sleep; answers its tries so far.
    pub(crate) fn clear(&mut self, stream: &StreamId) -> u32 {
        self.resting.remove(stream).map_or(0, |(_, tries)| tries)
    }

    /// When somebody is to be woken next.
    pub(crate) fn next(&mut self) -> Option<Timestamp> {
        self.drop_replaced();
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that is due, with the time at which it was and its tries.
    pub(crate) fn due(&mut self, now: Timestamp) -> Option<(StreamId, Timestamp, u32)> {
        if self.next()? > now {
            return None;
        }
        let Reverse((at, stream)) = self.heap.pop()?;
        let tries = self.clear(&stream);
        Some((stream, at, tries))
    }

    fn drop_replaced(&mut self) {
        while let Some(Reverse((at, stream))) = self.heap.peek()
            && self.resting.get(stream).is_none_or(|(counts, _)| counts != at)
        {
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: &str) -> StreamId {
        format!("default/checkout/chk_{id}").parse().expect("a stream")
    }

    #[test]
    fn the_last_time_set_counts() {
        let at = Timestamp::from_seconds;
        let mut timers = Timers::default();
        timers.set(stream("a"), at(10), 1);
        timers.set(stream("b"), at(20), 2);
        timers.set(stream("a"), at(30), 3);
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.due(at(19)), None);
        assert_eq!(timers.due(at(40)), Some((stream("b"), at(20), 2)));
        assert_eq!(timers.due(at(40)), Some((stream("a"), at(30), 3)));
        assert_eq!(timers.due(at(40)), None);
    }

    #[test]
    fn whoever_is_cleared_sleeps() {
        let mut timers = Timers::default();
        timers.set(stream("a"), Timestamp::from_seconds(1), 4);
        assert_eq!(timers.clear(&stream("a")), 4);
        assert_eq!(timers.next(), None);
    }
}
