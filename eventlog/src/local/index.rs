//! Where things are, and how far they are durable.
//!
//! In memory only: a segment's header gives the first offset of each partition in it; while a segment is written or
//! scanned a point is added about every 256 KiB. Points are an optimisation and are let go, oldest segment first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use shopstream_domain::Partition;

use super::segment::{HEADER, Header};
use super::{lock, wait};
use crate::cursor::Offset;

/// At how many bytes a point is kept.
pub(super) const POINT_BYTES: u64 = 256 << 10;
const POINTS_MAX: usize = 8192;

/// A place in the log; places are ordered as the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Number of the segment.
    pub(super) segment: u64,
    /// Byte in it, where a group begins or may begin.
    pub(super) position: u64,
}

/// What is known at the beginning of a group.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// Where.
    pub(super) place: Place,
    /// The group's number.
    pub(super) group: u64,
    /// Every partition's next offset there.
    pub(super) ends: Arc<[Offset]>,
}

/// Which bytes of a segment may be read, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Its salt.
    pub(super) salt: u32,
    /// Where its durable groups end.
    pub(super) end: u64,
}

/// The index.
pub(super) struct Index {
    inner: Mutex<Inner>,
    moved: Condvar,
    ends: Box<[AtomicU64]>,
}

struct Inner {
    /// Segment n at n - 1.
    segments: Vec<Segment>,
    points: usize,
    closed: bool,
}

struct Segment {
    extent: Extent,
    /// Its beginning first; never empty.
    points: Vec<Point>,
}

impl Index {
    /// Over segments that exist: their headers, in order, where the last one ends, and every partition's end.
    pub(super) fn new(headers: &[Header], end: u64, ends: &[Offset]) -> Self {
        let follower_ends = headers.iter().skip(1).map(|header| header.previous_end).chain([end]);
        let segments: Vec<_> =
            headers.iter().zip(follower_ends).map(|(header, end)| Segment::new(header, end)).collect();
        Self {
            inner: Mutex::new(Inner { points: segments.len(), segments, closed: false }),
            moved: Condvar::new(),
            ends: ends.iter().copied().map(AtomicU64::new).collect(),
        }
    }

    /// The durable end of `partition`; `None` where there is no such partition.
    pub(super) fn end(&self, partition: Partition) -> Option<Offset> {
        self.ends.get(usize::from(partition)).map(|end| end.load(Ordering::Acquire))
    }

    /// Up to where the log is durable.
    pub(super) fn durable(&self) -> Place {
        self.inner().durable()
    }

    /// A new segment is begun; its header is durable.
    pub(super) fn begin(&self, header: &Header) {
        let mut inner = self.inner();
        inner.segments.push(Segment::new(header, HEADER as u64));
        inner.points += 1;
        drop(inner);
        self.moved.notify_all();
    }

    /// The last segment is durable up to `position`, where the partitions stand at `ends`.
    pub(super) fn publish(&self, position: u64, ends: &[Offset]) {
        for (known, end) in self.ends.iter().zip(ends) {
            known.store(*end, Ordering::Release);
        }
        if let Some(last) = self.inner().segments.last_mut() {
            last.extent.end = position;
        }
        self.moved.notify_all();
    }

