//! The files of a local log, read without any of the product's code: written from the description of the format alone
//! (the texts of `eventlog/src/local/segment.rs` and `frame.rs`), as a second opinion on what the product's reader says.
//!
//! It repairs nothing and locks nothing. In the last segment it takes groups while they are whole and stops at the
//! first that is not; in any other, a group that is not whole is damage.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// Where the first group of a segment begins, and how long a header is.
const HEADER: usize = 4096;
/// Where groups may begin: at multiples of it.
const SECTOR: usize = 512;
/// What stands before the bytes of a frame.
const HEAD: usize = 20;
/// A group's start frame.
const START: usize = HEAD + 8;
/// A group's last byte.
const END: u8 = 0xE5;

/// Everything that a log's files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The records of each partition, by offset.
    pub records: Vec<Vec<Bytes>>,
    /// The segments in use, in order.
    pub segments: Vec<Segment>,
}

/// Where things are in a segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its file.
    pub path: PathBuf,
    /// Its groups.
    pub groups: Vec<Range<usize>>,
    /// Behind the last group.
    pub end: usize,
}

/// Why files are not a log.
#[derive(Debug, thiserror::Error)]
pub enum NotALog {
    /// A file cannot be read.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Bytes that must be right are not.
    #[error("{} byte {byte}: {detail}", path.display())]
    Damaged {
        /// In which file.
        path: PathBuf,
        /// Where.
        byte: usize,
        /// What is wrong.
        detail: String,
    },
}

/// What a header says, as far as it matters here.
struct Header {
    salt: u32,
    group: u64,
    previous_end: usize,
    ends: Vec<u64>,
}

/// Reads the log in `folder`; an empty one where no segment has a header yet.
///
/// # Errors
/// See [`NotALog`].
pub fn read(folder: &Path) -> Result<Contents, NotALog> {
    let mut files = Vec::new();
    for path in segment_files(folder)? {
        let bytes = std::fs::read(&path).map_err(|source| NotALog::Io { path: path.clone(), source })?;
        let bytes = Bytes::from(bytes);
        match header(&bytes) {
            Ok(Some(header)) => files.push((path, bytes, header)),
            // The spare: prepared, and nothing written to it.
            Ok(None) => break,
            Err(detail) => return Err(NotALog::Damaged { path, byte: 0, detail }),
        }
    }
    let mut contents = Contents::default();
    let mut group = 1;
    for (index, (path, bytes, header)) in files.iter().enumerate() {
        let next = files.get(index + 1).map(|(.., header)| header);
        let damaged = |byte, detail: String| NotALog::Damaged { path: path.clone(), byte, detail };
        if contents.records.is_empty() {
            contents.records = vec![Vec::new(); header.ends.len()];
        }
        let ends: Vec<u64> = contents.records.iter().map(|records| records.len() as u64).collect();
        if header.group != group || header.ends != ends {
            return Err(damaged(0, "the header does not go on where the segment before ends".to_owned()));
        }
        let mut segment = Segment { path: path.clone(), groups: Vec::new(), end: HEADER };
        let stopped = loop {
            match whole_group(bytes, segment.end, header.salt, group, &mut contents.records) {
                Ok(range) => {
                    segment.end = range.end;
                    segment.groups.push(range);
                    group += 1;
                }
                Err(why) => break why,
            }
        };
        if next.is_some_and(|next| next.previous_end != segment.end) {
            return Err(damaged(segment.end, format!("{stopped}, but the next segment was begun")));
        }
        contents.segments.push(segment);
    }
    Ok(contents)
}

fn segment_files(folder: &Path) -> Result<Vec<PathBuf>, NotALog> {
    let failed = |source| NotALog::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `None`: nothing but zeros.
fn header(bytes: &[u8]) -> Result<Option<Header>, String> {
    let Some(bytes) = bytes.get(..HEADER) else { return Err(format!("only {} bytes", bytes.len())) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..]);
    if &bytes[..8] != b"SSLOCAL\0" || u32_at(bytes, 8) != crc {
        return Err("the header's magic or checksum is wrong".to_owned());
    }
    if u16_at(bytes, 12) != 1 {
        return Err(format!("format {}", u16_at(bytes, 12)));
    }
    Ok(Some(Header {
        salt: u32_at(bytes, 16),
        group: u64_at(bytes, 36),
        previous_end: u64_at(bytes, 44) as usize,
        ends: (0..usize::from(u16_at(bytes, 14)))
            .map(|partition| u64_at(bytes, 52 + 8 * partition))
            .collect(),
    }))
}

/// The group `number` at `at`, its records put behind those of their partitions; or why there is none.
fn whole_group(
    bytes: &Bytes,
    at: usize,
    salt: u32,
    number: u64,
    records: &mut [Vec<Bytes>],
) -> Result<Range<usize>, &'static str> {
    let start = frame(bytes, at, salt).ok_or("no group begins here")?;
    if start.flags != 1 || start.record.len() != 8 || start.offset != number {
        return Err("another group, or a seal, begins here");
    }
    let (length, count) = (u32_at(&start.record, 0) as usize, u32_at(&start.record, 4));
    let last = at + START + length;
    let end = (last + 1).next_multiple_of(SECTOR);
    if end > bytes.len() {
        return Err("the group is longer than its file");
    }
    let mut found = Vec::new();
    let mut position = at + START;
    while position < last {
        let frame = frame(bytes, position, salt).ok_or("a record's checksum does not match")?;
        if frame.flags != 0 {
            return Err("something else than a record is in the group");
        }
        position += HEAD + frame.record.len();
        found.push(frame);
    }
    if position != last || bytes[last] != END || bytes[last + 1..end].iter().any(|byte| *byte != 0) {
        return Err("the group's end is not there");
    }
    if found.len() != count as usize {
        return Err("the group has another number of records than it says");
    }
    let mut ends: Vec<u64> = records.iter().map(|records| records.len() as u64).collect();
    for frame in &found {
        match ends.get_mut(usize::from(frame.partition)) {
            Some(next) if *next == frame.offset => *next += 1,
            _ => return Err("a record's offset is not the next of its partition"),
        }
    }
    for frame in found {
        records[usize::from(frame.partition)].push(frame.record);
    }
    Ok(at..end)
}

struct Frame {
    partition: u16,
    flags: u16,
    offset: u64,
    record: Bytes,
}

/// The frame at `at`, if its checksum is right.
fn frame(bytes: &Bytes, at: usize, salt: u32) -> Option<Frame> {
    let head = bytes.get(at..at + HEAD)?;
    let record = at + HEAD..(at + HEAD).checked_add(u32_at(head, 0) as usize)?;
    let body = bytes.get(record.clone())?;
    let crc = crc32c::crc32c_append(salt, &head[..4]);
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &head[8..]), body);
    (crc == u32_at(head, 4)).then(|| Frame {
        partition: u16_at(head, 8),
        flags: u16_at(head, 10),
        offset: u64_at(head, 12),
        record: bytes.slice(record),
    })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}
