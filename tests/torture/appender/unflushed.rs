//! The control of `power`: a disk that flushes a segment as it is made, and then never again. It lives here and not in
//! the product, which has no such switch.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use shopstream_eventlog::local::port::{Disk, Port, PortFile};

/// A new segment is flushed when its zeros are written and when its header is.
const FLUSHES: u32 = 2;

/// The disk.
pub(super) struct Unflushed;

struct UnflushedFile {
    file: Box<dyn PortFile>,
    left: AtomicU32,
}

impl Port for Unflushed {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.make_dir(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Disk.lock(dir)
    }

    fn holder(&self, dir: &Path) -> Option<u32> {
        Disk.holder(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn PortFile>> {
        Ok(Box::new(UnflushedFile { file: Disk.create(path)?, left: AtomicU32::new(FLUSHES) }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn PortFile>> {
        Ok(Box::new(UnflushedFile { file: Disk.open(path)?, left: AtomicU32::new(0) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
}

impl PortFile for UnflushedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        let one_less = |left: u32| left.checked_sub(1);
        let counted = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if counted.is_ok() { self.file.sync() } else { Ok(()) }
    }
}
