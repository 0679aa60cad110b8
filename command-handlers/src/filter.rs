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

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        self.levels.iter().map(|level| level.num_bits() / 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
