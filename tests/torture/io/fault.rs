//! What can be asked of a disk, and in which ways it can fail.

use std::fmt;
use std::io;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// In which way it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// EIO, and nothing was done.
    Error,
    /// ENOSPC, and nothing was done; and so for a while wherever a new file needs room.
    Full,
    /// A write puts some of its bytes there, then ENOSPC; a read gives half of what it could, and no error.
    Short,
    /// EIO, and it was done all the same.
    Done,
    /// A flush fails with EIO, and what it should have flushed is gone.
    Forgotten,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Error, Self::Full, Self::Short, Self::Done, Self::Forgotten];

    /// Whether an operation can fail so.
    pub(super) fn suits(self, operation: Operation) -> bool {
        match self {
            Self::Error | Self::Full | Self::Done => true,
            Self::Short => matches!(operation, Operation::Read | Operation::Write),
            Self::Forgotten => operation == Operation::Sync,
        }
    }

    /// What the system says.
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Error | Self::Done | Self::Forgotten => EIO,
            Self::Full | Self::Short => ENOSPC,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Full => "full",
            Self::Short => "short",
            Self::Done => "done",
            Self::Forgotten => "forgotten",
        })
    }
}

/// An operation of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    MakeDir,
    Lock,
    List,
    Create,
    Open,
    Rename,
    Remove,
    SyncDir,
    Length,
    Read,
    Write,
    Sync,
}

impl Operation {
    /// Those that the script must come to. It removes a file only where something else went wrong before.
    pub(super) const ALL: [Self; 11] = [
        Self::MakeDir,
        Self::Lock,
        Self::List,
        Self::Create,
        Self::Open,
        Self::Rename,
        Self::SyncDir,
        Self::Length,
        Self::Read,
        Self::Write,
        Self::Sync,
    ];

    /// Whether it writes to a file, or makes durable what was written.
    pub(super) fn changes_a_file(self) -> bool {
        matches!(self, Self::Write | Self::Sync)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MakeDir => "make_dir",
            Self::Lock => "lock",
            Self::List => "list",
            Self::Create => "create",
            Self::Open => "open",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDir => "sync_dir",
            Self::Length => "length",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
        })
    }
}

/// An operation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) file: String,
    pub(super) thread: String,
    pub(super) failed: bool,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.operation, self.file)
    }
}
