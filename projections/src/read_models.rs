//! The read side's door: every query begins here, in the active epoch of its view.

use shopstream_eventlog::Position;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use crate::table::{Row, columns, read};
use crate::{Behind, Database, DatabaseError, Progress, Projection, epoch};

/// Answers queries from the views. Cheap to clone.
///
/// The queries themselves stand beside the rows that they answer, in the module of each view. None waits: first
/// ask [`ReadModels::wait_for`] where the caller has to see its own writes.
#[derive(Clone)]
pub struct ReadModels {
    database: Database,
    progress: Progress,
}

impl ReadModels {
    /// Opens the views in their active epochs; another is followed as soon as `progress` hears of it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open(database: Database, progress: Progress) -> Result<Self, DatabaseError> {
        let epochs = epoch::active(&database).await?;
        for projection in Projection::ALL {
            progress.set_epoch(projection, epochs[projection.index()]);
        }
        Ok(Self { database, progress })
    }

    /// Waits until a view holds the records at all of these positions. Nothing to wait for: answers at once.
    ///
    /// # Errors
    /// [`Behind`] at the deadline: how far the view is.
    pub async fn wait_for(
        &self,
        projection: Projection,
        positions: &[Position],
        deadline: Instant,
    ) -> Result<(), Behind> {
        if positions.is_empty() {
            Ok(())
        } else {
            self.progress.wait_for(projection, positions, deadline).await
        }
    }

    /// How far the views are.
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The schema of a view's tables.
    pub(crate) fn schema(&self, projection: Projection) -> String {
        projection.schema(self.progress.epoch(projection))
    }

    /// The rows of `R`, aliased `t`, that `rest` selects: joins, conditions, order, limit.
    pub(crate) async fn select<R: Row>(
        &self,
        projection: Projection,
        rest: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<R>, DatabaseError> {
        let sql =
            format!("SELECT {} FROM {}.{} AS t {rest}", columns::<R>("t."), self.schema(projection), R::NAME);
        self.query(projection, &sql, params).await?.iter().map(|row| read(row, 0)).collect()
    }

    /// What `sql` answers from tables of a view. An answer is never older than the view was said to be: where the server
    /// has begun again, it is none until the view has found out where it is now.
    pub(crate) async fn query(
        &self,
        projection: Projection,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, DatabaseError> {
        let answered = self.database.reader().ask(sql, params).await?;
        if answered.session > self.progress.session(projection) {
            return Err(DatabaseError::BegunAgain { projection });
        }
        Ok(answered.rows)
    }
}
