//! The owner's side: claim a partition, append in order, and know what counts.
//!
//! A commit is confirmed when its delivery report is Ok *and* this writer's own reader has folded it as counting
//! (`rulings.md` 39). Neither alone proves anything: a broker can acknowledge what no reader will count, and a
//! record can be read whose loss was reported.

mod flight;
mod standby;

use std::pin::Pin;
use std::time::Duration;

use prost::Message;
use shopstream_domain::Partition;
use tokio::time::{Sleep, sleep, sleep_until};

use self::flight::{Flight, SILENCE, Settled, Trouble};
pub use self::standby::Standby;

use crate::cursor::{Cursor, Offset};
use crate::fold::{Halt, Verdict};
use crate::log::Log;
use crate::raw::{Appender, RawError, Report};
use crate::reader::{Folded, ReadError, Reader, written_by};
use crate::record::{self, Body, Claim, Commit, CommitRecord, Header, Kind, MAX_RECORD};

/// How much is read back at once.
const READ_BYTES: usize = 1 << 20;
/// Between two tries to append a claim while the log is away.
const CLAIM_RETRY: Duration = Duration::from_millis(100);

/// Who claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub node: String,
    /// The address at which it takes forwarded commands.
    pub address: String,
}

/// The right to append to one partition, until somebody claims it with a higher epoch.
pub struct PartitionWriter {
    log: Log,
    partition: Partition,
    identity: Identity,
    epoch: u64,
    nonce: u64,
    appender: Box<dyn Appender>,
    reader: Reader,
    /// Just behind what this owner opened the partition with.
    opened: Option<Cursor>,
    reports: Vec<Report>,
    flight: Flight,
    /// Looks at the first record in flight from time to time.
    watchdog: Pin<Box<Sleep>>,
    /// A `resolve` did not come to its end, so nobody knows what became of what it was about.
    unresolved: bool,
}

/// What became of the records in flight.
#[derive(Debug)]
pub enum Progress {
    /// These count, in order of seq, each with its offset.
    Confirmed(Vec<(u64, Offset)>),
    /// Nobody knows what became of some of them: [`PartitionWriter::resolve`].
    InDoubt {
        /// What happened.
        cause: InDoubt,
    },
    /// Somebody else owns the partition. Final and complete: everything before that claim has been read.
    Fenced {
        /// Who.
        by: Fenced,
        /// In flight before, and counting: seq and offset.
        confirmed: Vec<(u64, Offset)>,
        /// In flight before, and void for ever.
        rejected: Vec<u64>,
    },
    /// The log contradicts its own history; the partition must not be written or read on. Nothing in flight is
    /// final, not even what was read.
    Halted(Halt),
    /// The log cannot be read any more by this writer's reader: [`PartitionWriter::resolve`] opens another one, or
    /// claim again from the cursor.
    Failed(RawError),
}

/// Why a record's outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InDoubt {
    /// The report was an error; the record may have arrived all the same.
    #[error("an append was not acknowledged: {0}")]
    Unacknowledged(RawError),
    /// A record before it is missing, so it does not count where it stands.
    #[error("the log has a hole before seq {seq}")]
    Hole {
        /// The first seq read behind the hole.
        seq: u64,
    },
    /// Neither reported nor read for too long.
    #[error("seq {seq} was neither reported nor read back within {} s", SILENCE.as_secs())]
    Silent {
        /// The first seq in flight.
        seq: u64,
    },
}

/// Who took the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The epoch of the claim that fenced.
    pub epoch: u64,
    /// The node that made it.
    pub node: String,
    /// Where it takes commands.
    pub address: String,
}

/// What [`PartitionWriter::resolve`] found out. Final.
pub struct Resolved {
    /// In flight before, and counting: seq and offset.
    pub confirmed: Vec<(u64, Offset)>,
    /// In flight before, and void for ever.
    pub rejected: Vec<u64>,
    /// Who took the partition meanwhile; `None`: the writer goes on under a new epoch.
    pub fenced: Option<Fenced>,
    /// Somebody else owned the partition for a while and was fenced in turn: what counts from then is not known here,
    /// so nothing may be decided before the partition has been claimed again from its cursor.
    pub interrupted: bool,
}

