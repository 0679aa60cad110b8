//! `shopstream bench`: what the shop reaches, against what this machine could reach at all.
//!
//! Absolute figures are worth nothing on another machine, or in another hour, so the divisor is measured in the same
//! run: a bare echo of the same messages over the same gRPC library. Node and echo are processes of their own; the
//! load comes from this one, over real connections, and is part of the cost on both sides. Rounds alternate; figures
//! are medians with the lowest and the highest; what other processes took of the machine is written beside each.
//!
//! The node runs with every role, as it does for a user. A node without its projections would be quicker, but is not a
//! thing to have: the journal bounds what may be taken. So a burst counts what is taken while the views fall behind
//! (their lag is printed), and a second load, which holds its callers back while the lag is above half a second, counts
//! what can be taken for ever.
//!
//! At the end the node is killed under load, started again, and the log is recounted: whatever was acknowledged must be
//! there once. That alone decides the exit code; a missed goal is a finding, not a failure.

mod acknowledged;
mod bulk;
mod calls;
mod checkouts;
mod child;
mod echo;
mod load;
mod machine;
mod recount;
mod report;
mod rounds;
mod setup;
mod stage;
mod views;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;

use self::calls::Numbers;
use self::load::Window;
use self::stage::Stage;
use crate::config::LogUrl;
use crate::node::asked_to_stop;
use crate::output::hint;

/// What to measure, and for how long.
#[derive(Args, Clone, Debug)]
pub struct BenchOptions {
    /// The log: `local`, or `kafka://HOST:PORT,…/TOPIC`; there a new topic is made whose name begins like this one, and
    /// it is left behind
    #[arg(long, value_name = "URL", default_value = "local")]
    log: LogUrl,
    /// How often everything is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of one measurement, after two seconds of warm-up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Whole checkouts that are placed and followed to their end
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    checkouts: u64,
    /// One short round: shows that all of it works, and measures nothing that is worth telling
    #[arg(long)]
    quick: bool,
    /// The folder in which the data folder is made and removed again: its disk is the one that is measured
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Writes the figures of every round as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A process that belongs to what is measured though it was not started here, such as a broker
    #[arg(long, value_name = "PID")]
    with: Vec<u32>,
    /// Be the echo
    #[arg(long, hide = true, value_name = "ADDRESS")]
    echo_server: Option<SocketAddr>,
}

impl BenchOptions {
    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    fn window(&self) -> Window {
        let (warm_up, measured) = if self.quick { (1, 1) } else { (2, self.seconds) };
        Window { warm_up: Duration::from_secs(warm_up), measured: Duration::from_secs(measured) }
    }

    fn checkouts(&self) -> u64 {
        if self.quick { self.checkouts.min(50) } else { self.checkouts }
    }
}

/// Measures, prints what was found, and recounts.
///
/// # Errors
/// Something could not be measured, or an acknowledged command is not on the log exactly once.
pub async fn run(options: &BenchOptions) -> anyhow::Result<()> {
    if let Some(listen) = options.echo_server {
        return echo::serve(listen).await;
    }
    let numbers = Numbers::of_new_run();
    let mut stage = Stage::set(options, numbers.run()).await?;
    let measured = tokio::select! {
        measured = rounds::measure(&mut stage, options, numbers) => measured,
        () = asked_to_stop() => Err(anyhow!("interrupted")),
    };
    if measured.is_err() {
        hint!("{}", stage.last_words());
    }
    let struck = stage.strike().await;
    let report = measured?;
    report.print()?;
    if let Some(file) = &options.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))?;
    }
    struck.context("what was measured does not stop in order")?;
    report.recount.check()
}