    /// Nothing will be published any more.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.moved.notify_all();
    }

    /// Waits until the log is durable beyond `place`, and says up to where. `None`: it never will be.
    pub(super) fn wait_beyond(&self, place: Place) -> Option<Place> {
        let mut inner = self.inner();
        loop {
            let durable = inner.durable();
            if durable > place {
                return Some(durable);
            }
            if inner.closed {
                return None;
            }
            inner = wait(&self.moved, inner);
        }
    }

    /// What may be read of segment `number`.
    pub(super) fn extent(&self, number: u64) -> Option<Extent> {
        let index = number.checked_sub(1)?;
        self.inner().segments.get(index as usize).map(|segment| segment.extent)
    }

    /// The beginning of segment `number`.
    pub(super) fn beginning(&self, number: u64) -> Option<Point> {
        let index = number.checked_sub(1)?;
        self.inner().segments.get(index as usize).map(|segment| segment.points[0].clone())
    }

    /// The last known point at or before all of `wanted`. Offsets only grow along the log, so every record that is
    /// wanted comes after it.
    pub(super) fn locate(&self, wanted: &[(Partition, Offset)]) -> Point {
        let before = |point: &Point| {
            wanted.iter().all(|(partition, offset)| point.ends[usize::from(*partition)] <= *offset)
        };
        let inner = self.inner();
        let segment = inner.segments.partition_point(|segment| before(&segment.points[0])).max(1) - 1;
        let points = &inner.segments[segment].points;
        points[points.partition_point(before).max(1) - 1].clone()
    }

    /// A group begins at `place`: remembered, if the last point is far enough behind.
    pub(super) fn note(&self, place: Place, group: u64, ends: &[Offset]) {
        let mut inner = self.inner();
        let Some(segment) = inner.segments.get_mut(place.segment as usize - 1) else { return };
        let last = segment.points.last().map_or(0, |point| point.place.position);
        if place.position < last + POINT_BYTES {
            return;
        }
        segment.points.push(Point { place, group, ends: ends.into() });
        inner.points += 1;
        inner.let_go();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn durable(&self) -> Place {
        let position = self.segments.last().map_or(0, |segment| segment.extent.end);
        Place { segment: self.segments.len() as u64, position }
    }

    /// Keeps the number of points between beginnings bounded.
    fn let_go(&mut self) {
        if self.points - self.segments.len() <= POINTS_MAX {
            return;
        }
        if let Some(oldest) = self.segments.iter_mut().find(|segment| segment.points.len() > 1) {
            self.points -= oldest.points.len() - 1;
            oldest.points.truncate(1);
        }
    }
}

impl Segment {
    fn new(header: &Header, end: u64) -> Self {
        let place = Place { segment: header.number, position: HEADER as u64 };
        let beginning = Point { place, group: header.group, ends: header.ends.as_slice().into() };
        Self { extent: Extent { salt: header.salt, end }, points: vec![beginning] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u64, previous_end: u64, ends: [Offset; 2]) -> Header {
        Header { number, salt: 1, length: 1 << 20, group: number * 10, previous_end, ends: ends.to_vec() }
    }

    #[test]
    fn locate_finds_the_last_point_before_all_that_is_wanted() {
        let headers = [header(1, 0, [0, 0]), header(2, 900_000, [10, 5]), header(3, 900_000, [10, 50])];
        let index = Index::new(&headers, 800_000, &[20, 60]);
        index.note(Place { segment: 2, position: 4096 + (256 << 10) }, 22, &[10, 20]);
        let at = |wanted: &[(Partition, Offset)]| index.locate(wanted).group;
        assert_eq!(at(&[(0, 0)]), 10);
        assert_eq!(at(&[(0, 9), (1, 60)]), 10);
        assert_eq!(at(&[(0, 10), (1, 5)]), 20);
        assert_eq!(at(&[(0, 10), (1, 19)]), 20);
        assert_eq!(at(&[(0, 10), (1, 20)]), 22);
        assert_eq!(at(&[(0, 10)]), 30);
        assert_eq!(at(&[(0, 20), (1, 60)]), 30);
    }

    #[test]
    fn points_are_sparse_and_bounded() {
        let index = Index::new(&[header(1, 0, [0, 0]), header(2, 4096, [0, 0])], 4096, &[0, 0]);
        for (segment, step) in [(1, POINT_BYTES), (2, POINT_BYTES), (2, 10)] {
            for i in 0..(POINTS_MAX as u64) {
                index.note(Place { segment, position: 4096 + i * step }, i, &[i, i]);
            }
        }
        let inner = lock(&index.inner);
        assert_eq!(inner.segments[0].points.len(), 1);
        assert_eq!(inner.segments[1].points.len(), POINTS_MAX);
    }
}
