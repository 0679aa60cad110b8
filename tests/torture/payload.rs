//! What the appenders write: every record follows from the seed, its author and its number, so whoever finds it can say
//! whether it is exactly what was sent.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The shortest record: author and number.
const HEAD: usize = 12;

/// The record `number` of `author`. Most are short; some are long enough to span many sectors, and some hold long runs
/// of zeros, which look like bytes that never reached the disk.
pub(crate) fn record(seed: u64, author: u32, number: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(1500);
    bytes.extend_from_slice(&author.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    let mut random = StdRng::seed_from_u64(xxh3_64_with_seed(&bytes, seed));
    match random.random_range(0..200) {
        0 => grow(&mut bytes, random.random_range(8_000..60_000), &mut random),
        1..=10 => {
            bytes.resize(HEAD + random.random_range(600..3_000), 0);
            grow(&mut bytes, 40, &mut random);
        }
        _ => grow(&mut bytes, random.random_range(0..1_400), &mut random),
    }
    bytes.into()
}

fn grow(bytes: &mut Vec<u8>, by: usize, random: &mut StdRng) {
    let from = bytes.len();
    bytes.resize(from + by, 0);
    random.fill_bytes(&mut bytes[from..]);
}

/// Who a record says it is from, and its number.
pub(crate) fn signature(record: &[u8]) -> Option<(u32, u64)> {
    let (author, rest) = record.split_first_chunk::<4>()?;
    let number = rest.first_chunk::<8>()?;
    Some((u32::from_le_bytes(*author), u64::from_le_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_who_wrote_it_and_is_nobody_elses() {
        let mut seen = std::collections::HashSet::new();
        for (seed, author, number) in (0..6).flat_map(|n| [(n, 1, 2), (1, n as u32 + 2, 2), (1, 1, n + 3)]) {
            let written = record(seed, author, number);
            assert_eq!(signature(&written), Some((author, number)));
            assert_eq!(written, record(seed, author, number));
            seen.insert(written);
        }
        assert_eq!(seen.len(), 18);
        assert_eq!(signature(&[0; HEAD - 1]), None);
    }
}
