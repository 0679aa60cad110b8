//! The reader's side: commits that count, in order, with a cursor that notices when the log is not the same.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::counter;
use shopstream_domain::Partition;

use crate::cursor::{Cursor, LogId, Offset, Position};
use crate::fold::{Fold, Halt, Verdict};
use crate::raw::{RawError, RawLog, RawReader, RawRecord};
use crate::record::{Body, Commit, CommitRecord, Header, Record};
use crate::writer::Fenced;

/// How often, and how long apart, a log that ends before a cursor is asked again before that is believed: a
/// leader that was away answers an old end for a while (`rulings.md` 43).
const END_TRIES: u32 = 10;
const END_RETRY: Duration = Duration::from_millis(200);

/// Reads several partitions forward and folds each.
///
/// Only commits that count come out. A partition that contradicts its history ends the reader with
/// [`ReadError::Halt`]; the caller opens the others without it.
pub struct Reader {
    raw: Box<dyn RawReader>,
    /// In order, so that what is read together comes in the same order again.
    partitions: BTreeMap<Partition, Folding>,
    buffer: Vec<RawRecord>,
}

/// A partition being read.
struct Folding {
    fold: Fold,
    /// The cursor's last record was not yet found again.
    unproven: bool,
    /// Records from here on are left out.
    end: Offset,
}

/// A run of records of several partitions, read together.
#[derive(Debug, Default)]
pub struct Batch {
    /// The commits that count, per partition in offset order.
    pub commits: Vec<CommitRecord>,
    /// The cursor after this batch of every partition that moved.
    pub cursors: Vec<Cursor>,
    /// Who took which partition over, in order: where its owner is from there on.
    pub claims: Vec<(Partition, Fenced)>,
    /// Records that mean nothing.
    pub void: usize,
}

/// One record that was folded.
#[derive(Debug)]
pub struct Folded {
    /// Where.
    pub position: Position,
    /// What it is.
    pub record: Record,
    /// Whether it counts.
    pub verdict: Verdict,
}

impl Reader {
    pub(crate) async fn open(raw: &dyn RawLog, log: LogId, cursors: &[Cursor]) -> Result<Self, ReadError> {
        let mut partitions = BTreeMap::new();
        let mut from = Vec::with_capacity(cursors.len());
        for cursor in cursors {
            if cursor.log != log {
                let halt = Halt::OtherLog { expected: cursor.log, found: log };
                return Err(ReadError::Halt { partition: cursor.partition, halt });
            }
            // One record early, to find the fingerprint (`rulings.md` 41).
            let unproven = cursor.fingerprint.is_some();
            from.push((cursor.partition, cursor.next - u64::from(unproven)));
            let folding = Folding { fold: Fold::new(*cursor), unproven, end: Offset::MAX };
            partitions.insert(cursor.partition, folding);
        }
        let reader = raw.reader(&from).await?;
        for cursor in cursors.iter().filter(|cursor| cursor.fingerprint.is_some()) {
            await_end(raw, cursor).await?;
        }
        Ok(Self { raw: reader, partitions, buffer: Vec::new() })
    }

    /// This reader, stopped in each of these partitions exactly before the offset: its cursor there is what the fold
    /// itself came to, and never passes it.
    #[must_use]
    pub fn until(mut self, ends: &[(Partition, Offset)]) -> Self {
        for (partition, end) in ends {
            if let Some(folding) = self.partitions.get_mut(partition) {
                folding.end = *end;
            }
        }
        self
    }

    /// Waits for records, reads up to about `max_bytes`, and answers the commits among them that count. The batch
    /// may hold no commit where only other records came. Cancel-safe.
    ///
    /// # Errors
    /// See [`ReadError`]; the reader is then of no more use.
    pub async fn next(&mut self, max_bytes: usize) -> Result<Batch, ReadError> {
        let mut batch = Batch::default();
        let mut moved: Vec<Partition> = Vec::new();
        self.fold_next(max_bytes, |folded| {
            match (folded.verdict, folded.record.body) {
                (Verdict::Counts, Body::Commit(body)) => {
                    let commit = Commit::decode(body).map_err(|error| Halt::Damaged {
                        offset: folded.position.offset,
                        detail: error.to_string(),
                    })?;
                    let epoch = folded.record.header.epoch;
                    batch.commits.push(CommitRecord { position: folded.position, epoch, commit });
                }
                (Verdict::Counts, Body::Claim(claim)) => {
                    let by = Fenced::by(&folded.record.header, &claim);
                    batch.claims.push((folded.position.partition, by));
                }
                (Verdict::Counts, _) => {}
                (Verdict::Void(_), _) => batch.void += 1,
            }
            if moved.last() != Some(&folded.position.partition) {
                moved.push(folded.position.partition);
            }
            Ok(())
        })
        .await?;
        moved.sort_unstable();
        moved.dedup();
        batch.cursors = moved.iter().filter_map(|partition| self.cursor(*partition).copied()).collect();
        Ok(batch)
    }

