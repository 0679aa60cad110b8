//! Follows the log from some cursors on, and says what keeps it from going on.

use shopstream_domain::Partition;
use shopstream_eventlog::{Batch, Cursor, Halt, Log, Offset, ReadError, Reader};

/// A reader that is opened again by itself.
pub(crate) struct Follower {
    log: Log,
    /// What is still read, each where the next record is wanted.
    cursors: Vec<Cursor>,
    /// Where partitions end; those that it does not name go on for ever.
    ends: Vec<(Partition, Offset)>,
    reader: Option<Reader>,
    /// A partition that contradicted its history once. What is found again by a fresh reader is believed
    /// (`rulings.md` 40 of the design).
    suspect: Option<Partition>,
}

fn is_before(cursor: &Cursor, (partition, end): (Partition, Offset)) -> bool {
    cursor.partition == partition && cursor.next < end
}

/// Why nothing was read this time.
#[derive(Clone, Debug)]
pub(crate) enum Interruption {
    /// The log is away: ask again after a pause.
    Away { cause: String },
    /// The partition contradicts its own history and is not read any more; the others are.
    Halted { partition: Partition, halt: Halt },
}

impl Follower {
    pub(crate) const fn new(log: Log, cursors: Vec<Cursor>) -> Self {
        Self { log, cursors, ends: Vec::new(), reader: None, suspect: None }
    }

    /// From `cursors` to exactly these ends; partitions that are there, or that have no end, are not read.
    pub(crate) fn between(log: Log, cursors: &[Cursor], ends: Vec<(Partition, Offset)>) -> Self {
        let mut follower = Self { ends, ..Self::new(log, cursors.to_vec()) };
        let is_behind = |cursor: &Cursor| follower.ends.iter().any(|end| is_before(cursor, *end));
        follower.cursors.retain(is_behind);
        follower
    }

    /// Whether there is something to read before the ends.
    pub(crate) fn is_behind(&self) -> bool {
        self.cursors.iter().any(|cursor| self.ends.iter().any(|end| is_before(cursor, *end)))
    }

    /// Where the next records are wanted; without the partitions that were halted.
    pub(crate) fn cursors(&self) -> &[Cursor] {
        &self.cursors
    }

    /// Waits for records and reads up to about `max_bytes`. Where all partitions are halted, for ever. Cancel-safe.
    pub(crate) async fn next(&mut self, max_bytes: usize) -> Result<Batch, Interruption> {
        loop {
            if self.cursors.is_empty() {
                return std::future::pending().await;
            }
            match self.try_next(max_bytes).await {
                Ok(batch) => return Ok(batch),
                Err(error) => {
                    self.reader = None;
                    if let Some(interruption) = self.judge(error) {
                        return Err(interruption);
                    }
                }
            }
        }
    }

    async fn try_next(&mut self, max_bytes: usize) -> Result<Batch, ReadError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.log.reader(&self.cursors).await?.until(&self.ends)),
        };
        let batch = reader.next(max_bytes).await?;
        for after in &batch.cursors {
            if let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.partition == after.partition) {
                *cursor = *after;
            }
            if self.suspect == Some(after.partition) {
                self.suspect = None;
            }
        }
        Ok(batch)
    }

    /// `None`: try once more, at once.
    fn judge(&mut self, error: ReadError) -> Option<Interruption> {
        match error {
            ReadError::Halt { partition, .. } if self.suspect != Some(partition) => {
                self.suspect = Some(partition);
                None
            }
            ReadError::Halt { partition, halt } => {
                self.suspect = None;
                self.cursors.retain(|cursor| cursor.partition != partition);
                Some(Interruption::Halted { partition, halt })
            }
            ReadError::Raw(error) => Some(Interruption::Away { cause: error.to_string() }),
        }
    }
}
