//! Read: a part of the log, filtered, and what follows it.

use std::collections::{HashSet, VecDeque};

use shopstream_domain::Partition;
use shopstream_eventlog::{Commit, CommitRecord, Offset, Reader};
use shopstream_proto::event::v1 as wire;
use shopstream_proto::event::v1::{PartitionOffset, ReadRequest, ReadResponse};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::follow::Follow;
use crate::positions::{log_id, position};
use crate::shop::Shop;
use crate::stream::{HEARTBEAT, Source};
use crate::wire::{int, time};

/// Events per message.
const EVENTS_MAX: usize = 500;
/// Bytes of payload per message, about.
const BYTES_MAX: usize = 256 * 1024;

/// A part of one partition: from ≤ offset < to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: Offset,
    pub(super) to: Offset,
}

impl Range {
    pub(super) const ALL: Self = Self { from: 0, to: Offset::MAX };
    pub(super) const NOTHING: Self = Self { from: Offset::MAX, to: Offset::MAX };
}

/// Where the commits come from.
pub(super) enum Feed {
    /// The log, up to where it ended when the call came; `None` where there is nothing to read.
    Read(Option<Reader>),
    /// The log, and then the live feed.
    Follow(Box<Follow>),
}

pub(super) struct Read {
    pub(super) shop: Shop,
    pub(super) filter: Filter,
    /// What is left to read; `from` moves.
    pub(super) ranges: Vec<Range>,
    pub(super) source: Feed,
    /// How many events may still be sent.
    pub(super) left: Option<u64>,
    /// Whether any was.
    pub(super) sent: bool,
    /// The limit was met.
    pub(super) ended: bool,
    /// Made of one batch.
    pub(super) ready: VecDeque<ReadResponse>,
}

impl Source for Read {
    type Message = ReadResponse;

    async fn next(&mut self) -> Result<Option<ReadResponse>, Failure> {
        // However much comes that nobody wants: a message is due all the same.
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if self.ended || self.ranges.iter().all(|range| range.from >= range.to) {
                return Ok(None);
            }
            match &mut self.source {
                Feed::Read(None) => return Ok(None),
                Feed::Read(Some(reader)) => {
                    let batch = self.shop.live.read(reader).await?;
                    self.take(batch.commits.iter(), &batch.next);
                }
                Feed::Follow(follow) => match timeout_at(heartbeat, follow.next()).await {
                    Ok(delivery) => {
                        let delivery = delivery?;
                        let next: Vec<_> = (0..).zip(follow.resume().next).collect();
                        self.take(delivery.commits(), &next);
                    }
                    Err(_) => return Ok(Some(self.message(Vec::new()))),
                },
            }
            // What was read from the log itself is there at once, and the timeout above never gets its turn.
            if self.ready.is_empty() && Instant::now() >= heartbeat && !self.ended {
                return Ok(Some(self.message(Vec::new())));
            }
        }
    }
}

