//! A reader: from the files until it has caught up, then from the live tail, and back if it falls behind.

use std::sync::Arc;

use async_trait::async_trait;
use shopstream_domain::Partition;
use tokio::task::JoinHandle;

use super::index::Place;
use super::scan::{Bucket, Scan};
use super::tail::{End, Follower};
use super::{Shared, segment};
use crate::cursor::Offset;
use crate::raw::{RawError, RawReader, RawRecord};

/// How much of the files is read in one go.
const READ_BYTES: usize = 1 << 20;

/// Reads some partitions.
pub(super) struct LocalReader {
    shared: Arc<Shared>,
    /// The next offset to give; `None`: not read.
    next: Vec<Option<Offset>>,
    /// Checked and counted in `next`, but not yet given.
    ready: std::collections::VecDeque<RawRecord>,
    state: State,
}

enum State {
    /// In the files. The work is done where it may block; it is kept here while it runs, so that dropping the future
    /// of `next` loses nothing.
    Behind(JoinHandle<Result<CatchUp, RawError>>),
    Live(Arc<Follower>),
    Failed(RawError),
}

/// A reader's work in the files.
struct CatchUp {
    shared: Arc<Shared>,
    scan: Scan,
    next: Vec<Option<Offset>>,
    buckets: Vec<Bucket>,
    /// Where the tail takes over, once it is agreed.
    join: Option<(Arc<Follower>, Place)>,
    found: Vec<RawRecord>,
}

impl LocalReader {
    pub(super) fn new(shared: Arc<Shared>, from: &[(Partition, Offset)]) -> Result<Self, RawError> {
        let mut next = vec![None; usize::from(shared.partitions)];
        for (partition, offset) in from {
            let end = shared.end(*partition)?;
            if *offset > end {
                return Err(RawError::Lost { partition: *partition, wanted: *offset, end });
            }
            if next[usize::from(*partition)].replace(*offset).is_some() {
                return Err(RawError::Refused { detail: format!("partition {partition} is named twice") });
            }
        }
        let state = CatchUp::start(&shared, &next);
        Ok(Self { shared, next, ready: std::collections::VecDeque::new(), state })
    }

    fn give(&mut self, max_bytes: usize, records: &mut Vec<RawRecord>) {
        let mut bytes = 0;
        while bytes < max_bytes.max(1) {
            let Some(record) = self.ready.pop_front() else { break };
            bytes += record.bytes.len().max(1);
            records.push(record);
        }
    }

    /// Counts a record of the tail; what was already read from the files is left out.
    fn accept(&mut self, record: RawRecord) -> Result<(), RawError> {
        let Some(next) = &mut self.next[usize::from(record.partition)] else { return Ok(()) };
        if record.offset > *next {
            return Err(RawError::Damaged {
                place: format!("partition {} offset {next}", record.partition),
                detail: format!("the tail goes on at offset {}", record.offset),
            });
        }
        if record.offset == *next {
            *next += 1;
            self.ready.push_back(record);
        }
        Ok(())
    }

    /// Waits until something changed: records became ready, or the state did.
    async fn step(&mut self, max_bytes: usize) -> Result<(), RawError> {
        match &mut self.state {
            State::Behind(work) => {
                let work = work.await.unwrap_or_else(|error| {
                    Err(RawError::Unavailable { detail: format!("the reader was stopped: {error}") })
                })?;
                self.next.clone_from(&work.next);
                self.state = work.go_on(&mut self.ready);
            }
            State::Live(follower) => {
                let mut records = Vec::new();
                match follower.take(max_bytes, &mut records).await {
                    Ok(()) => records.into_iter().try_for_each(|record| self.accept(record))?,
                    Err(End::Slow) => self.state = CatchUp::start(&self.shared, &self.next),
                    Err(End::Tail(error)) => return Err(error),
                }
            }
            State::Failed(error) => return Err(error.clone()),
        }
        Ok(())
    }
}

#[async_trait]
impl RawReader for LocalReader {
    async fn next(&mut self, max_bytes: usize, records: &mut Vec<RawRecord>) -> Result<(), RawError> {
        while self.ready.is_empty() {
            if let Err(error) = self.step(max_bytes).await {
                self.state = State::Failed(error.clone());
                return Err(error);
            }
        }
        self.give(max_bytes, records);
        Ok(())
    }
}

impl CatchUp {
    fn start(shared: &Arc<Shared>, next: &[Option<Offset>]) -> State {
        let wanted: Vec<_> =
            (0..).zip(next).filter_map(|(partition, next)| next.map(|next| (partition, next))).collect();
        let scan = Scan::new(shared.store.clone(), &shared.store.index.locate(&wanted));
        let mut buckets = Vec::new();
        buckets.resize_with(next.len(), Bucket::default);
        let shared = shared.clone();
        let work = Self { shared, scan, next: next.to_vec(), buckets, join: None, found: Vec::new() };
        work.spawn()
    }

    fn spawn(mut self) -> State {
        State::Behind(tokio::task::spawn_blocking(move || self.work().map(|()| self)))
    }

    /// Hands over what was found, and reads on or follows the tail.
    fn go_on(mut self, ready: &mut std::collections::VecDeque<RawRecord>) -> State {
        ready.extend(self.found.drain(..));
        match self.join {
            Some((follower, at)) if self.scan.place() >= at => State::Live(follower),
            _ => self.spawn(),
        }
    }

    /// Reads until it has found something or may follow the tail.
    fn work(&mut self) -> Result<(), RawError> {
        while self.found.is_empty() {
            let limit = match &self.join {
                Some((_, at)) => *at,
                None => self.shared.store.index.durable(),
            };
            if self.scan.place() < limit {
                self.read(limit)?;
            } else if self.join.is_some() {
                return Ok(());
            } else {
                let wanted = (0..).zip(&self.next).filter_map(|(partition, next)| next.map(|_| partition));
                // The tail may stand before or behind this scan: behind, its records up to here come twice and are
                // left out; before, this scan goes on up to there first.
                self.join = Some(self.shared.tail.follow(wanted.collect())?);
            }
        }
        Ok(())
    }

    fn read(&mut self, limit: Place) -> Result<(), RawError> {
        let Self { scan, next, buckets, .. } = self;
        let mut hole = None;
        scan.read(limit, READ_BYTES, |partition, offset, record| {
            let Some(next) = &mut next[usize::from(partition)] else { return };
            if offset == *next {
                *next += 1;
                buckets[usize::from(partition)].push(offset, record);
            } else if offset > *next {
                hole = Some((partition, *next, offset));
            }
        })?;
        if let Some((partition, next, offset)) = hole {
            let place = segment::path(&self.shared.store.dir, self.scan.place().segment);
            return Err(RawError::Damaged {
                place: place.display().to_string(),
                detail: format!("partition {partition} goes on at offset {offset}, not {next}"),
            });
        }
        for (partition, bucket) in (0..).zip(&mut self.buckets).filter(|(_, bucket)| !bucket.is_empty()) {
            self.found.extend(bucket.take(partition));
        }
        Ok(())
    }
}
