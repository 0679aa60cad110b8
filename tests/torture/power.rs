//! `power`: the power goes. The log is on a file system of its own, which the shutdown ioctl of ext4 and xfs stops dead:
//! what was not flushed by then is gone, as if the machine had lost power. A kill can never find a missing flush,
//! because the machine's memory survives it; this does, and the control run without flushes proves it.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::Common;
use crate::book::Message;
use crate::crash::{self, Crashes, Fault, Plan};
use crate::report::Report;
use crate::volume::{self, FileSystem, Volume};
use crate::writer::Writer;

/// What the control shows.
const CONTROL: &str = "a log without flushes is seen to lose records";

/// How often, on what, and with what.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many times to cut the power and compare
    #[arg(long, default_value_t = 250)]
    cycles: u64,
    /// The file system
    #[arg(long, value_enum)]
    fs: FileSystem,
    /// Never flushes, and must lose records
    #[arg(long)]
    control: bool,
    #[command(flatten)]
    common: Common,
}

struct Power {
    volume: Volume,
}

impl Fault for Power {
    fn home(&self) -> &Path {
        self.volume.root()
    }

    fn strike(&mut self, writer: &mut Writer) -> anyhow::Result<Vec<Message>> {
        self.volume.cut()?;
        // The machine is off, so nobody runs on it.
        let (_, late) = writer.kill()?;
        self.volume.back()?;
        Ok(late)
    }
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if !volume::possible(options.fs)? {
        return Ok(ExitCode::SUCCESS);
    }
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let promises = crash::promises(options.control.then_some(CONTROL));
    let mut report = Report::new("power", seed, &promises);
    let (cycles, patience) = (options.cycles, Duration::from_millis(40));
    let plan = Plan { cycles, seed, early: false, unflushed: options.control, patience };
    let mut fault = Power { volume: Volume::make(options.fs, folder.path())? };
    let began = Instant::now();
    Crashes::new(&plan, &mut fault, &mut report)?.run()?;
    report.count("power cuts", fault.volume.cuts());
    report.count("milliseconds per cycle", began.elapsed().as_millis() as u64 / cycles.max(1));
    // Only the image stays, where it is kept: the mount ends with this process.
    drop(fault);
    options.common.end(&report, folder)
}
