//! A file system in a file, mounted, that can lose its power.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::FileSystem;

/// Its size; mkfs.xfs makes none below 300 MB. The file has holes, so it takes what is written.
const BYTES: u64 = 512 << 20;

impl FileSystem {
    /// The program that makes one.
    pub(super) fn maker(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// One of them. Dropped, it is unmounted.
pub(super) struct Volume {
    fs: FileSystem,
    image: PathBuf,
    root: PathBuf,
    cuts: u64,
}

impl Volume {
    /// A new one in a file in `folder`, mounted beside it.
    pub(super) fn make(fs: FileSystem, folder: &Path) -> anyhow::Result<Self> {
        let volume = Self { fs, image: folder.join("image"), root: folder.join("disk"), cuts: 0 };
        File::create(&volume.image)?.set_len(BYTES)?;
        fs::create_dir(&volume.root)?;
        said(Command::new(fs.maker()).arg("-q").arg(&volume.image))?;
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// How often its power was cut.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Stops it: what was not flushed is gone. Proves it by a file that can no longer be made.
    pub(super) fn cut(&mut self) -> anyhow::Result<()> {
        // Without flushing the file system's own journal either, which is this command's default.
        said(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.root))?;
        ensure!(File::create(self.root.join("probe")).is_err(), "the power is still on");
        self.cuts += 1;
        Ok(())
    }

    /// Brings it back, by the file system's own recovery.
    pub(super) fn back(&self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&self) -> anyhow::Result<()> {
        said(
            Command::new("mount").args(["-o", "loop", "-t", self.fs.name()]).arg(&self.image).arg(&self.root),
        )
    }

    fn unmount(&self) -> anyhow::Result<()> {
        said(Command::new("umount").arg(&self.root))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // What cannot be unmounted here goes with the process.
        if let Err(error) = self.unmount() {
            eprintln!("shopstream-torture: {error:#}");
        }
    }
}

/// Runs a command that must succeed.
fn said(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| name.clone())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}
