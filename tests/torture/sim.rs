//! `sim`: the deterministic simulation, seed by seed (`docs/simulation.md`).

use std::process::ExitCode;

use clap::Args;
use shopstream_simulation::{Tally, run as simulate};

use crate::Common;
use crate::report::Report;

/// How many, and how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many seeds, from `--seed` on
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// Steps of each
    #[arg(long, default_value_t = 10_000)]
    steps: u32,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 1] = [("I1-I10", "no promise is broken, and after healing everything ends")];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let first = options.common.seed.unwrap_or_default();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("sim", first, &PROMISES);
    let mut sum = Tally::default();
    for seed in first..first + options.seeds {
        let outcome = simulate(seed, options.steps);
        report.checked("I1-I10", 1);
        for violation in &outcome.violations {
            report.broken("I1-I10", format!("seed {seed}: {violation:?}"));
        }
        sum = sum + outcome.tally;
    }
    let Tally {
        commits,
        void,
        acknowledged,
        unknown,
        answered,
        refused,
        done,
        cancelled,
        parked,
        returns,
        recalled,
        takeovers,
        breaks,
    } = sum;
    for (name, count) in [
        ("steps", options.seeds * u64::from(options.steps)),
        ("steps that broke something", breaks),
        ("commits that count", commits),
        ("records that mean nothing", void),
        ("commands acknowledged", acknowledged),
        ("attempts of which nobody knows the end", unknown),
        ("calls answered", answered),
        ("calls refused", refused),
        ("checkouts done", done),
        ("checkouts undone", cancelled),
        ("checkouts that wait for an operator", parked),
        ("returns", returns),
        ("snapshots read", recalled),
        ("takeovers", takeovers),
    ] {
        report.count(name, count);
    }
    options.common.end(&report, folder)
}
