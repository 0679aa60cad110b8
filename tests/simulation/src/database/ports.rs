//! The ports through which the write path and the processes know the database.

use std::time::Duration;

use async_trait::async_trait;
use shopstream_domain::{Partition, StreamId};
use shopstream_eventlog::{
    CommandId, CommitRecord, Cursor, History, Journal, JournalError, Offset, Position, Snapshot,
};
use shopstream_projections::{DatabaseError, MemoryViews, Projection, ViewStore};
use shopstream_sagas::ports::{CursorMove, Obstacle, SagaStore, StoreError, Unfinished};
use tokio::sync::watch;

use super::{Database, Reader, Trouble};

/// How long the views may need to show what the log holds.
const CATCH_UP: Duration = Duration::from_secs(30);

fn away(_: Trouble) -> JournalError {
    JournalError::Unavailable { detail: "the simulated database does not answer".to_owned() }
}

#[async_trait]
impl Journal for Database {
    async fn load(&self, streams: &[StreamId]) -> Result<Vec<Vec<CommitRecord>>, JournalError> {
        let mut kept = self.kept();
        kept.answers().map_err(away)?;
        Ok(streams.iter().map(|stream| kept.journal.get(stream).cloned().unwrap_or_default()).collect())
    }

    /// As in the real one, a snapshot that ends in the middle of a commit makes the journal look damaged.
    async fn recall(&self, streams: &[StreamId]) -> Result<Vec<History>, JournalError> {
        let mut kept = self.kept();
        kept.answers().map_err(away)?;
        let mut histories = Vec::new();
        for stream in streams {
            let whole = kept.journal.get(stream).map_or(&[][..], Vec::as_slice);
            let snapshot = kept.snapshots.get(stream);
            let history = History::behind(snapshot, whole);
            let from = snapshot.map_or(1, |snapshot| snapshot.from);
            if history.commits.first().is_some_and(|record| record.commit.first_version != from) {
                let detail = format!("version {from} is in the middle of a commit");
                return Err(JournalError::Damaged { stream: stream.to_string(), detail });
            }
            histories.push(history);
        }
        kept.recalled += histories.iter().filter(|history| history.snapshot.is_some()).count() as u64;
        Ok(histories)
    }

    async fn save(&self, snapshots: &[Snapshot]) -> Result<(), JournalError> {
        let mut kept = self.kept();
        kept.answers().map_err(away)?;
        kept.snapshots.extend(snapshots.iter().map(|snapshot| (snapshot.stream.clone(), snapshot.clone())));
        // It is done; whether anybody hears of it is another matter.
        kept.answers().map_err(away)
    }

    async fn find(
        &self,
        stream: &StreamId,
        command: CommandId,
    ) -> Result<Option<CommitRecord>, JournalError> {
        let mut kept = self.kept();
        kept.answers().map_err(away)?;
        let history = kept.journal.get(stream).into_iter().flatten();
        Ok(history.into_iter().find(|record| record.commit.command_id == command).cloned())
    }

    async fn cursor(&self, partition: Partition) -> Result<Option<Cursor>, JournalError> {
        let mut kept = self.kept();
        kept.answers().map_err(away)?;
        Ok(kept.checkpoints.get(&(Reader::Journal, partition)).copied())
    }

    async fn streams(
        &self,
        partition: Partition,
        each: &mut (dyn for<'s> FnMut(&'s str) + Send),
    ) -> Result<(), JournalError> {
        let mut kept = self.kept();
        kept.answers().map_err(away)?;
        kept.streams[usize::from(partition)].iter().for_each(|stream| each(stream.as_str()));
        Ok(())
    }

    fn progress(&self) -> watch::Receiver<Vec<Offset>> {
        self.kept().subscribe(Reader::Journal)
    }
}

impl ViewStore for Database {
    fn look(&self, view: Projection, with: &mut dyn FnMut(&MemoryViews)) -> Result<(), DatabaseError> {
        let mut kept = self.kept();
        kept.answers().map_err(|_| DatabaseError::Unavailable {
            target: "memory".to_owned(),
            detail: "the simulated database does not answer".to_owned(),
        })?;
        with(kept.read_models.entry(Reader::of(view)).or_default());
        Ok(())
    }
}

impl Database {
    /// How far a reader is.
    pub(super) fn board(&self, reader: Reader) -> watch::Receiver<Vec<Offset>> {
        self.kept().subscribe(reader)
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { detail: "the simulated database does not answer".to_owned() }
}

#[async_trait]
impl SagaStore for Database {
    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError> {
        let mut kept = self.kept();
        kept.answers().map_err(|_| unavailable())?;
        Ok(kept.checkpoints_of(Reader::Sagas))
    }

    async fn save(&self, moves: &[CursorMove]) -> Result<(), StoreError> {
        let moves: Vec<_> = moves.iter().map(|step| (step.from, step.to)).collect();
        self.kept().transaction(Reader::Sagas, &moves, |_| {}).map_err(|trouble| match trouble {
            Trouble::Unavailable => unavailable(),
            Trouble::Overtaken { partition } => StoreError::Moved { partition },
        })
    }

    async fn unfinished(&self, at_least: &[Position]) -> Result<Unfinished, StoreError> {
        let mut progress = {
            let mut kept = self.kept();
            kept.answers().map_err(|_| unavailable())?;
            kept.subscribe(Reader::Views)
        };
        let there = progress.wait_for(|next| {
            at_least.iter().all(|position| next[usize::from(position.partition)] > position.offset)
        });
        match tokio::time::timeout(CATCH_UP, there).await {
            Ok(Ok(_)) => {
                let kept = self.kept();
                Ok(Unfinished { parked: kept.parked.iter().cloned().collect(), ..kept.views.unfinished() })
            }
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }

    async fn park(&self, process: &StreamId, _obstacle: &Obstacle) -> Result<(), StoreError> {
        let mut kept = self.kept();
        kept.answers().map_err(|_| unavailable())?;
        kept.parked.insert(process.clone());
        Ok(())
    }

    async fn free(&self, process: &StreamId) -> Result<(), StoreError> {
        let mut kept = self.kept();
        kept.answers().map_err(|_| unavailable())?;
        kept.parked.remove(process);
        Ok(())
    }

    /// Nobody wishes anything here.
    fn wishes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    async fn wished(&self) -> Result<Vec<StreamId>, StoreError> {
        Ok(Vec::new())
    }
}
