//! Opening a directory: what is there, where it ends, and what of its end was never acknowledged.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::OpenError;
use super::frame::{self, SECTOR};
use super::port::{Port, PortFile};
use super::segment::{self, HEADER, Header, NoHeader, SEGMENT_MIN};
use super::spare::Spare;
use super::walk::{Walked, walk};
use super::writer::Position;

/// A log as it is after opening: nothing behind its end but a seal and zeros.
pub(super) struct Recovered {
    /// Of every segment in use, in order.
    pub(super) headers: Vec<Header>,
    /// Where writing goes on, in the last of them.
    pub(super) at: Position,
    /// What was learned about the last segment on the way.
    pub(super) points: Vec<(u64, u64, Vec<u64>)>,
    /// The next segment, if it was prepared.
    pub(super) spare: Option<Spare>,
}

/// Opens what is in `dir`, or begins a log of `partitions` there.
pub(super) fn recover(
    port: &dyn Port,
    dir: &Path,
    partitions: u16,
    segment_bytes: u64,
) -> Result<Recovered, OpenError> {
    let opening = Opening { port, dir, partitions, segment_bytes };
    let count = opening.count()?;
    let mut headers = Vec::new();
    let mut spare = None;
    for number in 1..=count {
        match opening.header(number)? {
            Ok(header) => {
                opening.check(&header, headers.last(), number)?;
                headers.push(header);
            }
            Err(reason) => spare = opening.spare(number, count, reason)?,
        }
    }
    let Some(last) = headers.last() else {
        let header = opening.begin(spare.take())?;
        return opening.finish(vec![header], None);
    };
    if spare.is_none() && count > last.number {
        // The file that could not be used as a spare goes; another will be prepared.
        let path = segment::path(dir, count);
        port.remove(&path).and_then(|()| port.sync_dir(dir)).map_err(OpenError::io("remove", &path))?;
    }
    opening.finish(headers, spare)
}

struct Opening<'a> {
    port: &'a dyn Port,
    dir: &'a Path,
    partitions: u16,
    segment_bytes: u64,
}

