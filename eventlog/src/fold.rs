//! The claim rule: which records of a partition count.
//!
//! Every reader folds it over the same records and so comes to the same answer, whatever the writers believed
//! (`event-log.md` D2). A claim counts if its epoch is higher than any before it. An owner's record counts if it
//! carries the epoch and nonce of the current claim and exactly the next sequence number. What does not count is
//! void: it stays on the log and means nothing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cursor::{Cursor, Fingerprint, LogId, Offset};
use crate::record::{Body, Kind, Opened, Record};

/// Who may write next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fence {
    /// Nobody: a claim must come first, with an epoch above this one.
    Released {
        /// The highest epoch that ever counted.
        epoch: u64,
    },
    /// The owner with this epoch and nonce.
    Open {
        /// The epoch of its claim.
        epoch: u64,
        /// The nonce of its claim.
        nonce: u64,
        /// The only sequence number that counts next; the first after a claim is 1.
        next_seq: u64,
    },
}

impl Fence {
    /// The highest epoch that ever counted.
    pub const fn epoch(self) -> u64 {
        match self {
            Self::Released { epoch } | Self::Open { epoch, .. } => epoch,
        }
    }
}

/// What the rule says about one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It happened.
    Counts,
    /// It means nothing.
    Void(Void),
}

/// Why a record means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// A claim that came too late.
    StaleClaim,
    /// Written by an owner that had been fenced, or had released.
    Fenced,
    /// Written by the owner, but a record before it is missing.
    Gap,
    /// Written by the owner a second time.
    Repeated,
}

impl Void {
    /// The word for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaleClaim => "stale_claim",
            Self::Fenced => "fenced",
            Self::Gap => "gap",
            Self::Repeated => "repeated",
        }
    }
}

/// The log contradicts itself or what was known of it: the partition halts, nobody guesses (`rulings.md` 40).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// A record by an owner of a later epoch than any claim on the log: its claim is missing.
    #[error(
        "a record of epoch {found} at offset {offset}, but the last claim has epoch {known}: its claim is missing"
    )]
    UnclaimedEpoch {
        /// Where.
        offset: Offset,
        /// The record's epoch.
        found: u64,
        /// The highest epoch claimed so far.
        known: u64,
    },
    /// An owner opened the partition on a history other than the one read here.
    #[error(
        "the owner of epoch {epoch} opened at offset {offset} on another history (digest {theirs:016x}, here {ours:016x})"
    )]
    OtherHistory {
        /// Where.
        offset: Offset,
        /// The owner's epoch.
        epoch: u64,
        /// Digest in the owner's record.
        theirs: u64,
        /// Digest of this fold.
        ours: u64,
    },
    /// The record before the cursor is not the one that was read there.
    #[error(
        "the record at offset {offset} is not the one that was read there before: the log was truncated or made again"
    )]
    OtherRecord {
        /// Where.
        offset: Offset,
    },
    /// An offset that is not the next one.
    #[error("offset {found} follows where {expected} should")]
    Hole {
        /// The offset that should have come.
        expected: Offset,
        /// The one that came.
        found: Offset,
    },
    /// The log ends before the cursor.
    #[error("the log ends at offset {end}, before the cursor at {next}: it was truncated or made again")]
    BeyondEnd {
        /// The cursor.
        next: Offset,
        /// The end of the log.
        end: Offset,
    },
    /// Another log under the same name.
    #[error("this is log {found}, the cursor belongs to log {expected}")]
    OtherLog {
        /// The log of the cursor.
        expected: LogId,
        /// The log found.
        found: LogId,
    },
    /// A record that is not ours or is damaged.
    #[error("the record at offset {offset} is damaged or not ours: {detail}")]
    Damaged {
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        detail: String,
    },
    /// The backend does not have any more what it had.
    #[error("{detail}")]
    Broken {
        /// What was found.
        detail: String,
    },
    /// An own record was reported at an offset where the log shows another, or shows it elsewhere.
    #[error("an own record was reported at offset {reported} and read at offset {read}")]
    Misplaced {
        /// The offset in the delivery report.
        reported: Offset,
        /// The offset where it was read.
        read: Offset,
    },
}

