//! The log on one machine: an append file of our own.
//!
//! Promise: a record whose delivery was reported survives the crash of the program and the loss of power; no reader
//! ever sees a record that is not durable; damage is refused with its place, never repaired by guess.
//!
//! All partitions share one sequence of segment files, `0000000000000001.seg` and so on, made in full with zeros
//! beforehand. One thread ([`writer`]) appends groups; one thread ([`tail`]) reads them back for whoever follows;
//! readers that are behind scan the files ([`reader`], [`scan`]). Formats: [`frame`], [`segment`].
//!
//! # What happens at opening to the end of the log
//!
//! Three facts: (a) group n + 1 is only begun when the flush of group n came back well; (b) everything behind the
//! last group is zeros, written beforehand and durable; (c) a disk writes a sector of 512 bytes whole or not at all,
//! and groups begin at sectors, so a write never touches the sectors of a group before it. Hence, in order:
//!
//! 1. A segment before the last one with a header is complete: that header was written after it. It is not looked
//!    at here; every reader checks what it reads, and damage is answered with file and byte.
//! 2. In the last one, groups are taken while they are whole: number, checksums, count, last byte, padding, offsets.
//! 3. The start of the expected group is valid but the group is not whole. If any byte behind the group's length is
//!    not zero, it was complete (a, b): **refused**. If not, and one of its sectors is all zeros or its last byte is
//!    zero, it is what an interrupted write leaves (c): **cut**. Otherwise nothing is missing but something is wrong:
//!    **refused**.
//! 4. No valid start is there. If a valid start or seal of this or a later group stands further on: **refused**.
//!    If the sector is all zeros (or holds the seal that was there before the group), or nothing but zeros follows
//!    the length of a start: **cut**. Otherwise **refused**.
//! 5. Wrong offsets, count or padding in a group whose checksums are right, and a file shorter than it was made, are
//!    never the work of a crash: **refused**.
//!
//! What is cut is overwritten with zeros, the last group is written once more (a failed flush may have left it in
//! memory only), and all of it is durable before the log opens. Then a seal is written: a frame that says "group n
//! was durable", in the place of group n + 1, which overwrites it. The same seal is written when the log is closed,
//! and when nothing was appended for [`Options::seal_after`].
//!
//! What remains: until a seal or another group is behind it, damage to the last acknowledged group is cut as if it
//! were torn, if that damage made a sector all zeros, or if one of its records holds 512 zeros at a sector of the
//! file. (Single flipped bits in other groups are refused even there.) And a disk that confirms a flush and
//! forgets it, or one that tears inside a sector, breaks fact (c): the first is found by the readers' cursors,
//! the second is refused rather than cut. A bit flipped in the zeros behind the end is overwritten at opening.

mod frame;
mod index;
mod open;
pub mod port;
mod queue;
mod reader;
mod recover;
mod scan;
mod segment;
mod spare;
mod tail;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use shopstream_domain::Partition;

use self::index::{Index, Place, Point};
pub use self::open::{Holder, OpenError, Options};
use self::port::{Disk, Port};
use self::queue::{LocalAppender, Queue};
use self::reader::LocalReader;
use self::recover::recover;
use self::scan::Scan;
use self::segment::HEADER;
use self::spare::Spares;
use self::tail::Tail;
use self::writer::Writer;
use crate::cursor::Offset;
use crate::raw::{Appender, RawError, RawLog, RawReader};
use crate::record::MAX_RECORD;

/// A log in a directory that this process alone has open. Dropping it writes what was submitted, ends its readers
/// and appenders, and unlocks the directory.
pub struct LocalLog {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    tail: Option<JoinHandle<()>>,
    /// Let go last.
    _lock: Box<dyn Any + Send + Sync>,
}

/// What all parts of an open log know.
struct Shared {
    store: Arc<Store>,
    queue: Queue,
    tail: Tail,
    poison: OnceLock<String>,
    partitions: u16,
    in_flight_bytes: usize,
    record_max: usize,
}

/// The files and what is known of them.
struct Store {
    port: Arc<dyn Port>,
    dir: PathBuf,
    index: Index,
}

