//! The log as it is found: by the product's reader after it has recovered, and by the reader of [`segments`].

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use shopstream_eventlog::local::{LocalLog, Options};
use shopstream_tests::{records, segments};

/// How many partitions every log here has.
pub(crate) const PARTITIONS: u16 = 3;
/// Small, so that a run goes over many segments.
const SEGMENT_BYTES: u64 = 256 << 10;

/// How every log here is opened.
pub(crate) fn options(dir: &Path) -> Options {
    let seal_after = Duration::from_millis(2);
    Options { segment_bytes: SEGMENT_BYTES, seal_after, ..Options::new(dir, PARTITIONS) }
}

/// Opens the log, which recovers it, reads all of it, and closes it.
pub(crate) async fn by_the_product(options: Options) -> anyhow::Result<Vec<Vec<Bytes>>> {
    records::read(&LocalLog::open(options)?).await
}

/// What the files say; nothing where there is no log yet.
pub(crate) fn by_the_files(dir: &Path) -> anyhow::Result<Vec<Vec<Bytes>>> {
    let mut records = if dir.is_dir() { segments::read(dir)?.records } else { Vec::new() };
    records.resize(usize::from(PARTITIONS), Vec::new());
    Ok(records)
}
