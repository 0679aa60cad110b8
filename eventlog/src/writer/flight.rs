//! The records in flight: what was reported, what was read, and what follows from both.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

use super::{Fenced, InDoubt, Progress};
use crate::cursor::Offset;
use crate::fold::{Halt, Verdict, Void};
use crate::raw::{RawError, Report};
use crate::reader::{Folded, written_by};
use crate::record::{Body, Header, Kind};

/// How long a record may be in flight before its silence is an answer. Above the longest stall measured on a broker
/// that recovers by itself (20 s) and above every time-out of a backend, which report sooner.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// The records in flight, in order of seq.
#[derive(Default)]
pub(super) struct Flight {
    pending: VecDeque<Pending>,
    bytes: usize,
    /// Seq of the front of `pending` minus one.
    settled: u64,
    /// How many of `pending`, from the front, have been reported.
    reported: usize,
    /// The claim was read back before its report came: the first report is the claim's.
    claim_unreported: bool,
    /// Known to count, and not yet handed out.
    confirmed: Vec<(u64, Offset)>,
    /// The offset after the last record read.
    next: Offset,
    /// What ended the normal course. It stays: nothing is normal again before a new claim.
    trouble: Option<Trouble>,
}

struct Pending {
    crc: u32,
    bytes: usize,
    since: Instant,
    report: Option<Option<Offset>>,
    /// Where it was read as counting.
    read: Option<Offset>,
    /// Where else it was read.
    void: Vec<Offset>,
}

impl Pending {
    /// Whether the log, read to `next`, shows this record where its report says.
    fn check(&self, next: Offset) -> Result<(), Halt> {
        match (self.report, self.read) {
            (Some(Some(reported)), Some(read)) if reported != read && reported < next => {
                if self.void.contains(&reported) { Ok(()) } else { Err(Halt::Misplaced { reported, read }) }
            }
            (Some(Some(reported)), None) if reported < next && !self.void.contains(&reported) => {
                Err(Halt::OtherRecord { offset: reported })
            }
            _ => Ok(()),
        }
    }
}

/// The final word on everything that was in flight.
pub(super) struct Settled {
    /// What counts: seq and offset.
    pub(super) confirmed: Vec<(u64, Offset)>,
    /// What never will.
    pub(super) rejected: Vec<u64>,
}

/// Why the normal course ended; what stands later outranks what stands before.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    InDoubt(InDoubt),
    Failed(RawError),
    Fenced(Fenced),
    Halted(Halt),
}

impl Trouble {
    const fn rank(&self) -> u8 {
        match self {
            Self::InDoubt(_) => 0,
            Self::Failed(_) => 1,
            Self::Fenced(_) => 2,
            Self::Halted(_) => 3,
        }
    }
}

