//! How a local log is opened, and why it may not be.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::segment::{HEADER, PARTITIONS_MAX, SEGMENT_MAX, SEGMENT_MIN};
use super::spare::is_no_room;

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made where it is missing.
    pub dir: PathBuf,
    /// The number of partitions. A directory that has a log must have been made with as many.
    pub partitions: u16,
    /// The length of new segments, a multiple of 4096; also bounds a record where it is under 1 MiB.
    pub segment_bytes: u64,
    /// How much an appender may have in flight.
    pub in_flight_bytes: usize,
    /// How much may wait for a reader of the live tail before it has to go on from the files.
    pub follower_bytes: usize,
    /// After how long without an append the end of the log is sealed.
    pub seal_after: Duration,
}

impl Options {
    /// The defaults.
    pub fn new(dir: impl Into<PathBuf>, partitions: u16) -> Self {
        Self {
            dir: dir.into(),
            partitions,
            segment_bytes: 64 << 20,
            in_flight_bytes: 8 << 20,
            follower_bytes: 16 << 20,
            seal_after: Duration::from_millis(100),
        }
    }

    /// Whether such a log can be.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let Self { partitions, segment_bytes, .. } = *self;
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            let detail = format!("a local log has 1 to {PARTITIONS_MAX} partitions, not {partitions}");
            return Err(OpenError::Options { detail });
        }
        if !(SEGMENT_MIN..=SEGMENT_MAX).contains(&segment_bytes)
            || !segment_bytes.is_multiple_of(HEADER as u64)
        {
            let detail = format!("a segment has {SEGMENT_MIN} to {SEGMENT_MAX} bytes in steps of {HEADER}");
            return Err(OpenError::Options { detail });
        }
        Ok(())
    }
}

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the log in {} is open in {holder}: stop that one, or name another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who.
        holder: Holder,
    },
    /// It was made with another number of partitions.
    #[error(
        "the log in {} has {found} partitions, not the {asked} that were asked for: ask for {found}, or name an empty directory",
        dir.display()
    )]
    Partitions {
        /// The directory.
        dir: PathBuf,
        /// How many it has.
        found: u16,
        /// How many were asked for.
        asked: u16,
    },
    /// A program with another format made it.
    #[error("{} has format {found}, which this program does not know: run a newer one", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u16,
    },
    /// Bytes are not what was written. Nothing was changed.
    #[error("the log is damaged in {} at byte {byte}: {detail}; bring the file back from a copy", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The byte.
        byte: u64,
        /// What is wrong.
        detail: String,
    },
    /// No room to begin.
    #[error("no room on the disk for {}: free some space and start again", path.display())]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
    },
    /// An option that cannot be.
    #[error("{detail}")]
    Options {
        /// Which, and what could be.
        detail: String,
    },
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl OpenError {
    /// Says at what an operation failed.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = PathBuf::from(path);
        move |source| {
            if is_no_room(&source) { Self::DiskFull { path } } else { Self::Io { action, path, source } }
        }
    }
}

/// Who holds a lock, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(pub Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}
