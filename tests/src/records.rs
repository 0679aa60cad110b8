//! Every record of a log, as any backend gives them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use shopstream_eventlog::raw::{RawLog, RawRecord};
use tokio::time::timeout;

/// How long a reader may say nothing while there is something to read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every record up to the ends of now, by partition and offset.
///
/// # Errors
/// See [`read_into`].
pub async fn read(log: &dyn RawLog) -> anyhow::Result<Vec<Vec<Bytes>>> {
    let mut found = vec![Vec::new(); usize::from(log.partitions())];
    read_into(log, &mut found).await?;
    Ok(found)
}

/// As [`read`]; what came before an error is there too.
///
/// # Errors
/// The log cannot be read, or its offsets are not 0, 1, 2 and so on.
pub async fn read_into(log: &dyn RawLog, found: &mut [Vec<Bytes>]) -> anyhow::Result<()> {
    let mut left = 0;
    for partition in 0..log.partitions() {
        left += log.end(partition).await?;
    }
    let from: Vec<_> = (0..log.partitions()).map(|partition| (partition, 0)).collect();
    let mut reader = log.reader(&from).await?;
    let mut records: Vec<RawRecord> = Vec::new();
    while left > 0 {
        timeout(PATIENCE, reader.next(1 << 20, &mut records)).await.context("the reader says nothing")??;
        for RawRecord { partition, offset, bytes } in records.drain(..) {
            let place = found.get_mut(usize::from(partition)).context("a partition that is not there")?;
            if offset != place.len() as u64 {
                bail!("offset {offset} of partition {partition} comes after {} records", place.len());
            }
            place.push(bytes);
            left = left.checked_sub(1).context("there is more than the log says it has")?;
        }
    }
    Ok(())
}
