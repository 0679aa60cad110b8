//! Which consumer a reader reads from.
//!
//! A reader of exactly one partition shares a consumer with the others of its kind, unless that partition is
//! already being read there. Every other reader has a consumer and a thread of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};

use async_trait::async_trait;
use shopstream_domain::Partition;

use super::Options;
use super::feed::{self, Join};
use super::queue::Queue;
use crate::cursor::Offset;
use crate::raw::{RawError, RawReader, RawRecord};

/// Bytes that wait for a reader of one partition.
const SHARED_QUEUE_BYTES: usize = 4 << 20;
/// Bytes that wait for a reader of several partitions.
const OWN_QUEUE_BYTES: usize = 16 << 20;

pub(super) struct Readers {
    options: Arc<Options>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    joins: Option<mpsc::Sender<Join>>,
    taken: HashMap<Partition, Weak<Queue>>,
}

impl Readers {
    pub(super) fn new(options: Arc<Options>) -> Self {
        Self { options, shared: Mutex::default() }
    }

    pub(super) fn open(
        &self,
        from: &[(Partition, Offset)],
        shareable: bool,
    ) -> Result<KafkaReader, RawError> {
        if let (true, [(partition, next)]) = (shareable, from) {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            let taken =
                shared.taken.get(partition).and_then(Weak::upgrade).is_some_and(|queue| !queue.is_over());
            if !taken {
                return shared.join(&self.options, *partition, *next);
            }
        }
        let queue = Arc::new(Queue::new(OWN_QUEUE_BYTES));
        feed::start_own(self.options.clone(), from, queue.clone())?;
        Ok(KafkaReader { queue })
    }
}

impl Shared {
    fn join(
        &mut self,
        options: &Arc<Options>,
        partition: Partition,
        next: Offset,
    ) -> Result<KafkaReader, RawError> {
        let queue = Arc::new(Queue::new(SHARED_QUEUE_BYTES));
        self.taken.insert(partition, Arc::downgrade(&queue));
        let mut join = Join { partition, next, queue: queue.clone() };
        if let Some(joins) = &self.joins {
            match joins.send(join) {
                Ok(()) => return Ok(KafkaReader { queue }),
                // Its thread has ended; another takes over.
                Err(mpsc::SendError(back)) => join = back,
            }
        }
        let joins = feed::start_shared(options.clone())?;
        joins
            .send(join)
            .map_err(|_| RawError::Unavailable { detail: "the reading thread has ended".into() })?;
        self.joins = Some(joins);
        Ok(KafkaReader { queue })
    }
}

pub(super) struct KafkaReader {
    queue: Arc<Queue>,
}

#[async_trait]
impl RawReader for KafkaReader {
    async fn next(&mut self, max_bytes: usize, records: &mut Vec<RawRecord>) -> Result<(), RawError> {
        self.queue.next(max_bytes, records).await
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.queue.close();
    }
}
