//! Everything stops at each operation in turn, of writing and of opening, again and again; now only the program was
//! killed and the cache is whole, now the power went and any of the unflushed sectors survive.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::{FakeDisk, Fault};
use super::faults::work;
use super::{PARTITIONS, counts, open, read_all};
use crate::local::OpenError;
use crate::raw::{RawLog, RawReader, RawRecord};

/// Reads until it fails; answers the end of what it saw of each partition.
async fn watch(mut reader: Box<dyn RawReader>) -> Vec<u64> {
    let mut seen = vec![0; usize::from(PARTITIONS)];
    let mut records: Vec<RawRecord> = Vec::new();
    while reader.next(2000, &mut records).await.is_ok() {
        for record in records.drain(..) {
            seen[usize::from(record.partition)] = record.offset + 1;
        }
    }
    seen
}

fn at_least(found: &[u64], known: &[u64]) -> bool {
    found.iter().zip(known).all(|(found, known)| found >= known)
}

fn raise(known: &mut [u64], to: &[u64]) {
    known.iter_mut().zip(to).for_each(|(known, to)| *known = (*known).max(*to));
}

/// What a log went through: how much of it must be there, and how much can be.
struct Life {
    disk: FakeDisk,
    known: Vec<u64>,
    submitted: Vec<u64>,
}

impl Life {
    /// Opens, appends and reads until everything stops at operation `at`; answers whether it did stop.
    async fn generation(&mut self, at: u64) -> bool {
        self.disk.arm(Some(Fault::PowerCut { at }));
        match open(&self.disk) {
            Ok(log) => {
                let mut ends = Vec::new();
                for partition in 0..PARTITIONS {
                    ends.push(log.end(partition).await.unwrap());
                }
                assert!(at_least(&ends, &self.known), "{:?} became {ends:?}", self.known);
                let reader = log.reader(&[(0, 0), (1, 0), (2, 0)]).await.unwrap();
                let watched = tokio::spawn(watch(reader));
                let (acknowledged, submitted) = work(&log, &ends).await;
                drop(log);
                raise(&mut self.known, &acknowledged);
                raise(&mut self.known, &watched.await.unwrap());
                raise(&mut self.submitted, &submitted);
            }
            Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error}"),
        }
        self.disk.operations() > at
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_or_served_is_lost_by_power_cuts_and_kills() {
    let (mut cut_off, none) = (0, vec![0; usize::from(PARTITIONS)]);
    for at in 0.. {
        let mut stopped = false;
        for seed in 0..8 {
            let mut random = StdRng::seed_from_u64(1000 * at + seed);
            let mut life = Life { disk: FakeDisk::new(), known: none.clone(), submitted: none.clone() };
            for generation in 0..5 {
                let at = if generation == 0 { at } else { random.random_range(0..50) };
                stopped |= life.generation(at).await && generation == 0;
                if random.random_bool(0.4) {
                    life.disk.restart_after_kill();
                } else {
                    life.disk.restart_after_power_cut(random.random());
                }
            }
            let log = open(&life.disk).unwrap_or_else(|error| panic!("cut at {at}, seed {seed}: {error}"));
            let found = counts(&read_all(&log).await.unwrap());
            assert!(at_least(&found, &life.known), "cut at {at}, seed {seed}: {:?}, {found:?}", life.known);
            assert!(at_least(&life.submitted, &found), "cut at {at}, seed {seed}: {found:?}");
            cut_off += u64::from(found != life.submitted);
        }
        if !stopped {
            break;
        }
    }
    assert!(cut_off > 20, "the cuts should have met groups, not only {cut_off} times");
}
