//! The system's files, one operation of which fails.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shopstream_eventlog::local::port::{Disk, Port, PortFile};

use super::fault::{Call, Kind, Operation};

/// How many more times a full disk has no room for a new file.
const STILL_FULL: u32 = 4;

/// The disk.
pub(super) struct FaultyDisk(Arc<Shared>);

struct Shared {
    fault: Option<(u64, Kind)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    hit: Option<Operation>,
    still_full: u32,
    /// What stood, since the last flush, in the places that were written to since.
    unflushed: HashMap<PathBuf, Vec<(u64, Vec<u8>)>>,
}

/// What is to become of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    Fails(Kind),
}

impl FaultyDisk {
    /// Its operation `at`, counted from 0, fails, if it can in this way.
    pub(super) fn new(at: u64, kind: Kind) -> Self {
        Self(Arc::new(Shared { fault: Some((at, kind)), state: Mutex::default() }))
    }

    /// None fails.
    pub(super) fn whole() -> Self {
        Self(Arc::new(Shared { fault: None, state: Mutex::default() }))
    }

    /// All operations so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.0.state().calls.clone()
    }

    /// The operation that failed.
    pub(super) fn hit(&self) -> Option<Operation> {
        self.0.state().hit
    }

    /// An operation that is done, or not, or done and said not to be.
    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.run(operation, path, work)
    }

    fn file(&self, path: &Path, file: Box<dyn PortFile>) -> Box<dyn PortFile> {
        Box::new(FaultyFile { shared: self.0.clone(), path: path.to_owned(), file })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and says what becomes of it.
    fn enter(&self, operation: Operation, path: &Path) -> Fate {
        let mut state = self.state();
        let number = state.calls.len() as u64;
        let mut kind =
            self.fault.filter(|(at, kind)| *at == number && kind.suits(operation)).map(|(_, kind)| kind);
        if kind == Some(Kind::Full) {
            state.still_full = STILL_FULL;
        } else if state.still_full > 0 && operation == Operation::Create {
            state.still_full -= 1;
            kind = Some(Kind::Full);
        }
        // A short read is no failure: whoever reads has to go on reading.
        let failed = kind.is_some() && (kind, operation) != (Some(Kind::Short), Operation::Read);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        state.calls.push(Call { operation, file, thread, failed });
        match kind {
            Some(kind) => {
                state.hit.get_or_insert(operation);
                Fate::Fails(kind)
            }
            None => Fate::Done,
        }
    }

    fn run<T>(
        &self,
        operation: Operation,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match self.enter(operation, path) {
            Fate::Done => work(),
            Fate::Fails(kind) => {
                if kind == Kind::Done {
                    work()?;
                }
                Err(kind.error())
            }
        }
    }
}

impl Port for FaultyDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.run(Operation::MakeDir, dir, || Disk.make_dir(dir))
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.run(Operation::Lock, dir, || Disk.lock(dir))
    }

    fn holder(&self, dir: &Path) -> Option<u32> {
        Disk.holder(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.run(Operation::List, dir, || Disk.list(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn PortFile>> {
        self.run(Operation::Create, path, || Ok(self.file(path, Disk.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn PortFile>> {
        self.run(Operation::Open, path, || Ok(self.file(path, Disk.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Operation::Rename, from, || Disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(Operation::Remove, path, || Disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.run(Operation::SyncDir, dir, || Disk.sync_dir(dir))
    }
}

struct FaultyFile {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Box<dyn PortFile>,
}

impl FaultyFile {
    /// Writes, and remembers what stood there.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut before = vec![0; bytes.len()];
        let mut filled = 0;
        while filled < before.len() {
            match self.file.read_at(&mut before[filled..], at + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        self.shared.state().unflushed.entry(self.path.clone()).or_default().push((at, before));
        self.file.write_at(bytes, at)
    }

    /// Puts back what stood there at the last flush, as a system does that throws away pages it could not write.
    fn forget(&self) -> io::Result<()> {
        let unflushed = self.shared.state().unflushed.remove(&self.path).unwrap_or_default();
        unflushed.iter().rev().try_for_each(|(at, before)| self.file.write_at(before, *at))
    }
}

impl PortFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.shared.run(Operation::Length, &self.path, || self.file.length())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        match self.shared.enter(Operation::Read, &self.path) {
            Fate::Done => self.file.read_at(bytes, at),
            Fate::Fails(Kind::Short) => {
                let half = bytes.len().div_ceil(2);
                self.file.read_at(&mut bytes[..half], at)
            }
            Fate::Fails(kind) => Err(kind.error()),
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let written = match self.shared.enter(Operation::Write, &self.path) {
            Fate::Done => return self.write(bytes, at),
            Fate::Fails(kind @ Kind::Short) => {
                // Not a multiple of a sector.
                self.write(&bytes[..bytes.len() * 2 / 3], at)?;
                kind
            }
            Fate::Fails(kind @ Kind::Done) => {
                self.write(bytes, at)?;
                kind
            }
            Fate::Fails(kind @ (Kind::Error | Kind::Full | Kind::Forgotten)) => kind,
        };
        Err(written.error())
    }

    fn sync(&self) -> io::Result<()> {
        let fate = self.shared.enter(Operation::Sync, &self.path);
        if matches!(fate, Fate::Done | Fate::Fails(Kind::Done)) {
            self.file.sync()?;
            self.shared.state().unflushed.remove(&self.path);
        }
        match fate {
            Fate::Done => Ok(()),
            Fate::Fails(kind) => {
                if kind == Kind::Forgotten {
                    self.forget()?;
                }
                Err(kind.error())
            }
        }
    }
}
