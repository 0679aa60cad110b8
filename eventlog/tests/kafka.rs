//! The Kafka backend against a real broker.

mod kafka_support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_support::{append, assert_dense, brokers, fill, log, log_with, next, options, read, record};
use shopstream_eventlog::raw::{RawError, RawLog};

#[tokio::test]
async fn what_is_appended_is_read_in_order_by_every_reader() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "order", 2).await;
    let mut appender = log.appender(1).await.unwrap();
    let started = Instant::now();
    let reports = append(&mut *appender, (0..10_000).map(record)).await;
    println!("appended 10,000 in {:?}", started.elapsed());
    assert_eq!(reports, (0..10_000).map(|offset| Ok(Some(offset))).collect::<Vec<_>>());
    assert_eq!((log.end(0).await, log.end(1).await), (Ok(0), Ok(10_000)));

    let (mut shared, mut own) =
        (log.reader(&[(1, 0)]).await.unwrap(), log.reader(&[(0, 0), (1, 0)]).await.unwrap());
    let started = Instant::now();
    let (first, second) = tokio::join!(read(&mut *shared, 10_000), read(&mut *own, 10_000));
    println!("read 2 x 10,000 in {:?}", started.elapsed());
    assert_eq!((first.len(), second.len()), (10_000, 10_000));
    assert_dense(&first, 0);
    assert_eq!(first, second);

    // A second reader of the same partition cannot share the consumer and is served all the same.
    let mut middle = log.reader(&[(1, 7_000)]).await.unwrap();
    let records = read(&mut *middle, 3_000).await;
    assert_eq!(records.len(), 3_000);
    assert_dense(&records, 7_000);

    // From the end: the next record is the first.
    let mut end = log.reader(&[(1, 10_000)]).await.unwrap();
    append(&mut *appender, [record(10_000)]).await;
    assert_dense(&read(&mut *end, 1).await, 10_000);
    assert_dense(&read(&mut *shared, 1).await, 10_000);
}

#[tokio::test]
async fn reading_back_follows_appending_closely() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "readback", 16).await;
    let mut readers = Vec::new();
    for partition in 0..16 {
        readers.push(log.reader(&[(partition, 0)]).await.unwrap());
    }
    let mut appender = log.appender(5).await.unwrap();
    append(&mut *appender, [record(0)]).await;
    read(&mut *readers[5], 1).await;
    let mut times = Vec::new();
    for number in 1..200 {
        let started = Instant::now();
        append(&mut *appender, [record(number)]).await;
        let acknowledged = started.elapsed();
        assert_dense(&read(&mut *readers[5], 1).await, number);
        times.push((started.elapsed(), acknowledged));
    }
    times.sort_unstable();
    println!("append and read back: p50 {:?}, p99 {:?} (read, acknowledged)", times[100], times[197]);
    assert!(times[100].0 < Duration::from_millis(50), "{:?}", times[100]);
}

#[tokio::test]
async fn a_full_appender_says_so_and_goes_on() {
    let Some(brokers) = brokers() else { return };
    let mut options = options(&brokers, "full");
    options.in_flight_records = 10;
    let log = log_with(options, 1).await;
    let mut appender = log.appender(0).await.unwrap();
    let submitted =
        (0..1_000).take_while(|number| appender.submit(record(*number)) != Err(RawError::Full)).count();
    assert_eq!(submitted, 10);
    let mut reports = Vec::new();
    while reports.len() < 10 {
        appender.reports(&mut reports).await;
    }
    assert_eq!(append(&mut *appender, [record(10)]).await, [Ok(Some(10))]);
}

#[tokio::test]
async fn a_record_too_large_is_refused_for_good() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "large", 1).await;
    let mut appender = log.appender(0).await.unwrap();
    assert_eq!(append(&mut *appender, [Bytes::from(vec![0; 900_000])]).await, [Ok(Some(0))]);
    let mut reports = append(&mut *appender, [Bytes::from(vec![0; 2_000_000])]).await;
    let refused = reports.remove(0).unwrap_err();
    assert!(matches!(refused, RawError::Refused { .. }), "{refused}");
    assert_eq!(appender.submit(record(1)), Err(refused), "an appender with an error is of no more use");
}

