//! Applies batches to one view: rows, parked aggregates and checkpoint in one transaction.

mod release;
mod settle;

use std::panic::{AssertUnwindSafe, catch_unwind};

use deadpool_postgres::Transaction;
use rustc_hash::FxHashSet;
use shopstream_domain::{Partition, StreamId};
use shopstream_eventlog::{Cursor, Log, Offset};
use tracing::error;

use crate::batch::{Batch, Item};
use crate::checkpoint::{Advance, Checkpoint, CheckpointError};
use crate::parked::{self, Keeper, LeftOut, Obstacle};
use crate::view::{Fact, Part, Poison};
use crate::{Database, DatabaseError, Projection, epoch, views};

/// One view in one epoch, at a point of the log.
pub(crate) struct Applier {
    projection: Projection,
    epoch: u32,
    parts: Vec<Box<dyn Part>>,
    /// How far it is, in the order of partitions, all of them.
    cursors: Vec<Cursor>,
    /// How far its checkpoint is. It may stay behind over events that this view does not fold, because reading
    /// those again changes nothing.
    saved: Vec<Cursor>,
    parked: FxHashSet<StreamId>,
    left_out: LeftOut,
    /// The server's session in which that was found out.
    session: u64,
}

/// How many records a checkpoint may stay behind. Without this slack every view would pay a transaction for every
/// batch, though most batches hold nothing for it.
const UNSAVED_RECORDS: u64 = 10_000;

/// What was applied.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) rows: u64,
    pub(crate) events: u64,
}

impl Applier {
    /// Goes on where the view's checkpoint is; makes its tables where there are none.
    pub(crate) async fn open(
        database: &Database,
        log: &Log,
        projection: Projection,
        epoch: u32,
    ) -> Result<Self, DatabaseError> {
        let parts = views::parts(projection, &projection.schema(epoch));
        let tables = views::tables(&parts);
        // Before anything is read: what is lost after that is a loss in a later session.
        let session = database.server().session();
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        epoch::create(&transaction, projection, epoch, &tables).await?;
        let start: Vec<Cursor> = (0..log.partitions()).map(|partition| log.start(partition)).collect();
        let checkpoint = Checkpoint { reader: projection.name(), epoch };
        let cursors = checkpoint.load_or_start(&transaction, &start).await?;
        let parked = parked::streams(&*transaction, projection, epoch).await?;
        let left_out = LeftOut::load(&*transaction, projection).await?;
        transaction.commit().await?;
        Ok(Self { projection, epoch, parts, saved: cursors.clone(), cursors, parked, left_out, session })
    }

    /// How many aggregates are parked.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// The server's session in which was found out how far it is.
    pub(crate) const fn session(&self) -> u64 {
        self.session
    }

    /// How far its checkpoint is, as it was last moved or found.
    pub(crate) fn saved(&self) -> &[Cursor] {
        &self.saved
    }

    /// How far it is, in the order of partitions.
    pub(crate) fn cursors(&self) -> &[Cursor] {
        &self.cursors
    }

    /// The next offset of every partition.
    pub(crate) fn next(&self) -> impl Iterator<Item = (Partition, Offset)> {
        self.cursors.iter().map(|cursor| (cursor.partition, cursor.next))
    }

    /// Whether `batch` begins where this view is, or before; otherwise something between is missing.
    pub(crate) fn joins(&self, batch: &Batch) -> bool {
        batch.from().iter().all(|(partition, from)| self.next_of(*partition) >= *from)
    }

    /// The cursors of the partitions in which this view is not yet at `target`.
    pub(crate) fn behind(&self, target: &[(Partition, Offset)]) -> impl Iterator<Item = &Cursor> {
        self.cursors.iter().filter(|cursor| {
            target.iter().any(|(partition, offset)| cursor.partition == *partition && cursor.next < *offset)
        })
    }

    fn next_of(&self, partition: Partition) -> Offset {
        self.cursors.get(usize::from(partition)).map_or(0, |cursor| cursor.next)
    }

