//! Break off, recover, compare; again and again on the same log. What breaks it off is the caller's: a killed process
//! or a power cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

use crate::appender::Options;
use crate::book::{self, Book, Finding, Message};
use crate::reading;
use crate::report::Report;
use crate::writer::{Moment, Writer};

/// The promises that a crash puts to the test, besides those of [`book::PROMISES`].
const PROMISES: [(&str, &str); 2] = [
    ("readers", "the product's reader and a second one find the same"),
    ("recovery", "the log opens again, and the same again"),
];

/// The id of a control's only promise: that the planted fault is seen.
const CONTROL: &str = "control";
const LOST: &str = "acknowledged records lost";
/// A log that has grown to so many bytes is left, and a new one begun, so that reading all of it stays quick.
const LIFE_BYTES: usize = 6 << 20;
/// How many appenders a process has.
const APPENDERS: u32 = 5;
/// How many times in a row a recovery is broken off at most.
const RECOVERIES_MAX: u32 = 3;

/// What a run promises; `control` says what the run shows that has a fault planted.
pub(crate) fn promises(control: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    match control {
        Some(says) => vec![(CONTROL, says)],
        None => [&book::PROMISES[..], &PROMISES[..]].concat(),
    }
}

/// A way to break a process off.
pub(crate) trait Fault {
    /// Where the log is to be, as long as the fault is not struck.
    fn home(&self) -> &Path;

    /// Breaks it off, proves that it was, and brings back what is needed to open the log again. Answers what the
    /// process had said that had not been heard when the fault began: it may be true, and counts for nothing.
    fn strike(&mut self, writer: &mut Writer) -> anyhow::Result<Vec<Message>>;
}

/// What to do.
pub(crate) struct Plan {
    pub(crate) cycles: u64,
    pub(crate) seed: u64,
    /// For the control: acknowledges what was only handed over.
    pub(crate) early: bool,
    /// For the control: nothing is ever flushed.
    pub(crate) unflushed: bool,
    /// The longest time from the first look at the log to the fault.
    pub(crate) patience: Duration,
}

impl Plan {
    /// Whether losses are wanted: the run only shows that they would be seen.
    pub(crate) fn is_control(&self) -> bool {
        self.early || self.unflushed
    }
}

/// One log after the other, each until it is broken or has grown large.
pub(crate) struct Crashes<'a> {
    plan: &'a Plan,
    fault: &'a mut dyn Fault,
    report: &'a mut Report,
    random: StdRng,
    runtime: Runtime,
    lives: u64,
    next_author: u32,
    book: Book,
}

