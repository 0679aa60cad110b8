//! The disk in memory, as the log uses it.

use std::any::Any;
use std::io;
use std::path::Path;

use super::{Contents, FakeDisk, Fault};
use crate::local::frame::SECTOR;
use crate::local::port::{Port, PortFile};

struct FakeFile {
    disk: FakeDisk,
    file: usize,
}

struct Unlock(FakeDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

impl Port for FakeDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        self.operation().map(drop)
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.operation()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Unlock(self.clone())))
    }

    fn holder(&self, _: &Path) -> Option<u32> {
        None
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let state = self.operation()?;
        Ok(state.names.keys().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn PortFile>> {
        let mut state = self.operation()?;
        let file = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(path.to_owned(), file);
        state.name_changed();
        Ok(Box::new(FakeFile { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn PortFile>> {
        let file = self.operation()?.file(path)?;
        Ok(Box::new(FakeFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let file = state.file(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        state.name_changed();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        state.file(path)?;
        state.names.remove(path);
        state.name_changed();
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        state.history = vec![state.names.clone()];
        Ok(())
    }
}

impl PortFile for FakeFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.operation()?.files[self.file].cache.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.operation()?;
        let cache = &state.files[self.file].cache;
        let rest = cache.get(at as usize..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let failed = match self.disk.operation() {
            Ok(mut state) => return state.write(self.file, bytes, at as usize),
            Err(error) => error,
        };
        // Half of its sectors got there.
        let half = &bytes[..bytes.len() / 2 / SECTOR * SECTOR];
        let mut state = self.disk.state();
        if matches!(state.fault, Some(Fault::Error { .. })) || state.operations_just_now() {
            state.write(self.file, half, at as usize)?;
        }
        Err(failed)
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.operation() {
            Ok(mut state) => {
                let file = &mut state.files[self.file];
                std::mem::take(&mut file.changed).into_iter().for_each(|sector| file.keep(sector));
                Ok(())
            }
            Err(error) => {
                let mut state = self.disk.state();
                if matches!(state.fault, Some(Fault::Error { .. })) {
                    state.files[self.file].changed.clear();
                }
                Err(error)
            }
        }
    }
}
