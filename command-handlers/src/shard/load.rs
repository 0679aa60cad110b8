//! Aggregates that are not in memory: from the journal and the tail, all of one turn in one query.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use metrics::counter;
use shopstream_domain::{Partition, StreamId};
use shopstream_eventlog::{CommitRecord, Journal, JournalError, Offset, schema};
use tracing::warn;

use super::cache::Entry;
use super::recall::{Recalled, recall};
use super::{Answer, Job, LookedUp, Shard, outcome};
use crate::filter::GrowingFilter;
use crate::{CommandError, Reply};

/// What the journal was asked, with its answer.
pub(super) enum Loaded {
    /// The history of these streams.
    Streams(Load),
    /// Whether it has the commit of this command.
    Command { job: Box<Job>, found: Result<Option<CommitRecord>, JournalError> },
    /// All streams that it had.
    Known(Result<GrowingFilter, JournalError>),
    /// A stream that is due for a snapshot.
    Anew { stream: StreamId, recalled: Result<Vec<Recalled>, JournalError> },
    /// Whether it keeps so many snapshots.
    Saved { count: usize, saved: Result<(), JournalError> },
}

/// Streams that were loaded together.
pub(super) struct Load {
    streams: Vec<StreamId>,
    recalled: Result<Vec<Recalled>, JournalError>,
    /// Where the journal was when the load began.
    floor: Offset,
}

/// Asks for every stream that the journal has of `partition`, so that later new streams need no query.
pub(super) fn streams(journal: Arc<dyn Journal>, partition: Partition) -> BoxFuture<'static, Loaded> {
    async move {
        let mut known = GrowingFilter::default();
        let read = journal.streams(partition, &mut |stream| known.insert(stream.as_bytes())).await;
        Loaded::Known(read.map(|()| known))
    }
    .boxed()
}

impl Shard {
    /// Whether nothing was ever appended to this stream, for certain.
    pub(super) fn is_new(&self, stream: &StreamId) -> bool {
        let name = stream.as_str().as_bytes();
        self.journaled.as_ref().is_some_and(|journaled| !journaled.contains(name))
            && !self.seen.contains(name)
    }

    /// Sets a command aside until its aggregate is loaded.
    pub(super) fn park(&mut self, job: Job) {
        self.park_for(job.envelope.stream.clone(), job);
    }

    /// Sets a command aside until another aggregate, on which it depends, is loaded.
    pub(super) fn park_for(&mut self, stream: StreamId, job: Job) {
        let waiting = self.parked.entry(stream.clone()).or_default();
        if waiting.is_empty() {
            self.to_load.push(stream);
        }
        waiting.push(job);
    }

    /// Asks the journal for all aggregates that this turn missed.
    pub(super) fn start_load(&mut self, partition: Partition) {
        let streams = std::mem::take(&mut self.to_load);
        counter!("shopstream_shard_cold_loads_total").increment(streams.len() as u64);
        let floor = self.journal.progress().borrow().get(usize::from(partition)).copied().unwrap_or(0);
        self.load_floors.push(floor);
        let (journal, every) = (self.journal.clone(), self.options.snapshot_every);
        self.loads.push(
            async move {
                let due = move |entry: &Entry| entry.is_due(entry.version, every);
                let recalled = recall(journal, streams.clone(), due).await;
                Loaded::Streams(Load { streams, recalled, floor })
            }
            .boxed(),
        );
    }

    /// Asks the journal whether this command was carried out long ago; the tail is asked at once.
    pub(super) fn look_up(&mut self, mut job: Job, now: LookedUp) {
        job.looked_up = Some(now);
        let (stream, command_id) = (job.envelope.stream.clone(), job.envelope.command_id);
        let in_tail = self.tail.of(&stream).find(|record| record.commit.command_id == command_id);
        if let Some(record) = in_tail {
            let found = Ok(Some(record.as_ref().clone()));
            self.loads.push(async move { Loaded::Command { job: Box::new(job), found } }.boxed());
            return;
        }
        let journal = self.journal.clone();
        self.loads.push(
            async move {
                let found = journal.find(&stream, command_id).await;
                Loaded::Command { job: Box::new(job), found }
            }
            .boxed(),
        );
    }

    pub(super) fn on_loaded(&mut self, loaded: Loaded, partition: Partition) {
        match loaded {
            Loaded::Streams(load) => self.on_streams(load, partition),
            Loaded::Command { job, found: Ok(Some(record)) } => self.answer_from(*job, &record),
            Loaded::Command { job, found: Ok(None) } => self.backlog.push_back(*job),
            Loaded::Command { job, found: Err(error) } => refuse(*job, partition, &error),
            Loaded::Known(Ok(known)) => self.journaled = Some(known),
            // Every new stream costs a query then, which is slow but right; the next claim asks again.
            Loaded::Known(Err(error)) => warn!(partition, %error, "the journal's streams are not known"),
            Loaded::Anew { stream, recalled } => self.on_anew(&stream, recalled, partition),
            Loaded::Saved { count, saved } => self.on_saved(count, saved, partition),
        }
    }

    fn on_streams(&mut self, load: Load, partition: Partition) {
        if let Some(index) = self.load_floors.iter().position(|floor| *floor == load.floor) {
            self.load_floors.swap_remove(index);
        }
        let recalled = match load.recalled {
            Ok(recalled) => recalled,
            Err(error) => {
                for stream in &load.streams {
                    for job in self.parked.remove(stream).unwrap_or_default() {
                        refuse(job, partition, &error);
                    }
                }
                return;
            }
        };
        for (stream, Recalled { entry, snapshot }) in load.streams.into_iter().zip(recalled) {
            let jobs = self.parked.remove(&stream).unwrap_or_default();
            if let Some(snapshot) = snapshot {
                self.snapshots.keep(snapshot);
            }
            match entry.and_then(|entry| self.fold_tail(&stream, entry)) {
                Ok(entry) => self.cache.insert(stream, entry),
                Err(what) => self.quarantine(&stream, &what),
            }
            self.backlog.extend(jobs);
        }
    }

    /// The aggregate as its history says, of which the journal had so much.
    fn fold_tail(&self, stream: &StreamId, mut entry: Entry) -> Result<Entry, String> {
        for record in self.tail.of(stream) {
            if record.commit.last_version() > entry.version {
                entry.fold(record)?;
            }
        }
        Ok(entry)
    }

    fn answer_from(&mut self, job: Job, record: &CommitRecord) {
        let commit = &record.commit;
        let answer = if job.envelope.is_meant_by(commit.body_hash) {
            let last =
                commit.events.last().and_then(|event| schema::decode(commit.stream.kind(), event).ok());
            let outcome = outcome(last.as_ref());
            let (version, position) = (commit.last_version(), record.position);
            Ok(Reply { version, position, outcome, repeated: true })
        } else {
            Err(CommandError::RequestReused { stream: commit.stream.clone() })
        };
        let _ = self.answer(job, 0, Answer::Ready(answer));
    }

    /// Drops from the tail what the journal has, except what a load that began earlier may still need.
    pub(super) fn prune(&mut self, next: Offset) {
        self.journal_next = next;
        let floor = self.load_floors.iter().copied().min().unwrap_or(next);
        self.tail.prune(next.min(floor));
    }
}

fn refuse(job: Job, partition: Partition, error: &JournalError) {
    job.fail(CommandError::Unavailable { partition, detail: error.to_string() });
}
