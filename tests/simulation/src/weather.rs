//! What kind of run a seed makes: how the nodes are set up, and how much goes wrong.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use shopstream_eventlog::sim::Chaos;
use shopstream_sagas::Settings;

/// The climate of one run.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Whether a node may be replaced while it still lives; else a successor starts only when it is gone.
    pub(crate) several_nodes: bool,
    /// How many of a hundred steps break something.
    pub(crate) faults: u32,
    /// How many SKUs there are: the fewer, the more they are fought over.
    pub(crate) skus: u8,
    pub(crate) partitions: u16,
    pub(crate) queue: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) tail_bytes: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) settings: Settings,
}

impl Weather {
    pub(crate) fn draw(random: &mut StdRng) -> Self {
        let mut pick = |from: &[usize]| from.choose(random).copied().unwrap_or_default();
        let settings = Settings {
            in_flight_max: pick(&[2, 8, 256]),
            resend_after: Duration::from_secs(1),
            patience: Duration::from_secs(60),
            hold_seconds: 120,
            hard_max_seconds: 600,
            attempts_max: 3,
            provider_timeout: Duration::from_secs(5),
            check_after_seconds: 2,
            check_after_seconds_max: 30,
            tries_max: 3,
            read_bytes: pick(&[500, 1 << 20]),
        };
        let (queue, cache_bytes) = (pick(&[16, 1024]), pick(&[4 << 10, 1 << 20]));
        let (tail_bytes, batch_bytes) = (pick(&[32 << 10, 16 << 20]), pick(&[500, 1 << 20]));
        Self {
            several_nodes: random.random(),
            faults: [0, 4, 10, 25].choose(random).copied().unwrap_or_default(),
            skus: random.random_range(1..=4),
            partitions: random.random_range(1..=4),
            queue,
            cache_bytes,
            tail_bytes,
            batch_bytes,
            settings,
        }
    }

    /// What chance does to the log for a while.
    pub(crate) fn chaos(random: &mut StdRng) -> Chaos {
        let mut up_to = |most: f64| if random.random() { random.random_range(0.0..most) } else { 0.0 };
        let (lose, lose_ack, vanish) = (up_to(0.03), up_to(0.03), up_to(0.01));
        let (duplicate, delay, reorder) = (up_to(0.1), up_to(0.3), up_to(0.1));
        let (no_offset, refuse) = (up_to(0.1), up_to(0.02));
        let (seed, turns_max) = (random.random(), random.random_range(0..20));
        Chaos { seed, lose, lose_ack, vanish, duplicate, delay, reorder, no_offset, refuse, turns_max }
    }
}
