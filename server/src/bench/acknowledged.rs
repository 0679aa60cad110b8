//! What a server has promised to keep.

use std::collections::BTreeMap;

use shopstream_proto::r#type::v1::Position;

/// The commands that a server has said are durable.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// Their numbers, in no order.
    pub(super) numbers: Vec<u64>,
    /// The highest of their positions, by partition.
    highest: BTreeMap<u32, Position>,
}

impl Acknowledged {
    /// These commands, the highest of which are at `positions`.
    pub(super) fn of(numbers: Vec<u64>, positions: impl IntoIterator<Item = Position>) -> Self {
        let mut of = Self { numbers, highest: BTreeMap::new() };
        positions.into_iter().for_each(|position| of.reach(position));
        of
    }

    /// One more.
    pub(super) fn add(&mut self, number: u64, position: Option<Position>) {
        self.numbers.push(number);
        position.into_iter().for_each(|position| self.reach(position));
    }

    /// Many more.
    pub(super) fn extend(&mut self, other: Self) {
        self.numbers.extend(other.numbers);
        other.highest.into_values().for_each(|position| self.reach(position));
    }

    /// A reader that has reached these positions has seen all of them.
    pub(super) fn positions(&self) -> Vec<Position> {
        self.highest.values().cloned().collect()
    }

    fn reach(&mut self, position: Position) {
        match self.highest.get_mut(&position.partition) {
            Some(highest) if highest.offset >= position.offset => {}
            Some(highest) => *highest = position,
            None => drop(self.highest.insert(position.partition, position)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_position_of_each_partition_is_kept() {
        let at = |partition, offset| {
            Some(Position { log: "core".into(), partition, offset, ..Position::default() })
        };
        let (mut all, mut other) = (Acknowledged::default(), Acknowledged::default());
        all.add(1, at(3, 9));
        all.add(2, at(3, 7));
        other.add(5, at(3, 12));
        other.add(6, at(0, 1));
        other.add(7, None);
        all.extend(other);
        assert_eq!(all.numbers, [1, 2, 5, 6, 7]);
        let places: Vec<_> = all.positions().iter().map(|p| (p.partition, p.offset)).collect();
        assert_eq!(places, [(0, 1), (3, 12)]);
    }
}
