//! EventService: the log itself, for people, tests and the command line.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::join_all;
use shopstream_command_handlers::coordinator::{Duty, LeaseSeen};
use shopstream_command_handlers::{Location, PartitionState, PartitionStatus};
use shopstream_eventlog::Offset;
use shopstream_proto::Validate;
use shopstream_proto::event::v1 as wire;
use shopstream_proto::event::v1::event_service_server::EventService;
use shopstream_proto::event::v1::{GetLogStatusRequest, GetLogStatusResponse, ReadRequest, ReadResponse};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use crate::failure::Failure;
use crate::follow::{Follow, unreadable};
use crate::live::Scan;
use crate::positions::{CORE, partition};
use crate::shop::Shop;
use crate::stream::{Messages, messages};
use crate::wire::int;

mod read;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use read::event;
use read::{Feed, Filter, Range, Read};

/// How long the log's status waits for the end of a partition: it is asked most when the log does not answer.
const END_PATIENCE: Duration = Duration::from_secs(2);

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
        Ok(Response::new(self.status().await))
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
        self.shop.live.log_name().check(&request.log_id, || "log_id".to_owned())?;
        words::check(&request)?;
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
            sent: false,
            ended: false,
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
        // Whoever begins behind the end has read from something else, and would be told nothing of what comes here now.
        let given = request.partitions.iter();
        let begins: Vec<_> =
            given.map(|given| (given.partition as u16, given.from_offset.unsigned_abs())).collect();
        self.shop.check_begins(&begins, |i| format!("partitions[{i}].from_offset")).await?;
        if !request.follow {
            for (partition, range) in (0..).zip(&mut ranges) {
                if range.from < range.to {
                    let end = self.shop.means.log.end(partition).await;
                    range.to = range.to.min(end.map_err(|cause| unreadable(cause.into()))?);
                }
            }
        }
        Ok(ranges)
    }

    async fn reader(&self, ranges: &[Range]) -> Result<Option<Scan>, Failure> {
        let wanted = (0..).zip(ranges).filter(|(_, range)| range.from < range.to);
        let landmarks = self.shop.live.landmarks();
        let cursors: Vec<_> =
            wanted.filter_map(|(partition, range)| landmarks.before(partition, range.from)).collect();
        if cursors.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.shop.live.scan(&cursors).await?))
    }

    async fn status(&self) -> GetLogStatusResponse {
        let log = &self.shop.means.log;
        let topology = log.topology();
        let commands = &self.shop.means.commands;
        let statuses = commands.status();
        let ends = join_all(statuses.iter().map(|status| self.end(status))).await;
        let coordinator = commands.coordinator();
        let partitions = statuses.iter().zip(ends).map(|(status, end)| {
            let owner = coordinator.locate(status.partition);
            let lease = coordinator.lease(Duty::Partition(status.partition));
            partition_status(status, end, owner, lease)
        });
        GetLogStatusResponse {
            log: CORE.to_owned(),
            log_id: topology.log.to_string(),
            generation: topology.generation,
            partition_count: topology.partitions.into(),
            backend: self.shop.means.backend.to_owned(),
            partitions: partitions.collect(),
        }
    }

    /// The end of a partition; where the log does not answer, or is not ours any more, the end that this node knew.
    async fn end(&self, status: &PartitionStatus) -> Offset {
        if matches!(status.state, PartitionState::Halted { .. }) {
            return status.confirmed;
        }
        match timeout(END_PATIENCE, self.shop.means.log.end(status.partition)).await {
            Ok(Ok(end)) => end,
            Ok(Err(_)) | Err(_) => status.confirmed,
        }
    }
}

/// `owner` is the other node that owns it, `lease` whoever holds one.
fn partition_status(
    status: &PartitionStatus,
    end: Offset,
    owner: Option<Location>,
    lease: Option<LeaseSeen>,
) -> wire::PartitionStatus {
    let (state, reason) = match &status.state {
        PartitionState::Serving => (wire::PartitionState::Serving, ""),
        PartitionState::Claiming => (wire::PartitionState::Recovering, "claiming"),
        PartitionState::InDoubt { cause } | PartitionState::Unavailable { cause } => {
            (wire::PartitionState::Recovering, cause.as_str())
        }
        PartitionState::Fenced { by } => (wire::PartitionState::Fenced, by.as_str()),
        PartitionState::Halted { cause } => (wire::PartitionState::Halted, cause.as_str()),
        PartitionState::Released => (wire::PartitionState::Released, ""),
        PartitionState::Elsewhere if owner.is_some() => (wire::PartitionState::Forwarding, ""),
        PartitionState::Elsewhere => (wire::PartitionState::Released, "nobody owns it"),
    };
    let holder = lease.as_ref().map(|lease| &lease.holder);
    let (epoch, name) = match &status.state {
        PartitionState::Serving | PartitionState::InDoubt { .. } => {
            (status.epoch, holder.map_or_else(|| "this node".to_owned(), Location::to_string))
        }
        PartitionState::Fenced { by } => (status.epoch, by.clone()),
        PartitionState::Elsewhere => {
            let owner = owner.as_ref();
            (owner.map_or(0, |owner| owner.epoch), owner.map_or_else(String::new, Location::to_string))
        }
        PartitionState::Claiming
        | PartitionState::Halted { .. }
        | PartitionState::Unavailable { .. }
        | PartitionState::Released => (status.epoch, holder.map_or_else(String::new, Location::to_string)),
    };
    wire::PartitionStatus {
        partition: status.partition.into(),
        state: state.into(),
        reason: reason.to_owned(),
        epoch: int(epoch),
        owner: name,
        end_offset: int(end),
        lease_ms: lease.map_or(0, |lease| i64::try_from(lease.left.as_millis()).unwrap_or(i64::MAX)),
    }
}
