//! A disk in memory that can fail an operation, fill up, lose power, and be changed behind the log's back.
//!
//! A write goes to the cache; a flush makes the file's changed sectors durable; names become durable with the flush
//! of their directory. A power cut keeps any of the changed sectors and any prefix of the name changes. After a
//! failed flush the changed sectors look clean and are in the cache only: the habit of Linux that makes trying
//! again a lie.

mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::frame::SECTOR;
use super::super::lock;
use super::super::port::Port;

type Names = BTreeMap<PathBuf, usize>;

/// The disk; clones are the same disk.
#[derive(Clone)]
pub(super) struct FakeDisk(Arc<Mutex<State>>);

struct State {
    files: Vec<Contents>,
    names: Names,
    /// The durable names, then each change since.
    history: Vec<Names>,
    operations: u64,
    fault: Option<Fault>,
    room: Option<usize>,
    locked: bool,
    lies: bool,
}

#[derive(Default)]
struct Contents {
    cache: Vec<u8>,
    durable: Vec<u8>,
    changed: BTreeSet<usize>,
}

/// What happens at which operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// This one fails.
    Error { at: u64 },
    /// This one and all after it fail; a write may still reach the cache.
    PowerCut { at: u64 },
}

impl FakeDisk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: Names::new(),
            history: vec![Names::new()],
            operations: 0,
            fault: None,
            room: None,
            locked: false,
            lies: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Counts operations from 0 again; `fault` happens at the operation of its number.
    pub(super) fn arm(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.operations, state.fault) = (0, fault);
    }

    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// No more than this in all files together.
    pub(super) fn set_room(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// Power comes back: of what was not durable, `seed` decides what is there.
    pub(super) fn restart_after_power_cut(&self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut state = self.state();
        let survived = random.random_range(0..state.history.len());
        state.names = state.history[survived].clone();
        state.history = vec![state.names.clone()];
        // All, nothing, or each sector by itself.
        let chance = [0.0, 0.5, 0.9, 1.0][random.random_range(0..4)];
        for file in &mut state.files {
            for sector in std::mem::take(&mut file.changed) {
                if random.random_bool(chance) {
                    file.keep(sector);
                }
            }
            file.cache.clone_from(&file.durable);
        }
        (state.fault, state.locked) = (None, false);
    }

    /// The program starts again; the machine never stopped.
    pub(super) fn restart_after_kill(&self) {
        let mut state = self.state();
        (state.fault, state.locked) = (None, false);
    }

    /// From now on what is written is not what was given.
    pub(super) fn lie(&self) {
        self.state().lies = true;
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.list(Path::new("/log")).unwrap()
    }

    /// A file's bytes.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[&Path::new("/log").join(name)]].cache.clone()
    }

    /// Puts a file there, durably.
    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(Contents { durable: bytes.clone(), cache: bytes, changed: BTreeSet::new() });
        state.names.insert(Path::new("/log").join(name), file);
        state.history = vec![state.names.clone()];
    }

    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let number = state.operations;
        state.operations += 1;
        match state.fault {
            Some(Fault::Error { at }) if number == at => Err(broken()),
            Some(Fault::PowerCut { at }) if number >= at => Err(broken()),
            _ => Ok(state),
        }
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl State {
    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name_changed(&mut self) {
        self.history.push(self.names.clone());
    }
}

impl Contents {
    fn keep(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.cache.len());
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.cache[range]);
    }
}

impl State {
    fn operations_just_now(&self) -> bool {
        matches!(self.fault, Some(Fault::PowerCut { at }) if self.operations == at + 1)
    }

    fn write(&mut self, file: usize, bytes: &[u8], at: usize) -> io::Result<()> {
        let used: usize = self.names.values().map(|file| self.files[*file].cache.len()).sum();
        let file = &mut self.files[file];
        let end = at + bytes.len();
        let grows = end.saturating_sub(file.cache.len());
        if self.room.is_some_and(|room| grows > 0 && used + grows > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if grows > 0 {
            file.cache.resize(end, 0);
        }
        file.cache[at..end].copy_from_slice(bytes);
        if self.lies {
            file.cache[end - 1 - bytes.len() / 2] ^= 4;
        }
        file.changed.extend(at / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }
}