impl Flight {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.settled + self.pending.len() as u64 + 1
    }

    pub(super) const fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    pub(super) fn submitted(&mut self, crc: u32, bytes: usize) -> u64 {
        let seq = self.next_seq();
        self.bytes += bytes;
        let since = Instant::now();
        self.pending.push_back(Pending { crc, bytes, since, report: None, read: None, void: Vec::new() });
        seq
    }

    /// The next report is that of the claim.
    pub(super) const fn expect_claim_report(&mut self) {
        self.claim_unreported = true;
    }

    /// Notes what ended the normal course, unless something graver did before.
    pub(super) fn fail(&mut self, trouble: Trouble) {
        if self.trouble.as_ref().is_none_or(|known| known.rank() < trouble.rank()) {
            self.trouble = Some(trouble);
        }
    }

    /// When the first record in flight has been silent for too long; `None` with nothing in flight.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.front().map(|pending| pending.since + SILENCE)
    }

    /// The first record in flight has been silent for too long.
    pub(super) fn silent(&mut self) {
        self.fail(Trouble::InDoubt(InDoubt::Silent { seq: self.settled + 1 }));
    }

    /// Takes delivery reports, which come in order of seq. An error puts every later seq in doubt, whatever its
    /// own report says (`rulings.md` 44).
    pub(super) fn reported(&mut self, reports: impl Iterator<Item = Report>) {
        for report in reports {
            if matches!(self.trouble, Some(Trouble::InDoubt(_))) {
                return;
            }
            if std::mem::take(&mut self.claim_unreported) {
                if let Err(error) = report {
                    self.fail(Trouble::InDoubt(InDoubt::Unacknowledged(error)));
                }
                continue;
            }
            match (report, self.pending.get_mut(self.reported)) {
                (Ok(offset), Some(pending)) => {
                    pending.report = Some(offset);
                    self.reported += 1;
                }
                (Err(error), _) => self.fail(Trouble::InDoubt(InDoubt::Unacknowledged(error))),
                (Ok(_), None) => {}
            }
        }
    }

    /// Takes a record that was read back; `epoch` and `nonce` are this owner's.
    pub(super) fn read(&mut self, folded: &Folded, epoch: u64, nonce: u64) -> Result<(), Halt> {
        let (header, offset) = (folded.record.header, folded.position.offset);
        self.next = offset + 1;
        let counts = folded.verdict == Verdict::Counts;
        if let (true, Kind::Claim, Body::Claim(claim)) = (counts, header.kind, &folded.record.body)
            && !written_by(&header, epoch, nonce)
        {
            self.fail(Trouble::Fenced(Fenced::by(&header, claim)));
        }
        if !written_by(&header, epoch, nonce) || header.seq <= self.settled {
            return Ok(());
        }
        let index = (header.seq - self.settled - 1) as usize;
        let pending = self.pending.get_mut(index).filter(|pending| pending.crc == folded.record.crc);
        match (pending, folded.verdict) {
            (Some(pending), Verdict::Counts) => pending.read = Some(offset),
            (None, Verdict::Counts) => {
                let detail = "not the record that this owner appended".into();
                return Err(Halt::Damaged { offset, detail });
            }
            (Some(pending), Verdict::Void(_)) => pending.void.push(offset),
            (None, Verdict::Void(_)) => {}
        }
        if folded.verdict == Verdict::Void(Void::Gap) {
            self.fail(Trouble::InDoubt(InDoubt::Hole { seq: header.seq }));
        }
        Ok(())
    }

    /// What there is to tell, if anything.
    pub(super) fn take_progress(&mut self) -> Option<Progress> {
        self.confirm();
        // First of all: once the log contradicts itself nothing is final, not even what was read.
        if let Some(Trouble::Halted(halt)) = &self.trouble {
            return Some(Progress::Halted(halt.clone()));
        }
        if !self.confirmed.is_empty() {
            return Some(Progress::Confirmed(std::mem::take(&mut self.confirmed)));
        }
        match self.trouble.clone()? {
            Trouble::InDoubt(cause) => Some(Progress::InDoubt { cause }),
            Trouble::Failed(error) => Some(Progress::Failed(error)),
            Trouble::Fenced(by) => Some(match self.settle() {
                Ok(Settled { confirmed, rejected }) => Progress::Fenced { by, confirmed, rejected },
                Err(halt) => Progress::Halted(halt),
            }),
            Trouble::Halted(halt) => Some(Progress::Halted(halt)),
        }
    }

    /// Confirms from the front what is both reported and read, at the offset that was reported.
    fn confirm(&mut self) {
        while let Some(front) = self.pending.front() {
            if let Err(halt) = front.check(self.next) {
                // Before a foreign claim it is for `settle` to say.
                return self.fail(Trouble::Halted(halt));
            }
            match (front.report, front.read) {
                // Reported further on: not confirmed before that place has been read.
                (Some(Some(reported)), Some(_)) if reported >= self.next => return,
                (Some(_), Some(read)) => {
                    self.bytes -= front.bytes;
                    self.reported -= 1;
                    self.settled += 1;
                    self.confirmed.push((self.settled, read));
                    self.pending.pop_front();
                }
                _ => return,
            }
        }
    }

    /// Everything up to a later claim has been read: what was read counts, what was not never will.
    pub(super) fn settle(&mut self) -> Result<Settled, Halt> {
        if let Some(Trouble::Halted(halt)) = &self.trouble {
            return Err(halt.clone());
        }
        if let Some(halt) = self.pending.iter().find_map(|pending| pending.check(self.next).err()) {
            self.fail(Trouble::Halted(halt.clone()));
            return Err(halt);
        }
        let (mut confirmed, mut rejected) = (std::mem::take(&mut self.confirmed), Vec::new());
        for pending in self.pending.drain(..) {
            self.settled += 1;
            match pending.read {
                Some(offset) => confirmed.push((self.settled, offset)),
                None => rejected.push(self.settled),
            }
        }
        (self.bytes, self.reported) = (0, 0);
        Ok(Settled { confirmed, rejected })
    }
}

impl Fenced {
    pub(crate) fn by(header: &Header, claim: &crate::record::Claim) -> Self {
        Self { epoch: header.epoch, node: claim.node.clone(), address: claim.address.clone() }
    }
}
