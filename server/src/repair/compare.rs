//! Up to where a partition of the log and of the journal are the same.

use std::collections::VecDeque;
use std::fmt;

use shopstream_domain::Partition;
use shopstream_eventlog::{CommitRecord, Cursor, Log, Offset, ReadError};
use shopstream_projections::Database;

/// Bytes read of the log at once.
const READ_BYTES: usize = 1 << 20;
/// Offsets whose rows are read of the journal at once.
const WINDOW: Offset = 4096;

/// What a comparison found.
pub(super) struct Compared {
    /// After the last commit that both have.
    pub(super) agreed: Cursor,
    /// The end of the log, when it was compared.
    log_end: Offset,
    /// After the last commit of the journal.
    journal_end: Offset,
}

impl Compared {
    /// Compares every commit of a partition, from the first one on.
    ///
    /// # Errors
    /// The log contradicts itself, or one of the two does not answer.
    pub(super) async fn look(log: &Log, database: &Database, partition: Partition) -> anyhow::Result<Self> {
        let log_end = log.end(partition).await?;
        let mut rows = Rows::of(database, partition, 0).await?;
        let mut reader = log.reader(&[log.start(partition)]).await?.until(&[(partition, log_end)]);
        let mut same = 0;
        'read: while reader.cursor(partition).is_some_and(|cursor| cursor.next < log_end) {
            for commit in reader.next(READ_BYTES).await.map_err(contradicts)?.commits {
                if rows.peek().await? != Some(&commit) {
                    break 'read;
                }
                rows.next().await?;
                same = commit.position.offset + 1;
            }
        }
        let agreed = cursor_at(log, partition, same).await?;
        Ok(Self { agreed, log_end, journal_end: rows.end })
    }

    pub(super) const fn partition(&self) -> Partition {
        self.agreed.partition
    }

    /// Whether the journal has what the log has not. That it lacks what the log has means only that it is behind.
    pub(super) const fn differs(&self) -> bool {
        self.journal_end > self.agreed.next
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agreed, log_end, journal_end } = self;
        write!(
            f,
            "partition {}: the same up to offset {}; the log ends at {log_end}, the journal at {journal_end}",
            agreed.partition, agreed.next
        )
    }
}

/// The fold of the log exactly before `next`.
async fn cursor_at(log: &Log, partition: Partition, next: Offset) -> Result<Cursor, ReadError> {
    let mut reader = log.reader(&[log.start(partition)]).await?.until(&[(partition, next)]);
    loop {
        match reader.cursor(partition) {
            Some(cursor) if cursor.next < next => drop(reader.next(READ_BYTES).await?),
            Some(cursor) => return Ok(*cursor),
            None => return Ok(log.start(partition)),
        }
    }
}

fn contradicts(error: ReadError) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    error.context(
        "the log does not even hold together by itself: make a new topic with `shopstream topics apply` (or, of a local \
         log, move its folder away) and append the whole journal to it with `shopstream log repair --append-lost`",
    )
}

/// The journal's commits of one partition in order, some at a time.
pub(super) struct Rows<'a> {
    database: &'a Database,
    partition: Partition,
    read_to: Offset,
    end: Offset,
    rows: VecDeque<CommitRecord>,
}

impl<'a> Rows<'a> {
    pub(super) async fn of(
        database: &'a Database,
        partition: Partition,
        from: Offset,
    ) -> anyhow::Result<Self> {
        let end = database.journal_end(partition).await?;
        Ok(Self { database, partition, read_to: from, end, rows: VecDeque::new() })
    }

    pub(super) async fn peek(&mut self) -> anyhow::Result<Option<&CommitRecord>> {
        while self.rows.is_empty() && self.read_to < self.end {
            let window = self.read_to..self.read_to + WINDOW;
            self.read_to = window.end;
            self.rows = self.database.journal_commits(self.partition, window).await?.into();
        }
        Ok(self.rows.front())
    }

    pub(super) async fn next(&mut self) -> anyhow::Result<Option<CommitRecord>> {
        self.peek().await?;
        Ok(self.rows.pop_front())
    }
}
