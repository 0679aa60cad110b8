//! The read side's door: every query begins here, in the active epoch of its view.

use std::sync::Arc;

use shopstream_eventlog::Position;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use crate::memory::{MemoryViews, ViewStore};
use crate::table::{Row, columns, read};
use crate::{Behind, Database, DatabaseError, Progress, Projection, epoch};

/// Answers queries from the views. Cheap to clone.
///
/// The queries themselves stand beside the rows that they answer, in the module of each view. None waits: first
/// ask [`ReadModels::wait_for`] where the caller has to see its own writes.
#[derive(Clone)]
pub struct ReadModels {
    source: Source,
    progress: Progress,
}

/// Where the rows are.
#[derive(Clone)]
enum Source {
    Postgres(Database),
    Memory(Arc<dyn ViewStore>),
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
        Ok(Self { source: Source::Postgres(database), progress })
    }

    /// The read models of a store in memory, whose owner tells `progress` how far they are.
    pub fn in_memory(store: Arc<dyn ViewStore>, progress: Progress) -> Self {
        Self { source: Source::Memory(store), progress }
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

    /// What `look` finds, which waits for positions of `views` and then reads these.
    ///
    /// It is called again where the server has begun again meanwhile: it may have lost what the wait had seen, and a view
    /// that has found out where it is now answers again.
    ///
    /// # Errors
    /// Those of `look`, which keeps the caller's deadline.
    pub async fn in_one_session<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        views: &[Projection],
        look: impl Fn() -> F,
    ) -> Result<T, E> {
        loop {
            let before = self.sessions(views);
            let found = look().await?;
            if self.sessions(views) == before {
                return Ok(found);
            }
        }
    }

    /// Grows whenever one of `views` has begun again.
    fn sessions(&self, views: &[Projection]) -> u64 {
        views.iter().map(|view| self.progress.session(*view)).sum()
    }

    /// How far the views are.
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The rows of `R`, aliased `t`, that `rest` selects: joins, conditions, order, limit. `in_memory` selects the
    /// same where there is no database.
    pub(crate) async fn select<R: Row>(
        &self,
        projection: Projection,
        rest: &str,
        params: &[&(dyn ToSql + Sync)],
        in_memory: impl Fn(&MemoryViews) -> Vec<R>,
    ) -> Result<Vec<R>, DatabaseError> {
        match self.source() {
            SourceOf::Memory(store) => look(store, projection, in_memory),
            SourceOf::Postgres(tables) => tables.select(projection, rest, params).await,
        }
    }

    /// Where the rows are, for queries that one table does not answer.
    pub(crate) fn source(&self) -> SourceOf<'_> {
        match &self.source {
            Source::Memory(store) => SourceOf::Memory(&**store),
            Source::Postgres(database) => SourceOf::Postgres(Tables { database, progress: &self.progress }),
        }
    }
}

/// Where the rows are, to be asked.
pub(crate) enum SourceOf<'a> {
    Postgres(Tables<'a>),
    Memory(&'a dyn ViewStore),
}

/// The tables of the active epochs.
pub(crate) struct Tables<'a> {
    database: &'a Database,
    progress: &'a Progress,
}

impl Tables<'_> {
    /// The full name of a table of a view.
    pub(crate) fn table(&self, projection: Projection, name: &str) -> String {
        format!("{}.{name}", projection.schema(self.progress.epoch(projection)))
    }

    /// The rows of `R`, aliased `t`, that `rest` selects.
    pub(crate) async fn select<R: Row>(
        &self,
        projection: Projection,
        rest: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<R>, DatabaseError> {
        let from = self.table(projection, R::NAME);
        let sql = format!("SELECT {} FROM {from} AS t {rest}", columns::<R>("t."));
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
        // Before the question: the view may find out where it is while an answer from before that is on its way.
        let session = self.progress.session(projection);
        let answered = self.database.reader().ask(sql, params).await?;
        if answered.session > session {
            return Err(DatabaseError::BegunAgain { projection });
        }
        Ok(answered.rows)
    }
}

/// What `with` finds in a store, of a view.
pub(crate) fn look<T>(
    store: &dyn ViewStore,
    view: Projection,
    with: impl Fn(&MemoryViews) -> T,
) -> Result<T, DatabaseError> {
    let mut found = None;
    store.look(view, &mut |views| found = Some(with(views)))?;
    found.ok_or(DatabaseError::Unavailable {
        target: "memory".to_owned(),
        detail: "the store showed nothing".to_owned(),
    })
}
