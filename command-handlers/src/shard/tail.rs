//! Commits that count and that the journal has not got yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use shopstream_domain::StreamId;
use shopstream_eventlog::{CommitRecord, Offset};

/// In order of offset, and by stream.
#[derive(Default)]
pub(super) struct Tail {
    records: VecDeque<Arc<CommitRecord>>,
    by_stream: HashMap<StreamId, VecDeque<Arc<CommitRecord>>>,
    bytes: usize,
}

impl Tail {
    pub(super) fn push(&mut self, record: Arc<CommitRecord>) {
        self.bytes += weight(&record);
        self.by_stream.entry(record.commit.stream.clone()).or_default().push_back(record.clone());
        self.records.push_back(record);
    }

    /// The commits of one stream, oldest first.
    pub(super) fn of(&self, stream: &StreamId) -> impl Iterator<Item = &Arc<CommitRecord>> {
        self.by_stream.get(stream).into_iter().flatten()
    }

    /// Drops what lies before `next`: the journal has it.
    pub(super) fn prune(&mut self, next: Offset) {
        while let Some(record) = self.records.pop_front_if(|record| record.position.offset < next) {
            self.bytes -= weight(&record);
            if let Some(of_stream) = self.by_stream.get_mut(&record.commit.stream) {
                of_stream.pop_front();
                if of_stream.is_empty() {
                    self.by_stream.remove(&record.commit.stream);
                }
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn weight(record: &CommitRecord) -> usize {
    let payloads: usize = record.commit.events.iter().map(|event| event.payload.len() + 64).sum();
    payloads + 256
}
