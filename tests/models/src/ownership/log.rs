//! The records of one partition, and the one rule by which every reader folds them.

use super::Flaw;

/// A record. Epoch, nonce and seq are its identity: the model has no checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    /// Of the claim under which it was written.
    pub epoch: u8,
    /// Of the same claim, drawn anew for each.
    pub nonce: u8,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Body {
    /// This node owns the partition from here on.
    Claim,
    /// The effect of a command.
    Commit {
        /// Its place among the owner's records, from 1.
        seq: u8,
        /// The command.
        command: u8,
        /// The effects that it was decided on, plus one.
        version: u8,
    },
    /// Nobody owns the partition from here on.
    Release {
        /// Its place among the owner's records.
        seq: u8,
    },
}

/// What the rule says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It happened.
    Counts,
    /// It means nothing.
    Void,
    /// The log contradicts its history: nobody reads on.
    Halts,
}

/// The rule's state at a point of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fold {
    /// How many records were read.
    pub read: usize,
    /// The last of them: what a cursor's fingerprint remembers.
    pub last: Option<Record>,
    /// The highest epoch that ever counted.
    pub epoch: u8,
    /// Who may write, and the only seq that counts next. Without flaw it is one at most.
    writers: Vec<Writer>,
    /// The commits that count, in order.
    pub counted: Vec<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Writer {
    epoch: u8,
    nonce: u8,
    next: u8,
}

impl Record {
    /// The seq of an owner's record; 0 for a claim.
    pub const fn seq(&self) -> u8 {
        match self.body {
            Body::Claim => 0,
            Body::Commit { seq, .. } | Body::Release { seq } => seq,
        }
    }

    /// The command of a commit.
    pub const fn command(&self) -> Option<u8> {
        match self.body {
            Body::Commit { command, .. } => Some(command),
            Body::Claim | Body::Release { .. } => None,
        }
    }
}

impl Fold {
    /// The fold of a whole log, as far as it can be read.
    pub fn of(log: &[Record], flaw: Option<Flaw>) -> Self {
        let mut fold = Self::default();
        for record in log {
            if fold.step(*record, flaw) == Verdict::Halts {
                break;
            }
        }
        fold
    }

    /// Folds one more record; stays where it is when the log halts.
    pub fn step(&mut self, record: Record, flaw: Option<Flaw>) -> Verdict {
        let verdict = self.judge(record, flaw);
        if verdict != Verdict::Halts {
            self.read += 1;
            self.last = Some(record);
        }
        if verdict == Verdict::Counts && record.command().is_some() {
            self.counted.push(record);
        }
        verdict
    }

    fn judge(&mut self, record: Record, flaw: Option<Flaw>) -> Verdict {
        let Record { epoch, nonce, body } = record;
        if body == Body::Claim {
            if epoch <= self.epoch && flaw != Some(Flaw::ClaimsNeedNotRise) {
                return Verdict::Void;
            }
            self.epoch = self.epoch.max(epoch);
            if flaw != Some(Flaw::NoFence) {
                self.writers.clear();
            }
            self.writers.push(Writer { epoch, nonce, next: 1 });
            return Verdict::Counts;
        }
        if epoch > self.epoch {
            return Verdict::Halts;
        }
        let Some(at) = self.writers.iter().position(|writer| (writer.epoch, writer.nonce) == (epoch, nonce))
        else {
            return Verdict::Void;
        };
        if record.seq() != self.writers[at].next && flaw != Some(Flaw::NoSeq) {
            return Verdict::Void;
        }
        match body {
            Body::Release { .. } => drop(self.writers.remove(at)),
            Body::Claim | Body::Commit { .. } => self.writers[at].next = record.seq() + 1,
        }
        Verdict::Counts
    }

    /// The seq that this writer's next record must have; `None` where it may not write.
    pub fn next_seq(&self, epoch: u8, nonce: u8) -> Option<u8> {
        let of = |writer: &&Writer| (writer.epoch, writer.nonce) == (epoch, nonce);
        self.writers.iter().find(of).map(|writer| writer.next)
    }

    /// Whether this claim is the last that counted and was not released.
    pub fn is_open(&self, epoch: u8, nonce: u8) -> bool {
        self.writers.last().is_some_and(|writer| (writer.epoch, writer.nonce) == (epoch, nonce))
    }
}
