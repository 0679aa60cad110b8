//! Prepares the next segment while the writer fills the one before, so that going over to it costs the writer nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::port::{Port, PortFile};
use super::segment;

/// How long after a failure for want of room the next attempt is made at the earliest.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A prepared segment.
pub(super) type Spare = (Box<dyn PortFile>, u64);

/// The next segment, or the thread that makes it.
pub(super) struct Spares {
    state: State,
    asked: Option<Sender<u64>>,
    made: Receiver<io::Result<Spare>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

enum State {
    Ready(Spare),
    Coming,
    /// No room, as of then.
    Full(Instant),
}

/// Why there is no spare.
#[derive(Debug)]
pub(super) enum NoSpare {
    /// The disk has no room; it may have later.
    Full,
    /// The disk does not work.
    Broken(io::Error),
}

impl Spares {
    /// Starts the thread. `next` is the number of the next segment, `ready` it, where it is there already.
    pub(super) fn start(
        port: Arc<dyn Port>,
        dir: PathBuf,
        length: u64,
        next: u64,
        ready: Option<Spare>,
    ) -> io::Result<Self> {
        let (asked, asks) = channel();
        let (makes, made) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("log-spare".into()).spawn(move || {
            for number in asks {
                let spare = segment::prepare(&*port, &dir, number, length, &stopped);
                if makes.send(spare.map(|file| (file, length))).is_err() {
                    return;
                }
            }
        })?;
        let asked = Some(asked);
        let mut spares = Self { state: State::Coming, asked, made, stop, thread: Some(thread) };
        match ready {
            Some(spare) => spares.state = State::Ready(spare),
            None => spares.ask(next),
        }
        Ok(spares)
    }

    /// The spare for segment `number`; the one behind it is asked for with [`Spares::ask`].
    pub(super) fn take(&mut self, number: u64) -> Result<Spare, NoSpare> {
        if let State::Full(since) = self.state {
            if since.elapsed() < RETRY_AFTER {
                return Err(NoSpare::Full);
            }
            self.ask(number);
        }
        if let State::Ready(spare) = std::mem::replace(&mut self.state, State::Coming) {
            return Ok(spare);
        }
        let mut made = self.receive()?;
        // It may have failed long ago, when nobody needed it.
        if is_full(&made) {
            self.ask(number);
            made = self.receive()?;
        }
        if is_full(&made) {
            self.state = State::Full(Instant::now());
            return Err(NoSpare::Full);
        }
        made.map_err(NoSpare::Broken)
    }

    /// Has segment `number` prepared.
    pub(super) fn ask(&mut self, number: u64) {
        self.state = State::Coming;
        if let Some(asked) = &self.asked {
            // A thread that is gone shows when its answer is missed.
            let _ = asked.send(number);
        }
    }

    fn receive(&self) -> Result<io::Result<Spare>, NoSpare> {
        self.made.recv().map_err(|error| NoSpare::Broken(io::Error::other(error)))
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, was printed; there is nothing left to undo.
            let _ = thread.join();
        }
    }
}

fn is_full(made: &io::Result<Spare>) -> bool {
    made.as_ref().is_err_and(is_no_room)
}

/// Whether an error says that the disk is full.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
