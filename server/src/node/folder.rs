//! The data folder: one node at a time, and always its owner's.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};

/// What a node makes in its folder as the user that it runs as.
const OWN: [&str; 3] = ["lock", "log", "provider"];

/// The right to use a data folder, until it is dropped.
pub(super) struct Held(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Takes the folder, making it where it is missing.
///
/// # Errors
/// Another process uses it, it is another user's, or it cannot be made. Nothing is changed then.
pub(super) fn hold(folder: &Path) -> anyhow::Result<Held> {
    check_owner(folder)?;
    fs::create_dir_all(folder).with_context(|| {
        format!("making the data folder {}: name another with --data or make it yourself", folder.display())
    })?;
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
                .with_context(|| format!("writing {}", path.display()))?;
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

/// Whether a shop was ever begun in this folder.
pub(crate) fn has_shop(folder: &Path) -> bool {
    ["log", "postgres"].iter().any(|name| folder.join(name).exists())
}

/// This folder as its machine knows it, by whatever name it is called. A copy of it is another one, and so is one on
/// another machine.
pub(crate) fn identity(folder: &Path) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{}/{}", boot.trim(), place(folder)?))
}

/// This folder as its file system knows it, `DEVICE:INODE`.
pub(crate) fn place(folder: &Path) -> Option<String> {
    let meta = fs::metadata(folder).ok()?;
    Some(format!("{}:{}", meta.dev(), meta.ino()))
}

/// What root would write here, the owner could not open any more.
fn check_owner(folder: &Path) -> anyhow::Result<()> {
    let me = Uid::effective();
    for path in OWN.map(|name| folder.join(name)) {
        let Ok(meta) = fs::metadata(&path) else { continue };
        let owner = Uid::from_raw(meta.uid());
        ensure!(
            owner == me,
            "{} belongs to user {}, and this process is user {}'s: run it as {owner}, or name another folder with --data; \
             nothing was changed",
            path.display(),
            name_of(owner),
            name_of(me),
            owner = name_of(owner)
        );
    }
    Ok(())
}

fn name_of(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("number {uid}"), |user| user.name)
}