    /// Applies what is new in `batches`, which follow each other. On an error the view is where it was, as far as
    /// this process knows: open it again.
    pub(crate) async fn apply(
        &mut self,
        database: &Database,
        batches: &[impl AsRef<Batch>],
    ) -> Result<Applied, CheckpointError> {
        let cursors = self.after(batches);
        let items = batches.iter().flat_map(|batch| batch.as_ref().items()).filter(|item| self.wants(item));
        let items: Vec<Item<'_>> = items.map(|item| self.left_out.close_gap(item)).collect();
        let unsaved: u64 = cursors.iter().zip(&self.saved).map(|(now, saved)| now.next - saved.next).sum();
        if items.is_empty() && unsaved < UNSAVED_RECORDS {
            self.cursors = cursors;
            return Ok(Applied::default());
        }
        let rows = self.commit(database, &items, &cursors).await?;
        self.cursors = cursors;
        Ok(Applied { rows, events: items.len() as u64 })
    }

    /// Whether the checkpoint is where the view is.
    pub(crate) fn is_saved(&self) -> bool {
        self.cursors == self.saved
    }

    /// Moves the checkpoint to where the view is.
    pub(crate) async fn save(&mut self, database: &Database) -> Result<(), CheckpointError> {
        let cursors = self.cursors.clone();
        self.commit(database, &[], &cursors).await.map(drop)
    }

