//! Cursors met on the way, so that a reader for any offset need not start at the beginning of the log.
//!
//! What counts depends on every claim before it, so reading can only begin where the state of the claim rule is
//! known. Whoever reads drops a landmark now and then; whoever comes later begins at the last one before the offset
//! that it wants. Lost landmarks cost time, never truth: a reader finds each cursor's fingerprint again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use shopstream_domain::Partition;
use shopstream_eventlog::{Cursor, Offset};

/// How many are kept per partition; then every second one goes and they come half as often.
const KEPT: usize = 256;
/// How many records lie between two, at first.
const STRIDE: Offset = 1024;

/// Cursors by partition and offset.
#[derive(Debug)]
pub struct Landmarks {
    partitions: Vec<Mutex<Marks>>,
}

#[derive(Debug)]
struct Marks {
    start: Cursor,
    stride: Offset,
    cursors: BTreeMap<Offset, Cursor>,
}

impl Landmarks {
    /// None but the starts of all partitions.
    pub fn new(starts: impl IntoIterator<Item = Cursor>) -> Self {
        let marks = |start| Mutex::new(Marks { start, stride: STRIDE, cursors: BTreeMap::new() });
        Self { partitions: starts.into_iter().map(marks).collect() }
    }

    /// A reader has come to `cursor`.
    pub fn passed(&self, cursor: &Cursor) {
        let Some(marks) = self.partitions.get(usize::from(cursor.partition)) else { return };
        let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = marks.cursors.range(..=cursor.next).next_back().map_or(0, |(offset, _)| *offset);
        let after = marks.cursors.range(cursor.next..).next().map(|(offset, _)| *offset);
        let far = |distance: Offset| distance >= marks.stride;
        if !far(cursor.next - before) || after.is_some_and(|after| !far(after - cursor.next)) {
            return;
        }
        marks.cursors.insert(cursor.next, *cursor);
        if marks.cursors.len() > KEPT {
            marks.stride *= 2;
            let mut keep = false;
            marks.cursors.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    /// The last known cursor of `partition` at or before `offset`; `None` where there is no such partition.
    pub fn before(&self, partition: Partition, offset: Offset) -> Option<Cursor> {
        let marks =
            self.partitions.get(usize::from(partition))?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(marks.cursors.range(..=offset).next_back().map_or(marks.start, |(_, cursor)| *cursor))
    }
}

#[cfg(test)]
mod tests {
    use shopstream_eventlog::LogId;
    use uuid::Uuid;

    use super::*;

    fn start() -> Cursor {
        Cursor::start(LogId(Uuid::nil()), 0)
    }

    #[test]
    fn a_reader_begins_at_the_last_landmark_before_its_offset() {
        let landmarks = Landmarks::new([start()]);
        for next in [10, 2_000, 2_100, 5_000] {
            landmarks.passed(&Cursor { next, ..start() });
        }
        let before = |offset| landmarks.before(0, offset).map(|cursor| cursor.next);
        assert_eq!([0, 1_999, 2_000, 4_999, 9_999].map(before), [0, 0, 2_000, 2_000, 5_000].map(Some));
        assert_eq!(landmarks.before(1, 0), None);
    }

    #[test]
    fn their_number_is_bounded_and_they_stay_spread() {
        let landmarks = Landmarks::new([start()]);
        let end = 4_000_000;
        for next in (0..end).step_by(100) {
            landmarks.passed(&Cursor { next, ..start() });
        }
        let marks = landmarks.partitions[0].lock().expect("whole");
        assert!((KEPT / 2..=KEPT).contains(&marks.cursors.len()), "{}", marks.cursors.len());
        let offsets: Vec<_> = marks.cursors.keys().copied().chain([end]).collect();
        assert!(offsets.windows(2).all(|pair| pair[1] - pair[0] <= 2 * marks.stride + 100), "{offsets:?}");
    }
}
