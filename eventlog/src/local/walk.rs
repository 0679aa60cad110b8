//! Walks over the last segment to its end and tells a torn group from damage. The rule is in the module above.

use std::ops::Range;

use super::frame::{self, Bad, Group, Mark, SECTOR, START};
use super::index::POINT_BYTES;
use super::segment::{HEADER, Header};
use crate::cursor::Offset;

/// What the walk found.
#[derive(Debug)]
pub(super) struct Walked {
    /// Where the log ends.
    pub(super) end: usize,
    /// The number of the next group.
    pub(super) group: u64,
    /// Every partition's next offset.
    pub(super) ends: Vec<Offset>,
    /// Whether a seal at the end proves that all before it was durable.
    pub(super) sealed: bool,
    /// The last group, or the header where there is none.
    pub(super) last: Range<usize>,
    /// How many bytes behind the end are not zero up to the last one that is not; 0: nothing to cut.
    pub(super) torn: usize,
    /// Position, group and offsets, now and then.
    pub(super) points: Vec<(u64, u64, Vec<Offset>)>,
}

/// Where a walk cannot go on, and why.
pub(super) type Damage = (usize, String);

/// Walks over `bytes`, the whole file of the last segment.
pub(super) fn walk(bytes: &[u8], header: &Header) -> Result<Walked, Damage> {
    let (salt, bytes) = (header.salt, &bytes[..header.length as usize]);
    let mut walked = Walked {
        end: HEADER,
        group: header.group,
        ends: header.ends.clone(),
        sealed: false,
        last: 0..HEADER,
        torn: 0,
        points: Vec::new(),
    };
    let mut frames = Vec::new();
    // Only zeros lie behind this byte.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    while walked.end < used {
        let at = walked.end;
        match frame::mark(&bytes[at..], salt) {
            Some(Mark::Group(group)) if group.number == walked.group && at + group.len() < bytes.len() => {
                let range = at..at + group.len();
                match frame::check(&bytes[range.clone()], &group, salt, &mut walked.ends, &mut frames) {
                    Ok(()) => walked.accept(range),
                    Err(bad) => {
                        explain(&bytes[range.clone()], &group, bad, used > range.end)
                            .map_err(|why| (at + bad.at, why))?;
                        walked.torn = used - at;
                        break;
                    }
                }
            }
            Some(Mark::Seal { through }) if through + 1 == walked.group => {
                nothing_later(bytes, at, used, salt, walked.group)?;
                walked.sealed = true;
                let noise = bytes[at..used].iter().skip(frame::seal_length()).any(|byte| *byte != 0);
                walked.torn = if noise { used - at } else { 0 };
                break;
            }
            Some(_) => return Err((at, "another group should begin here".to_owned())),
            None => {
                nothing_later(bytes, at, used, salt, walked.group)?;
                let missing = is_zero(&bytes[at..at + SECTOR]);
                if !missing && used > at + START {
                    return Err((at, "the start of the last group is damaged, not torn".to_owned()));
                }
                walked.torn = used - at;
                break;
            }
        }
    }
    Ok(walked)
}

impl Walked {
    fn accept(&mut self, range: Range<usize>) {
        self.end = range.end;
        self.group += 1;
        self.last = range;
        let point = self.points.last().map_or(HEADER as u64, |(position, ..)| *position);
        if self.end as u64 >= point + POINT_BYTES {
            self.points.push((self.end as u64, self.group, self.ends.clone()));
        }
    }
}

/// Whether the bad group can be what an interrupted write left. It cannot where anything follows it, because the
/// next group was only begun when this one was durable; nor where no sector of it is missing.
fn explain(bytes: &[u8], group: &Group, bad: Bad, followed: bool) -> Result<(), String> {
    let number = group.number;
    if followed {
        return Err(format!("{}, and group {number} was complete: the log goes on behind it", bad.why));
    }
    let missing = bytes.chunks(SECTOR).any(is_zero) || bytes[group.end_byte()] == 0;
    if bad.torn && missing {
        return Ok(());
    }
    Err(format!("{}, and no part of group {number}, the last one, is missing", bad.why))
}

/// Fails where a group or seal behind `at` proves that group `number` was complete.
fn nothing_later(bytes: &[u8], at: usize, used: usize, salt: u32, number: u64) -> Result<(), Damage> {
    for later in (at + SECTOR..used).step_by(SECTOR) {
        let proof = match frame::mark(&bytes[later..], salt) {
            Some(Mark::Group(group)) => group.number >= number,
            Some(Mark::Seal { through }) => through >= number,
            None => false,
        };
        if proof {
            return Err((at, format!("no valid group begins here, but one does at byte {later}")));
        }
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
