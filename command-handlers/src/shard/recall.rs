//! Aggregates as the journal has them: from a snapshot that can be believed and what is behind it, or from the whole
//! history. In a task of its own, so that nobody waits for a long fold but those who asked for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use metrics::counter;
use shopstream_domain::StreamId;
use shopstream_eventlog::{CommitRecord, History, Journal, JournalError, Position, Snapshot, schema};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::cache::Entry;
use super::snapshot::Distrust;
use crate::dedup::{Done, DoneAt};

/// An aggregate as far as the journal has it.
pub(super) struct Recalled {
    /// The aggregate, or what is wrong with its history.
    pub(super) entry: Result<Entry, String>,
    /// A snapshot of it that is worth saving.
    pub(super) snapshot: Option<Snapshot>,
}

/// Where a fold begins, and what is folded.
struct Beginning {
    entry: Entry,
    commits: Vec<CommitRecord>,
    /// The snapshot that there was is of no use: another one is made, however little is behind.
    renew: bool,
}

/// Every aggregate in the order asked, with a snapshot of those that are `due` for one. Ends with the caller.
pub(super) async fn recall(
    journal: Arc<dyn Journal>,
    streams: Vec<StreamId>,
    due: impl Fn(&Entry) -> bool + Send + 'static,
) -> Result<Vec<Recalled>, JournalError> {
    let task = tokio::spawn(async move {
        let beginnings = beginnings(&*journal, &streams).await?;
        Ok(streams.iter().zip(beginnings).map(|(stream, it)| it.fold(stream, &due)).collect())
    });
    let broken = |error| JournalError::Unavailable { detail: format!("its answer was not folded: {error}") };
    AbortOnDropHandle::new(task).await.map_err(broken)?
}

async fn beginnings(journal: &dyn Journal, streams: &[StreamId]) -> Result<Vec<Beginning>, JournalError> {
    let begun: Vec<Option<Beginning>> = match journal.recall(streams).await {
        Ok(histories) => streams.iter().zip(histories).map(|(stream, it)| begin(stream, it)).collect(),
        // The place at which a snapshot says that it ends may be what is wrong. If it is the journal, it says so again.
        Err(JournalError::Damaged { stream: suspect, .. }) => {
            ignore(&suspect, Distrust::Journal);
            let whole = journal.load(streams).await?.into_iter();
            let renewed = |(stream, commits): (&StreamId, _)| {
                Beginning::whole(stream, commits, stream.as_str() == suspect)
            };
            return Ok(streams.iter().zip(whole).map(renewed).collect());
        }
        Err(error) => return Err(error),
    };
    let ignored = streams.iter().zip(&begun).filter(|(_, begun)| begun.is_none());
    let ignored: Vec<StreamId> = ignored.map(|(stream, _)| stream.clone()).collect();
    let whole = if ignored.is_empty() { Vec::new() } else { journal.load(&ignored).await? };
    let mut anew = ignored.iter().zip(whole).map(|(stream, commits)| Beginning::whole(stream, commits, true));
    Ok(begun.into_iter().filter_map(|begun| begun.or_else(|| anew.next())).collect())
}

/// `None`: there is a snapshot, and it is not believed.
fn begin(stream: &StreamId, History { snapshot, commits }: History) -> Option<Beginning> {
    let entry = match snapshot {
        None => Entry::empty(stream.kind()),
        Some(bytes) => Entry::believe(stream, &bytes, commits.first())
            .inspect_err(|distrust| ignore(stream.as_str(), *distrust))
            .ok()?,
    };
    Some(Beginning { entry, commits, renew: false })
}

fn ignore(stream: &str, distrust: Distrust) {
    warn!(stream, "a snapshot is ignored, and the whole history read: {distrust}");
    counter!("shopstream_snapshots_ignored_total", "cause" => distrust.name()).increment(1);
}

impl Beginning {
    fn whole(stream: &StreamId, commits: Vec<CommitRecord>, renew: bool) -> Self {
        Self { entry: Entry::empty(stream.kind()), commits, renew }
    }

    fn fold(self, stream: &StreamId, due: impl Fn(&Entry) -> bool) -> Recalled {
        let Self { mut entry, commits, renew } = self;
        let begun_at = entry.version;
        // The first one is in the snapshot already.
        let mut behind = commits.iter().filter(|record| record.commit.last_version() > begun_at);
        if let Err(what) = behind.try_for_each(|record| entry.fold(record)) {
            return Recalled { entry: Err(what), snapshot: None };
        }
        entry.weigh();
        let last = commits.last().filter(|_| renew || due(&entry));
        let snapshot = last.and_then(|last| entry.snapshot(stream, last));
        if snapshot.is_some() {
            entry.snapshotted = entry.version;
        }
        Recalled { entry: Ok(entry), snapshot }
    }
}

impl Entry {
    /// Goes on with one more commit that counts.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn fold(&mut self, record: &CommitRecord) -> Result<(), String> {
        let commit = &record.commit;
        if commit.first_version != self.version + 1 {
            return Err(format!("version {} follows version {}", commit.first_version, self.version));
        }
        let mut outcome = None;
        for data in &commit.events {
            let event = schema::decode(commit.stream.kind(), data).map_err(|error| error.to_string())?;
            outcome = super::outcome(Some(&event));
            catch_unwind(AssertUnwindSafe(|| self.state.evolve(&event))).map_err(|_| "evolve panicked")?;
        }
        let Position { offset, .. } = record.position;
        self.version = commit.last_version();
        self.last_offset = Some(offset);
        self.last_recorded_at = commit.recorded_at;
        self.remembered.push(Done {
            command_id: commit.command_id,
            body_hash: commit.body_hash,
            version: self.version,
            outcome,
            at: DoneAt::Offset(offset),
        });
        Ok(())
    }
}
