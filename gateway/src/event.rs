//! EventService: the log itself, for people, tests and the command line.

use std::collections::{HashSet, VecDeque};

use shopstream_command_handlers::{PartitionState, PartitionStatus};
use shopstream_domain::Partition;
use shopstream_eventlog::{Commit, CommitRecord, Offset, ReadError, Reader};
use shopstream_proto::Validate;
use shopstream_proto::event::v1 as wire;
use shopstream_proto::event::v1::event_service_server::EventService;
use shopstream_proto::event::v1::{
    GetLogStatusRequest, GetLogStatusResponse, PartitionOffset, ReadRequest, ReadResponse,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use crate::failure::Failure;
use crate::follow::{Follow, unreadable};
use crate::positions::{CORE, partition, position};
use crate::shop::Shop;
use crate::stream::{HEARTBEAT, Messages, Source, messages};
use crate::wire::{int, time};

#[cfg(test)]
mod tests;

/// Events per message.
const EVENTS_MAX: usize = 500;
/// Bytes of payload per message, about.
const BYTES_MAX: usize = 256 * 1024;

/// The service.
pub(crate) struct Events {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl EventService for Events {
    type ReadStream = Messages<ReadResponse>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Ok(Response::new(self.open(request.into_inner()).await?))
    }

    async fn get_log_status(
        &self,
        request: Request<GetLogStatusRequest>,
    ) -> Result<Response<GetLogStatusResponse>, Status> {
        let request = request.into_inner();
        request.validate().map_err(Failure::from)?;
        check_log(&request.log)?;
        Ok(Response::new(self.status()))
    }
}

fn check_log(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name == CORE {
        return Ok(());
    }
    Err(Failure::not_found("LOG_NOT_FOUND", format!("there is no log {name:?}; it is {CORE:?}")))
}

impl Events {
    async fn open(&self, request: ReadRequest) -> Result<Messages<ReadResponse>, Failure> {
        request.validate()?;
        check_log(&request.log)?;
        let ranges = self.ranges(&request).await?;
        let from: Vec<Offset> = ranges.iter().map(|range| range.from).collect();
        let source = if request.follow {
            // A partition that is not read begins beyond everything, so nothing of it is ever delivered.
            Feed::Follow(Box::new(Follow::from(&self.shop.live, from).await?))
        } else {
            Feed::Read(self.reader(&ranges).await?)
        };
        let read = Read {
            shop: self.shop.clone(),
            filter: Filter::of(&request),
            ranges,
            source,
            left: (request.max_events > 0).then_some(request.max_events.unsigned_abs()),
            ready: VecDeque::new(),
        };
        Ok(messages(&self.shop.live, read))
    }

    /// What to read of every partition.
    async fn ranges(&self, request: &ReadRequest) -> Result<Vec<Range>, Failure> {
        let partitions = self.shop.means.log.partitions();
        let mut ranges =
            vec![if request.partitions.is_empty() { Range::ALL } else { Range::NOTHING }; partitions.into()];
        for (i, given) in request.partitions.iter().enumerate() {
            let field = || format!("partitions[{i}].partition");
            let range = &mut ranges[usize::from(partition(given.partition, partitions, field)?)];
            if *range != Range::NOTHING {
                return Err(Failure::invalid(field(), "this partition stands here twice"));
            }
            // Validation has seen that neither is negative.
            let (from, to) = (given.from_offset.unsigned_abs(), given.to_offset.map(i64::unsigned_abs));
            *range = Range { from, to: to.unwrap_or(Offset::MAX) };
        }
        if !request.follow {
            for (partition, range) in (0..).zip(&mut ranges) {
                if range.from < range.to {
                    let end = self.shop.means.log.end(partition).await;
                    range.to = range.to.min(end.map_err(|cause| unreadable(ReadError::Raw(cause)))?);
                }
            }
        }
        Ok(ranges)
    }

    async fn reader(&self, ranges: &[Range]) -> Result<Option<Reader>, Failure> {
        let wanted = (0..).zip(ranges).filter(|(_, range)| range.from < range.to);
        let landmarks = self.shop.live.landmarks();
        let cursors: Vec<_> =
            wanted.filter_map(|(partition, range)| landmarks.before(partition, range.from)).collect();
        if cursors.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.shop.means.log.reader(&cursors).await.map_err(unreadable)?))
    }

    fn status(&self) -> GetLogStatusResponse {
        let topology = self.shop.means.log.topology();
        GetLogStatusResponse {
            log: CORE.to_owned(),
            log_id: topology.log.to_string(),
            generation: topology.generation,
            partition_count: topology.partitions.into(),
            backend: self.shop.means.backend.to_owned(),
            partitions: self.shop.means.commands.status().iter().map(partition_status).collect(),
        }
    }
}

