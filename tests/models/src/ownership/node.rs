//! A node: what it has read, what it is, what it waits for.

use super::Flaw;
use super::log::{Body, Fold, Record, Verdict};

/// A node. The default one has nothing: it has just started, or given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// What its reader has read.
    pub fold: Fold,
    /// What it is.
    pub role: Role,
    /// Its commits that are in flight, in order of seq. They outlive their producer until their end is known.
    pub pending: Vec<Pending>,
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It owns nothing and wants nothing.
    #[default]
    Idle,
    /// It has appended a claim and not yet read it.
    Claiming {
        /// Of the claim.
        epoch: u8,
        /// Of the claim.
        nonce: u8,
    },
    /// Its claim counted, when it was read.
    Owning(Owner),
    /// It met a log that contradicts its history, and takes no more steps.
    Halted,
    /// It crashed as an owner and remembers its assignment, as only a flaw lets it.
    Assigned {
        /// Of its claim.
        epoch: u8,
        /// Of its claim.
        nonce: u8,
    },
}

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Of its claim.
    pub epoch: u8,
    /// Of its claim.
    pub nonce: u8,
    /// The seq of its next record.
    pub next_seq: u8,
    /// Of the state that it decides on: what counts, and what it has in flight.
    pub version: u8,
    /// The commands that it appended.
    pub sent: Vec<u8>,
    /// Where the last of its records is that it believes in.
    pub offset: usize,
}

/// A commit in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// The commit.
    pub record: Record,
    /// The offset in its report.
    pub reported: Option<usize>,
    /// Whether the node's reader has folded it as counting.
    pub read: bool,
}

/// What a node tells its clients.
#[derive(Debug, Default)]
pub struct Answers {
    /// These count.
    pub acknowledged: Vec<Record>,
    /// These never will.
    pub denied: Vec<Record>,
}

impl Node {
    /// Whether the producer of this record is still there and has not heard of it.
    pub fn listens_for(&self, record: &Record) -> bool {
        let Role::Owning(owner) = &self.role else { return false };
        (owner.epoch, owner.nonce) == (record.epoch, record.nonce)
            && self.pending.iter().any(|pending| pending.record == *record && pending.reported.is_none())
    }

    /// Whether its reader can read on, be it to a halt.
    pub fn can_read(&self, log: &[Record]) -> bool {
        self.fold.read != log.len()
    }

    /// Whether it would carry this command out: it does not know that somebody did.
    pub fn wants(&self, command: u8, flaw: Option<Flaw>) -> bool {
        let Role::Owning(owner) = &self.role else { return false };
        let counted = || self.fold.counted.iter().any(|record| record.command() == Some(command));
        !owner.sent.contains(&command) && (flaw == Some(Flaw::NoDedupOnReplay) || !counted())
    }

    /// Appends a commit of this command; `None` where it is no owner.
    pub fn append(&mut self, command: u8) -> Option<Record> {
        let Role::Owning(owner) = &mut self.role else { return None };
        owner.version += 1;
        owner.sent.push(command);
        let body = Body::Commit { seq: owner.next_seq, command, version: owner.version };
        owner.next_seq += 1;
        let record = Record { epoch: owner.epoch, nonce: owner.nonce, body };
        self.pending.push(Pending { record, reported: None, read: false });
        Some(record)
    }

