//! The read side's door: every query begins here, in the active epoch of its view.

use std::sync::Arc;

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
    schemas: Arc<[String]>,
    progress: Progress,
}

impl ReadModels {
    /// Opens the views in their active epochs, which stay the same until this is opened again.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open(database: Database, progress: Progress) -> Result<Self, DatabaseError> {
        let epochs = epoch::active(&database).await?;
        let schemas = Projection::ALL.map(|projection| projection.schema(epochs[projection.index()])).into();
        Ok(Self { database, schemas, progress })
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
    pub(crate) fn schema(&self, projection: Projection) -> &str {
        &self.schemas[projection.index()]
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
        self.query(&sql, params).await?.iter().map(|row| read(row, 0)).collect()
    }

    pub(crate) async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, DatabaseError> {
        self.database.reader().query(sql, params).await
    }
}
