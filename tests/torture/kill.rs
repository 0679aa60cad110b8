//! `kill`: the process that appends is killed with signal 9. The machine goes on, so nothing that was written is gone;
//! what is tried is the log's recovery, at every place where a process can stop.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::Common;
use crate::book::Message;
use crate::crash::{self, Crashes, Fault, Plan};
use crate::report::Report;
use crate::writer::Writer;

/// The signal.
const KILL: i32 = 9;
/// What the control shows.
const CONTROL: &str = "acknowledging too early is seen as a loss";

/// How often, and with what.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many times to break off and compare
    #[arg(long, default_value_t = 1000)]
    cycles: u64,
    /// Acknowledges what is not durable yet, and must be caught
    #[arg(long)]
    control: bool,
    #[command(flatten)]
    common: Common,
}

struct Kill {
    home: PathBuf,
}

impl Fault for Kill {
    fn home(&self) -> &Path {
        &self.home
    }

    fn strike(&mut self, writer: &mut Writer) -> anyhow::Result<Vec<Message>> {
        let (status, late) = writer.kill()?;
        // One that ended by itself has no signal; whether it was right to is told apart where it was watched.
        ensure!(status.signal().is_none_or(|signal| signal == KILL), "it was killed otherwise: {status}");
        Ok(late)
    }
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let promises = crash::promises(options.control.then_some(CONTROL));
    let mut report = Report::new("kill", seed, &promises);
    let (cycles, patience) = (options.cycles, Duration::from_millis(30));
    let plan = Plan { cycles, seed, early: options.control, unflushed: false, patience };
    let mut fault = Kill { home: folder.path().to_owned() };
    let began = Instant::now();
    Crashes::new(&plan, &mut fault, &mut report)?.run()?;
    report.count("cycles per second", (cycles as f64 / began.elapsed().as_secs_f64()) as u64);
    options.common.end(&report, folder)
}