    /// Takes a delivery report.
    pub fn reported(&mut self, record: &Record, offset: usize, flaw: Option<Flaw>) -> Answers {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.record == *record) {
            pending.reported = Some(offset);
        }
        self.confirm(flaw)
    }

    /// Reads one record as an owner.
    pub fn read(&mut self, log: &[Record], flaw: Option<Flaw>) -> Option<Answers> {
        let Role::Owning(owner) = &self.role else { return None };
        let (epoch, nonce) = (owner.epoch, owner.nonce);
        let (verdict, record) = self.read_next(log, flaw)?;
        match (verdict, record.body) {
            (Verdict::Halts, _) => {
                self.halt();
                Some(Answers::default())
            }
            // Overtaken. All that was in flight has been read by now, or never will count.
            (Verdict::Counts, Body::Claim) if (record.epoch, record.nonce) != (epoch, nonce) => {
                let answers = self.settle();
                *self = Self::default();
                Some(answers)
            }
            _ => Some(self.confirm(flaw)),
        }
    }

    /// Reads to its claim, or to one that is not below it; `None` where neither is there yet.
    pub fn read_to_claim(&mut self, log: &[Record], flaw: Option<Flaw>) -> Option<Answers> {
        let Role::Claiming { epoch, nonce } = self.role else { return None };
        loop {
            let (verdict, record) = self.read_next(log, flaw)?;
            let is_claim = verdict == Verdict::Counts && record.body == Body::Claim;
            if verdict == Verdict::Halts {
                self.halt();
                return Some(Answers::default());
            }
            if is_claim && (record.epoch, record.nonce) == (epoch, nonce) {
                let answers = self.settle();
                self.own(epoch, nonce);
                return Some(answers);
            }
            if is_claim && record.epoch >= epoch {
                let answers = self.settle();
                *self = Self::default();
                return Some(answers);
            }
        }
    }

    /// Goes on as the owner under this claim, from what it has read.
    pub fn own(&mut self, epoch: u8, nonce: u8) {
        let (next_seq, version) =
            (self.fold.next_seq(epoch, nonce).unwrap_or(1), self.fold.counted.len() as u8);
        let offset = self.fold.read.saturating_sub(1);
        self.role = Role::Owning(Owner { epoch, nonce, next_seq, version, sent: Vec::new(), offset });
    }

    /// Everything in flight is decided: what was read counts, what was not never will.
    pub fn settle(&mut self) -> Answers {
        let (counts, void): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|pending| pending.read);
        let records = |pending: Vec<Pending>| pending.into_iter().map(|pending| pending.record).collect();
        Answers { acknowledged: records(counts), denied: records(void) }
    }

    /// `None`: there is nothing to read.
    fn read_next(&mut self, log: &[Record], flaw: Option<Flaw>) -> Option<(Verdict, Record)> {
        let read = self.fold.read;
        let known = read.checked_sub(1).and_then(|before| log.get(before).copied());
        if known != self.fold.last && flaw != Some(Flaw::NoFingerprint) {
            return self.fold.last.map(|last| (Verdict::Halts, last));
        }
        let record = *log.get(read)?;
        let verdict = self.fold.step(record, flaw);
        let is_read = |pending: &&mut Pending| {
            let sent = pending.record;
            (sent.epoch, sent.nonce, sent.seq()) == (record.epoch, record.nonce, record.seq())
        };
        // The identity of a record is its header; that nobody else could have written it is what is to be shown.
        if verdict == Verdict::Counts
            && let Some(pending) = self.pending.iter_mut().find(is_read)
        {
            pending.read = true;
        }
        Some((verdict, record))
    }

    /// Acknowledges from the front what may be.
    fn confirm(&mut self, flaw: Option<Flaw>) -> Answers {
        let mut answers = Answers::default();
        let Role::Owning(owner) = &mut self.role else { return answers };
        while let Some(front) = self.pending.first() {
            let Some(offset) = front.reported else { break };
            let confirmed = match flaw {
                Some(Flaw::AckOnReport) => true,
                Some(Flaw::AckOnContiguousOffsets) => offset == owner.offset + 1,
                _ => front.read,
            };
            if !confirmed {
                break;
            }
            owner.offset = offset;
            answers.acknowledged.push(self.pending.remove(0).record);
        }
        answers
    }

    /// Nobody is answered: what was in flight may count or not.
    fn halt(&mut self) {
        *self = Self { role: Role::Halted, ..Self::default() };
    }
}
