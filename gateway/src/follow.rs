//! The commits of the log from any point on, without end: first from the log itself, then from the live feed.

use std::sync::Arc;

use shopstream_eventlog::{CommitRecord, Offset, ReadError, Reader};
use tokio::sync::broadcast::error::RecvError;

use crate::failure::Failure;
use crate::live::{BATCH_BYTES, Batch, Listener, Live};
use crate::token::Resume;

/// How often one that falls behind the live feed while it still catches up may begin again.
const CATCH_UPS: u32 = 3;

/// Reads on from a point. Every commit from there on comes once, in the order of its partition.
pub(crate) struct Follow {
    live: Live,
    listener: Listener,
    catching_up: Option<Reader>,
    catch_ups: u32,
    /// By partition, the first offset not yet delivered.
    next: Vec<Offset>,
}

/// Some commits that follow each other.
#[derive(Debug)]
pub(crate) struct Delivery {
    batch: Arc<Batch>,
    from: Vec<Offset>,
}

impl Delivery {
    /// Its commits, per partition in offset order.
    pub(crate) fn commits(&self) -> impl Iterator<Item = &CommitRecord> {
        self.batch.commits.iter().filter(|record| {
            // What the batch repeats of earlier deliveries is left out.
            self.from
                .get(usize::from(record.position.partition))
                .is_some_and(|from| record.position.offset >= *from)
        })
    }
}

impl Follow {
    /// Everything from now on.
    ///
    /// # Errors
    /// See [`Live::listen`].
    pub(crate) fn from_now(live: &Live) -> Result<Self, Failure> {
        let listener = live.listen()?;
        let next = listener.from.clone();
        Ok(Self { live: live.clone(), listener, catching_up: None, catch_ups: 0, next })
    }

    /// Everything from these offsets on, one per partition.
    ///
    /// # Errors
    /// See [`Live::listen`]; and where the log cannot be read.
    pub(crate) async fn from(live: &Live, next: Vec<Offset>) -> Result<Self, Failure> {
        let listener = live.listen()?;
        let catching_up = reader_between(live, &next, &listener.from).await?;
        Ok(Self { live: live.clone(), listener, catching_up, catch_ups: CATCH_UPS, next })
    }

    /// How far it is.
    pub(crate) fn resume(&self) -> Resume {
        Resume { next: self.next.clone(), ..Resume::default() }
    }

    /// The next commits; waits for some. Cancel-safe.
    ///
    /// # Errors
    /// The caller came too rarely and has lost its place, the log is halted or away, or the node stops.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Failure> {
        loop {
            if self.caught_up() {
                self.catching_up = None;
            }
            let batch = match &mut self.catching_up {
                Some(reader) => self.live.read(reader).await?,
                None => match self.listener.feed.recv().await {
                    Ok(batch) => {
                        self.catch_ups = 0;
                        batch
                    }
                    Err(RecvError::Lagged(_)) => {
                        self.begin_again().await?;
                        continue;
                    }
                    Err(RecvError::Closed) => return Err(self.live.ended()),
                },
            };
            let from = self.next.clone();
            for (partition, offset) in &batch.next {
                if let Some(next) = self.next.get_mut(usize::from(*partition)) {
                    *next = offset.max(next).to_owned();
                }
            }
            return Ok(Delivery { batch, from });
        }
    }

    /// The live feed went on without us. That is our fault only once we had caught up with it.
    async fn begin_again(&mut self) -> Result<(), Failure> {
        self.catch_ups = self.catch_ups.checked_sub(1).ok_or(Failure::SlowReader)?;
        let listener = self.live.listen()?;
        let reader = reader_between(&self.live, &self.next, &listener.from).await?;
        (self.listener, self.catching_up) = (listener, reader);
        Ok(())
    }

    fn caught_up(&self) -> bool {
        self.next.iter().zip(&self.listener.from).all(|(next, from)| next >= from)
    }
}

/// A reader of what lies between the two, if anything does.
async fn reader_between(live: &Live, next: &[Offset], until: &[Offset]) -> Result<Option<Reader>, Failure> {
    let behind = (0..).zip(next.iter().zip(until)).filter(|(_, (next, until))| next < until);
    let cursors: Vec<_> =
        behind.filter_map(|(partition, (next, _))| live.landmarks().before(partition, *next)).collect();
    if cursors.is_empty() {
        return Ok(None);
    }
    Ok(Some(live.log().reader(&cursors).await.map_err(unreadable)?))
}

impl Live {
    /// The next batch of a reader of one's own.
    pub(crate) async fn read(&self, reader: &mut Reader) -> Result<Arc<Batch>, Failure> {
        let batch = reader.next(BATCH_BYTES).await.map_err(unreadable)?;
        batch.cursors.iter().for_each(|cursor| self.landmarks().passed(cursor));
        let next = batch.cursors.iter().map(|cursor| (cursor.partition, cursor.next)).collect();
        Ok(Arc::new(Batch { commits: batch.commits, next }))
    }
}

/// What a client hears of a log that cannot be read.
pub(crate) fn unreadable(error: ReadError) -> Failure {
    match error {
        ReadError::Halt { partition, halt } => Failure::LogHalted { partition, detail: halt.to_string() },
        ReadError::Raw(cause) => {
            tracing::warn!(%cause, "the log cannot be read");
            Failure::Away { what: "the log" }
        }
    }
}
