//! Ready to claim: the reader of an owner that is not one yet.

use shopstream_domain::Partition;
use tokio::time::sleep;

use super::flight::{Flight, SILENCE};
use super::{ClaimError, Identity, PartitionWriter, READ_BYTES, fresh_appender, on_counted};
use crate::cursor::Cursor;
use crate::log::Log;
use crate::raw::Appender;
use crate::reader::{ReadError, Reader};
use crate::record::CommitRecord;

/// Follows a partition that somebody else owns, so that a claim has little left to read.
pub struct Standby {
    log: Log,
    partition: Partition,
    reader: Reader,
    /// Nothing was ever appended through it.
    appender: Option<Box<dyn Appender>>,
}

impl Standby {
    /// Reads from `start` to the end of the partition as it is now. Every commit that counts goes to `on_commit`.
    ///
    /// # Errors
    /// The log cannot be read, or is not the one of the cursor.
    pub async fn open(
        log: &Log,
        start: Cursor,
        mut on_commit: impl FnMut(CommitRecord),
    ) -> Result<Self, ClaimError> {
        let partition = start.partition;
        let mut reader = log.reader(&[start]).await?;
        // Only to choose an epoch: what is beyond this end is met on the way to the claim. And nothing is appended
        // before the cursor's own record has been found again.
        let end = log.end(partition).await.map_err(ReadError::from)?;
        while reader.is_unproven(partition)
            || reader.cursor(partition).is_some_and(|cursor| cursor.next < end)
        {
            reader.next(READ_BYTES).await?.commits.into_iter().for_each(&mut on_commit);
        }
        Ok(Self { log: log.clone(), partition, reader, appender: None })
    }

    /// Gets the appender that the claim needs, for a new one may take a while until it is ready to append.
    ///
    /// # Errors
    /// [`ClaimError::Raw`]; the claim tries it again.
    pub async fn warm_up(&mut self) -> Result<(), ClaimError> {
        self.appender = Some(fresh_appender(&self.log, self.partition).await?);
        Ok(())
    }

    /// Waits for more and reads it. Cancel-safe.
    ///
    /// # Errors
    /// See [`ReadError`]; this is then of no more use.
    pub async fn read_on(&mut self, on_commit: impl FnMut(CommitRecord)) -> Result<(), ReadError> {
        self.reader.next(READ_BYTES).await?.commits.into_iter().for_each(on_commit);
        Ok(())
    }

    /// Claims: see [`PartitionWriter::claim`].
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub async fn claim(
        self,
        identity: Identity,
        min_epoch: u64,
        nonce: u64,
        mut on_commit: impl FnMut(CommitRecord),
    ) -> Result<PartitionWriter, ClaimError> {
        let Self { log, partition, reader, appender } = self;
        let known = reader.cursor(partition).map_or(0, |cursor| cursor.fence.epoch());
        let epoch = known.max(min_epoch) + 1;
        let appender = match appender {
            Some(appender) => appender,
            None => fresh_appender(&log, partition).await?,
        };
        let mut writer = PartitionWriter {
            log,
            partition,
            identity,
            epoch,
            nonce,
            appender,
            reader,
            opened: None,
            reports: Vec::new(),
            flight: Flight::default(),
            watchdog: Box::pin(sleep(SILENCE)),
            unresolved: false,
        };
        match writer.establish(|folded| on_counted(folded, &mut on_commit)).await? {
            None => Ok(writer),
            Some(fenced) => Err(ClaimError::Lost(fenced)),
        }
    }
}
