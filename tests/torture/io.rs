//! `io`: the n-th input or output operation of a log's life fails, for every n, in every way that an operation can.
//!
//! The life is a script: make a log, append in groups, go over to new segments, close, open again, append again. The
//! operations are those of the log's own file port over real files. The machine goes on, so what a process left in
//! memory is there afterwards, except where the fault says otherwise.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use shopstream_eventlog::local::Options as LogOptions;
use tokio::runtime::Runtime;

use self::fault::{Call, Kind, Operation};
use self::port::FaultyDisk;
use self::script::{Ending, Script};
use crate::book::{self, Book, Finding};
use crate::report::Report;
use crate::{Common, in_memory, reading};

mod fault;
mod port;
mod script;

/// The promises besides those of [`book::PROMISES`].
const PROMISES: [(&str, &str); 2] = [
    ("recovery", "the log opens again, two readers agree, it goes on"),
    ("poison", "after a failed write or flush nothing is written or taken"),
];
/// Where none is left out.
const REACH: (&str, &str) = ("reach", "every operation of the log's was made to fail");
/// Small, so that the script goes over some, and long enough for the longest record.
const SEGMENT_BYTES: u64 = 96 << 10;
/// More operations than the script ever makes.
const OPERATIONS_MAX: u64 = 20_000;
/// The name of the one thread that writes records.
const WRITER: &str = "log-writer";

/// Which operations.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Only every so many-th operation
    #[arg(long, default_value_t = 1)]
    every: u64,
    #[command(flatten)]
    common: Common,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(in_memory())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let all = options.every <= 1;
    let mut promises = [&book::PROMISES[..], &PROMISES[..]].concat();
    promises.extend(all.then_some(REACH));
    let mut report = Report::new("io", seed, &promises);
    let mut reached: Vec<Operation> = Vec::new();
    'kinds: for kind in Kind::ALL {
        for at in (0..OPERATIONS_MAX).step_by(options.every.max(1) as usize) {
            let dir = folder.path().join(format!("{kind}-{at}"));
            let life = Life { dir: &dir, seed, at, kind };
            let failed = life.live(&runtime, &mut report)?;
            reached.extend(failed.hit);
            if !failed.findings.is_empty() {
                for (id, detail) in failed.findings {
                    report.broken(id, format!("{kind} at operation {at}: {detail}"));
                }
                break 'kinds;
            }
            std::fs::remove_dir_all(&dir)?;
            if failed.beyond {
                break;
            }
        }
    }
    for operation in Operation::ALL {
        let times = reached.iter().filter(|reached| **reached == operation).count() as u64;
        report.count(&format!("times {operation} failed"), times);
        if all {
            report.checked("reach", 1);
        }
        if all && times == 0 {
            report.broken("reach", format!("{operation} never failed"));
        }
    }
    options.common.end(&report, folder)
}

/// One run of the script.
struct Life<'a> {
    dir: &'a Path,
    seed: u64,
    at: u64,
    kind: Kind,
}

/// What became of it.
#[derive(Default)]
struct Lived {
    findings: Vec<Finding>,
    /// The operation that failed.
    hit: Option<Operation>,
    /// The script was through before it came to that operation.
    beyond: bool,
}

impl Life<'_> {
    fn live(&self, runtime: &Runtime, report: &mut Report) -> anyhow::Result<Lived> {
        let mut lived = Lived::default();
        let disk = Arc::new(FaultyDisk::new(self.at, self.kind));
        let mut script = Script::new(self.seed);
        for generation in 0..2 {
            let before = disk.calls().len();
            let ending = runtime.block_on(script.run(&self.options(), disk.clone(), &mut lived.findings));
            report.count(&format!("{}: {ending}", self.kind), 1);
            lived.findings.extend(
                writes_after_failure(&disk.calls()[before..]).map(|call| {
                    ("poison", format!("generation {generation}: the writer went on with {call}"))
                }),
            );
            if ending == Ending::Poisoned {
                report.checked("poison", 1);
            }
            if ending == Ending::StayedFull {
                lived.findings.push(("recovery", "it takes nothing though there is room again".to_owned()));
            }
        }
        lived.hit = disk.hit();
        lived.beyond = (disk.calls().len() as u64) <= self.at;
        let mut book = Book::new(self.seed, reading::PARTITIONS);
        book.note_sent(&script.told);
        book.note_acknowledged(&script.told, &mut lived.findings);
        self.compare(runtime, &mut book, report, &mut lived.findings);
        if lived.findings.is_empty() {
            // And it goes on, on a disk that works.
            script.told.clear();
            let ending = runtime.block_on(script.run(
                &self.options(),
                Arc::new(FaultyDisk::whole()),
                &mut lived.findings,
            ));
            if ending != Ending::Closed {
                lived.findings.push(("recovery", format!("afterwards it was {ending}")));
            }
            book.note_sent(&script.told);
            book.note_acknowledged(&script.told, &mut lived.findings);
            self.compare(runtime, &mut book, report, &mut lived.findings);
        }
        Ok(lived)
    }

    fn options(&self) -> LogOptions {
        LogOptions { segment_bytes: SEGMENT_BYTES, ..reading::options(self.dir) }
    }

    fn compare(&self, runtime: &Runtime, book: &mut Book, report: &mut Report, findings: &mut Vec<Finding>) {
        let product = runtime.block_on(reading::by_the_product(self.options()));
        report.checked("recovery", 1);
        match (product, reading::by_the_files(self.dir)) {
            (Ok(product), Ok(files)) => {
                if product != files {
                    findings.push(("recovery", "the two readers differ".to_owned()));
                }
                book.judge(&product, findings);
                let records: usize = product.iter().map(Vec::len).sum();
                for (id, _) in book::PROMISES {
                    report.checked(id, records as u64);
                }
            }
            (product, files) => {
                let errors = [product.err(), files.err()].into_iter().flatten();
                findings.extend(errors.map(|error| ("recovery", format!("{error:#}"))));
            }
        }
    }
}

/// What the writer did to the disk after a write or a flush of its had failed.
fn writes_after_failure(calls: &[Call]) -> impl Iterator<Item = &Call> {
    let by_writer = |call: &&Call| call.thread == WRITER && call.operation.changes_a_file();
    let mut calls = calls.iter().filter(by_writer);
    // Stands behind the first that failed, if one did.
    calls.by_ref().find(|call| call.failed);
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(thread: &str, operation: Operation, failed: bool) -> Call {
        Call { operation, file: "a".into(), thread: thread.into(), failed }
    }

    #[test]
    fn a_writer_that_goes_on_after_a_failed_flush_is_seen() {
        use Operation::{Read, Sync, Write};
        let calls = [call(WRITER, Write, false), call(WRITER, Sync, true), call("log-spare", Sync, false)];
        assert_eq!(writes_after_failure(&calls).count(), 0);
        let again = [&calls[..], &[call(WRITER, Sync, false)]].concat();
        assert_eq!(writes_after_failure(&again).count(), 1);
        assert_eq!(
            writes_after_failure(&[call("log-spare", Sync, true), call(WRITER, Read, false)]).count(),
            0
        );
    }
}
