//! `disk`: the disk of a whole shop's log is full, then stands still, then is slow. Nothing is acknowledged that is not on it, who
//! asks is told what to do, and when it has room and moves again the shop goes on by itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use shopstream_tests::{Setup, TestShop, requests};

use crate::Common;
use crate::load::{Load, SKU, Said};
use crate::memory::Memory;
use crate::report::Report;
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
    let mut disk = Disk { shop, volume, seconds, accepted: BTreeSet::new(), report: &mut report };
    runtime.block_on(disk.full_frozen_and_slow(seed))?;
    let Disk { shop, volume, .. } = disk;
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

struct Disk<'a> {
    shop: TestShop,
    volume: Volume,
    seconds: Duration,
    /// The numbers of all orders that were acknowledged.
    accepted: BTreeSet<u64>,
    report: &'a mut Report,
}

impl Disk<'_> {
    async fn full_frozen_and_slow(&mut self, seed: u64) -> anyhow::Result<()> {
        let client = self.shop.client().await;
        requests::sell(&client, SKU, 1).await?;
        let load = Load::new(client, seed).of_lines(LINES);
        let served = load.closed(CALLERS, WARM).await?;
        self.hear("on a disk that is well", load.heard.take());
        self.report.count("orders served a second", served as u64);
        let memory = Memory::watch(self.shop.pid().as_raw());
        let at_rest = memory.now()?;

        self.fill(&load).await?;
        load.closed(CALLERS, self.seconds).await?;
        let said = self.hear("on a full disk", load.heard.take());
        self.report.checked("way out", said.refused);
        if !said.advice.iter().any(|words| words.contains(WAY_OUT)) {
            self.report
                .broken("way out", format!("only {:?}", said.advice.iter().take(3).collect::<Vec<_>>()));
        }
        self.volume.empty()?;
        self.recover("room", &load).await?;

        let frozen = self.volume.freeze()?;
        load.closed(CALLERS, self.seconds).await?;
        let said = load.heard.take();
        self.report.checked("frozen", said.refused + said.unknown);
        if !said.accepted.is_empty() {
            self.report.broken("frozen", format!("{} orders were acknowledged", said.accepted.len()));
        }
        self.hear("on a disk that stands still", said);
        drop(frozen);
        self.recover("movement", &load).await?;

        let slow = self.volume.slow(STILL, MOVING);
        let served = load.closed(CALLERS, self.seconds).await?;
        let said = self.hear("on a slow disk", load.heard.take());
        self.report.count("orders served a second by a slow disk", served as u64);
        self.report.count("times that the slow disk stood still", slow.end()?);
        self.report.checked("slow", said.accepted.len() as u64);
        if said.accepted.is_empty() || said.unknown > 0 {
            let what = format!("{} accepted, {} never answered", said.accepted.len(), said.unknown);
            self.report.broken("slow", what);
        }
        self.recover("speed", &load).await?;

        let peak = memory.stop();
        self.report.count("memory before, in kB", at_rest);
        self.report.count("memory at its most, in kB", peak);
        self.report.checked("memory", 1);
        if peak > at_rest + GROWTH_MAX || !self.shop.is_alive() {
            self.report.broken("memory", format!("from {at_rest} kB to {peak} kB"));
        }
        self.report.checked("I1", self.accepted.len() as u64);
        match load.recount(&self.accepted).await {
            Ok(found) => self.report.count("orders on the log", found),
            Err(lost) => self.report.broken("I1", lost.to_string()),
        }
        Ok(())
    }

    /// Leaves no room, and orders until the log needs some.
    async fn fill(&mut self, load: &Load) -> anyhow::Result<()> {
        self.volume.fill()?;
        let begun = Instant::now();
        let is_full = |said: &Said| said.advice.iter().any(|words| words.contains(WAY_OUT));
        while begun.elapsed() < FILLED {
            load.closed(CALLERS, Duration::from_secs(1)).await?;
            let said = self.hear("until the disk was full", load.heard.take());
            // What was made beforehand is used up: whole seconds pass without an order.
            if is_full(&said) || (said.accepted.is_empty() && said.refused + said.unknown > 0) {
                return Ok(());
            }
        }
        anyhow::bail!("after {FILLED:?} the disk is not full: orders are too small, or the disk too large")
    }

    async fn recover(&mut self, what: &str, load: &Load) -> anyhow::Result<()> {
        let relieved = Instant::now();
        let took = load.recovered(CALLERS, 1.0, relieved, RECOVERED).await?;
        self.hear(&format!("after {what} came back"), load.heard.take());
        self.report.count(&format!("served again after {what} came back, in ms"), took.as_millis() as u64);
        self.report.checked("recovery", 1);
        if took >= RECOVERED {
            self.report.broken("recovery", format!("{what}: not within {RECOVERED:?}"));
        }
        Ok(())
    }

    /// Counts what was said, and notes what was acknowledged.
    fn hear(&mut self, when: &str, said: Said) -> Said {
        let heard = [
            ("accepted", said.accepted.len() as u64),
            ("refused with advice", said.refused),
            ("unanswered in the client's time", said.unknown),
        ];
        for (what, count) in heard {
            self.report.count(&format!("{what} {when}"), count);
        }
        self.report.checked("answers", said.refused + said.unknown);
        said.wrong.iter().for_each(|wrong| self.report.broken("answers", wrong.clone()));
        self.accepted.extend(&said.accepted);
        said
    }
}
