//! One operation fails, each in turn; and a disk that is full for a while.

use std::sync::Arc;

use super::disk::{FakeDisk, Fault};
use super::{PARTITIONS, PATIENCE, counts, open, options, read_all, record, reports};
use crate::local::LocalLog;
use crate::raw::{RawError, RawLog};

/// Appends ever more records from `from` on until something fails or there are enough; answers how many of each
/// partition were acknowledged, and how many submitted.
pub(super) async fn work(log: &LocalLog, from: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let (mut acknowledged, mut submitted) = (from.to_vec(), from.to_vec());
    let mut appenders = Vec::new();
    for partition in 0..PARTITIONS {
        appenders.extend(log.appender(partition).await);
    }
    if appenders.len() < usize::from(PARTITIONS) {
        return (acknowledged, submitted);
    }
    for round in 1..8 {
        let mut sent = vec![0; appenders.len()];
        for (partition, appender) in appenders.iter_mut().enumerate() {
            for _ in 0..round {
                if appender.submit(record(partition as u16, submitted[partition])).is_ok() {
                    submitted[partition] += 1;
                    sent[partition] += 1;
                }
            }
        }
        for (partition, appender) in appenders.iter_mut().enumerate() {
            let mut failed = false;
            for report in reports(&mut **appender, sent[partition]).await {
                match report {
                    Ok(offset) => {
                        assert!(!failed, "acknowledged behind a record that was not");
                        assert_eq!(offset, Some(acknowledged[partition]));
                        acknowledged[partition] += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, RawError::Poisoned { .. }), "{error}");
                        failed = true;
                    }
                }
            }
            assert!(!failed || appender.submit(record(0, 0)).is_err(), "went on after an error");
        }
    }
    (acknowledged, submitted)
}

fn between(low: &[u64], middle: &[u64], high: &[u64]) -> bool {
    low.iter().zip(middle).zip(high).all(|((low, middle), high)| low <= middle && middle <= high)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_at_any_operation_loses_and_doubles_nothing() {
    let mut poisoned = 0;
    for (at, seed) in (0..).flat_map(|at| (0..3).map(move |seed| (at, seed))) {
        let disk = FakeDisk::new();
        disk.arm(Some(Fault::Error { at }));
        let none = vec![0; usize::from(PARTITIONS)];
        let (acknowledged, submitted) = match open(&disk) {
            Ok(log) => work(&log, &none).await,
            Err(_) => (none.clone(), none),
        };
        poisoned += u64::from(acknowledged != submitted);
        let finished = disk.operations() <= at;
        disk.arm(None);
        // The program starts again; the machine did not stop.
        let log = open(&disk).unwrap_or_else(|error| panic!("error at {at}: {error}"));
        let found = counts(&read_all(&log).await.unwrap());
        assert!(between(&acknowledged, &found, &submitted), "error at {at}: {acknowledged:?} {found:?}");
        let (acknowledged, _) = work(&log, &found).await;
        drop(log);
        // Now the machine stops too: what was served once is there.
        disk.restart_after_power_cut(seed);
        let found = counts(&read_all(&open(&disk).unwrap()).await.unwrap());
        assert_eq!(found, acknowledged, "error at {at}, seed {seed}");
        if finished {
            break;
        }
    }
    assert!(poisoned > 5, "the errors should have met the writer, not only {poisoned} times");
}

/// After a flush that failed, memory shows what the disk does not have. It is served after a restart of the program,
/// so it must be on the disk by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_flush_left_in_memory_is_written_again_before_it_is_served() {
    let (mut seen, none) = (0, vec![0; usize::from(PARTITIONS)]);
    for at in 0..80 {
        let disk = FakeDisk::new();
        disk.arm(Some(Fault::Error { at }));
        let Ok(log) = open(&disk) else { continue };
        let (acknowledged, _) = work(&log, &none).await;
        drop(log);
        disk.arm(None);
        let Ok(log) = open(&disk) else { panic!("error at {at}") };
        let served = counts(&read_all(&log).await.unwrap());
        seen += u64::from(served != acknowledged);
        // Not closed: nothing more reaches the disk.
        disk.arm(Some(Fault::PowerCut { at: 0 }));
        drop(log);
        disk.restart_after_power_cut(0);
        let found = counts(&read_all(&open(&disk).unwrap()).await.unwrap());
        assert!(between(&served, &found, &served), "error at {at}: served {served:?}, then found {found:?}");
    }
    assert!(seen > 0, "no flush left anything behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_goes_on_by_itself() {
    let disk = FakeDisk::new();
    let log = LocalLog::open_with(options(), Arc::new(disk.clone())).unwrap();
    disk.set_room(Some(3 * (16 << 10) + 5000));
    let mut appender = log.appender(0).await.unwrap();
    let (mut acknowledged, mut submitted) = (0, 0);
    let error = loop {
        for _ in 0..7 {
            submitted += u64::from(appender.submit(record(0, submitted)).is_ok());
        }
        let count = (submitted - acknowledged) as usize;
        let all = reports(&mut *appender, count).await;
        acknowledged += all.iter().filter(|report| report.is_ok()).count() as u64;
        if let Some(error) = all.into_iter().find_map(Result::err) {
            break error;
        }
    };
    assert_eq!(error, RawError::DiskFull { path: "/log".into() });
    assert_eq!(log.end(0).await.unwrap(), acknowledged, "nothing half written");
    assert_eq!(counts(&read_all(&log).await.unwrap()), [acknowledged, 0, 0], "reads go on");
    assert!(
        !disk.names().iter().any(|name| name.ends_with(".new")),
        "room is given back: {:?}",
        disk.names()
    );
    // An appender that lost a record stays broken; a new one is refused until there is room, then goes on.
    assert_eq!(appender.submit(record(0, acknowledged)), Err(error.clone()));
    let mut appender = log.appender(0).await.unwrap();
    appender.submit(record(0, acknowledged)).unwrap();
    assert_eq!(reports(&mut *appender, 1).await, [Err(error.clone())]);
    disk.set_room(None);
    let goes_on = async {
        loop {
            let mut appender = log.appender(0).await.unwrap();
            appender.submit(record(0, acknowledged)).unwrap();
            match reports(&mut *appender, 1).await.remove(0) {
                Ok(offset) => break offset,
                Err(refused) => assert_eq!(refused, error),
            }
        }
    };
    let offset = tokio::time::timeout(PATIENCE, goes_on).await.unwrap();
    assert_eq!(offset, Some(acknowledged));
    drop(log);
    assert_eq!(counts(&read_all(&open(&disk).unwrap()).await.unwrap()), [acknowledged + 1, 0, 0]);
}
