//! Does what operators wish for parked aggregates: in one transaction the events that waited are folded, and the
//! aggregate is parked no more, or further on.
//!
//! The checkpoint stays where it is, and is only found to be there: whoever was overtaken releases nothing. Rows that
//! are made late are the same as if they had been made in time, because no row follows from two streams.

use deadpool_postgres::Transaction;
use shopstream_domain::{StreamId, Version};
use shopstream_eventlog::{JournalError, Position};
use tracing::info;

use super::Applier;
use crate::batch::{Batch, Item};
use crate::checkpoint::{Advance, Checkpoint, CheckpointError};
use crate::parked::{self, Keeper, Obstacle, Wish};
use crate::{Database, DatabaseError, journal};

/// Commits that are folded at once.
const COMMITS: u32 = 64;

impl Applier {
    /// The parked aggregates for which there is something to do, behind `after`; fewer than [`parked::WISHES`]: these
    /// are the last.
    pub(crate) async fn wished(
        &mut self,
        database: &Database,
        after: Option<&StreamId>,
    ) -> Result<Vec<StreamId>, DatabaseError> {
        let keeper = Keeper::View(self.projection);
        parked::wished(&**database.client().await?, keeper, self.epoch, after).await
    }

    /// What the journal must hold before `stream` can be released; `None`: nothing.
    pub(crate) fn needs(&self, stream: &StreamId) -> Option<Position> {
        let here = self.saved.get(self.partition_of(stream))?;
        Some(Position { partition: here.partition, offset: here.next.checked_sub(1)? })
    }

    /// Does what is wished for `stream`, if anything still is. On an error the view is where it was, as far as this
    /// process knows: open it again.
    pub(crate) async fn release(
        &mut self,
        database: &Database,
        stream: &StreamId,
    ) -> Result<(), CheckpointError> {
        let mut client = database.client().await?;
        let mut transaction = client.transaction().await?;
        let Some((parked_at, wish)) =
            parked::lock(&*transaction, self.projection, self.epoch, stream).await?
        else {
            return Ok(());
        };
        // Whoever was overtaken is told here.
        let checkpoint = Checkpoint { reader: self.projection.name(), epoch: self.epoch };
        checkpoint.advance(&transaction, &self.standstill(stream)).await?;
        let keeper = Keeper::View(self.projection);
        let skipped = match &wish {
            Some(Wish::Skip { version, reason, by }) if *version == parked_at.version => {
                self.left_out.add(&*transaction, self.projection, &parked_at, (reason, by)).await?
            }
            Some(Wish::Skip { .. } | Wish::Retry) | None => false,
        };
        // A skip of what is not in the way any more is no retry.
        let obstacle = match wish {
            Some(Wish::Skip { .. }) if !skipped => Some(parked_at),
            Some(_) | None => {
                // Folded as if it were not parked. On an error the whole view is opened again.
                self.parked.remove(stream);
                self.fold_waiting(&mut transaction, parked_at).await?
            }
        };
        match &obstacle {
            Some(obstacle) => {
                parked::insert(&*transaction, keeper, self.epoch, stream, obstacle).await?;
            }
            None => parked::free(&*transaction, keeper, self.epoch, stream).await?,
        }
        transaction.commit().await?;

        if skipped {
            metrics::counter!("shopstream_projection_skipped_events_total", "projection" => self.projection.name())
                .increment(1);
        }
        if obstacle.is_some() {
            self.parked.insert(stream.clone());
        } else {
            info!(%stream, projection = %self.projection, skipped, "released an aggregate: the projection has all of it");
        }
        Ok(())
    }

    /// Folds what waits from `parked_at` on, as far as the checkpoint is, and answers what is in the way now.
    async fn fold_waiting(
        &mut self,
        transaction: &mut Transaction<'_>,
        parked_at: Obstacle,
    ) -> Result<Option<Obstacle>, CheckpointError> {
        let end = self.saved.get(self.partition_of(&parked_at.stream)).map_or(0, |cursor| cursor.next);
        let mut next = parked_at.version;
        loop {
            let rows = journal::stream_rows(&**transaction, &parked_at.stream, next, end, COMMITS).await?;
            let reason = match journal::collect(&rows) {
                Ok(commits) => match commits.last().map(|record| record.commit.last_version()) {
                    Some(last) => {
                        let obstacle = self.fold_page(transaction, &Batch::of(commits), next).await?;
                        if obstacle.is_some() {
                            return Ok(obstacle);
                        }
                        next = last + 1;
                        continue;
                    }
                    None if next > parked_at.version => return Ok(None),
                    None => "the journal has no such event".to_owned(),
                },
                Err(JournalError::Damaged { detail, .. } | JournalError::Unavailable { detail }) => detail,
            };
            // What came before is in.
            return Ok(Some(Obstacle { reason, version: next, ..parked_at }));
        }
    }

    /// Folds the events of one page from version `first` on.
    async fn fold_page(
        &mut self,
        transaction: &mut Transaction<'_>,
        page: &Batch,
        first: Version,
    ) -> Result<Option<Obstacle>, CheckpointError> {
        let items = page.items().filter(|item| item.version() >= first && !self.left_out.has(item));
        let items: Vec<Item<'_>> = items.map(|item| self.left_out.close_gap(item)).collect();
        let mut parked = Vec::new();
        self.settle(transaction, &items, &mut parked).await?;
        Ok(parked.pop())
    }

    /// The checkpoint of the stream's partition from where this view believes it to be to the same place.
    fn standstill(&self, stream: &StreamId) -> Vec<Advance> {
        let here = self.saved.get(self.partition_of(stream));
        here.map(|here| Advance { from: *here, to: *here }).into_iter().collect()
    }

    fn partition_of(&self, stream: &StreamId) -> usize {
        stream.partition(self.saved.len() as u16).into()
    }
}
