//! A file system in a file, mounted, that can lose its power, its room and its speed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::ValueEnum;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// The name in `SHOPSTREAM_TEST_REQUIRE`.
const LOOP: &str = "loop";

/// Its size; mkfs.xfs makes none below 300 MB. The file has holes, so it takes what is written.
const BYTES: u64 = 512 << 20;
/// It is filled in pieces of so many bytes: less than a segment of the log.
const PIECE: i64 = 1 << 20;

/// A file system that can be stopped dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileSystem {
    /// ext4
    Ext4,
    /// XFS
    Xfs,
}

impl FileSystem {
    /// The program that makes one.
    pub(crate) fn maker(self) -> &'static str {
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

/// A file system in a file. Dropped, it is unmounted.
pub(crate) struct Volume {
    fs: FileSystem,
    image: PathBuf,
    root: PathBuf,
    cuts: u64,
}

impl Volume {
    /// A new one in a file in `folder`, mounted beside it.
    pub(crate) fn make(fs: FileSystem, folder: &Path) -> anyhow::Result<Self> {
        let volume = Self { fs, image: folder.join("image"), root: folder.join("disk"), cuts: 0 };
        File::create(&volume.image)?.set_len(BYTES)?;
        fs::create_dir(&volume.root)?;
        said(Command::new(fs.maker()).arg("-q").arg(&volume.image))?;
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// How often its power was cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Stops it: what was not flushed is gone. Proves it by a file that can no longer be made.
    pub(crate) fn cut(&mut self) -> anyhow::Result<()> {
        // Without flushing the file system's own journal either, which is this command's default.
        said(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.root))?;
        ensure!(File::create(self.root.join("probe")).is_err(), "the power is still on");
        self.cuts += 1;
        Ok(())
    }

    /// Brings it back, by the file system's own recovery.
    pub(crate) fn back(&self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Takes all the room that is left, until [`Volume::empty`].
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let ballast = File::create(self.ballast())?;
        let mut taken = 0;
        loop {
            match fallocate(&ballast, FallocateFlags::empty(), taken, PIECE) {
                Ok(()) => taken += PIECE,
                Err(Errno::ENOSPC) => return Ok(()),
                Err(errno) => return Err(errno).context("filling the disk"),
            }
        }
    }

    /// Gives back what [`Volume::fill`] took.
    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// From now on whoever writes to it hangs, until [`Frozen`] is dropped.
    pub(crate) fn freeze(&self) -> anyhow::Result<Frozen> {
        Frozen::at(&self.root)
    }

    /// From now on it stands still for `still`, moves for `moving`, and so on, until [`Slow::end`].
    pub(crate) fn slow(&self, still: Duration, moving: Duration) -> Slow {
        let (root, (goes_on, ends)) = (self.root.clone(), mpsc::channel::<()>());
        let pulse = std::thread::spawn(move || {
            let goes_on_for = |time| ends.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            let mut times = 0;
            while goes_on_for(moving) {
                let _frozen = Frozen::at(&root)?;
                times += 1;
                goes_on_for(still);
            }
            Ok(times)
        });
        Slow { goes_on, pulse }
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

/// As long as it is there, nothing is written to the file system that is mounted here.
pub(crate) struct Frozen(PathBuf);

impl Frozen {
    fn at(root: &Path) -> anyhow::Result<Self> {
        said(Command::new("fsfreeze").arg("--freeze").arg(root))?;
        Ok(Self(root.to_owned()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = said(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0)) {
            eprintln!("shopstream-torture: {error:#}");
        }
    }
}

/// A file system that stands still most of the time. It is as before once this is dropped, a moment later.
pub(crate) struct Slow {
    goes_on: mpsc::Sender<()>,
    pulse: JoinHandle<anyhow::Result<u64>>,
}

impl Slow {
    /// Lets it move, and answers how often it stood still.
    pub(crate) fn end(self) -> anyhow::Result<u64> {
        drop(self.goes_on);
        self.pulse.join().map_err(|_| anyhow!("whoever stopped the disk panicked"))?
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

/// Whether this machine has such file systems; says so loudly where it has not. From then on the calling thread, and
/// whatever it starts, has mounts of its own.
///
/// # Errors
/// It has not and `SHOPSTREAM_TEST_REQUIRE` names `loop`.
pub(crate) fn possible(fs: FileSystem) -> anyhow::Result<bool> {
    let missing = missing(fs);
    if let Err(why) = &missing {
        ensure!(!shopstream_tests::is_required(LOOP), "{LOOP} is required, but {why}");
        println!("SKIPPED for want of {LOOP}: {why}");
    }
    Ok(missing.is_ok())
}

/// What is missing on this machine, if anything, and how to get it.
fn missing(fs: FileSystem) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can mount a file".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("this machine has no loop devices".to_owned());
    }
    for program in ["mount", "umount", "fsfreeze", "xfs_io", fs.maker()] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file()) {
            return Err(format!("no {program}: run deploy/install test"));
        }
    }
    // Mounts of one's own: they are nobody else's business, and end with this process, however it ends.
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            mount::<str, str, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
        })
        .map_err(|errno| format!("mounts of one's own are not allowed here: {errno}"))
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