fn partition_status(status: &PartitionStatus) -> wire::PartitionStatus {
    let (state, reason) = match &status.state {
        PartitionState::Serving => (wire::PartitionState::Serving, ""),
        PartitionState::Claiming => (wire::PartitionState::Recovering, "claiming"),
        PartitionState::InDoubt { cause } | PartitionState::Unavailable { cause } => {
            (wire::PartitionState::Recovering, cause.as_str())
        }
        PartitionState::Fenced { by } => (wire::PartitionState::Fenced, by.as_str()),
        PartitionState::Halted { cause } => (wire::PartitionState::Halted, cause.as_str()),
        PartitionState::Released => (wire::PartitionState::Released, ""),
    };
    let owner = match &status.state {
        PartitionState::Serving | PartitionState::InDoubt { .. } => "this node",
        PartitionState::Fenced { by } => by.as_str(),
        PartitionState::Claiming
        | PartitionState::Halted { .. }
        | PartitionState::Unavailable { .. }
        | PartitionState::Released => "",
    };
    wire::PartitionStatus {
        partition: status.partition.into(),
        state: state.into(),
        reason: reason.to_owned(),
        epoch: int(status.epoch),
        owner: owner.to_owned(),
        end_offset: int(status.confirmed),
        // Counted by the metric `shopstream_log_void_records_total`, not by partition.
        void_record_count: 0,
    }
}

/// A part of one partition: from ≤ offset < to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: Offset,
    to: Offset,
}

impl Range {
    const ALL: Self = Self { from: 0, to: Offset::MAX };
    const NOTHING: Self = Self { from: Offset::MAX, to: Offset::MAX };
}

/// Where the commits come from.
enum Feed {
    /// The log, up to where it ended when the call came; `None` where there is nothing to read.
    Read(Option<Reader>),
    /// The log, and then the live feed.
    Follow(Box<Follow>),
}

struct Read {
    shop: Shop,
    filter: Filter,
    /// What is left to read; `from` moves.
    ranges: Vec<Range>,
    source: Feed,
    /// How many events may still be sent.
    left: Option<u64>,
    /// Made of one batch.
    ready: VecDeque<ReadResponse>,
}

impl Source for Read {
    type Message = ReadResponse;

    async fn next(&mut self) -> Result<Option<ReadResponse>, Failure> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if self.left == Some(0) || self.ranges.iter().all(|range| range.from >= range.to) {
                return Ok(None);
            }
            match &mut self.source {
                Feed::Read(None) => return Ok(None),
                Feed::Read(Some(reader)) => {
                    let batch = self.shop.live.read(reader).await?;
                    self.take(batch.commits.iter(), &batch.next);
                }
                Feed::Follow(follow) => match timeout(HEARTBEAT, follow.next()).await {
                    Ok(delivery) => {
                        let delivery = delivery?;
                        let next: Vec<_> = (0..).zip(follow.resume().next).collect();
                        self.take(delivery.commits(), &next);
                    }
                    Err(_) => {
                        return Ok(Some(ReadResponse { events: Vec::new(), next: self.next_offsets() }));
                    }
                },
            }
        }
    }
}

impl Read {
    /// Makes messages of the commits that are wanted, and moves on to `next`.
    fn take<'a>(&mut self, commits: impl Iterator<Item = &'a CommitRecord>, next: &[(Partition, Offset)]) {
        let mut message = Pending::default();
        for record in commits {
            let range = &mut self.ranges[usize::from(record.position.partition)];
            if !(range.from..range.to).contains(&record.position.offset) {
                continue;
            }
            range.from = record.position.offset + 1;
            for event in self.filter.events(record) {
                if self.left == Some(0) {
                    break;
                }
                self.left = self.left.map(|left| left - 1);
                message.push(event);
            }
            if message.is_full() || self.left == Some(0) {
                let events = std::mem::take(&mut message).events;
                self.ready.push_back(ReadResponse { events, next: self.next_offsets() });
            }
            if self.left == Some(0) {
                return;
            }
        }
        for (partition, offset) in next {
            let range = &mut self.ranges[usize::from(*partition)];
            if range.from < range.to {
                range.from = range.from.max(*offset).min(range.to);
            }
        }
        // What nobody wanted also moves the reading on, but is worth a message only at a heartbeat.
        if !message.events.is_empty() {
            let next = self.next_offsets();
            self.ready.push_back(ReadResponse { events: message.events, next });
        }
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
struct Filter {
    tenants: HashSet<String>,
    stream_types: HashSet<String>,
    stream_ids: HashSet<String>,
    event_types: HashSet<String>,
}

impl Filter {
    fn of(request: &ReadRequest) -> Self {
        let set = |values: &[String]| values.iter().cloned().collect();
        Self {
            tenants: set(&request.tenants),
            stream_types: set(&request.stream_types),
            stream_ids: set(&request.stream_ids),
            event_types: set(&request.event_types),
        }
    }

    fn events(&self, record: &CommitRecord) -> impl Iterator<Item = wire::Event> {
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

fn event(record: &CommitRecord, index: usize) -> wire::Event {
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
