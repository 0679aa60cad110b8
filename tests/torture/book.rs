//! What the log must hold: everything that was acknowledged, nothing that was never sent, each once and in order. A
//! pure function of what the writers said and what the readers found.

use std::collections::BTreeMap;

use bytes::Bytes;
use shopstream_eventlog::Offset;
use xxhash_rust::xxh3::xxh3_64;

use crate::payload;

/// The promises that are kept here, in the order in which they are told.
pub(crate) const PROMISES: [(&str, &str); 4] = [
    ("I1", "no acknowledged record is lost, nothing seen goes away"),
    ("I2", "nothing is there that was not sent, byte for byte"),
    ("I3", "nothing is there twice"),
    ("I4", "each author's records stand in order, without a hole"),
];

/// A broken promise: its id, and what was seen.
pub(crate) type Finding = (&'static str, String);

/// The life of one log.
pub(crate) struct Book {
    seed: u64,
    authors: BTreeMap<u32, Author>,
    /// What was found so far: a hash of each record, by partition and offset.
    seen: Vec<Vec<u64>>,
    bytes: usize,
}

/// Whoever writes records with one number after the other to one partition.
#[derive(Default)]
struct Author {
    /// The numbers below it may be on the log.
    sent: u64,
    /// The numbers below its length must be; where each is, if that was said.
    acknowledged: Vec<Option<Offset>>,
    /// Where each was found.
    found: Vec<Offset>,
}

/// What a writer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// It begins to open the log.
    Opening,
    /// The log is open.
    Opened,
    /// The numbers below `below` are about to be handed to the log.
    Sent { author: u32, below: u64 },
    /// The record `number` is durable at `offset`.
    Acknowledged { author: u32, number: u64, offset: Option<Offset> },
}

impl Book {
    /// Of an empty log.
    pub(crate) fn new(seed: u64, partitions: u16) -> Self {
        let seen = vec![Vec::new(); usize::from(partitions)];
        Self { seed, authors: BTreeMap::new(), seen, bytes: 0 }
    }

    /// Which partition an author writes to.
    pub(crate) fn partition_of(author: u32, partitions: u16) -> u16 {
        (author % u32::from(partitions)) as u16
    }

    /// How much the log held when it was last read.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes down what may be on the log from now on.
    pub(crate) fn note_sent(&mut self, messages: &[Message]) {
        for message in messages {
            if let Message::Sent { author, below } = *message {
                let author = self.authors.entry(author).or_default();
                author.sent = author.sent.max(below);
            }
        }
    }

    /// Takes down what must be on the log from now on; answers how many records that are.
    pub(crate) fn note_acknowledged(&mut self, messages: &[Message], findings: &mut Vec<Finding>) -> u64 {
        let mut noted = 0;
        for message in messages {
            let Message::Acknowledged { author: name, number, offset } = *message else { continue };
            let author = self.authors.entry(name).or_default();
            let next = author.acknowledged.len() as u64;
            if number != next {
                findings
                    .push(("I4", format!("author {name}: {number} was acknowledged after {next} records")));
            }
            author.acknowledged.push(offset);
            noted += 1;
        }
        noted
    }

    /// Compares with what was found: the records of each partition, by offset. Answers how many are new.
    pub(crate) fn judge(&mut self, found: &[Vec<Bytes>], findings: &mut Vec<Finding>) -> u64 {
        let mut new = 0;
        self.bytes = found.iter().flatten().map(Bytes::len).sum();
        for (partition, records) in (0..).zip(found) {
            let known = self.seen.get(usize::from(partition)).map_or(0, Vec::len);
            if records.len() < known {
                let lost = format!("partition {partition} had {known} records and now has {}", records.len());
                findings.push(("I1", lost));
            }
            for (offset, record) in (0..).zip(records) {
                let hash = xxh3_64(record);
                match self.seen[usize::from(partition)].get(offset as usize) {
                    Some(before) if *before == hash => continue,
                    Some(_) => {
                        findings.push(("I1", format!("{partition}@{offset} is not what it was before")))
                    }
                    None => {
                        self.seen[usize::from(partition)].push(hash);
                        findings.extend(self.meet(partition, offset, record).err());
                        new += 1;
                    }
                }
            }
        }
        for (name, author) in &self.authors {
            findings.extend(author.missing(*name));
        }
        new
    }

    /// Judges a record that was not there before.
    fn meet(&mut self, partition: u16, offset: Offset, record: &Bytes) -> Result<(), Finding> {
        let place = format!("{partition}@{offset}");
        let stranger = |why: &str| ("I2", format!("{place} {why}"));
        let (name, number) = payload::signature(record).ok_or_else(|| stranger("is nobody's record"))?;
        if Self::partition_of(name, self.seen.len() as u16) != partition {
            return Err(stranger("belongs to another partition"));
        }
        let author = self.authors.get_mut(&name).ok_or_else(|| stranger("is of an unknown author"))?;
        if number >= author.sent {
            return Err(stranger(&format!("is record {number} of author {name}, who sent {}", author.sent)));
        }
        if *record != payload::record(self.seed, name, number) {
            return Err(stranger(&format!("is not record {number} of author {name} as it was sent")));
        }
        let next = author.found.len() as u64;
        if number < next {
            return Err(("I3", format!("{place} is record {number} of author {name} once more")));
        }
        if number > next {
            return Err((
                "I4",
                format!("{place} is record {number} of author {name}, where {next} should be"),
            ));
        }
        author.found.push(offset);
        Ok(())
    }
}