impl Opening<'_> {
    /// How many segments there are, after unfinished ones were removed. None may be missing between.
    fn count(&self) -> Result<u64, OpenError> {
        let mut numbers = Vec::new();
        for name in self.port.list(self.dir).map_err(OpenError::io("list", self.dir))? {
            if segment::is_unfinished(&name) {
                let path = self.dir.join(&name);
                self.port.remove(&path).map_err(OpenError::io("remove", &path))?;
            }
            numbers.extend(segment::number(&name));
        }
        // A file that was named just before the program ended may have its name in this machine's memory only.
        self.port.sync_dir(self.dir).map_err(OpenError::io("flush", self.dir))?;
        numbers.sort_unstable();
        match (1..).zip(&numbers).find(|(expected, number)| expected != *number) {
            None => Ok(numbers.len() as u64),
            Some((missing, _)) => Err(self.damaged(missing, 0, "the file is missing".to_owned())),
        }
    }

    fn header(&self, number: u64) -> Result<Result<Header, NoHeader>, OpenError> {
        let path = segment::path(self.dir, number);
        let file = self.open(number)?;
        let length = file.length().map_err(OpenError::io("measure", &path))?;
        let mut bytes = vec![0; HEADER.min(length as usize)];
        file.read_exact_at(&mut bytes, 0).map_err(OpenError::io("read", &path))?;
        let header = Header::decode(&bytes);
        // A segment had all its length, durably, before it had its name: no crash makes it shorter.
        let made = header.as_ref().map_or(SEGMENT_MIN, |header| header.length);
        if length < made {
            let detail = format!("the file has lost its end: it was at least {made} bytes long");
            return Err(self.damaged(number, length, detail));
        }
        Ok(header)
    }

    /// Whether a header goes on where the one before it stood, and belongs to the log that was asked for.
    fn check(&self, header: &Header, previous: Option<&Header>, number: u64) -> Result<(), OpenError> {
        let found = header.ends.len() as u16;
        if found != self.partitions {
            return Err(OpenError::Partitions { dir: self.dir.into(), found, asked: self.partitions });
        }
        let goes_on = match previous {
            None => header.group == 1 && header.ends.iter().all(|end| *end == 0),
            Some(previous) => {
                header.group >= previous.group
                    && header.previous_end <= previous.length
                    && header.ends.iter().zip(&previous.ends).all(|(end, before)| end >= before)
            }
        };
        // A segment without its neighbour before is a hole that `count` cannot see: a spare stood there.
        if header.number != number || !goes_on || previous.map_or(0, |previous| previous.number) + 1 != number
        {
            let detail = "the segment does not go on where the one before it ends".to_owned();
            return Err(self.damaged(number, 0, detail));
        }
        Ok(())
    }

    /// A file without a valid header: the last one, if nothing was ever written behind its header, is a spare.
    fn spare(&self, number: u64, count: u64, reason: NoHeader) -> Result<Option<Spare>, OpenError> {
        let damaged = |detail: &str| Err(self.damaged(number, 0, detail.to_owned()));
        if let NoHeader::Format(found) = reason {
            return Err(OpenError::Format { file: segment::path(self.dir, number), found });
        }
        let path = segment::path(self.dir, number);
        let file = self.open(number)?;
        let bytes = read_all(&*file).map_err(OpenError::io("read", &path))?;
        if number < count || bytes.iter().skip(HEADER).any(|byte| *byte != 0) {
            return damaged("the segment's header is damaged");
        }
        let usable = reason == NoHeader::Blank && bytes.len() as u64 == self.segment_bytes;
        Ok(usable.then_some((file, self.segment_bytes)))
    }

    /// Writes the header of the first segment.
    fn begin(&self, spare: Option<Spare>) -> Result<Header, OpenError> {
        let path = segment::path(self.dir, 1);
        let (file, length) = match spare {
            Some(spare) => spare,
            None => {
                let stop = AtomicBool::new(false);
                let file = segment::prepare(self.port, self.dir, 1, self.segment_bytes, &stop);
                (file.map_err(OpenError::io("prepare", &path))?, self.segment_bytes)
            }
        };
        let ends = vec![0; usize::from(self.partitions)];
        let header = Header { number: 1, salt: rand::random(), length, group: 1, previous_end: 0, ends };
        file.write_at(&header.encode(), 0)
            .and_then(|()| file.sync())
            .map_err(OpenError::io("write", &path))?;
        Ok(header)
    }

    /// Finds the end of the last segment and leaves it sealed.
    fn finish(&self, headers: Vec<Header>, spare: Option<Spare>) -> Result<Recovered, OpenError> {
        let Some(last) = headers.last() else { return Err(self.damaged(1, 0, "no header".to_owned())) };
        let path = segment::path(self.dir, last.number);
        let file = self.open(last.number)?;
        let bytes = read_all(&*file).map_err(OpenError::io("read", &path))?;
        let walked =
            walk(&bytes, last).map_err(|(at, detail)| self.damaged(last.number, at as u64, detail))?;
        settle(&*file, &bytes, &walked, last).map_err(OpenError::io("repair", &path))?;
        if walked.torn > 0 {
            let (file, bytes) = (path.display(), walked.torn);
            tracing::warn!("cut {bytes} bytes of an unacknowledged group from {file} at byte {}", walked.end);
            metrics::counter!("shopstream_log_local_torn_tails_total").increment(1);
        }
        let at = Position {
            file,
            segment: last.number,
            salt: last.salt,
            length: last.length,
            position: walked.end as u64,
            group: walked.group,
            ends: walked.ends,
        };
        Ok(Recovered { headers, at, points: walked.points, spare })
    }

    fn open(&self, number: u64) -> Result<Box<dyn PortFile>, OpenError> {
        let path = segment::path(self.dir, number);
        self.port.open(&path).map_err(OpenError::io("open", &path))
    }

    fn damaged(&self, number: u64, byte: u64, detail: String) -> OpenError {
        OpenError::Damaged { file: segment::path(self.dir, number), byte, detail }
    }
}

/// Makes what the walk accepted durable, and nothing else: what was cut must never come back.
fn settle(file: &dyn PortFile, bytes: &[u8], walked: &Walked, header: &Header) -> io::Result<()> {
    if walked.sealed && walked.torn == 0 {
        return Ok(());
    }
    if !walked.sealed {
        // The last group, or the header where there is none, may be known to this machine's memory only: a flush
        // that failed leaves pages that look clean. It is written again, not just flushed again.
        file.write_at(&bytes[walked.last.clone()], walked.last.start as u64)?;
    }
    let end = walked.end as u64;
    let torn = walked.torn.next_multiple_of(SECTOR) as u64;
    segment::zero(file, end, end + torn, &AtomicBool::new(false))?;
    file.sync()?;
    // Only now, because a seal says that all before it is durable.
    file.write_at(&frame::seal(header.salt, walked.group - 1), end)?;
    file.sync()
}

fn read_all(file: &dyn PortFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.length()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
