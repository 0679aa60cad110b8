//! How much memory a process has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::Pid;
use tokio_util::task::AbortOnDropHandle;

use crate::report::Report;

/// A process' memory, looked at all the time.
pub(crate) struct Memory {
    process: i32,
    at_rest: u64,
    peak: Arc<AtomicU64>,
    _looking: AbortOnDropHandle<()>,
}

impl Memory {
    /// Looks at it from now on. Within a tokio runtime.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn watch(process: Pid) -> anyhow::Result<Self> {
        let process = process.as_raw();
        let (at_rest, peak) = (resident(process)?, Arc::<AtomicU64>::default());
        let highest = peak.clone();
        let looking = tokio::spawn(async move {
            loop {
                highest.fetch_max(resident(process).unwrap_or_default(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(Self { process, at_rest, peak, _looking: AbortOnDropHandle::new(looking) })
    }

    /// Tells what it was, and whether it keeps the promise `memory`: it never grew by more than `growth_max` kB, and the
    /// process lives.
    pub(crate) fn tell(self, growth_max: u64, report: &mut Report) {
        let (at_rest, peak) = (self.at_rest, self.peak.load(Ordering::Relaxed));
        report.count("memory before, in kB", at_rest);
        report.count("memory at its most, in kB", peak);
        report.checked("memory", 1);
        if peak > at_rest + growth_max {
            report.broken("memory", format!("from {at_rest} kB to {peak} kB"));
        }
        if let Err(gone) = resident(self.process) {
            report.broken("memory", format!("the process has ended: {gone:#}"));
        }
    }
}

impl Memory {
    /// What it was and what it became, for a person.
    pub(crate) fn told(&self) -> String {
        let peak = self.peak.load(Ordering::Relaxed);
        format!("{} MB before, {} MB at most", self.at_rest / 1000, peak / 1000)
    }

    /// As [`Memory::tell`], for one of several runs whose counts would be added up.
    pub(crate) fn judge(self, name: &str, growth_max: u64, report: &mut Report) {
        let (at_rest, peak) = (self.at_rest, self.peak.load(Ordering::Relaxed));
        report.checked("memory", 1);
        if peak > at_rest + growth_max {
            report.broken("memory", format!("{name}: from {at_rest} kB to {peak} kB"));
        }
    }
}

/// What a process has in memory, in kB.
fn resident(process: i32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