impl Author {
    fn missing(&self, name: u32) -> Option<Finding> {
        let (acknowledged, found) = (self.acknowledged.len(), self.found.len());
        if acknowledged > found {
            let lost = acknowledged - found;
            return Some((
                "I1",
                format!("author {name}: {lost} of {acknowledged} acknowledged records are lost"),
            ));
        }
        let moved = self
            .acknowledged
            .iter()
            .zip(&self.found)
            .position(|(said, found)| said.is_some_and(|said| said != *found))?;
        Some(("I1", format!("author {name}: record {moved} is not at the offset that was answered")))
    }
}

/// How many acknowledged records a log lacks.
pub(crate) fn lost(book: &Book) -> u64 {
    let lost = |author: &Author| author.acknowledged.len().saturating_sub(author.found.len());
    book.authors.values().map(|author| lost(author) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    /// Two authors of partition 0, one of partition 1; the last record of each was sent and not acknowledged.
    fn book() -> (Book, Vec<Vec<Bytes>>) {
        let mut book = Book::new(SEED, 2);
        let order = [(0, 0), (2, 0), (0, 1), (0, 2), (2, 1), (2, 2)];
        let zero = order.map(|(author, number)| payload::record(SEED, author, number)).to_vec();
        let one = (0..3).map(|number| payload::record(SEED, 1, number)).collect();
        book.note_sent(&[0, 1, 2].map(|author| Message::Sent { author, below: 3 }));
        let acknowledged = [(0, 0, 0), (2, 0, 1), (0, 1, 2), (2, 1, 4), (1, 0, 0), (1, 1, 1)];
        let acknowledged = acknowledged.map(|(author, number, offset)| Message::Acknowledged {
            author,
            number,
            offset: Some(offset),
        });
        let mut findings = Vec::new();
        assert_eq!(book.note_acknowledged(&acknowledged, &mut findings), 6);
        assert_eq!(findings, []);
        (book, vec![zero, one])
    }

    /// The promises that are broken when the log is found as `change` makes it.
    fn broken(change: impl FnOnce(&mut Vec<Vec<Bytes>>)) -> Vec<&'static str> {
        let (mut book, mut found) = book();
        change(&mut found);
        let mut findings = Vec::new();
        book.judge(&found, &mut findings);
        let mut ids: Vec<_> = findings.into_iter().map(|(id, _)| id).collect();
        ids.dedup();
        ids
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_was_sent_may() {
        assert_eq!(broken(|_| {}), [""; 0]);
        // Only acknowledged ones must be there.
        assert_eq!(broken(|found| drop(found[1].pop())), [""; 0]);
    }

    #[test]
    fn every_kind_of_wrong_log_is_seen() {
        assert_eq!(broken(|found| found[1].truncate(1)), ["I1"]);
        assert_eq!(broken(|found| found[1].clear()), ["I1"]);
        assert_eq!(broken(|found| found[1].push(payload::record(SEED, 1, 3))), ["I2"], "never sent");
        assert_eq!(broken(|found| found[1].push(payload::record(SEED, 3, 0))), ["I2"], "an unknown author");
        assert_eq!(broken(|found| found[1].push(payload::record(SEED, 0, 0))), ["I2"], "another partition");
        assert_eq!(broken(|found| found[1].push(Bytes::from_static(b"x"))), ["I2"], "no record");
        let flip = |found: &mut Vec<Vec<Bytes>>| {
            let mut record = found[1][2].to_vec();
            let last = record.len() - 1;
            record[last] ^= 1;
            found[1][2] = record.into();
        };
        assert_eq!(broken(flip), ["I2"], "a bit");
        assert_eq!(broken(|found| found[1].push(payload::record(SEED, 1, 0))), ["I3"]);
        assert_eq!(broken(|found| drop(found[0].remove(0))), ["I4", "I1"], "a hole");
        assert_eq!(broken(|found| found[1].swap(0, 1)), ["I4", "I1"], "two changed places");
        assert_eq!(broken(|found| found[0].swap(0, 1)), ["I1"], "two authors' records changed places");
    }

    #[test]
    fn what_was_seen_once_stays() {
        for change in [
            |found: &mut Vec<Vec<Bytes>>| drop(found[1].pop()),
            |found: &mut Vec<Vec<Bytes>>| found[1][2] = payload::record(SEED, 1, 4),
        ] {
            let (mut book, mut found) = book();
            let mut findings = Vec::new();
            assert_eq!(book.judge(&found, &mut findings), 9);
            assert_eq!(book.judge(&found, &mut findings), 0);
            assert_eq!(findings, []);
            change(&mut found);
            book.judge(&found, &mut findings);
            assert_eq!(findings.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["I1"]);
        }
    }

    #[test]
    fn acknowledgements_come_in_order() {
        let (mut book, _) = book();
        let mut findings = Vec::new();
        book.note_acknowledged(
            &[Message::Acknowledged { author: 1, number: 3, offset: None }],
            &mut findings,
        );
        assert_eq!(findings.len(), 1);
    }
}
