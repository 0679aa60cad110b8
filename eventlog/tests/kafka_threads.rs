//! What readers of the Kafka backend cost. Alone in its file, because it counts the threads of its process.

mod kafka_support;

use std::fs;
use std::time::{Duration, Instant};

use kafka_support::{brokers, fill, log, read};
use shopstream_eventlog::raw::RawLog;

/// How many clients of librdkafka live in this process: each has one main thread.
fn clients() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("rdk:main"))
        .count()
}

/// Processor time of this process so far, in ticks of 10 ms.
fn ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Per cent of a core that this process uses while nothing happens.
async fn idle() -> f64 {
    let (before, started) = (ticks(), Instant::now());
    tokio::time::sleep(Duration::from_secs(4)).await;
    (ticks() - before) as f64 / started.elapsed().as_secs_f64()
}

#[tokio::test]
async fn readers_of_one_partition_share_a_client() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "threads", 16).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = clients();
    println!("idle without readers: {:.1} % of a core", idle().await);
    let mut readers = Vec::new();
    for partition in 0..16 {
        fill(&log, partition, 0..1).await;
        let mut reader = log.reader(&[(partition, 0)]).await.unwrap();
        read(&mut *reader, 1).await;
        readers.push(reader);
    }
    // Appenders went and spares came; wait until their number is what it was.
    let deadline = Instant::now() + Duration::from_secs(10);
    while clients() > before + 1 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{before} clients before, {} with 16 readers", clients());
    assert_eq!(clients(), before + 1);

    println!("idle with 16 readers: {:.1} % of a core", idle().await);

    drop(readers);
    drop(log);
    let deadline = Instant::now() + Duration::from_secs(10);
    while clients() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(clients(), 0, "clients are left over");
}
