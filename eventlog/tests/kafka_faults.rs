//! The Kafka backend while its broker is killed, its files are cut and its bytes flip.
//!
//! Needs a broker of one node that may be broken: `deploy/kafka/kafka run` says where it is in
//! `SHOPSTREAM_TEST_KAFKA_DIR`.

mod kafka_support;

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_support::{
    append, assert_dense, brokers, fill, log, log_with, next, number, options, read, record,
};
use shopstream_eventlog::kafka::{KafkaLog, Options};
use shopstream_eventlog::raw::{RawError, RawLog};
use tokio::sync::Mutex;

/// There is one broker, and each test breaks it.
static BROKER: Mutex<()> = Mutex::const_new(());

struct Broker {
    bootstrap: String,
    dir: PathBuf,
}

impl Broker {
    fn get() -> Option<Self> {
        let bootstrap = brokers()?;
        let dir = env::var_os("SHOPSTREAM_TEST_KAFKA_DIR").map(PathBuf::from);
        if dir.as_deref().is_some_and(|dir| dir.join("node-2").exists()) {
            eprintln!("SKIPPED: these faults are for a cluster of one node");
            return None;
        }
        if dir.is_none() {
            eprintln!(
                "SKIPPED: SHOPSTREAM_TEST_KAFKA_DIR names no Kafka that may be broken (run deploy/kafka/kafka run)"
            );
        }
        Some(Self { bootstrap, dir: dir? })
    }

    async fn tool(&self, arguments: &'static [&'static str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka/kafka");
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(script);
        command.arg(verb).arg(&self.dir).args(rest);
        let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
        assert!(status.success(), "{arguments:?}: {status}");
    }

    async fn kill(&self) {
        self.tool(&["kill", "1", "-9"]).await;
    }

    async fn restart(&self) {
        self.tool(&["restart", "1"]).await;
    }

    /// The first segment of partition 0.
    fn segment(&self, options: &Options) -> PathBuf {
        let folder = format!("{}-0", options.topic);
        let found = find(&self.dir.join("node-1"), &folder).expect("no folder of the topic");
        found.join("00000000000000000000.log")
    }
}

