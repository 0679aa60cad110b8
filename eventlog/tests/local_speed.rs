//! How many records a second the local log makes durable here and now; printed, not judged (`--nocapture`).
//!
//! The bare figures to hold these against are in `performance.md` section 3 of the design: a loop of write and flush
//! in a segment written beforehand, on the same disk, otherwise idle. These here go through the appenders' and the
//! readers' tasks, and with `read` each record also through the file back to a reader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shopstream_eventlog::local::{LocalLog, Options};
use shopstream_eventlog::raw::RawLog;

const PARTITIONS: u16 = 16;
const TIME: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_records_a_second() {
    for in_flight in [1, 64, 512] {
        let bare = bare(in_flight);
        let written = run(in_flight, false).await;
        let read = run(in_flight, true).await;
        println!("{in_flight} in flight: bare {bare}, appended {written}, and read back {read} records/s");
        assert!(read > 0);
    }
}

/// One thread writes and flushes groups of `group` records into zeros written before.
fn bare(group: usize) -> u64 {
    use std::os::unix::fs::FileExt;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&vec![0; 64 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let bytes = vec![7; (320 * group).next_multiple_of(512)];
    let (start, mut groups, mut at) = (Instant::now(), 0, 0);
    while start.elapsed() < TIME {
        file.write_all_at(&bytes, at).unwrap();
        file.sync_data().unwrap();
        at = (at + bytes.len() as u64) % (60 << 20);
        groups += 1;
    }
    per_second(groups * group as u64, start)
}

/// One appender a partition, `in_flight` records among them; with `read`, one reader for each and one for all.
async fn run(in_flight: usize, read: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(LocalLog::open(Options::new(dir.path(), PARTITIONS)).unwrap());
    let appenders = in_flight.min(PARTITIONS.into()) as u16;
    let start = Instant::now();
    let mut tasks = Vec::new();
    for partition in 0..appenders {
        let log = log.clone();
        let window = in_flight as u64 / u64::from(appenders);
        tasks.push(tokio::spawn(async move {
            let record = Bytes::from(vec![7; 300]);
            let mut appender = log.appender(partition).await.unwrap();
            let mut reader = log.reader(&[(partition, 0)]).await.unwrap();
            let (mut sent, mut done, mut reports) = (0, 0, Vec::new());
            let mut records = Vec::new();
            loop {
                while start.elapsed() < TIME && sent < done + window {
                    appender.submit(record.clone()).unwrap();
                    sent += 1;
                }
                // The clock is looked at in one place only: whoever goes on without a record in flight waits for ever.
                if done == sent {
                    break;
                }
                reports.clear();
                appender.reports(&mut reports).await;
                while read && records.len() < reports.len() {
                    reader.next(1 << 20, &mut records).await.unwrap();
                }
                records.drain(..reports.len().min(records.len()));
                done += reports.len() as u64;
            }
            done
        }));
    }
    let follower = log.clone();
    let all = tokio::spawn(async move {
        let from: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut reader = follower.reader(&from).await.unwrap();
        let mut records = Vec::new();
        if read {
            while reader.next(1 << 20, &mut records).await.is_ok() {
                records.clear();
            }
        }
    });
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    all.abort();
    per_second(done, start)
}

fn per_second(count: u64, since: Instant) -> u64 {
    (count as f64 / since.elapsed().as_secs_f64()) as u64
}
