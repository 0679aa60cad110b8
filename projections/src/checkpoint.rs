//! How far a reader of the log has come, moved in the same transaction as what it wrote.
//!
//! Moving it later would apply an event twice after a crash; moving it earlier would skip one. It is moved by
//! compare-and-swap of the whole cursor, so a reader that somebody else has overtaken cannot commit anything.

use deadpool_postgres::Transaction;
use shopstream_domain::Partition;
use shopstream_eventlog::Cursor;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Json;

use crate::{Database, DatabaseError, Projection};

/// The checkpoints of one reader in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// The reader's name.
    pub reader: &'a str,
    /// Its epoch; readers that have none use 1.
    pub epoch: u32,
}

/// One partition's step.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// Where the checkpoint is.
    pub from: Cursor,
    /// Where it goes.
    pub to: Cursor,
}

impl Checkpoint<'_> {
    /// The cursors there are, in the order of partitions.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn load(&self, database: &Database) -> Result<Vec<Cursor>, DatabaseError> {
        self.read(&**database.client().await?).await
    }

    /// The cursors, in the order of partitions; a partition without one is put to its `start`.
    pub(crate) async fn load_or_start(
        &self,
        transaction: &Transaction<'_>,
        start: &[Cursor],
    ) -> Result<Vec<Cursor>, DatabaseError> {
        self.insert(transaction, start).await?;
        self.read(&**transaction).await
    }

    pub(crate) async fn read(&self, client: &impl GenericClient) -> Result<Vec<Cursor>, DatabaseError> {
        let rows = client
            .query(
                "SELECT cursor FROM checkpoint WHERE reader = $1 AND epoch = $2 ORDER BY partition",
                &[&self.reader, &(self.epoch as i32)],
            )
            .await?;
        rows.iter().map(|row| Ok(row.try_get::<_, Json<Cursor>>(0)?.0)).collect()
    }

    /// The cursor of one partition, if there is one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn cursor(
        &self,
        database: &Database,
        partition: Partition,
    ) -> Result<Option<Cursor>, DatabaseError> {
        let row = database
            .client()
            .await?
            .query_opt(
                "SELECT cursor FROM checkpoint WHERE reader = $1 AND epoch = $2 AND partition = $3",
                &[&self.reader, &(self.epoch as i32), &i32::from(partition)],
            )
            .await?;
        Ok(row.map(|row| row.try_get::<_, Json<Cursor>>(0)).transpose()?.map(|cursor| cursor.0))
    }

    /// Moves the cursors of several partitions, all or none: the caller's transaction must not be committed where
    /// this fails.
    ///
    /// # Errors
    /// [`CheckpointError::Overtaken`] where one of them is not where it should be.
    pub async fn advance(
        &self,
        transaction: &Transaction<'_>,
        steps: &[Advance],
    ) -> Result<(), CheckpointError> {
        let partitions: Vec<i32> = steps.iter().map(|step| step.to.partition.into()).collect();
        let from: Vec<Json<&Cursor>> = steps.iter().map(|step| Json(&step.from)).collect();
        let next: Vec<i64> = steps.iter().map(|step| step.to.next as i64).collect();
        let to: Vec<Json<&Cursor>> = steps.iter().map(|step| Json(&step.to)).collect();
        let statement = transaction
            .prepare_cached(
                "UPDATE checkpoint AS c SET next_offset = n.next_offset, cursor = n.cursor \
                 FROM unnest($3::int4[], $4::jsonb[], $5::int8[], $6::jsonb[]) \
                      AS n(partition, expected, next_offset, cursor) \
                 WHERE c.reader = $1 AND c.epoch = $2 AND c.partition = n.partition AND c.cursor = n.expected \
                 RETURNING c.partition",
            )
            .await?;
        let moved = transaction
            .query(&statement, &[&self.reader, &(self.epoch as i32), &partitions, &from, &next, &to])
            .await?;
        if moved.len() == steps.len() {
            return Ok(());
        }
        let moved: Vec<i32> = moved.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let stuck = steps.iter().map(|step| step.to.partition).find(|it| !moved.contains(&i32::from(*it)));
        Err(self.overtaken(stuck.unwrap_or_default()))
    }

    /// Moves cursors in a transaction of their own, all or none; `None`: from nowhere, as nothing was ever saved. Cursors
    /// that the database has lost, or has further back, because a copy took its place, move on from where it has them: who
    /// saves them has read everything since.
    ///
    /// # Errors
    /// [`CheckpointError::Overtaken`] where one of them is where only somebody else can have moved it.
    pub async fn save(
        &self,
        database: &Database,
        moves: &[(Option<Cursor>, Cursor)],
    ) -> Result<(), CheckpointError> {
        match self.try_save(database, moves).await {
            Err(error @ CheckpointError::Overtaken { .. }) => {
                let found = self.load(database).await?;
                let moves: Option<Vec<_>> = moves.iter().map(|step| found_behind(&found, *step)).collect();
                match moves {
                    Some(moves) => self.try_save(database, &moves).await,
                    None => Err(error),
                }
            }
            saved => {
                if let Err(CheckpointError::Database(error)) = &saved {
                    database.heard(error);
                }
                saved
            }
        }
    }

    async fn try_save(
        &self,
        database: &Database,
        moves: &[(Option<Cursor>, Cursor)],
    ) -> Result<(), CheckpointError> {
        let mut client = database.client().await?;
        let transaction = client.transaction().await?;
        let mut steps = Vec::with_capacity(moves.len());
        for (from, to) in moves {
            match from {
                Some(from) => steps.push(Advance { from: *from, to: *to }),
                None if self.insert(&transaction, &[*to]).await? == 1 => {}
                None => return Err(self.overtaken(to.partition)),
            }
        }
        if !steps.is_empty() {
            self.advance(&transaction, &steps).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Writes cursors where there are none yet, and answers how many.
    async fn insert(&self, transaction: &Transaction<'_>, cursors: &[Cursor]) -> Result<u64, DatabaseError> {
        let partitions: Vec<i32> = cursors.iter().map(|cursor| cursor.partition.into()).collect();
        let next: Vec<i64> = cursors.iter().map(|cursor| cursor.next as i64).collect();
        let cursors: Vec<Json<&Cursor>> = cursors.iter().map(Json).collect();
        let inserted = transaction
            .execute(
                "INSERT INTO checkpoint (reader, epoch, partition, next_offset, cursor) \
                 SELECT $1, $2, * FROM unnest($3::int4[], $4::int8[], $5::jsonb[]) ON CONFLICT DO NOTHING",
                &[&self.reader, &(self.epoch as i32), &partitions, &next, &cursors],
            )
            .await?;
        Ok(inserted)
    }

    fn overtaken(&self, partition: Partition) -> CheckpointError {
        CheckpointError::Overtaken { reader: self.reader.to_owned(), partition }
    }
}

/// The same move from where the database has the cursor, if that is further back than it should be. `None`: it is not, and
/// somebody else has moved it.
fn found_behind(
    found: &[Cursor],
    (from, to): (Option<Cursor>, Cursor),
) -> Option<(Option<Cursor>, Cursor)> {
    let found = found.iter().find(|cursor| cursor.partition == to.partition).copied();
    match (found, from) {
        (None, _) => Some((None, to)),
        (Some(found), Some(from)) if found == from || found.next < from.next => Some((Some(found), to)),
        (Some(_), _) => None,
    }
}

/// Whether checkpoints that were `believed` to be somewhere, and are `found` elsewhere, are so because the database has lost
/// how they moved: some are behind and none is where only somebody else can have moved it.
pub(crate) fn is_set_back(believed: &[Cursor], found: &[Cursor]) -> bool {
    let mut behind = false;
    for (believed, found) in believed.iter().zip(found) {
        if believed == found {
            continue;
        }
        if found.next >= believed.next {
            return false;
        }
        behind = true;
    }
    behind
}

/// Why a checkpoint did not move.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Somebody else moved it: another process does this reader's work, and this one must stop.
    #[error("{reader} was overtaken: somebody else has moved its checkpoint of partition {partition}")]
    Overtaken {
        /// The reader.
        reader: String,
        /// Which of its checkpoints, or the first of them.
        partition: Partition,
    },
    /// A fold panicked, and did so again when it was tried with care.
    #[error("a bug: the fold panicked, see the lines before")]
    Panicked,
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl CheckpointError {
    /// As the reason why a view could not be opened.
    pub(crate) fn into_database(self, projection: Projection) -> DatabaseError {
        match self {
            Self::Database(error) => error,
            Self::Overtaken { .. } | Self::Panicked => {
                DatabaseError::Rebuild { projection, detail: self.to_string() }
            }
        }
    }

    /// What the database said, if it said anything.
    pub(crate) const fn database(&self) -> Option<&DatabaseError> {
        match self {
            Self::Database(error) => Some(error),
            Self::Overtaken { .. } | Self::Panicked => None,
        }
    }
}

impl From<tokio_postgres::Error> for CheckpointError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}
