//! The process that is broken off: it appends to a local log by several appenders at once, through the product's own
//! writer, and says on its standard output what it sends and what was acknowledged.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_eventlog::local::LocalLog;
use shopstream_eventlog::local::port::{Disk, Port};
use shopstream_eventlog::raw::{Appender, RawError, RawLog};

use self::unflushed::Unflushed;
use crate::book::{Book, Message};
use crate::{payload, reading, writer};

mod unflushed;

/// How many records an appender sends at most, in a run that nobody breaks off.
const RECORDS_MAX: u64 = 20_000;

/// What the parent tells it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The log's folder
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// See the parent's
    #[arg(long)]
    pub(crate) seed: u64,
    /// How many appenders there are
    #[arg(long)]
    pub(crate) appenders: u32,
    /// The name of the first of them
    #[arg(long)]
    pub(crate) first_author: u32,
    /// A planted fault: acknowledges what was only handed over
    #[arg(long)]
    pub(crate) early: bool,
    /// A planted fault: what is appended is never flushed to the disk
    #[arg(long)]
    pub(crate) unflushed: bool,
}

/// Appends until it is broken off or has sent enough.
pub(crate) fn run(options: &Options) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(append(options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn append(options: &Options) -> anyhow::Result<()> {
    // Not the buffered one: a message is said whole or not at all.
    let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    writer::say(&out, &[Message::Opening])?;
    let port: Arc<dyn Port> = if options.unflushed { Arc::new(Unflushed) } else { Arc::new(Disk) };
    let log = Arc::new(LocalLog::open_with(reading::options(&options.dir), port)?);
    writer::say(&out, &[Message::Opened])?;
    let mut tasks = tokio::task::JoinSet::new();
    for author in (options.first_author..).take(options.appenders as usize) {
        let author = Author::new(options, author, out.try_clone()?);
        let appender = log.appender(Book::partition_of(author.name, reading::PARTITIONS)).await?;
        tasks.spawn(author.run(appender));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

struct Author {
    seed: u64,
    name: u32,
    early: bool,
    random: StdRng,
    out: File,
    sent: u64,
    acknowledged: u64,
}

impl Author {
    fn new(options: &Options, name: u32, out: File) -> Self {
        let random = StdRng::seed_from_u64(options.seed ^ u64::from(name));
        let (seed, early) = (options.seed, options.early);
        Self { seed, name, early, random, out, sent: 0, acknowledged: 0 }
    }

    async fn run(mut self, mut appender: Box<dyn Appender>) -> anyhow::Result<()> {
        while self.sent < RECORDS_MAX {
            let window = self.random.random_range(1..48);
            self.send(&mut *appender, window)?;
            // Down to some that are still on their way, or to none.
            let rest = self.random.random_range(0..window);
            while self.sent - self.acknowledged > rest {
                self.hear(&mut *appender).await?;
            }
            if self.random.random_bool(0.02) {
                // A log at rest is sealed, which is another state to be broken off in.
                tokio::time::sleep(Duration::from_micros(self.random.random_range(0..8_000))).await;
            }
        }
        Ok(())
    }

    /// Says first, sends then: what is found on the log was said to be sent.
    fn send(&mut self, appender: &mut dyn Appender, window: u64) -> anyhow::Result<()> {
        let below = (self.acknowledged + window).max(self.sent);
        writer::say(&self.out, &[Message::Sent { author: self.name, below }])?;
        while self.sent < below {
            match appender.submit(payload::record(self.seed, self.name, self.sent)) {
                Ok(()) => {}
                Err(RawError::Full) => break,
                Err(error) => return Err(error.into()),
            }
            if self.early {
                let (author, number, offset) = (self.name, self.sent, None);
                writer::say(&self.out, &[Message::Acknowledged { author, number, offset }])?;
            }
            self.sent += 1;
        }
        Ok(())
    }

    async fn hear(&mut self, appender: &mut dyn Appender) -> anyhow::Result<()> {
        let mut reports = Vec::new();
        appender.reports(&mut reports).await;
        let mut messages = Vec::with_capacity(reports.len());
        for report in reports {
            let (author, number, offset) = (self.name, self.acknowledged, report?);
            messages.push(Message::Acknowledged { author, number, offset });
            self.acknowledged += 1;
        }
        if !self.early {
            writer::say(&self.out, &messages)?;
        }
        Ok(())
    }
}
