//! The data folder: one node at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

/// The right to use a data folder, until it is dropped.
pub(super) struct Held(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Takes the folder, making it where it is missing.
///
/// # Errors
/// Another process uses it, or it cannot be made.
pub(super) fn hold(folder: &Path) -> anyhow::Result<Held> {
    std::fs::create_dir_all(folder).with_context(|| {
        format!("making the data folder {}: name another with --data or make it yourself", folder.display())
    })?;
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(Held(lock))
        }
        Err((mut file, _)) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            let holder =
                if holder.trim().is_empty() { "another".to_owned() } else { holder.trim().to_owned() };
            bail!(
                "the data folder {} is used by process {holder}: stop it, or name another folder with --data",
                folder.display()
            )
        }
    }
}