impl Halt {
    /// What an operator can do.
    pub const WAY_OUT: &str =
        "restore the log as it was and restart the node, or begin anew with another log and another database";
}

/// The rule's state at a point of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    cursor: Cursor,
    /// Fence and digest just before the last claim that counted, for the check of [`Opened`]. `None` when the
    /// claim came before the point where this fold began.
    before_claim: Option<(Fence, u64)>,
}

impl Fold {
    /// A fold that goes on from `cursor`.
    pub const fn new(cursor: Cursor) -> Self {
        Self { cursor, before_claim: None }
    }

    /// The point reached.
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Fence and digest just before the last claim that counted; what an owner writes into its [`Opened`].
    pub fn opened(&self) -> Option<Opened> {
        self.before_claim.map(|(fence, digest)| Opened::new(fence, digest))
    }

    /// Folds the record at `offset`.
    ///
    /// # Errors
    /// The log contradicts its own history. The fold is then where it was.
    pub fn step(&mut self, offset: Offset, record: &Record) -> Result<Verdict, Halt> {
        if offset != self.cursor.next {
            return Err(Halt::Hole { expected: self.cursor.next, found: offset });
        }
        let verdict = self.judge(offset, record)?;
        self.cursor.next = offset + 1;
        self.cursor.fingerprint = Some(record.fingerprint());
        if verdict == Verdict::Counts {
            let header = &record.header;
            self.cursor.digest = xxh3_64_with_seed(
                &[header.epoch, header.nonce, header.seq, u64::from(record.crc)]
                    .map(u64::to_le_bytes)
                    .concat(),
                self.cursor.digest,
            );
        }
        Ok(verdict)
    }

    fn judge(&mut self, offset: Offset, record: &Record) -> Result<Verdict, Halt> {
        let header = &record.header;
        match header.kind {
            // Only the first one counts (`rulings.md` 17).
            Kind::Genesis if offset > 0 => Ok(Verdict::Void(Void::Repeated)),
            Kind::Genesis => match &record.body {
                Body::Genesis(genesis) if genesis.log() != Some(self.cursor.log) => {
                    let found = genesis.log().unwrap_or(LogId(Uuid::nil()));
                    Err(Halt::OtherLog { expected: self.cursor.log, found })
                }
                _ => Ok(Verdict::Counts),
            },
            Kind::Claim if header.epoch > self.cursor.fence.epoch() => {
                self.before_claim = Some((self.cursor.fence, self.cursor.digest));
                self.cursor.fence = Fence::Open { epoch: header.epoch, nonce: header.nonce, next_seq: 1 };
                Ok(Verdict::Counts)
            }
            Kind::Claim => Ok(Verdict::Void(Void::StaleClaim)),
            Kind::Opened | Kind::Commit | Kind::Barrier | Kind::Release => self.judge_owned(offset, record),
        }
    }

    fn judge_owned(&mut self, offset: Offset, record: &Record) -> Result<Verdict, Halt> {
        let header = &record.header;
        let known = self.cursor.fence.epoch();
        if header.epoch > known {
            return Err(Halt::UnclaimedEpoch { offset, found: header.epoch, known });
        }
        let Fence::Open { epoch, nonce, next_seq } = self.cursor.fence else {
            return Ok(Verdict::Void(Void::Fenced));
        };
        if (header.epoch, header.nonce) != (epoch, nonce) {
            return Ok(Verdict::Void(Void::Fenced));
        }
        if header.seq != next_seq {
            return Ok(Verdict::Void(if header.seq < next_seq { Void::Repeated } else { Void::Gap }));
        }
        if let (Body::Opened(opened), Some((fence, digest))) = (&record.body, self.before_claim)
            && *opened != Opened::new(fence, digest)
        {
            return Err(Halt::OtherHistory { offset, epoch, theirs: opened.digest, ours: digest });
        }
        self.cursor.fence = if header.kind == Kind::Release {
            Fence::Released { epoch }
        } else {
            Fence::Open { epoch, nonce, next_seq: next_seq + 1 }
        };
        Ok(Verdict::Counts)
    }
}

impl Record {
    /// What a cursor remembers of this record.
    pub const fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            crc: self.crc,
            epoch: self.header.epoch,
            nonce: self.header.nonce,
            seq: self.header.seq,
        }
    }
}
