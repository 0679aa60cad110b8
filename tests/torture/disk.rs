//! `disk`: the disk of a whole shop's log is full, then stands still, then is slow. Nothing is acknowledged that is not on it, who
//! asks is told what to do, and when it has room and moves again the shop goes on by itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use shopstream_tests::{Setup, TestShop, requests};

use crate::Common;
use crate::load::{Load, SKU, Said};
use crate::memory::Memory;
use crate::report::Report;
use crate::tally::Tally;
use crate::volume::{self, FileSystem, Volume};

/// Callers with one order open each.
const CALLERS: usize = 32;
/// The lines of their orders: large, so that a disk is soon full.
const LINES: usize = 400;
/// A slow disk stands still for so long at a time,
const STILL: Duration = Duration::from_millis(250);
/// and then takes what it can in so much.
const MOVING: Duration = Duration::from_millis(5);
/// Load on a disk that is well.
const WARM: Duration = Duration::from_secs(2);
/// Within this a disk without room is written full.
const FILLED: Duration = Duration::from_secs(120);
/// What the way out is called in an answer.
const WAY_OUT: &str = "free some space";
/// Within this the shop goes on.
const RECOVERED: Duration = Duration::from_secs(60);
/// What the node may grow by, in kB: the queues' and the tail's bounds, and buffers of connections.
const GROWTH_MAX: u64 = 1_500_000;

/// How long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Seconds on a full disk, and as many on one that stands still, and on a slow one
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 8] = [
    ("I1", "every acknowledged order is on the log, once"),
    ("way out", "on a full disk who asks is told to free some space"),
    ("frozen", "nothing is acknowledged that a disk which stands still has not got"),
    ("slow", "on a slow disk there are fewer orders in a second, and nothing else is otherwise"),
    ("answers", "no client that did nothing wrong is told anything else"),
    ("memory", "memory is bounded, and the process lives"),
    ("recovery", "within a minute of room or movement it serves again by itself"),
    ("books", "the books are right and every view is its replay"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if !volume::possible(FileSystem::Ext4)? {
        return Ok(ExitCode::SUCCESS);
    }
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("disk", seed, &PROMISES);
    let volume = Volume::make(FileSystem::Ext4, folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = TestShop::start_with(Setup::default().logging_to(&made(volume.root())?));
    let seconds = Duration::from_secs(options.seconds);
    runtime.block_on(full_frozen_and_slow(&shop, &volume, seconds, seed, &mut report))?;
    shop.finish();
    report.checked("books", 1);
    drop(volume);
    options.common.end(&report, folder)
}

/// A folder of its own: the file system has some more in its root.
fn made(root: &Path) -> anyhow::Result<PathBuf> {
    let folder = root.join("log");
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

async fn full_frozen_and_slow(
    shop: &TestShop,
    volume: &Volume,
    seconds: Duration,
    seed: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let client = shop.client().await;
    requests::sell(&client, SKU, 1).await?;
    let mut tally = Tally::new(Load::new(client, seed).of_lines(LINES), CALLERS, report);
    let (_, served) = tally.order("on a disk that is well", WARM).await?;
    tally.report.count("orders served a second", served as u64);
    let memory = Memory::watch(shop.pid())?;

    fill(volume, &mut tally).await?;
    let (said, _) = tally.order("on a full disk", seconds).await?;
    tally.report.checked("way out", said.refused);
    if !is_full(&said) {
        let told: Vec<_> = said.advice.iter().take(3).collect();
        tally.report.broken("way out", format!("only {told:?}"));
    }
    volume.empty()?;
    tally.recover("room", RECOVERED).await?;

    let frozen = volume.freeze()?;
    let (said, _) = tally.order("on a disk that stands still", seconds).await?;
    tally.report.checked("frozen", said.refused + said.unknown);
    if !said.accepted.is_empty() {
        tally.report.broken("frozen", format!("{} orders were acknowledged", said.accepted.len()));
    }
    drop(frozen);
    tally.recover("movement", RECOVERED).await?;

    let slow = volume.slow(STILL, MOVING);
    let (said, served) = tally.order("on a slow disk", seconds).await?;
    tally.report.count("orders served a second by a slow disk", served as u64);
    tally.report.count("times that the slow disk stood still", slow.end()?);
    tally.report.checked("slow", said.accepted.len() as u64);
    if said.accepted.is_empty() || said.unknown > 0 {
        let what = format!("{} accepted, {} never answered", said.accepted.len(), said.unknown);
        tally.report.broken("slow", what);
    }
    tally.recover("speed", RECOVERED).await?;

    memory.tell(GROWTH_MAX, tally.report);
    tally.recount().await;
    Ok(())
}

/// Leaves no room, and orders until the log needs some.
async fn fill(volume: &Volume, tally: &mut Tally<'_>) -> anyhow::Result<()> {
    volume.fill()?;
    let begun = Instant::now();
    while begun.elapsed() < FILLED {
        let (said, _) = tally.order("until the disk was full", Duration::from_secs(1)).await?;
        // What was made beforehand is used up: whole seconds pass without an order.
        if is_full(&said) || (said.accepted.is_empty() && said.refused + said.unknown > 0) {
            return Ok(());
        }
    }
    anyhow::bail!("after {FILLED:?} the disk is not full: orders are too small, or the disk too large")
}

fn is_full(said: &Said) -> bool {
    said.advice.iter().any(|words| words.contains(WAY_OUT))
}