fn find(under: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(under).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).find_map(
        |path| {
            if path.file_name().is_some_and(|found| found == name) { Some(path) } else { find(&path, name) }
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_is_waited_for() {
    let Some(broker) = Broker::get() else { return };
    let _alone = BROKER.lock().await;
    let log = log(&broker.bootstrap, "restart", 2).await;
    let (mut shared, mut own) =
        (log.reader(&[(0, 0)]).await.unwrap(), log.reader(&[(0, 0), (1, 0)]).await.unwrap());
    let mut appender = log.appender(0).await.unwrap();
    let first = append(&mut *appender, (0..1_000).map(record)).await;
    assert!(first.iter().all(Result::is_ok));
    assert_dense(&read(&mut *shared, 1_000).await, 0);

    // Killed with records in flight: an appender that reports an error is replaced, as an owner would.
    for number in 1_000..2_000 {
        appender.submit(record(number)).unwrap();
    }
    broker.kill().await;
    let started = Instant::now();
    let restart = async {
        broker.restart().await;
        println!("the broker is back {:?} after the kill", started.elapsed());
    };
    let ((), mut reports) = tokio::join!(restart, append(&mut *appender, (2_000..2_001).map(record)));
    while reports.len() < 1_001 {
        appender.reports(&mut reports).await;
    }
    println!("all reports {:?} after the kill", started.elapsed());
    let unknown = reports.iter().filter(|report| report.is_err()).count();
    println!(
        "{unknown} of 1,001 reports are errors; the first: {:?}",
        reports.iter().find(|report| report.is_err())
    );
    // A fresh record behind all of them, so that it is known how far to read.
    let mut appender = log.appender(0).await.unwrap();
    let last = append(&mut *appender, [record(9_999)]).await.remove(0).unwrap().unwrap();
    // Both readers lived through it, and every acknowledged record is where its report says.
    let records = read(&mut *own, last as usize + 1).await;
    assert!((0..).zip(&records).all(|(offset, record)| record.offset == offset));
    for (report, expected) in reports.iter().zip(1_000..) {
        if let Ok(Some(offset)) = report {
            assert_eq!(number(&records[*offset as usize]), expected);
        }
    }
    assert_eq!(read(&mut *shared, last as usize - 999).await, records[1_000..]);
    println!("readers went on {:?} after the kill", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_log_ends_its_readers() {
    let Some(broker) = Broker::get() else { return };
    let _alone = BROKER.lock().await;
    for regrow in [false, true] {
        let mut options = options(&broker.bootstrap, "truncated");
        options.watch = Duration::from_millis(500);
        let log = log_with(options.clone(), 2).await;
        // Record by record, so that each is a batch and the cut is between two.
        let mut appender = log.appender(0).await.unwrap();
        for number in 0..20 {
            assert!(append(&mut *appender, [record(number)]).await[0].is_ok());
        }
        let (mut shared, mut own) =
            (log.reader(&[(0, 0)]).await.unwrap(), log.reader(&[(0, 0), (1, 0)]).await.unwrap());
        read(&mut *shared, 20).await;
        read(&mut *own, 20).await;

        broker.kill().await;
        let segment = broker.segment(&options);
        let length = written(&segment);
        OpenOptions::new().write(true).open(&segment).unwrap().set_len(length / 2).unwrap();
        broker.restart().await;
        if regrow {
            // Past where the readers stand, if they have not noticed yet.
            let again = KafkaLog::connect(options.clone()).await.unwrap();
            fill(&again, 0, 5_000..5_030).await;
        }
        for reader in [&mut shared, &mut own] {
            let mut records = Vec::new();
            let error = loop {
                if let Err(error) = next(&mut **reader, &mut records).await {
                    break error;
                }
            };
            println!("regrown {regrow}: noticed after {} records: {error}", records.len());
            assert!(matches!(error, RawError::Lost { .. } | RawError::Broken { .. }), "{error}");
        }
        // The other partition can be read on.
        fill(&log, 1, 0..1).await;
        assert_dense(&read(&mut *log.reader(&[(1, 0)]).await.unwrap(), 1).await, 0);
    }
}

/// The length of a segment without the zeroes that it may end with.
fn written(segment: &Path) -> u64 {
    let bytes = fs::read(segment).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_damage_and_never_data() {
    let Some(broker) = Broker::get() else { return };
    let _alone = BROKER.lock().await;
    let options = options(&broker.bootstrap, "flipped");
    let log = log_with(options.clone(), 2).await;
    let mut appender = log.appender(0).await.unwrap();
    for number in 0..20 {
        assert!(append(&mut *appender, [record(number)]).await[0].is_ok());
    }
    let segment = broker.segment(&options);
    // In the filling of a record in the middle.
    let bytes = fs::read(&segment).unwrap();
    let middle = written(&segment) as usize / 2;
    let at = middle + bytes[middle..].windows(9).position(|run| run == b"xxxxxxxxx").unwrap() + 4;
    OpenOptions::new().write(true).open(&segment).unwrap().write_all_at(b"z", at as u64).unwrap();
    for from in [&[(0, 0)][..], &[(0, 0), (1, 0)]] {
        let mut reader = log.reader(from).await.unwrap();
        let mut records = Vec::new();
        let error = loop {
            if let Err(error) = next(&mut *reader, &mut records).await {
                break error;
            }
        };
        println!("after {} records: {error}", records.len());
        assert!(matches!(error, RawError::Broken { .. }), "{error}");
        assert!(records.len() < 20);
        assert_dense(&records, 0);
        assert!(records.iter().all(|found| found.bytes == record(found.offset)));
    }
}