impl PartitionWriter {
    /// Claims `partition` with an epoch above every one on the log and above `min_epoch`, and waits until the claim
    /// has been read back as counting. Every commit that counts between `start` and the claim goes to `on_commit`.
    ///
    /// `nonce` must be drawn anew for every claim. Waits for ever while the log is away; drop the future to give up.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub async fn claim(
        log: &Log,
        start: Cursor,
        identity: Identity,
        min_epoch: u64,
        nonce: u64,
        mut on_commit: impl FnMut(CommitRecord),
    ) -> Result<Self, ClaimError> {
        let standby = Standby::open(log, start, &mut on_commit).await?;
        standby.claim(identity, min_epoch, nonce, on_commit).await
    }

    /// The partition.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// The epoch of the claim.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Points that must be found again before this partition is claimed once more: where this owner opened, and how
    /// far it has read. The first of them too, for what was read last may be of a log that took the place of this one.
    pub fn landmarks(&self) -> Vec<Cursor> {
        self.opened.into_iter().chain(self.cursor()).collect()
    }

    fn cursor(&self) -> Option<Cursor> {
        self.reader.cursor(self.partition).copied()
    }

    /// Bytes submitted and not yet confirmed.
    pub const fn in_flight_bytes(&self) -> usize {
        self.flight.bytes()
    }

    /// Appends a commit without waiting, and answers its seq; [`PartitionWriter::progress`] tells what became of it.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was appended.
    pub fn submit(&mut self, commit: &Commit) -> Result<u64, SubmitError> {
        let record = commit.encode_record(self.epoch, self.nonce, self.flight.next_seq());
        if record.len() > MAX_RECORD {
            return Err(SubmitError::TooLarge { bytes: record.len() });
        }
        self.append(record)
    }

    /// Appends a record that says nothing. Once it is confirmed, everything before it has been read
    /// (`rulings.md` 43).
    ///
    /// # Errors
    /// [`SubmitError::Full`].
    pub fn submit_barrier(&mut self) -> Result<u64, SubmitError> {
        self.append_kind(Kind::Barrier, &())
    }

    /// Waits until something is known about what is in flight. Cancel-safe. With nothing in flight it waits for
    /// somebody else's claim.
    ///
    /// What is confirmed is handed out before any trouble, except before [`Progress::Halted`]. Trouble stays: asked
    /// again, this answers the same.
    pub async fn progress(&mut self) -> Progress {
        if self.unresolved {
            let detail = "nobody knows what became of earlier appends: claim the partition again".into();
            return Progress::Failed(RawError::Unavailable { detail });
        }
        self.known().await
    }

    async fn known(&mut self) -> Progress {
        loop {
            if let Some(progress) = self.flight.take_progress() {
                return progress;
            }
            self.advance().await;
        }
    }

    /// Waits for a report, a record or too long a silence. Cancel-safe.
    async fn advance(&mut self) {
        let Self { appender, reader, reports, flight, watchdog, epoch, nonce, .. } = self;
        // In this order, always: a run of the simulation must be the same again from its seed.
        tokio::select! {
            biased;
            () = appender.reports(reports) => flight.reported(reports.drain(..)),
            read = reader.fold_next(READ_BYTES, |folded| flight.read(&folded, *epoch, *nonce)) => match read {
                Ok(()) => {}
                Err(ReadError::Halt { halt, .. }) => flight.fail(Trouble::Halted(halt)),
                Err(ReadError::Raw(error)) => flight.fail(Trouble::Failed(error)),
            },
            () = watchdog.as_mut(), if flight.deadline().is_some() => match flight.deadline() {
                Some(deadline) if deadline > tokio::time::Instant::now() => watchdog.as_mut().reset(deadline),
                _ => flight.silent(),
            },
        }
    }

    /// Finds out what became of everything in flight (`event-log.md` §2.4): claims a higher epoch through a fresh
    /// appender and reads to that claim. What has not been read by then never counts. The confirmed and rejected seqs
    /// are those of the epoch before; under the new one they begin again.
    ///
    /// Not cancel-safe: a writer whose `resolve` was dropped or failed answers [`Progress::Failed`], and the partition
    /// must be claimed again from its cursor.
    ///
    /// # Errors
    /// See [`ClaimError`]; nothing is known then.
    pub async fn resolve(&mut self, nonce: u64) -> Result<Resolved, ClaimError> {
        let (old_epoch, old_nonce) = (self.epoch, self.nonce);
        let mut old = std::mem::take(&mut self.flight);
        self.unresolved = true;
        match old.trouble() {
            Some(Trouble::Halted(halt)) => {
                return Err(ReadError::Halt { partition: self.partition, halt: halt.clone() }.into());
            }
            Some(Trouble::Failed(_)) => {
                if let Some(opened) = self.opened {
                    self.log.find(&opened).await?;
                }
                if let Some(cursor) = self.cursor() {
                    self.reader = self.log.reader(&[cursor]).await?;
                }
                // Before anything is appended: it may be another log now, to which this claim would do harm.
                while self.reader.is_unproven(self.partition) {
                    self.reader
                        .fold_next(READ_BYTES, |folded| old.read(&folded, old_epoch, old_nonce))
                        .await?;
                }
            }
            Some(Trouble::InDoubt(_) | Trouble::Fenced(_)) | None => {}
        }
        self.nonce = nonce;
        // The old appender's late requests carry the old epoch: once the claim is read they are void.
        self.renew().await?;
        let fenced = self.establish(|folded| old.read(folded, old_epoch, old_nonce)).await?;
        let interrupted = fenced.is_none() && matches!(old.trouble(), Some(Trouble::Fenced(_)));
        let settled = old.settle();
        let Settled { confirmed, rejected } =
            settled.map_err(|halt| ReadError::Halt { partition: self.partition, halt })?;
        if let Some(by) = &fenced {
            self.flight.fail(Trouble::Fenced(by.clone()));
        }
        // An interrupted writer is of no more use.
        self.unresolved = interrupted;
        Ok(Resolved { confirmed, rejected, fenced, interrupted })
    }

    /// Steps down: appends a release behind everything in flight and waits until all of it is confirmed.
    ///
    /// To lose no answer to trouble on the way, wait by [`PartitionWriter::progress`] until nothing is in flight
    /// before: what was confirmed here before an error is told only by [`Progress::Fenced`].
    ///
    /// # Errors
    /// What stood in the way, never [`Progress::Confirmed`]; the next owner's claim then ends this one.
    pub async fn release(mut self) -> Result<Vec<(u64, Offset)>, Progress> {
        let mut confirmed = Vec::new();
        let mut released = None;
        loop {
            if released.is_none() {
                released = self.append_kind(Kind::Release, &()).ok();
            }
            match self.progress().await {
                Progress::Confirmed(more) => confirmed.extend(more),
                Progress::Fenced { by, confirmed: more, mut rejected } => {
                    confirmed.extend(more);
                    // The release itself is nobody's answer.
                    confirmed.retain(|(seq, _)| Some(*seq) != released);
                    rejected.retain(|seq| Some(*seq) != released);
                    return Err(Progress::Fenced { by, confirmed, rejected });
                }
                trouble => return Err(trouble),
            }
            if confirmed.last().is_some_and(|(seq, _)| Some(*seq) == released) {
                confirmed.pop();
                return Ok(confirmed);
            }
        }
    }

    /// Claims, and says on what history, until both count or somebody else was first. Records that were folded on
    /// the way to the claim go to `each`.
    async fn establish(
        &mut self,
        mut each: impl FnMut(&Folded) -> Result<(), Halt>,
    ) -> Result<Option<Fenced>, ClaimError> {
        loop {
            self.flight = Flight::default();
            let trouble = match self.append_claim(&mut each).await? {
                Claimed::Counts => match self.open().await {
                    Ok(()) => {
                        self.opened = self.cursor();
                        return Ok(None);
                    }
                    Err(trouble) => trouble,
                },
                Claimed::Lost(fenced) => return Ok(Some(fenced)),
                Claimed::InDoubt(error) => Trouble::InDoubt(InDoubt::Unacknowledged(error)),
            };
            match trouble {
                Trouble::InDoubt(InDoubt::Unacknowledged(
                    error @ (RawError::Refused { .. } | RawError::Poisoned { .. }),
                )) => return Err(ClaimError::Raw(error)),
                // It may arrive yet. The next claim has a higher epoch, so either order is safe.
                Trouble::InDoubt(_) => {
                    sleep(CLAIM_RETRY).await;
                    self.renew().await?;
                }
                Trouble::Failed(error) => return Err(ClaimError::Read(ReadError::Raw(error))),
                Trouble::Fenced(fenced) => return Ok(Some(fenced)),
                Trouble::Halted(halt) => {
                    return Err(ClaimError::Read(ReadError::Halt { partition: self.partition, halt }));
                }
            }
        }
    }

    /// A fresh appender and a higher epoch.
    async fn renew(&mut self) -> Result<(), ClaimError> {
        self.appender = fresh_appender(&self.log, self.partition).await?;
        self.reports.clear();
        let known = self.reader.cursor(self.partition).map_or(0, |cursor| cursor.fence.epoch());
        self.epoch = self.epoch.max(known) + 1;
        Ok(())
    }

    /// Appends the claim and reads to it.
    async fn append_claim(
        &mut self,
        each: &mut impl FnMut(&Folded) -> Result<(), Halt>,
    ) -> Result<Claimed, ClaimError> {
        let claim = Claim { node: self.identity.node.clone(), address: self.identity.address.clone() };
        let header = Header { kind: Kind::Claim, epoch: self.epoch, nonce: self.nonce, seq: 0 };
        if let Err(error) = self.appender.submit(record::encode(header, &claim)) {
            return Ok(Claimed::InDoubt(error));
        }
        let (epoch, nonce) = (self.epoch, self.nonce);
        let silence = sleep_until(tokio::time::Instant::now() + SILENCE);
        tokio::pin!(silence);
        let (mut claimed, mut reported) = (None, false);
        loop {
            let Self { appender, reader, reports, flight, .. } = self;
            tokio::select! {
                biased;
                () = appender.reports(reports) => {
                    if let Some(error) = reports.drain(..).find_map(Result::err) {
                        return Ok(Claimed::InDoubt(error));
                    }
                    reported = true;
                }
                read = reader.fold_next(READ_BYTES, |folded| match &claimed {
                    None => {
                        let header = folded.record.header;
                        if header.kind == Kind::Claim && written_by(&header, epoch, nonce) {
                            claimed = Some(Claimed::Counts);
                            return Ok(());
                        }
                        each(&folded)?;
                        match &folded.record.body {
                            // Ours is yet to come and its epoch is not above: whoever was first has it.
                            Body::Claim(claim) if folded.verdict == Verdict::Counts && header.epoch >= epoch => {
                                claimed = Some(Claimed::Lost(Fenced::by(&header, claim)));
                            }
                            _ => {}
                        }
                        Ok(())
                    }
                    // What was read together with the claim: maybe already the claim that ends this one.
                    Some(_) => flight.read(&folded, epoch, nonce),
                }) => {
                    read?;
                    if let Some(claimed) = claimed {
                        if !reported {
                            self.flight.expect_claim_report();
                        }
                        return Ok(claimed);
                    }
                }
                () = &mut silence => {
                    let detail = "the claim was neither refused nor read back".into();
                    return Ok(Claimed::InDoubt(RawError::Unavailable { detail }));
                }
            }
        }
    }

    /// Says on what history this owner opened, and waits until that counts.
    async fn open(&mut self) -> Result<(), Trouble> {
        if let Some(trouble) = self.flight.trouble() {
            return Err(trouble.clone());
        }
        let opened = self.reader.fold(self.partition).and_then(crate::Fold::opened).unwrap_or_default();
        if self.append_kind(Kind::Opened, &opened).is_err() {
            return Err(Trouble::InDoubt(InDoubt::Unacknowledged(RawError::Full)));
        }
        match self.known().await {
            Progress::Confirmed(_) => Ok(()),
            Progress::InDoubt { cause } => Err(Trouble::InDoubt(cause)),
            Progress::Fenced { by, .. } => Err(Trouble::Fenced(by)),
            Progress::Halted(halt) => Err(Trouble::Halted(halt)),
            Progress::Failed(error) => Err(Trouble::Failed(error)),
        }
    }

    fn append_kind(&mut self, kind: Kind, body: &impl Message) -> Result<u64, SubmitError> {
        let header = Header { kind, epoch: self.epoch, nonce: self.nonce, seq: self.flight.next_seq() };
        self.append(record::encode(header, body))
    }

    fn append(&mut self, record: bytes::Bytes) -> Result<u64, SubmitError> {
        let (crc, bytes) = (record::crc_of(&record), record.len());
        match self.appender.submit(record) {
            Err(RawError::Full) => return Err(SubmitError::Full),
            Ok(()) => {}
            // It may arrive all the same: it takes its seq, and `progress` says that it is in doubt.
            Err(error) => self.flight.fail(Trouble::InDoubt(InDoubt::Unacknowledged(error))),
        }
        Ok(self.flight.submitted(crc, bytes))
    }
}

