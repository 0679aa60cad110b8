//! Everything stops at each operation in turn, of writing and of opening, again and again; now only the program was
//! killed and the cache is whole, now the power went and any of the unflushed sectors survive.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::{FakeDisk, Fault};
use super::faults::work;
use super::sample::{ONE, Sample, served};
use super::{PARTITIONS, append, counts, open, read_all};
use crate::local::OpenError;
use crate::local::port::Port;
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

/// The program was killed between a group's write and its flush; the opening after that loses power, anywhere. The
/// group may come or go, but what is left must open: a seal must not vouch for what is not there.
#[test]
fn an_opening_that_loses_power_leaves_a_log_that_opens() {
    let sample = Sample::new(false);
    let last = *sample.groups.last().unwrap();
    let (with, without) = (sample.counts_before(sample.end), sample.counts_before(last));
    let mut outcomes = [0, 0];
    for at in 0..30 {
        for seed in 0..200 {
            let disk = FakeDisk::new();
            let mut before = sample.bytes.clone();
            before[last..].fill(0);
            disk.put(ONE, before);
            let file = disk.open(&Path::new("/log").join(ONE)).unwrap();
            file.write_at(&sample.bytes[last..sample.end], last as u64).unwrap();
            disk.arm(Some(Fault::PowerCut { at }));
            let opened = served(&disk).is_ok();
            disk.restart_after_power_cut(seed);
            let found =
                served(&disk).unwrap_or_else(|error| panic!("cut at {at}, seed {seed}: {error}")).unwrap();
            assert!(found == with || (!opened && found == without), "cut at {at}, seed {seed}: {found:?}");
            outcomes[usize::from(found == with)] += 1;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 100), "{outcomes:?}");
}

/// Killed between naming the first segment and making the name durable. The log goes on in that file, and no other
/// flush of the directory comes to help: the disk is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_found_at_opening_keeps_its_name() {
    for at in 0..12 {
        for seed in 0..8 {
            let disk = FakeDisk::new();
            disk.arm(Some(Fault::PowerCut { at }));
            drop(open(&disk));
            disk.restart_after_kill();
            disk.set_room(Some(16 << 10));
            let log = open(&disk).unwrap();
            append(&log, 0, 0..5).await;
            disk.arm(Some(Fault::PowerCut { at: 0 }));
            drop(log);
            disk.restart_after_power_cut(seed);
            disk.set_room(None);
            let found = counts(&read_all(&open(&disk).unwrap()).await.unwrap());
            assert_eq!(found, [5, 0, 0], "killed at {at}, seed {seed}");
        }
    }
}