    /// Folds `items` and moves the checkpoint to `cursors` in one transaction; answers how many rows it wrote. Where the
    /// server refuses some of the rows, it is done once more, and finds out which.
    async fn commit(
        &mut self,
        database: &Database,
        items: &[Item<'_>],
        cursors: &[Cursor],
    ) -> Result<u64, CheckpointError> {
        match self.try_commit(database, items, cursors, Care::None).await {
            Err(CommitError::Refused(_)) => {
                Ok(self.try_commit(database, items, cursors, Care::FindRefused).await?)
            }
            done => Ok(done?),
        }
    }

    async fn try_commit(
        &mut self,
        database: &Database,
        items: &[Item<'_>],
        cursors: &[Cursor],
        care: Care,
    ) -> Result<u64, CommitError> {
        let mut client = database.client().await?;
        let mut transaction = client.transaction().await?;
        // Rows and cursor are lost together in a crash, and folded again.
        transaction.batch_execute("SET LOCAL synchronous_commit TO off").await?;
        let mut parked = Vec::new();
        let rows = match care {
            Care::None => self.fold_all(&transaction, items, &mut parked).await.map_err(CommitError::of)?,
            Care::FindRefused => self.settle(&mut transaction, items, &mut parked).await?,
        };
        for obstacle in &parked {
            let keeper = Keeper::View(self.projection);
            parked::insert(&*transaction, keeper, self.epoch, &obstacle.stream, obstacle).await?;
        }
        let steps = cursors.iter().zip(&self.saved).filter(|(to, from)| to.next > from.next);
        let steps: Vec<Advance> = steps.map(|(to, from)| Advance { from: *from, to: *to }).collect();
        let checkpoint = Checkpoint { reader: self.projection.name(), epoch: self.epoch };
        checkpoint.advance(&transaction, &steps).await?;
        transaction.commit().await?;

        let waiting = items.iter().filter(|item| {
            let stream = &item.record().commit.stream;
            let behind = |it: &Obstacle| it.stream == *stream && it.version <= item.version();
            self.parked.contains(stream) || parked.iter().any(behind)
        });
        metrics::counter!("shopstream_projection_parked_events_total", "projection" => self.projection.name())
            .increment(waiting.count() as u64);
        for obstacle in &parked {
            let Obstacle { stream, version, position, reason } = obstacle;
            error!(
                %stream, version, %position, projection = %self.projection, reason,
                "parked an aggregate: the projection goes on without it"
            );
        }
        self.parked.extend(parked.into_iter().map(|obstacle| obstacle.stream));
        self.saved = cursors.to_vec();
        Ok(rows)
    }

    /// Loads the rows that the fold of `items` will look at.
    async fn load(&mut self, transaction: &Transaction<'_>, items: &[Item<'_>]) -> Result<(), DatabaseError> {
        let facts: Vec<Fact<'_>> = items
            .iter()
            .filter_map(|item| match item {
                Item::Fact(fact) => Some(*fact),
                Item::Undecodable { .. } => None,
            })
            .collect();
        for part in &mut self.parts {
            part.forget();
            part.load(transaction, &facts).await?;
        }
        Ok(())
    }

    /// Writes what was folded, and answers how many rows it were.
    async fn write(&mut self, transaction: &Transaction<'_>) -> Result<u64, DatabaseError> {
        let mut rows = 0;
        for part in &mut self.parts {
            rows += part.save(transaction).await?;
        }
        Ok(rows)
    }

    /// The cursors after `batches`.
    fn after(&self, batches: &[impl AsRef<Batch>]) -> Vec<Cursor> {
        let mut cursors = self.cursors.clone();
        for to in batches.iter().flat_map(|batch| batch.as_ref().to()) {
            if let Some(cursor) = cursors.get_mut(usize::from(to.partition)).filter(|it| it.next < to.next) {
                *cursor = *to;
            }
        }
        cursors
    }

    /// Whether an event is new here, of a kind that this view folds, and not left out.
    fn wants(&self, item: &Item<'_>) -> bool {
        let record = item.record();
        let kind = record.commit.stream.kind();
        record.position.offset >= self.next_of(record.position.partition)
            && self.parts.iter().any(|part| part.kinds().contains(&kind))
            && !self.left_out.has(item)
    }

    /// Loads what the fold of `items` will look at, folds them in order, and writes what came of it; answers how many
    /// rows that were. `parked` learns where aggregates have to be parked from here on.
    async fn fold_all(
        &mut self,
        transaction: &Transaction<'_>,
        items: &[Item<'_>],
        parked: &mut Vec<Obstacle>,
    ) -> Result<u64, Refused> {
        self.load(transaction, items).await?;
        // A fold that panics is a bug like one that fails, and parks what it was for; what it left half done is
        // forgotten.
        catch_unwind(AssertUnwindSafe(|| self.fold(items, parked))).map_err(|_| Refused::Panicked)?;
        Ok(self.write(transaction).await?)
    }

    fn fold(&mut self, items: &[Item<'_>], parked: &mut Vec<Obstacle>) {
        for item in items {
            let stream = &item.record().commit.stream;
            if self.parked.contains(stream) || parked.iter().any(|obstacle| obstacle.stream == *stream) {
                continue;
            }
            if let Err(obstacle) = self.fold_one(item) {
                parked.push(obstacle);
            }
        }
    }

    /// Folds one event; on an error nothing has changed.
    fn fold_one(&mut self, item: &Item<'_>) -> Result<(), Obstacle> {
        let record = item.record();
        let kind = record.commit.stream.kind();
        let mut parts = self.parts.iter_mut().filter(|part| part.kinds().contains(&kind));
        let folded = match item {
            Item::Fact(fact) => parts.try_for_each(|part| part.fold(fact)),
            Item::Undecodable { detail, .. } => Err(Poison::Undecodable { detail: (*detail).to_owned() }),
        };
        folded.map_err(|poison| obstacle(item, poison.to_string()))
    }
}

/// The event of `item` as one that an aggregate cannot be taken past.
fn obstacle(item: &Item<'_>, reason: String) -> Obstacle {
    let record = item.record();
    Obstacle {
        stream: record.commit.stream.clone(),
        version: item.version(),
        position: record.position,
        reason,
    }
}

/// How a batch is committed.
#[derive(Clone, Copy, Debug)]
enum Care {
    /// As one that has nothing wrong with it.
    None,
    /// As one of which something is refused.
    FindRefused,
}

/// Why some rows were not written: for what is in them, or for another reason.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("a bug: the fold panicked, see the lines before")]
    Panicked,
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Refused {
    fn is_about_data(&self) -> bool {
        match self {
            Self::Database(error) => error.is_about_data(),
            Self::Panicked => true,
        }
    }
}

/// Why a batch was not committed.
#[derive(Debug)]
enum CommitError {
    /// Some of its rows are refused.
    Refused(Refused),
    /// Another reason.
    Other(CheckpointError),
}

impl CommitError {
    fn of(refused: Refused) -> Self {
        match refused {
            Refused::Database(error) if !error.is_about_data() => Self::Other(error.into()),
            refused => Self::Refused(refused),
        }
    }
}

impl From<CheckpointError> for CommitError {
    fn from(error: CheckpointError) -> Self {
        Self::Other(error)
    }
}

impl From<DatabaseError> for CommitError {
    fn from(error: DatabaseError) -> Self {
        Self::Other(error.into())
    }
}

impl From<tokio_postgres::Error> for CommitError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<CommitError> for CheckpointError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Other(error) => error,
            CommitError::Refused(Refused::Database(error)) => error.into(),
            CommitError::Refused(Refused::Panicked) => Self::Panicked,
        }
    }
}