impl Read {
    /// Makes messages of the commits that are wanted, and moves on to `next`.
    ///
    /// Where the limit is met, reading ends before a record of which not all events may be sent, so that whoever goes on from
    /// there misses nothing; only where nothing was sent at all is it sent whole.
    fn take<'a>(&mut self, commits: impl Iterator<Item = &'a CommitRecord>, next: &[(Partition, Offset)]) {
        let mut message = Pending::default();
        for record in commits {
            let partition = usize::from(record.position.partition);
            if !(self.ranges[partition].from..self.ranges[partition].to).contains(&record.position.offset) {
                continue;
            }
            let events: Vec<_> = self.filter.events(record).collect();
            if let Some(left) = self.left {
                let many = events.len() as u64;
                self.ended = left == 0 || (many > left && self.sent);
                if self.ended {
                    break;
                }
                self.left = Some(left.saturating_sub(many));
            }
            self.ranges[partition].from = record.position.offset + 1;
            self.sent |= !events.is_empty();
            events.into_iter().for_each(|event| message.push(event));
            if message.is_full() {
                let full = std::mem::take(&mut message);
                self.ready.push_back(self.message(full.events));
            }
            if self.left == Some(0) {
                self.ended = true;
                break;
            }
        }
        if !self.ended {
            for (partition, offset) in next {
                let range = &mut self.ranges[usize::from(*partition)];
                if range.from < range.to {
                    range.from = range.from.max(*offset).min(range.to);
                }
            }
        }
        // What nobody wanted also moves the reading on, but is worth a message only at a heartbeat.
        if !message.events.is_empty() {
            self.ready.push_back(self.message(message.events));
        }
    }

    /// A message that leads behind everything that was taken so far.
    fn message(&self, events: Vec<wire::Event>) -> ReadResponse {
        ReadResponse { events, next: self.next_offsets(), log_id: log_id() }
    }

    fn next_offsets(&self) -> Vec<PartitionOffset> {
        let read = (0..).zip(&self.ranges).filter(|(_, range)| **range != Range::NOTHING);
        read.map(|(partition, range)| PartitionOffset { partition, offset: int(range.from) }).collect()
    }
}

/// A message as it fills.
#[derive(Default)]
struct Pending {
    events: Vec<wire::Event>,
    bytes: usize,
}

impl Pending {
    fn push(&mut self, event: wire::Event) {
        self.bytes += event.payload_json.len();
        self.events.push(event);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes >= BYTES_MAX
    }
}

/// Which events are wanted; an empty set lets all pass.
#[derive(Debug)]
pub(super) struct Filter {
    tenants: HashSet<String>,
    stream_types: HashSet<String>,
    stream_ids: HashSet<String>,
    event_types: HashSet<String>,
}

impl Filter {
    pub(super) fn of(request: &ReadRequest) -> Self {
        let set = |values: &[String]| values.iter().cloned().collect();
        Self {
            tenants: set(&request.tenants),
            stream_types: set(&request.stream_types),
            stream_ids: set(&request.stream_ids),
            event_types: set(&request.event_types),
        }
    }

    pub(super) fn events(&self, record: &CommitRecord) -> impl Iterator<Item = wire::Event> {
        let passes = |set: &HashSet<String>, value: &str| set.is_empty() || set.contains(value);
        let stream = &record.commit.stream;
        let wanted = passes(&self.tenants, stream.tenant_str())
            && passes(&self.stream_types, stream.kind().name())
            && passes(&self.stream_ids, stream.as_str());
        let events = if wanted { record.commit.events.as_slice() } else { &[] };
        (0..events.len())
            .filter(move |i| passes(&self.event_types, &events[*i].event_type))
            .map(|i| event(record, i))
    }
}

/// An event of a record on the wire.
pub(crate) fn event(record: &CommitRecord, index: usize) -> wire::Event {
    let Commit { stream, first_version, command_id, body_hash, recorded_at, effective_at, .. } =
        &record.commit;
    let data = &record.commit.events[index];
    wire::Event {
        position: Some(position(record.position)),
        index_in_record: index as u32,
        stream_id: stream.as_str().to_owned(),
        version: int(first_version + index as u64),
        event_type: data.event_type.clone(),
        schema_version: data.schema_version.into(),
        // Written by us as JSON, so it is text; what a disk made of it is shown rather than hidden.
        payload_json: String::from_utf8_lossy(&data.payload).into_owned(),
        command_id: command_id.to_string(),
        body_hash: body_hash.to_be_bytes().to_vec().into(),
        correlation_id: record.commit.correlation_id.clone(),
        causation_id: record.commit.causation_id.clone(),
        actor: record.commit.actor.clone(),
        record_time: Some(time(*recorded_at)),
        effective_time: Some(time(effective_at.unwrap_or(*recorded_at))),
        traceparent: record.commit.traceparent.clone(),
    }
}
