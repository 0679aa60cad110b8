//! `shopstream events`: the log, for people and programs.

use clap::Args;
use serde_json::json;
use shopstream_proto::event::v1::{Event, PartitionRange, ReadRequest};
use tonic::Request;

use super::Connected;
use crate::client::describe;
use crate::config::Config;
use crate::output::say;

/// Which events, and how they are shown.
#[derive(Args, Clone, Debug)]
pub struct EventsOptions {
    /// Only of these event types, such as OrderSubmitted
    #[arg(long = "type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Only of these streams, as TENANT/KIND/ID
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Only of streams of these kinds, such as order
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only of these tenants
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// From an offset of a partition on, as PARTITION@OFFSET; without it all partitions from their beginning
    #[arg(long, value_name = "PARTITION@OFFSET")]
    from: Vec<Start>,
    /// At most so many
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max: i64,
    /// Wait for more at the end
    #[arg(long)]
    follow: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    partition: u32,
    offset: i64,
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(partition, offset)| {
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        parts.ok_or_else(|| format!("{text:?} is not PARTITION@OFFSET"))
    }
}

/// Prints the events.
///
/// # Errors
/// The node does not answer, or a filter is not one.
pub async fn run(config: &Config, options: &EventsOptions) -> anyhow::Result<()> {
    let connected = Connected::open(config).await?;
    let printed = print(&connected, options).await;
    connected.close().await?;
    printed
}

async fn print(connected: &Connected, options: &EventsOptions) -> anyhow::Result<()> {
    let range = |start: &Start| PartitionRange {
        partition: start.partition,
        from_offset: start.offset,
        to_offset: None,
    };
    let request = ReadRequest {
        partitions: options.from.iter().map(range).collect(),
        tenants: options.tenants.clone(),
        stream_types: options.kinds.clone(),
        stream_ids: options.streams.clone(),
        event_types: options.event_types.clone(),
        follow: options.follow,
        max_events: options.max,
        ..ReadRequest::default()
    };
    let refused = |status: tonic::Status| anyhow::anyhow!(describe(&status));
    let mut events =
        connected.client.shop().events.read(Request::new(request)).await.map_err(refused)?.into_inner();
    while let Some(batch) = events.message().await.map_err(refused)? {
        for event in &batch.events {
            let line = if options.json { as_json(event) } else { as_text(event) };
            say!("{line}")?;
        }
    }
    Ok(())
}

/// An event in one line.
pub(super) fn as_text(event: &Event) -> String {
    let (partition, offset) = place(event);
    let time =
        event.record_time.as_ref().and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    let time = time.map_or_else(String::new, |time| format!("{time:.3}"));
    format!(
        "{time}  {partition:>3}@{offset:<8} {}#{}  {}  {}",
        event.stream_id, event.version, event.event_type, event.payload_json
    )
}

fn as_json(event: &Event) -> String {
    let (partition, offset) = place(event);
    let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap_or_default();
    json!({
        "partition": partition,
        "offset": offset,
        "index": event.index_in_record,
        "stream": event.stream_id,
        "version": event.version,
        "type": event.event_type,
        "schema_version": event.schema_version,
        "payload": payload,
        "command_id": event.command_id,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "traceparent": event.traceparent,
        "body_hash": hex(&event.body_hash),
        "actor": event.actor,
        "recorded_at": event.record_time.as_ref().map(|time| time.to_string()),
        "effective_at": event.effective_time.as_ref().map(|time| time.to_string()),
    })
    .to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn place(event: &Event) -> (u32, i64) {
    event.position.as_ref().map_or((0, 0), |position| (position.partition, position.offset))
}