/// What became of a claim.
enum Claimed {
    Counts,
    Lost(Fenced),
    InDoubt(RawError),
}

/// Waits while the log is away.
async fn fresh_appender(log: &Log, partition: Partition) -> Result<Box<dyn Appender>, ClaimError> {
    loop {
        match log.raw().appender(partition).await {
            Ok(appender) => return Ok(appender),
            Err(RawError::Unavailable { .. } | RawError::Full | RawError::DiskFull { .. }) => {
                sleep(CLAIM_RETRY).await
            }
            Err(error) => return Err(ClaimError::Raw(error)),
        }
    }
}

fn on_counted(folded: &Folded, on_commit: &mut impl FnMut(CommitRecord)) -> Result<(), Halt> {
    if let (Verdict::Counts, Body::Commit(body)) = (folded.verdict, &folded.record.body) {
        let offset = folded.position.offset;
        let commit = Commit::decode(body.clone())
            .map_err(|error| Halt::Damaged { offset, detail: error.to_string() })?;
        on_commit(CommitRecord { position: folded.position, epoch: folded.record.header.epoch, commit });
    }
    Ok(())
}

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Wait for progress first.
    #[error("too much is in flight")]
    Full,
    /// One command made more events than a record holds.
    #[error("the events of this command take {bytes} bytes, a record holds {MAX_RECORD}")]
    TooLarge {
        /// The size of the record.
        bytes: usize,
    },
}

/// Why a partition was not claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else was first.
    #[error("node {} at {} owns the partition with epoch {}", .0.node, .0.address, .0.epoch)]
    Lost(Fenced),
    /// The log cannot be read to the claim.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log cannot be written.
    #[error(transparent)]
    Raw(RawError),
}
