//! The Kafka backend on three brokers, while the leader is killed, hangs and is restarted.
//!
//! Needs a cluster that may be broken: `deploy/kafka/kafka run --brokers 3` says where it is in
//! `SHOPSTREAM_TEST_KAFKA_DIR`. With one broker there is nothing to test here.

mod kafka_support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_support::{PATIENCE, brokers, number, options, read, record};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use shopstream_eventlog::kafka::topics::{self, Power, Topic};
use shopstream_eventlog::kafka::{KafkaLog, Options};
use shopstream_eventlog::raw::{RawError, RawLog};
use tokio::sync::watch;

async fn tool(dir: &Path, verb: &str, node: i32, more: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka/kafka");
    let mut command = Command::new(script);
    command.arg(verb).arg(dir).arg(node.to_string()).args(more);
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    assert!(status.success(), "{verb} {node}: {status}");
}

async fn leader(options: &Options) -> i32 {
    let (brokers, topic) = (options.brokers.clone(), options.topic.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
        client.fetch_metadata(Some(&topic), PATIENCE).unwrap().topics()[0].partitions()[0].leader()
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_while_leaders_fall() {
    let Some(brokers) = brokers() else { return };
    let dir =
        env::var_os("SHOPSTREAM_TEST_KAFKA_DIR").map(PathBuf::from).filter(|dir| dir.join("node-3").exists());
    let Some(dir) = dir else {
        eprintln!("SKIPPED: no cluster of three that may be broken (run deploy/kafka/kafka run --brokers 3)");
        return;
    };
    let options = options(&brokers, "cluster");
    let wanted = Topic { partitions: 1, replication_factor: 3, min_insync: 2, power: Power::Independent };
    let applied = topics::apply(&options, wanted).await.unwrap();
    assert!(applied.created && applied.left.is_empty(), "{applied:?}");
    let log = KafkaLog::connect(options.clone()).await.unwrap();
    let mut follower = log.reader(&[(0, 0)]).await.unwrap();

    // Appends without end, 64 in flight; an appender with an error is replaced by a fresh one.
    let (stop, stopped) = watch::channel(false);
    let load = async {
        let (mut acknowledged, mut unknown, mut submitted) = (Vec::new(), 0, 0u64);
        let mut longest = Duration::ZERO;
        while !*stopped.borrow() {
            let mut appender = log.appender(0).await.unwrap();
            let (mut reports, mut first) = (Vec::new(), submitted);
            'appender: while !*stopped.borrow() || first < submitted {
                while submitted - first < 64 && !*stopped.borrow() {
                    match appender.submit(record(submitted)) {
                        Ok(()) => submitted += 1,
                        Err(RawError::Full) => break,
                        Err(_) => break 'appender,
                    }
                }
                let started = Instant::now();
                appender.reports(&mut reports).await;
                longest = longest.max(started.elapsed());
                if started.elapsed() > Duration::from_secs(2) {
                    println!("a stall of {:?}", started.elapsed());
                }
                for report in reports.drain(..) {
                    match report {
                        Ok(offset) => acknowledged.push((first, offset)),
                        Err(error) => {
                            if unknown == 0 {
                                println!("first error: {error}");
                            }
                            unknown += 1;
                        }
                    }
                    first += 1;
                }
                // A breath, so that the log stays small.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            unknown += submitted - first;
        }
        println!("{} acknowledged, {unknown} unknown, longest stall {longest:?}", acknowledged.len());
        acknowledged
    };
    let faults = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        for fault in
            ["kill -9 of the leader", "pause of the leader", "pause of a follower", "restart of the leader"]
        {
            let (leader, started) = (leader(&options).await, Instant::now());
            let node = if fault.ends_with("follower") { leader % 3 + 1 } else { leader };
            match fault {
                "kill -9 of the leader" => {
                    tool(&dir, "kill", node, &["-9"]).await;
                    tool(&dir, "restart", node, &[]).await;
                }
                "restart of the leader" => tool(&dir, "restart", node, &[]).await,
                _ => {
                    tool(&dir, "pause", node, &[]).await;
                    tokio::time::sleep(Duration::from_secs(14)).await;
                    tool(&dir, "resume", node, &[]).await;
                }
            }
            println!("{fault}, node {node}, took {:?}", started.elapsed());
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        stop.send(true).unwrap();
    };
    let (acknowledged, ()) = tokio::join!(load, faults);

    let mut last = log.appender(0).await.unwrap();
    let end = kafka_support::append(&mut *last, [record(u64::MAX)]).await.remove(0).unwrap().unwrap();
    let records = read(&mut *follower, end as usize + 1).await;
    assert!((0..).zip(&records).all(|(offset, record)| record.offset == offset), "the follower saw no holes");
    let fresh = read(&mut *log.reader(&[(0, 0)]).await.unwrap(), end as usize + 1).await;
    assert_eq!(fresh, records, "a fresh reader sees the same");
    for (submitted, offset) in &acknowledged {
        match offset {
            Some(offset) => assert_eq!(number(&records[*offset as usize]), *submitted),
            None => assert!(records.iter().any(|record| number(record) == *submitted)),
        }
    }
    let without_offset = acknowledged.iter().filter(|(_, offset)| offset.is_none()).count();
    println!("{without_offset} acknowledged without an offset");
    // Nothing twice.
    let mut numbers: Vec<_> = records.iter().map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), records.len());
}
