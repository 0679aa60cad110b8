//! The genesis of a log.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use shopstream_domain::Partition;

use super::{Backend, P, append, log_id, made, made_on};
use crate::cursor::Offset;
use crate::log::{Log, LogError, Topology};
use crate::raw::{Appender, RawError, RawLog, RawReader};
use crate::record::Genesis;

/// A log seen with another number of partitions than it has.
struct Seen {
    raw: Arc<dyn RawLog>,
    partitions: u16,
}

#[async_trait]
impl RawLog for Seen {
    fn partitions(&self) -> u16 {
        self.partitions
    }

    async fn appender(&self, partition: Partition) -> Result<Box<dyn Appender>, RawError> {
        self.raw.appender(partition).await
    }

    async fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn RawReader>, RawError> {
        self.raw.reader(from).await
    }

    async fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        self.raw.end(partition).await
    }
}

fn seen(raw: &Arc<dyn RawLog>, partitions: u16) -> Arc<dyn RawLog> {
    Arc::new(Seen { raw: Arc::clone(raw), partitions })
}

fn genesis(log: u128, partitions: u32) -> Genesis {
    let log_id = Bytes::copy_from_slice(log_id(log).0.as_bytes());
    Genesis { log_id, generation: 1, partitions, hash_version: 1 }
}

pub(super) async fn a_log_is_made_and_opened(backend: &dyn Backend) {
    let log = made(backend, 3).await;
    assert_eq!(log.topology(), Topology { log: log_id(1), generation: 1, partitions: 3 });
    drop(log);
    let log = Log::open(backend.reopen().await).await.unwrap();
    assert_eq!(log.topology(), Topology { log: log_id(1), generation: 1, partitions: 3 });
    assert_eq!(log.end(2).await.unwrap(), 1);
}

pub(super) async fn made_again_it_stays_the_same(backend: &dyn Backend) {
    let raw = backend.fresh(2).await;
    made_on(Arc::clone(&raw)).await;
    let again = Log::create(Arc::clone(&raw), log_id(2), 7).await.unwrap();
    assert_eq!(again.topology(), Topology { log: log_id(1), generation: 1, partitions: 2 });
    assert_eq!(raw.end(0).await.unwrap(), 1);
    // An equal repeat on the log, as of two makers at once, changes nothing.
    append(&*raw, P, [genesis(1, 2).encode_record()]).await;
    let log = Log::open(raw).await.unwrap();
    assert!(super::counted(&log).await.is_empty());
}

pub(super) async fn half_made_it_is_completed(backend: &dyn Backend) {
    let raw = backend.fresh(3).await;
    append(&*raw, 0, [genesis(5, 3).encode_record()]).await;
    // They are asked side by side: either may be the first to answer.
    assert!(matches!(Log::open(Arc::clone(&raw)).await, Err(LogError::NoGenesis { partition: 1 | 2 })));
    let log = Log::create(raw, log_id(1), 1).await.unwrap();
    assert_eq!(log.topology().log, log_id(5));
}

pub(super) async fn without_genesis_it_does_not_open(backend: &dyn Backend) {
    let raw = backend.fresh(2).await;
    assert!(matches!(Log::open(Arc::clone(&raw)).await, Err(LogError::NoGenesis { partition: 0 })));
    append(&*raw, 0, [super::commit(1).encode_record(1, 1, 1)]).await;
    assert!(matches!(Log::open(Arc::clone(&raw)).await, Err(LogError::NoGenesis { partition: 0 })));
    assert!(Log::create(raw, log_id(1), 1).await.is_err());
}

pub(super) async fn partitions_that_disagree_do_not_open(backend: &dyn Backend) {
    let raw = backend.fresh(2).await;
    append(&*raw, 0, [genesis(1, 2).encode_record()]).await;
    append(&*raw, 1, [genesis(2, 2).encode_record()]).await;
    assert!(matches!(Log::open(raw).await, Err(LogError::Disagree { partition: 1 })));
}

pub(super) async fn fewer_partitions_do_not_open(backend: &dyn Backend) {
    let raw = backend.fresh(3).await;
    made_on(Arc::clone(&raw)).await;
    assert!(matches!(Log::open(seen(&raw, 2)).await, Err(LogError::Partitions { expected: 3, found: 2 })));
}

pub(super) async fn more_partitions_are_ignored(backend: &dyn Backend) {
    let raw = backend.fresh(3).await;
    made_on(seen(&raw, 2)).await;
    for log in [Log::open(Arc::clone(&raw)).await, Log::create(Arc::clone(&raw), log_id(1), 1).await] {
        assert_eq!(log.unwrap().partitions(), 2);
    }
    assert_eq!(raw.end(2).await.unwrap(), 0);
}

pub(super) async fn another_hash_does_not_open(backend: &dyn Backend) {
    let raw = backend.fresh(1).await;
    append(&*raw, 0, [Genesis { hash_version: 2, ..genesis(1, 1) }.encode_record()]).await;
    assert!(matches!(Log::open(raw).await, Err(LogError::HashVersion { found: 2 })));
}
