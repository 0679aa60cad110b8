//! A segment file: its name, its header, and how it is prepared.
//!
//! The header fills the first [`HEADER`] bytes and is durable before anything follows it. It says where the log
//! stands there: the next group and every partition's next offset, and where the segment before ended; so a header
//! proves that the segment before is complete. A segment without a header is a spare: zeros, durable, ready.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::port::{Port, PortFile};
use crate::cursor::Offset;

/// Where the first group of a segment begins.
pub(super) const HEADER: usize = 4096;
/// As many as a header has room for, rounded down.
pub(super) const PARTITIONS_MAX: u16 = 500;
/// The smallest useful segment: the header, a small group and room for a seal.
pub(super) const SEGMENT_MIN: u64 = 4 * HEADER as u64;
/// Positions and lengths in frames are u32.
pub(super) const SEGMENT_MAX: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"SSLOCAL\0";
const FORMAT: u16 = 1;
const FIXED: usize = 52;
const CHUNK: usize = 1 << 20;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Where the checksums of its frames start from.
    pub(super) salt: u32,
    /// Its length.
    pub(super) length: u64,
    /// The number of its first group.
    pub(super) group: u64,
    /// Where the last group of the segment before ended; 0 in the first.
    pub(super) previous_end: u64,
    /// Every partition's next offset at its beginning.
    pub(super) ends: Vec<Offset>,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Nothing but zeros.
    Blank,
    /// Something else.
    Damaged,
    /// A header of another format.
    Format(u16),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(self.ends.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        for field in [self.number, self.length, self.group, self.previous_end] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        debug_assert_eq!(bytes.len(), FIXED);
        for end in &self.ends {
            bytes.extend_from_slice(&end.to_le_bytes());
        }
        bytes.resize(HEADER, 0);
        let crc = checksum(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        let bytes = &bytes[..HEADER.min(bytes.len())];
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(NoHeader::Blank);
        }
        if bytes.len() < HEADER || bytes[..8] != MAGIC || bytes[8..12] != checksum(bytes).to_le_bytes() {
            return Err(NoHeader::Damaged);
        }
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u64_at = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        if u16_at(12) != FORMAT {
            return Err(NoHeader::Format(u16_at(12)));
        }
        let partitions = usize::from(u16_at(14).min(PARTITIONS_MAX));
        Ok(Self {
            salt: u64_at(16) as u32,
            number: u64_at(20),
            length: u64_at(28),
            group: u64_at(36),
            previous_end: u64_at(44),
            ends: (0..partitions).map(|partition| u64_at(FIXED + 8 * partition)).collect(),
        })
    }
}

fn checksum(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..8]), &header[12..])
}

/// The file of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.seg"))
}

/// The number in a segment's file name; `None`: not a segment.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?.parse().ok()
}

/// Whether the file is a preparation that never came to its end.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".new").is_some_and(|name| number(name).is_some())
}

/// Makes segment `number` a spare: all its bytes written once and durable, so that writing to it later changes no
/// metadata and needs no room. Leaves nothing where it fails.
pub(super) fn prepare(
    port: &dyn Port,
    dir: &Path,
    number: u64,
    length: u64,
    stop: &AtomicBool,
) -> io::Result<Box<dyn PortFile>> {
    let path = path(dir, number);
    let unfinished = path.with_extension("seg.new");
    let made = make(port, &unfinished, length, stop).and_then(|file| {
        port.rename(&unfinished, &path)?;
        port.sync_dir(dir)?;
        Ok(file)
    });
    if made.is_err() {
        // Gives the room back. If that fails too, the next opening removes it.
        let _ = port.remove(&unfinished);
    }
    made
}

fn make(port: &dyn Port, path: &Path, length: u64, stop: &AtomicBool) -> io::Result<Box<dyn PortFile>> {
    let file = port.create(path)?;
    zero(&*file, 0, length, stop)?;
    file.sync()?;
    Ok(file)
}

/// Writes zeros from `from` to `to`.
pub(super) fn zero(file: &dyn PortFile, from: u64, to: u64, stop: &AtomicBool) -> io::Result<()> {
    let zeros = vec![0; CHUNK.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = zeros.len().min((to - at) as usize);
        file.write_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}