impl LocalLog {
    /// Opens the log in `options.dir`, or makes one where there is none.
    ///
    /// # Errors
    /// See [`OpenError`]; then nothing was changed that a second attempt would miss.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Self::open_with(options, Arc::new(Disk))
    }

    /// [`LocalLog::open`] with other file operations.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(options: Options, port: Arc<dyn Port>) -> Result<Self, OpenError> {
        options.check()?;
        let Options { dir, partitions, segment_bytes, .. } = options;
        port.make_dir(&dir).map_err(OpenError::io("make", &dir))?;
        let lock = port.lock(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                OpenError::Locked { holder: Holder(port.holder(&dir)), dir: dir.clone() }
            }
            _ => OpenError::io("lock", &dir)(error),
        })?;
        let recovered = recover(&*port, &dir, partitions, segment_bytes)?;
        let at = recovered.at;
        let index = Index::new(&recovered.headers, at.position, &at.ends);
        let segment = at.segment;
        for (position, group, ends) in &recovered.points {
            index.note(Place { segment, position: *position }, *group, ends);
        }
        let end = Place { segment, position: at.position };
        let follow_from = Point { place: end, group: at.group, ends: at.ends.as_slice().into() };
        let store = Arc::new(Store { port: port.clone(), dir: dir.clone(), index });
        let shared = Arc::new(Shared {
            store: store.clone(),
            queue: Queue::default(),
            tail: Tail::new(end, options.follower_bytes),
            poison: OnceLock::new(),
            partitions,
            in_flight_bytes: options.in_flight_bytes,
            record_max: MAX_RECORD.min(segment_bytes as usize - HEADER - 1024),
        });
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(OpenError::io("start a thread for", &dir))
        };
        let spares = Spares::start(port, dir.clone(), segment_bytes, segment + 1, recovered.spare)
            .map_err(OpenError::io("start a thread for", &dir))?;
        let writer = Writer::new(shared.clone(), at, spares, options.seal_after);
        let mut log = Self { shared: shared.clone(), writer: None, tail: None, _lock: lock };
        log.writer = Some(spawn("log-writer", Box::new(move || writer.run()))?);
        let scan = Scan::new(store, &follow_from);
        log.tail = Some(spawn("log-tail", Box::new(move || Tail::run(&shared, scan)))?);
        Ok(log)
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.shared.queue.close();
        // A thread that panicked has poisoned the log; there is nothing to add.
        let _ = self.writer.take().map(JoinHandle::join);
        self.shared.store.index.close();
        let _ = self.tail.take().map(JoinHandle::join);
    }
}

#[async_trait]
impl RawLog for LocalLog {
    fn partitions(&self) -> u16 {
        self.shared.partitions
    }

    async fn appender(&self, partition: Partition) -> Result<Box<dyn Appender>, RawError> {
        self.shared.end(partition)?;
        self.shared.poisoned().map_or(Ok(()), Err)?;
        Ok(Box::new(LocalAppender::new(self.shared.clone(), partition)))
    }

    async fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn RawReader>, RawError> {
        Ok(Box::new(LocalReader::new(self.shared.clone(), from)?))
    }

    async fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        self.shared.end(partition)
    }
}

impl Shared {
    fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        let detail = || format!("there is no partition {partition}, only {}", self.partitions);
        self.store.index.end(partition).ok_or_else(|| RawError::Refused { detail: detail() })
    }

    /// The state of the disk is unknown from now on: nothing is written any more.
    fn poison(&self, error: &dyn fmt::Display) {
        let error = error.to_string();
        if self.poison.set(error.clone()).is_ok() {
            metrics::gauge!("shopstream_log_local_poisoned").set(1.0);
            tracing::error!("the log in {} takes no more records: {error}", self.store.dir.display());
        }
    }

    fn poisoned(&self) -> Option<RawError> {
        self.poison.get().map(|detail| RawError::Poisoned { detail: detail.clone() })
    }
}

/// A lock is only held for a few plain moves, so a panic elsewhere leaves what it guards whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

fn wait_timeout<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}
