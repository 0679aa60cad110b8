//! Finds the events whose rows are refused, and parks their aggregates: everything else of the batch is written.

use deadpool_postgres::Transaction;

use super::{Applier, obstacle};
use crate::batch::Item;
use crate::checkpoint::CheckpointError;
use crate::parked::Obstacle;

impl Applier {
    /// As [`Applier::fold_all`], but what the server refuses is halved until it is one event. That event is parked, and the
    /// halves are taken in order, so that what is parked is the first that cannot be folded. With k of n events refused that
    /// takes about k log n tries.
    pub(super) async fn settle(
        &mut self,
        transaction: &mut Transaction<'_>,
        items: &[Item<'_>],
        parked: &mut Vec<Obstacle>,
    ) -> Result<u64, CheckpointError> {
        let (mut rows, mut left) = (0, vec![items]);
        while let Some(part) = left.pop() {
            let known = parked.len();
            let savepoint = transaction.savepoint("part").await?;
            let refused = match self.fold_all(&savepoint, part, parked).await {
                Ok(written) => {
                    savepoint.commit().await?;
                    rows += written;
                    continue;
                }
                Err(refused) => refused,
            };
            if !refused.is_about_data() {
                return Err(super::CommitError::Refused(refused).into());
            }
            savepoint.rollback().await?;
            parked.truncate(known);
            match part {
                [] => {}
                [one] => parked.push(obstacle(one, refused.to_string())),
                several => {
                    let (first, second) = several.split_at(several.len() / 2);
                    left.push(second);
                    left.push(first);
                }
            }
        }
        Ok(rows)
    }
}
