//! What this node answered and showed of late, so that whoever asks next sees it: one's own writes are read without asking,
//! and no view shows less of a thing than another one did.
//!
//! Kept by what a command was about, until every view has it. What there is no room for is kept by its partition: then
//! readers of that partition wait for a little more than they need.

use std::hash::Hasher;
use std::sync::{Mutex, PoisonError};

use shopstream_domain::{Partition, StreamId};
use shopstream_eventlog::{Offset, Position};
use xxhash_rust::xxh3::Xxh3;

/// How many things are kept per partition.
const KEPT: usize = 1_024;

/// What a command is about: everything of one root, such as an order with its checkout and payments, is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct About(u64);

impl About {
    /// What this stream is about.
    pub(crate) fn stream(stream: &StreamId) -> Self {
        Self::of("root", stream.tenant_str(), stream.root())
    }

    /// Something that has no stream of its own.
    pub(crate) fn of(kind: &str, tenant: &str, id: &str) -> Self {
        let mut hash = Xxh3::new();
        for part in [kind, tenant, id] {
            hash.write_usize(part.len());
            hash.update(part.as_bytes());
        }
        Self(hash.digest())
    }
}

/// Positions that were answered.
#[derive(Debug)]
pub(crate) struct Recent {
    partitions: Vec<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    last: std::collections::HashMap<About, Offset>,
    /// Everything that is kept no more was answered here or before.
    others: Option<Offset>,
}

impl Recent {
    /// Nothing, of a log of `partitions`.
    pub(crate) fn new(partitions: u16) -> Self {
        Self { partitions: (0..partitions).map(|_| Mutex::default()).collect() }
    }

    /// A command about `what` was answered with this position; `seen` tells the next offset there of the slowest view.
    pub(crate) fn note(&self, what: About, at: Position, seen: impl FnOnce() -> Offset) {
        let Some(noted) = self.partitions.get(usize::from(at.partition)) else { return };
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        let last = noted.last.entry(what).or_default();
        *last = at.offset.max(*last);
        if noted.last.len() <= KEPT {
            return;
        }
        let seen = seen();
        noted.last.retain(|_, offset| *offset >= seen);
        if noted.last.len() > KEPT {
            let highest = noted.last.drain().map(|(_, offset)| offset).max();
            noted.others = noted.others.max(highest);
        }
    }

    /// What a view must have before its rows show everything about `what` that was answered here, in this partition.
    pub(crate) fn of(&self, what: About, partition: Partition) -> Option<Position> {
        let noted = self.partitions.get(usize::from(partition))?;
        let noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = noted.last.get(&what).copied().max(noted.others)?;
        Some(Position { partition, offset })
    }

    /// The same of all partitions.
    pub(crate) fn everywhere(&self, what: About) -> Vec<Position> {
        (0..).take(self.partitions.len()).filter_map(|partition| self.of(what, partition)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(id: &str) -> About {
        About::of("root", "default", id)
    }

    fn at(offset: Offset) -> Position {
        Position { partition: 1, offset }
    }

    #[test]
    fn what_was_answered_about_a_thing_is_kept_whatever_it_was() {
        let stream = |name: &str| name.parse::<StreamId>().expect("a stream");
        let recent = Recent::new(2);
        recent.note(About::stream(&stream("default/order/ord_1")), at(7), || 0);
        recent.note(About::stream(&stream("default/payment/pay_1.1")), at(9), || 0);
        assert_eq!(recent.of(About::stream(&stream("default/checkout/chk_1")), 1), Some(at(9)));
        assert_eq!(recent.of(About::stream(&stream("default/order/ord_2")), 1), None);
        assert_eq!(recent.of(About::stream(&stream("other/order/ord_1")), 1), None);
        assert_eq!(recent.of(about("1"), 0), None, "another partition");
    }

    #[test]
    fn an_older_answer_that_comes_later_takes_nothing_back() {
        let recent = Recent::new(2);
        recent.note(about("a"), at(9), || 0);
        recent.note(about("a"), at(7), || 0);
        assert_eq!(recent.everywhere(about("a")), [at(9)]);
    }

    #[test]
    fn its_size_is_bounded_and_nothing_is_forgotten_that_a_view_has_not_got() {
        let recent = Recent::new(2);
        let last = 10 * KEPT as Offset;
        for offset in 0..=last {
            recent.note(about(&offset.to_string()), at(offset), || offset.saturating_sub(10));
        }
        assert_eq!(recent.of(about(&last.to_string()), 1), Some(at(last)));
        assert_eq!(
            recent.of(about("nothing"), 1),
            None,
            "what all views have is left out, and nobody waits for it"
        );

        for offset in last + 1..=last + 2 * KEPT as Offset {
            recent.note(about(&offset.to_string()), at(offset), || 0);
        }
        let kept = recent.partitions[1].lock().expect("whole").last.len();
        assert!(kept <= KEPT, "{kept}");
        for offset in [last + 1, last + KEPT as Offset, last + 2 * KEPT as Offset] {
            let wanted = recent.of(about(&offset.to_string()), 1);
            assert!(wanted.is_some_and(|wanted| wanted.offset >= offset), "{offset}: {wanted:?}");
        }
    }
}
