//! A set of names that answers "surely not" or "perhaps", and grows.

use fastbloom::BloomFilter;

const FIRST_CAPACITY: usize = 4096;
const FALSE_POSITIVES: f64 = 0.001;
/// The same everywhere, so that a run of the simulation is the same again from its seed. Names that were made to be
/// taken for others cost a look into the journal each, as any name does that is not in memory.
const SEED: u128 = 0x5368_6f70_5374_7265_616d;

/// Bloom filters of doubling capacity: about 15 bits a name, whatever their number.
#[derive(Default)]
pub(crate) struct GrowingFilter {
    levels: Vec<BloomFilter>,
    room: usize,
}

impl GrowingFilter {
    pub(crate) fn insert(&mut self, name: &[u8]) {
        if self.contains(name) {
            return;
        }
        if self.room == 0 {
            self.room = FIRST_CAPACITY << self.levels.len();
            let level = BloomFilter::with_false_pos(FALSE_POSITIVES).seed(&SEED);
            self.levels.push(level.expected_items(self.room));
        }
        if let Some(last) = self.levels.last_mut() {
            last.insert(name);
            self.room -= 1;
        }
    }

    /// `false`: it was never inserted.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.levels.iter().any(|level| level.contains(name))
    }

    /// Each level: how many hashes a name has there, and its bits.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (u32, &[u64])> {
        self.levels.iter().map(|level| (level.num_hashes(), level.as_slice()))
    }

    /// For how many names more the last level is good.
    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    /// The filter that had these levels and this room; `None`: no filter ever had.
    pub(crate) fn restore(levels: impl IntoIterator<Item = (u32, Vec<u64>)>, room: usize) -> Option<Self> {
        let restored = |(hashes, bits): (u32, Vec<u64>)| {
            let sound = hashes > 0 && !bits.is_empty();
            sound.then(|| BloomFilter::from_vec(bits).seed(&SEED).hashes(hashes))
        };
        Some(Self { levels: levels.into_iter().map(restored).collect::<Option<_>>()?, room })
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        self.levels.iter().map(|level| level.num_bits() / 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_comes_back_and_goes_on() {
        let mut filter = GrowingFilter::default();
        (0..6_000_u32).for_each(|n| filter.insert(&n.to_le_bytes()));
        let levels = filter.levels().map(|(hashes, bits)| (hashes, bits.to_vec()));
        let mut restored = GrowingFilter::restore(levels, filter.room()).unwrap();
        for filter in [&mut filter, &mut restored] {
            (6_000..20_000_u32).for_each(|n| filter.insert(&n.to_le_bytes()));
        }
        assert!(filter.levels().eq(restored.levels()));
        assert_eq!((filter.room(), filter.levels().count()), (restored.room(), 3));
        assert!((0..20_000_u32).all(|n| restored.contains(&n.to_le_bytes())));
        assert!(GrowingFilter::restore([(0, vec![1])], 1).is_none());
        assert!(GrowingFilter::restore([(7, vec![])], 1).is_none());
    }

    #[test]
    fn what_was_inserted_is_always_found_and_little_else() {
        let mut filter = GrowingFilter::default();
        for n in 0..50_000_u32 {
            filter.insert(&n.to_le_bytes());
        }
        assert!((0..50_000_u32).all(|n| filter.contains(&n.to_le_bytes())));
        let wrong = (50_000..150_000_u32).filter(|n| filter.contains(&n.to_le_bytes())).count();
        assert!(wrong < 1_500, "{wrong} of 100,000 strangers were taken for members");
    }
}
