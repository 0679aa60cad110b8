//! The bytes of a segment: groups of frames.
//!
//! A frame is `length u32, crc32c u32, partition u16, flags u16, offset u64`, little-endian, then `length` bytes. The
//! checksum covers all of the frame but itself and starts from the segment's salt, so that neither a record that
//! holds a copy of our bytes nor another file's frame is ever taken for a frame of this segment.
//!
//! A group begins at a multiple of [`SECTOR`]: a start frame (its offset is the group's number; its eight bytes are
//! the length of what follows and the number of frames), the record frames, one byte [`END`], zeros to the next
//! sector. So no group's write touches a sector of another group. A seal is a frame in the place where the next
//! group will begin; it says that every group before it was durable, and the next group is written over it.

use shopstream_domain::Partition;

use crate::cursor::Offset;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
const HEAD: usize = 20;
/// Length of a group's start frame.
pub(super) const START: usize = HEAD + 8;
/// The last byte of every group. Not zero, so a group whose end never reached the disk shows it.
const END: u8 = 0xE5;

const RECORD: u16 = 0;
const GROUP: u16 = 1;
const SEAL: u16 = 2;

/// Bytes that a group needs beside its records' frames, before it is rounded up.
const GROUP_OVERHEAD: usize = START + 1;

/// A group being put together, in a buffer that is used again.
pub(super) struct GroupBuffer {
    bytes: Vec<u8>,
    frames: u32,
}

impl GroupBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; START], frames: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(START);
        self.frames = 0;
    }

    pub(super) const fn frames(&self) -> u32 {
        self.frames
    }

    /// The group's length on disk if a record of `record` bytes came to it.
    pub(super) const fn len_with(&self, record: usize) -> usize {
        (self.bytes.len() + HEAD + record + 1).next_multiple_of(SECTOR)
    }

    pub(super) fn push(&mut self, salt: u32, partition: Partition, offset: Offset, record: &[u8]) {
        let head = head(salt, partition, RECORD, offset, record);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(record);
        self.frames += 1;
    }

    /// Writes start, end and padding, and gives the group as it goes to the disk.
    pub(super) fn finish(&mut self, salt: u32, number: u64) -> &[u8] {
        let mut body = [0; 8];
        body[..4].copy_from_slice(&((self.bytes.len() - START) as u32).to_le_bytes());
        body[4..].copy_from_slice(&self.frames.to_le_bytes());
        self.bytes[..HEAD].copy_from_slice(&head(salt, 0, GROUP, number, &body));
        self.bytes[HEAD..START].copy_from_slice(&body);
        self.bytes.push(END);
        self.bytes.resize(self.bytes.len().next_multiple_of(SECTOR), 0);
        &self.bytes
    }
}

/// A sector that says: group `through` and all before it were durable when this was written.
pub(super) fn seal(salt: u32, through: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[..HEAD].copy_from_slice(&head(salt, 0, SEAL, through, &[]));
    sector
}

/// How much of a seal's sector is not zero.
pub(super) const fn seal_length() -> usize {
    HEAD
}

fn head(salt: u32, partition: Partition, flags: u16, offset: Offset, record: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&(record.len() as u32).to_le_bytes());
    head[8..10].copy_from_slice(&partition.to_le_bytes());
    head[10..12].copy_from_slice(&flags.to_le_bytes());
    head[12..].copy_from_slice(&offset.to_le_bytes());
    let crc = checksum(salt, &head, record);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    head
}

fn checksum(salt: u32, head: &[u8; HEAD], record: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(salt, &head[..4]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &head[8..]), record)
}

/// What can stand at the beginning of a sector, if its checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A group begins.
    Group(Group),
    /// A seal.
    Seal {
        /// The last group that it vouches for.
        through: u64,
    },
}

/// The start of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Counts the groups of the log, from 1.
    pub(super) number: u64,
    body: usize,
    frames: u32,
}

impl Group {
    /// Its length on disk.
    pub(super) const fn len(&self) -> usize {
        (self.body + GROUP_OVERHEAD).next_multiple_of(SECTOR)
    }

    /// Where its last byte is.
    pub(super) const fn end_byte(&self) -> usize {
        START + self.body
    }
}

/// The mark at the beginning of `bytes`, if one is there.
pub(super) fn mark(bytes: &[u8], salt: u32) -> Option<Mark> {
    let raw = Raw::parse(bytes, salt)?;
    match raw.flags {
        GROUP => {
            let body = raw.record.first_chunk::<8>()?;
            let length = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
            let frames = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
            Some(Mark::Group(Group { number: raw.offset, body: length as usize, frames }))
        }
        SEAL => Some(Mark::Seal { through: raw.offset }),
        _ => None,
    }
}

/// Where a record is in its group's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What is wrong with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// At which of its bytes.
    pub(super) at: usize,
    /// What.
    pub(super) why: &'static str,
    /// Whether sectors that never reached the disk could be the reason.
    pub(super) torn: bool,
}

/// Checks all of a group and puts its records into `frames`. `bytes` is exactly the group; `ends` are the next
/// offsets by partition and move over the group only if it is whole.
pub(super) fn check(
    bytes: &[u8],
    group: &Group,
    salt: u32,
    ends: &mut [Offset],
    frames: &mut Vec<Frame>,
) -> Result<(), Bad> {
    frames.clear();
    let end = group.end_byte();
    let mut at = START;
    while at < end {
        let raw = Raw::parse(&bytes[at..end], salt).filter(|raw| raw.flags == RECORD);
        let raw = raw.ok_or(Bad { at, why: "a frame's checksum does not match", torn: true })?;
        let start = at + HEAD;
        at = start + raw.record.len();
        frames.push(Frame { partition: raw.partition, offset: raw.offset, start, end: at });
    }
    if bytes[end] != END {
        return Err(Bad { at: end, why: "the group's last byte is missing", torn: true });
    }
    if frames.len() != group.frames as usize {
        return Err(Bad { at: 0, why: "the number of frames is not what the group says", torn: false });
    }
    if let Some(byte) = bytes[end + 1..].iter().position(|byte| *byte != 0) {
        return Err(Bad { at: end + 1 + byte, why: "the padding is not zero", torn: false });
    }
    for frame in frames.iter() {
        match ends.get_mut(usize::from(frame.partition)) {
            Some(end) if *end == frame.offset => *end += 1,
            _ => return Err(Bad { at: frame.start, why: "an offset is not the next one", torn: false }),
        }
    }
    Ok(())
}

/// A frame of any kind whose checksum is right.
struct Raw<'a> {
    partition: Partition,
    flags: u16,
    offset: u64,
    record: &'a [u8],
}

impl<'a> Raw<'a> {
    fn parse(bytes: &'a [u8], salt: u32) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD>()?;
        let [l0, l1, l2, l3, c0, c1, c2, c3, p0, p1, f0, f1, offset @ ..] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let record = bytes[HEAD..].get(..length)?;
        if checksum(salt, head, record) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return None;
        }
        let (partition, flags) = (u16::from_le_bytes([p0, p1]), u16::from_le_bytes([f0, f1]));
        Some(Self { partition, flags, offset: u64::from_le_bytes(offset), record })
    }
}
