//! The logs whose bits are flipped, as files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use shopstream_eventlog::local::{LocalLog, Options};
use shopstream_eventlog::raw::RawLog;
use shopstream_tests::segments::{self, Segment};

use super::SEGMENT_BYTES;
use crate::{payload, reading};

/// The file whose bits are flipped.
pub(super) const ONE: &str = "0000000000000001.seg";
/// A segment is full where less than this is left.
const LEFT: usize = 6 << 10;
/// The longest ordinary record.
const RECORD_MAX: usize = 1200;
const SECTOR: usize = 512;

type Files = BTreeMap<String, Vec<u8>>;

/// A log, and what must be read of it.
#[derive(Default)]
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) files: Files,
    /// What was acknowledged, by partition.
    pub(super) truth: Vec<Vec<Bytes>>,
    pub(super) without_last_group: Vec<Vec<Bytes>>,
    /// Behind the last group of the segment.
    pub(super) end: usize,
    pub(super) last_group: Range<usize>,
    /// Whether the last group holds what a torn write looks like.
    pub(super) zeros: bool,
}

/// Where in the segment a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    Header,
    Groups,
    LastGroup,
    Behind,
}

impl Region {
    /// Whether what stands there was written and means something.
    pub(super) fn is_written(self) -> bool {
        self != Self::Behind
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Groups => "groups",
            Self::LastGroup => "last group",
            Self::Behind => "behind the end",
        })
    }
}

impl Image {
    pub(super) fn region(&self, byte: usize) -> Region {
        match byte {
            0..4096 => Region::Header,
            _ if byte < self.last_group.start => Region::Groups,
            _ if byte < self.end => Region::LastGroup,
            _ => Region::Behind,
        }
    }

    /// Where the log's own text says that damage is cut as if it were torn: in an unsealed last group whose records
    /// hold a sector of zeros.
    pub(super) fn may_be_cut(&self, byte: usize) -> bool {
        self.zeros && self.region(byte) == Region::LastGroup
    }
}

/// All logs that are tried.
pub(super) async fn all(seed: u64, folder: &Path) -> anyhow::Result<Vec<Image>> {
    let mut images = Vec::new();
    for shape in [Shape::Closed, Shape::Sealed, Shape::Unsealed, Shape::Torn, Shape::Zeros] {
        let dir = folder.join(shape.name());
        images.push(make(shape, seed, &dir).await.context(shape.name())?);
    }
    Ok(images)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Another segment follows.
    Closed,
    /// The log was closed in order, and says so behind its last group.
    Sealed,
    /// The process was killed: nothing is behind the last group.
    Unsealed,
    /// It was killed while it wrote: a group of which a sector is missing is behind the last one.
    Torn,
    /// As unsealed, with a record of zeros in the last group.
    Zeros,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Sealed => "sealed",
            Self::Unsealed => "unsealed",
            Self::Torn => "torn",
            Self::Zeros => "zeros",
        }
    }
}

/// A log that is being made, a group at a time.
struct Making {
    log: LocalLog,
    seed: u64,
    number: u64,
}

async fn make(shape: Shape, seed: u64, dir: &Path) -> anyhow::Result<Image> {
    let never = Duration::from_secs(3600);
    let options = Options { segment_bytes: SEGMENT_BYTES, seal_after: never, ..reading::options(dir) };
    let mut making = Making { log: LocalLog::open(options)?, seed, number: 0 };
    // All bytes of the segment, as many of them as can be in groups.
    loop {
        making.append(making.some()).await?;
        let segments = segments::read(dir)?.segments;
        let full = segments.first().is_some_and(|one| one.end + LEFT > SEGMENT_BYTES as usize);
        let done = if shape == Shape::Closed { segments.len() == 2 } else { full };
        if done {
            break;
        }
    }
    if shape == Shape::Zeros {
        let mut record = vec![1; 200];
        record.resize(2200, 0);
        record.push(1);
        making.append(record.into()).await?;
    }
    let mut contents = segments::read(dir)?;
    let mut torn = 0..0;
    if shape == Shape::Torn {
        making.append(vec![7; 5 * SECTOR].into()).await?;
        let after = segments::read(dir)?;
        torn = last(&after.segments)?.groups.last().context("a group")?.clone();
    }
    // Closing seals: a crash does not.
    let unsealed = take(dir)?;
    drop(making);
    let mut files = if matches!(shape, Shape::Closed | Shape::Sealed) { take(dir)? } else { unsealed };
    if !torn.is_empty() {
        files.get_mut(ONE).context("the segment")?[torn.start + SECTOR..torn.start + 2 * SECTOR].fill(0);
    }
    // The next segment stands ready, so that no opening has to prepare it.
    let spare = format!("{:016}.seg", contents.segments.len() + 1);
    files.insert(spare, vec![0; SEGMENT_BYTES as usize]);
    files.retain(|name, _| name.ends_with(".seg"));
    if matches!(shape, Shape::Closed | Shape::Sealed) {
        contents = segments::read(dir)?;
    }
    let one = contents.segments.first().context("a segment")?;
    let last_group = one.groups.last().context("a group")?.clone();
    let (truth, end) = (contents.records.clone(), one.end);
    let without_last_group = before(dir, &files, last_group.start)?;
    let image = Image {
        name: shape.name(),
        files,
        truth,
        without_last_group,
        end,
        last_group,
        zeros: shape == Shape::Zeros,
    };
    ensure!(image.end + LEFT > SEGMENT_BYTES as usize, "the segment is not full");
    Ok(image)
}

impl Making {
    /// An ordinary record, without a sector of zeros.
    fn some(&self) -> Bytes {
        let record = payload::record(self.seed, self.number as u32, 0);
        let dull = record.windows(SECTOR / 2).any(|window| window.iter().all(|byte| *byte == 0));
        let record = if dull { Bytes::from(vec![9; 700]) } else { record };
        record.slice(..record.len().min(RECORD_MAX))
    }

    /// Appends a group of one record, and waits until it is durable.
    async fn append(&mut self, record: Bytes) -> anyhow::Result<()> {
        let partition = (self.number % u64::from(reading::PARTITIONS)) as u16;
        let mut appender = self.log.appender(partition).await?;
        appender.submit(record)?;
        let mut reports = Vec::new();
        appender.reports(&mut reports).await;
        reports.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.number += 1;
        Ok(())
    }
}

fn last(segments: &[Segment]) -> anyhow::Result<&Segment> {
    segments.last().context("a segment")
}

/// The records of all groups of the segment before a byte.
fn before(dir: &Path, files: &Files, byte: usize) -> anyhow::Result<Vec<Vec<Bytes>>> {
    let mut one = files.get(ONE).context("the segment")?.clone();
    one[byte..].fill(0);
    restore(dir, &Files::from([(ONE.to_owned(), one)]))?;
    Ok(segments::read(dir)?.records)
}

/// Puts these files into a folder, and no others, where they are not there already.
pub(super) fn restore(dir: &Path, files: &Files) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !files.contains_key(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, bytes) in files {
        let path = dir.join(name);
        if fs::read(&path).map_or(true, |found| found != *bytes) {
            fs::write(path, bytes)?;
        }
    }
    Ok(())
}

/// The segments in a folder.
pub(super) fn take(dir: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".seg") {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}