    /// The point reached in `partition`; `None` where it is not read here.
    pub fn cursor(&self, partition: Partition) -> Option<&Cursor> {
        self.partitions.get(&partition).map(|folding| folding.fold.cursor())
    }

    /// The points reached, of every partition that is read here.
    pub fn cursors(&self) -> Vec<Cursor> {
        self.partitions.values().map(|folding| *folding.fold.cursor()).collect()
    }

    /// Whether the record before the cursor of `partition` has still to be found again.
    pub(crate) fn is_unproven(&self, partition: Partition) -> bool {
        self.partitions.get(&partition).is_some_and(|folding| folding.unproven)
    }

    pub(crate) fn fold(&self, partition: Partition) -> Option<&Fold> {
        self.partitions.get(&partition).map(|folding| &folding.fold)
    }

    /// Waits for records and gives each, folded, to `each`. Cancel-safe: waiting is the only await.
    pub(crate) async fn fold_next(
        &mut self,
        max_bytes: usize,
        mut each: impl FnMut(Folded) -> Result<(), Halt>,
    ) -> Result<(), ReadError> {
        self.buffer.clear();
        self.raw.next(max_bytes, &mut self.buffer).await?;
        for raw in self.buffer.drain(..) {
            let RawRecord { partition, offset, bytes } = raw;
            let folding = self.partitions.get_mut(&partition);
            let Some(folding) = folding.filter(|folding| offset < folding.end) else {
                continue;
            };
            let mut step = || -> Result<Option<Folded>, Halt> {
                let record = Record::parse(&bytes)
                    .map_err(|error| Halt::Damaged { offset, detail: error.to_string() })?;
                if folding.unproven {
                    folding.prove(offset, &record)?;
                    return Ok(None);
                }
                let verdict = folding.fold.step(offset, &record)?;
                Ok(Some(Folded { position: Position { partition, offset }, record, verdict }))
            };
            let folded = step().map_err(|halt| ReadError::Halt { partition, halt })?;
            let Some(folded) = folded else { continue };
            if let Verdict::Void(void) = folded.verdict {
                counter!("shopstream_log_void_records_total", "why" => void.name()).increment(1);
            }
            each(folded).map_err(|halt| ReadError::Halt { partition, halt })?;
        }
        Ok(())
    }
}

/// Waits until the log has the record before `cursor`. Without it a reader would wait in silence at the end of a
/// log that was truncated by exactly one record, and an owner would append its claim there.
async fn await_end(raw: &dyn RawLog, cursor: &Cursor) -> Result<(), ReadError> {
    let partition = cursor.partition;
    let mut end = 0;
    for _ in 0..END_TRIES {
        end = raw.end(partition).await?;
        if end >= cursor.next {
            return Ok(());
        }
        tokio::time::sleep(END_RETRY).await;
    }
    Err(ReadError::Halt { partition, halt: Halt::BeyondEnd { next: cursor.next, end } })
}

impl Folding {
    /// Checks that `record` at `offset` is the one before the cursor.
    fn prove(&mut self, offset: u64, record: &Record) -> Result<(), Halt> {
        let cursor = self.fold.cursor();
        if offset + 1 != cursor.next {
            return Err(Halt::Hole { expected: cursor.next - 1, found: offset });
        }
        if cursor.fingerprint != Some(record.fingerprint()) {
            return Err(Halt::OtherRecord { offset });
        }
        self.unproven = false;
        Ok(())
    }
}

/// Whether a header was written by the owner of this epoch and nonce.
pub(crate) fn written_by(header: &Header, epoch: u64, nonce: u64) -> bool {
    (header.epoch, header.nonce) == (epoch, nonce)
}

/// Why reading ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The log contradicts its own history: the partition halts (`rulings.md` 40).
    #[error("partition {partition} is halted: {halt}")]
    Halt {
        /// Which.
        partition: Partition,
        /// Why.
        halt: Halt,
    },
    /// The backend failed.
    #[error(transparent)]
    Raw(RawError),
}

/// What a backend has lost for good halts the partition; everything else is trouble of the backend.
impl From<RawError> for ReadError {
    fn from(error: RawError) -> Self {
        match error {
            RawError::Lost { partition, wanted, end } => {
                Self::Halt { partition, halt: Halt::BeyondEnd { next: wanted, end } }
            }
            RawError::Broken { partition, detail } => Self::Halt { partition, halt: Halt::Broken { detail } },
            other => Self::Raw(other),
        }
    }
}