#[tokio::test]
async fn a_warm_spare_appends_its_first_record_fast() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "spare", 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let started = Instant::now();
    let mut appender = log.appender(0).await.unwrap();
    append(&mut *appender, [record(0)]).await;
    let warm = started.elapsed();
    println!("first record of a warm producer after {warm:?}");
    assert!(warm < Duration::from_millis(300), "{warm:?}");
    let started = Instant::now();
    drop(appender);
    assert!(started.elapsed() < Duration::from_millis(20), "dropping blocks for {:?}", started.elapsed());
}

#[tokio::test]
async fn an_offset_beyond_the_end_is_lost() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "beyond", 2).await;
    fill(&log, 0, 0..5).await;
    for from in [&[(0, 9)][..], &[(0, 9), (1, 0)]] {
        let mut reader = log.reader(from).await.unwrap();
        let lost = next(&mut *reader, &mut Vec::new()).await;
        assert_eq!(lost, Err(RawError::Lost { partition: 0, wanted: 9, end: 5 }));
    }
    assert!(matches!(log.reader(&[(2, 0)]).await.err(), Some(RawError::Refused { .. })));
    assert!(matches!(log.appender(2).await.err(), Some(RawError::Refused { .. })));
}

#[tokio::test]
async fn readers_come_and_go_while_others_flow() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "sharing", 16).await;
    for partition in 0..16 {
        fill(&log, partition, 0..100).await;
    }
    let mut readers = HashMap::new();
    for partition in 0..16 {
        readers.insert(partition, log.reader(&[(partition, 0)]).await.unwrap());
    }
    for partition in 0..16 {
        let records = read(&mut **readers.get_mut(&partition).unwrap(), 100).await;
        assert!(records.iter().all(|record| record.partition == partition));
        assert_dense(&records, 0);
    }
    // One partition is written and read throughout; the others' readers leave and come back where they were.
    let mut appender = log.appender(0).await.unwrap();
    let mut steady = readers.remove(&0).unwrap();
    let flow = async {
        for number in 100..400 {
            append(&mut *appender, [record(number)]).await;
            assert_dense(&read(&mut *steady, 1).await, number);
        }
    };
    let churn = async {
        for round in 1..=5 {
            for partition in 1..16 {
                drop(readers.remove(&partition));
                let from = round * 10;
                let mut reader = log.reader(&[(partition, from)]).await.unwrap();
                let records = read(&mut *reader, 100 - from as usize).await;
                assert_dense(&records, from);
                readers.insert(partition, reader);
            }
        }
    };
    let started = Instant::now();
    tokio::join!(flow, churn);
    println!("75 readers changed and 300 records flowed in {:?}", started.elapsed());
    // And those that stayed last still get what comes.
    for (partition, mut reader) in readers {
        fill(&log, partition, 100..101).await;
        assert_dense(&read(&mut *reader, 1).await, 100);
    }
}

#[tokio::test]
async fn a_slow_reader_does_not_stall_a_fast_one() {
    let Some(brokers) = brokers() else { return };
    let log = log(&brokers, "slow", 2).await;
    let large = |number: u64| {
        let mut bytes = record(number).to_vec();
        bytes.resize(10_000, b'y');
        Bytes::from(bytes)
    };
    for partition in 0..2 {
        let mut appender = log.appender(partition).await.unwrap();
        // Forty megabytes: ten times what waits for one reader.
        append(&mut *appender, (0..4_000).map(large)).await;
    }
    let (mut slow, mut fast) = (log.reader(&[(0, 0)]).await.unwrap(), log.reader(&[(1, 0)]).await.unwrap());
    let mut slow_records = read(&mut *slow, 1).await;
    // The slow one reads nothing meanwhile.
    let started = Instant::now();
    assert_dense(&read(&mut *fast, 4_000).await, 0);
    println!("the fast reader took {:?}", started.elapsed());
    while slow_records.len() < 4_000 {
        next(&mut *slow, &mut slow_records).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_dense(&slow_records, 0);
}
