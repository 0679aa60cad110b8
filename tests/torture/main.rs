//! `shopstream-torture`: breaks things on purpose, seed by seed, and says which promises held (`docs/torture.md`).
//!
//! One file per subcommand. Every run is bounded in count, prints its seed, ends with a line per promise, and exits 1
//! where one is broken, or where a run proved nothing.

mod appender;
mod asked;
mod book;
mod broker;
mod burst;
mod chaos;
mod crash;
mod database;
mod disk;
mod flip;
mod fuzz;
mod hostile;
mod io;
mod kill;
mod load;
mod memory;
mod neighbour;
mod overload;
mod payload;
mod postgres;
mod power;
mod reading;
mod report;
mod scenario;
mod sim;
mod tally;
mod under_test;
mod volume;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use report::Report;

#[derive(Parser)]
#[command(
    name = "shopstream-torture",
    about = "Breaks the shop's parts on purpose and says which promises held"
)]
struct Torture {
    #[command(subcommand)]
    way: Way,
}

#[derive(Subcommand)]
enum Way {
    /// Kill -9 a process that appends to a local log, again and again on the same log
    Kill(kill::Options),
    /// Cut the power under a local log on a file system of its own; needs root
    Power(power::Options),
    /// Fail the n-th input or output operation of a local log, for every n
    Io(io::Options),
    /// Flip every bit of a segment of a local log
    Flip(flip::Options),
    /// Send a whole shop three times as many calls as it can serve
    Overload(overload::Options),
    /// Kill the database under a whole shop at work, and leave it away
    Database(database::Options),
    /// Break the database of a whole shop at one random moment after the other
    Postgres(postgres::Options),
    /// Change thousands of things at once, then place an order, again and again
    Burst(burst::Options),
    /// Kill the only broker of a whole shop at work, leave it away, then let it hang
    Broker(broker::Options),
    /// Fill the disk of a whole shop's log, and stop it; needs root
    Disk(disk::Options),
    /// Play what can go wrong with a checkout on a whole shop, undisturbed or killed at every record
    Scenario(scenario::Options),
    /// Simulate shards and processes from one seed after the other, whatever breaks
    Sim(sim::Options),
    /// Break brokers, nodes and the database of a whole cluster under clients that never stop
    Chaos(chaos::Options),
    /// Spoil every field of every method, over the wire, in every way that has hurt programs before
    Fuzz(fuzz::Options),
    /// Attack a whole shop as a stranger on the network would, beside a well-behaved client
    Hostile(hostile::Options),
    /// The process that `kill` and `power` break off
    #[command(hide = true)]
    Appender(appender::Options),
}

/// What every subcommand takes.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Where all chance comes from; drawn and printed where it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// A folder to work in; a new one inside it is removed at the end, and kept where a promise was broken
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the result here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Torture::parse().way {
        Way::Appender(options) => return appender::run(&options),
        Way::Kill(options) => kill::run(&options),
        Way::Power(options) => power::run(&options),
        Way::Io(options) => io::run(&options),
        Way::Flip(options) => flip::run(&options),
        Way::Overload(options) => under_test::ready().and_then(|()| overload::run(&options)),
        Way::Database(options) => under_test::ready().and_then(|()| database::run(&options)),
        Way::Postgres(options) => under_test::ready().and_then(|()| postgres::run(&options)),
        Way::Burst(options) => under_test::ready().and_then(|()| burst::run(&options)),
        Way::Broker(options) => under_test::ready().and_then(|()| broker::run(&options)),
        Way::Disk(options) => under_test::ready().and_then(|()| disk::run(&options)),
        Way::Scenario(options) => under_test::ready().and_then(|()| scenario::run(&options)),
        Way::Sim(options) => sim::run(&options),
        Way::Chaos(options) => under_test::ready().and_then(|()| chaos::run(&options)),
        Way::Fuzz(options) => under_test::ready().and_then(|()| fuzz::run(&options)),
        Way::Hostile(options) => under_test::ready().and_then(|()| hostile::run(&options)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("shopstream-torture: {error:#}");
        ExitCode::FAILURE
    })
}

impl Common {
    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(rand::random)
    }

    /// A new folder in `--dir`, or in `otherwise`.
    fn folder(&self, otherwise: PathBuf) -> anyhow::Result<tempfile::TempDir> {
        let home = self.dir.clone().unwrap_or(otherwise);
        let folder = tempfile::Builder::new().prefix("shopstream-torture-").tempdir_in(&home);
        folder.map_err(|error| anyhow::anyhow!("making a folder in {}: {error}", home.display()))
    }

    /// Prints the result, writes it where it was asked for, and says how to exit. `folder` is kept where a promise was
    /// broken.
    fn end(&self, report: &Report, folder: tempfile::TempDir) -> anyhow::Result<ExitCode> {
        if !report.is_green() {
            println!("kept: {}", folder.keep().display());
        }
        report.print();
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_vec_pretty(&report.to_json())?)?;
        }
        Ok(if report.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A folder in memory where there is one: for what does not ask anything of the disk itself.
fn in_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