impl<'a> Crashes<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        fault: &'a mut dyn Fault,
        report: &'a mut Report,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let random = StdRng::seed_from_u64(plan.seed);
        let book = Book::new(plan.seed, reading::PARTITIONS);
        Ok(Self { plan, fault, report, random, runtime, lives: 0, next_author: 0, book })
    }

    /// All cycles, or up to the first that breaks a promise; in a control all.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        for cycle in 0..self.plan.cycles {
            self.report.count("cycles", 1);
            let mut findings = self.cycle()?;
            if self.plan.is_control() {
                self.tally(&findings)?;
            } else if !findings.is_empty() {
                findings.truncate(20);
                for (id, detail) in findings {
                    self.report.broken(id, format!("cycle {cycle}, log {}: {detail}", self.lives));
                }
                return Ok(());
            } else if self.book.bytes() > LIFE_BYTES {
                self.begin_again()?;
            }
        }
        self.report.count("logs", self.lives + 1);
        if self.plan.is_control() {
            self.report.checked(CONTROL, self.plan.cycles);
            if self.report.counted(LOST) == 0 {
                self.report
                    .broken(CONTROL, "nothing was lost: this run could not have seen a loss".to_owned());
            }
        }
        Ok(())
    }

    /// The control wants to lose what was acknowledged; whatever it broke, the next cycle has a log of its own.
    fn tally(&mut self, findings: &[Finding]) -> anyhow::Result<()> {
        if findings.is_empty() {
            return Ok(());
        }
        let lost = book::lost(&self.book);
        self.report.count("cycles that lost acknowledged records", u64::from(lost > 0));
        self.report.count(LOST, lost);
        self.report.count("cycles with another finding only", u64::from(lost == 0));
        self.begin_again()
    }

    fn begin_again(&mut self) -> anyhow::Result<()> {
        match std::fs::remove_dir_all(self.folder()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.lives += 1;
        self.book = Book::new(self.plan.seed, reading::PARTITIONS);
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        self.fault.home().join("log")
    }

    /// Breaks off once while it appends or opens, sometimes a few times more while it opens, and compares.
    fn cycle(&mut self) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let longest = self.plan.patience.as_micros() as u64;
        let moment = if self.random.random_bool(0.1) {
            self.soon()
        } else {
            Moment::Appending(Duration::from_micros(self.random.random_range(0..longest)))
        };
        self.break_off(moment, &mut findings)?;
        let mut recoveries = 0;
        while recoveries < RECOVERIES_MAX && findings.is_empty() && self.random.random_bool(0.4) {
            recoveries += 1;
            let moment = self.soon();
            self.break_off(moment, &mut findings)?;
        }
        if findings.is_empty() {
            self.compare(&mut findings);
        }
        Ok(findings)
    }

    fn soon(&mut self) -> Moment {
        Moment::Opening(Duration::from_micros(self.random.random_range(0..3_000)))
    }

    fn break_off(&mut self, moment: Moment, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
        let (first_author, dir) = (self.next_author, self.folder());
        self.next_author += APPENDERS;
        let Plan { seed, early, unflushed, .. } = *self.plan;
        let mut writer =
            Writer::start(&Options { dir, seed, appenders: APPENDERS, first_author, early, unflushed })?;
        let watched = writer.watch(moment);
        let heard = std::mem::take(&mut writer.heard);
        let late = self.fault.strike(&mut writer)?;
        if let Err(error) = watched {
            findings.push(("recovery", format!("{error:#}")));
        }
        self.book.note_sent(&heard);
        self.book.note_sent(&late);
        let acknowledged = self.book.note_acknowledged(&heard, findings);
        let said_late = |message: &&Message| matches!(message, Message::Acknowledged { .. });
        let phase = match (heard.contains(&Message::Opened), late.contains(&Message::Opened)) {
            (false, false) => "broken off while it opened the log",
            _ => "broken off while it appended",
        };
        self.report.count(phase, 1);
        self.report.count("records acknowledged before the fault", acknowledged);
        self.checked("I1", acknowledged);
        self.report.count(
            "acknowledgements that came too late to count",
            late.iter().filter(said_late).count() as u64,
        );
        Ok(())
    }

    fn compare(&mut self, findings: &mut Vec<Finding>) {
        let dir = self.folder();
        let readings = [
            ("the files, before the recovery", reading::by_the_files(&dir)),
            ("the product", self.by_the_product(&dir)),
            ("the product, opened once more", self.by_the_product(&dir)),
            ("the files, after the recovery", reading::by_the_files(&dir)),
        ];
        let mut logs = Vec::new();
        for (who, reading) in readings {
            match reading {
                Ok(log) => logs.push((who, log)),
                Err(error) => findings.push(("recovery", format!("{who}: {error:#}"))),
            }
        }
        self.checked("recovery", 1);
        let Some(((first, expected), others)) = logs.split_first() else { return };
        for (who, log) in others {
            let counts = |log: &[Vec<Bytes>]| log.iter().map(Vec::len).collect::<Vec<_>>();
            if log != expected {
                let (ours, theirs) = (counts(log), counts(expected));
                findings.push(("readers", format!("{who} has {ours:?} records, {first} {theirs:?}")));
            }
        }
        self.checked("readers", others.len() as u64);
        let new = self.book.judge(expected, findings);
        let all: usize = expected.iter().map(Vec::len).sum();
        self.report.count("records found for the first time", new);
        self.report.count("records compared", all as u64);
        for (id, _) in book::PROMISES.iter().filter(|(id, _)| *id != "I1") {
            self.checked(id, all as u64);
        }
    }

    /// A control keeps none of these promises, and has one of its own.
    fn checked(&mut self, id: &str, times: u64) {
        if !self.plan.is_control() {
            self.report.checked(id, times);
        }
    }

    fn by_the_product(&self, dir: &Path) -> anyhow::Result<Vec<Vec<Bytes>>> {
        self.runtime.block_on(reading::by_the_product(reading::options(dir)))
    }
}
