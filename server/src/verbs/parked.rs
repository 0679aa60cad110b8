//! `shopstream parked`: what was set aside, and the two ways out.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Table;
use shopstream_proto::admin::v1::{
    ExplainParkedAggregateRequest, ExplainParkedAggregateResponse, ListParkedAggregatesRequest,
    ListSkippedEventsRequest, ParkedAggregate, RetryParkedAggregateRequest, SkipParkedEventRequest,
};
use shopstream_proto::r#type::v1::Position;
use tonic::Request;

use super::Connected;
use super::events::as_text;
use crate::client::{Client, Shop, describe};
use crate::config::Config;
use crate::output::{Unwritten, say};

/// What to list.
#[derive(Args, Clone, Debug)]
pub struct ListOptions {
    /// Only of this read model, such as order_detail, or of sagas
    projection: Option<String>,
    /// The events that were skipped instead
    #[arg(long)]
    skipped: bool,
}

/// One aggregate.
#[derive(Args, Clone, Debug)]
pub struct Aggregate {
    /// Who has set it aside: a read model, or sagas
    projection: String,
    /// The aggregate, as TENANT/KIND/ID
    stream: String,
}

/// Which event, why, and who says so.
#[derive(Args, Clone, Debug)]
pub struct SkipOptions {
    #[command(flatten)]
    aggregate: Aggregate,
    /// The version at which it is parked, as listed
    version: i64,
    /// Why the event may be left out; kept for ever
    #[arg(long)]
    reason: String,
    /// Who says so; kept for ever
    #[arg(long)]
    by: String,
}

/// Prints what is parked, or what was skipped. Exit 1 where something is parked.
///
/// # Errors
/// The node does not answer.
pub async fn list(config: &Config, options: ListOptions) -> anyhow::Result<ExitCode> {
    let connected = Connected::open(config).await?;
    let projection = options.projection.unwrap_or_default();
    let listed = if options.skipped {
        list_skipped(&connected.client, projection).await
    } else {
        list_parked(&connected.client, projection).await
    };
    connected.close().await?;
    listed
}

async fn list_parked(client: &Client, projection: String) -> anyhow::Result<ExitCode> {
    let mut table = table(["projection", "stream", "version", "position", "since", "waiting", "reason"]);
    let mut request = ListParkedAggregatesRequest { projection, ..ListParkedAggregatesRequest::default() };
    loop {
        let call = async |mut shop: Shop, request| shop.admin.list_parked_aggregates(request).await;
        let page = client.call(request.clone(), call).await?;
        for parked in &page.aggregates {
            let wished = if parked.wish_waits { " (a retry or skip is still to be done)" } else { "" };
            table.add_row([
                parked.projection.clone(),
                parked.stream_id.clone(),
                event_of(parked),
                place(parked.position.as_ref()),
                parked.parked_time.map(|time| time.to_string()).unwrap_or_default(),
                parked.waiting_count.to_string(),
                format!("{}{wished}", parked.reason),
            ]);
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if table.is_empty() {
        say!("nothing is parked")?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("{table}")?;
    Ok(ExitCode::FAILURE)
}

async fn list_skipped(client: &Client, projection: String) -> anyhow::Result<ExitCode> {
    let mut table =
        table(["projection", "stream", "version", "position", "when", "by", "reason", "obstacle"]);
    let mut request = ListSkippedEventsRequest { projection, ..ListSkippedEventsRequest::default() };
    loop {
        let call = async |mut shop: Shop, request| shop.admin.list_skipped_events(request).await;
        let page = client.call(request.clone(), call).await?;
        for skipped in page.events {
            table.add_row([
                skipped.projection,
                skipped.stream_id,
                skipped.version.to_string(),
                place(skipped.position.as_ref()),
                skipped.skipped_time.map(|time| time.to_string()).unwrap_or_default(),
                skipped.skipped_by,
                skipped.reason,
                skipped.obstacle,
            ]);
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if table.is_empty() {
        say!("nothing was skipped")?;
    } else {
        say!("{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one parked aggregate and its events.
///
/// # Errors
/// The node does not answer, or the aggregate is not parked.
pub async fn explain(config: &Config, aggregate: Aggregate) -> anyhow::Result<ExitCode> {
    let connected = Connected::open(config).await?;
    let Aggregate { projection, stream: stream_id } = aggregate;
    let request = ExplainParkedAggregateRequest { projection, stream_id };
    let call = async |mut shop: Shop, request| shop.admin.explain_parked_aggregate(request).await;
    let explained = connected.client.call(request, call).await;
    connected.close().await?;
    print_explained(&explained?)?;
    Ok(ExitCode::SUCCESS)
}

fn print_explained(explained: &ExplainParkedAggregateResponse) -> Result<(), Unwritten> {
    if let Some(parked) = &explained.aggregate {
        say!("{}", sentence(parked))?;
        say!("since {}", parked.parked_time.map(|time| time.to_string()).unwrap_or_default())?;
    }
    for (index, event) in explained.waiting.iter().enumerate() {
        let role = if index == 0 { "in the way" } else { "waits     " };
        say!("{role}  {} (shape {})", as_text(event), event.schema_version)?;
    }
    let shown = explained.waiting.len() as i64;
    let waiting = explained.aggregate.as_ref().map_or(0, |parked| parked.waiting_count);
    if waiting > shown {
        say!("            and {} more", waiting - shown)?;
    }
    say!("retry: {}", explained.retry_effect)?;
    say!("skip:  {}", explained.skip_effect)
}

/// Has what waits folded again. Exit 1 where something is still in the way.
///
/// # Errors
/// The node does not answer, the aggregate is not parked, or nobody has come to it yet.
pub async fn retry(config: &Config, aggregate: Aggregate) -> anyhow::Result<ExitCode> {
    let connected = Connected::open(config).await?;
    let Aggregate { projection, stream: stream_id } = aggregate;
    let request = RetryParkedAggregateRequest { projection, stream_id: stream_id.clone() };
    // Once: it stays wished for, and the node says so.
    let retried = connected.client.shop().admin.retry_parked_aggregate(Request::new(request)).await;
    connected.close().await?;
    let retried = retried.map_err(|status| anyhow::anyhow!(describe(&status)))?.into_inner();
    Ok(report(&stream_id, retried.parked.as_ref())?)
}

/// Has the event in the way left out. Exit 1 where another one is in the way now.
///
/// # Errors
/// See [`retry`], and that another event is in the way than the one named.
pub async fn skip(config: &Config, options: SkipOptions) -> anyhow::Result<ExitCode> {
    let connected = Connected::open(config).await?;
    let SkipOptions { aggregate: Aggregate { projection, stream: stream_id }, version, reason, by } = options;
    let request =
        SkipParkedEventRequest { projection, stream_id: stream_id.clone(), version, reason, skipped_by: by };
    let skipped = connected.client.shop().admin.skip_parked_event(Request::new(request)).await;
    connected.close().await?;
    let skipped = skipped.map_err(|status| anyhow::anyhow!(describe(&status)))?.into_inner();
    say!("event {version} of {stream_id} is left out")?;
    Ok(report(&stream_id, skipped.parked.as_ref())?)
}

fn report(stream: &str, parked: Option<&ParkedAggregate>) -> Result<ExitCode, Unwritten> {
    match parked {
        None => {
            say!("{stream} is released")?;
            Ok(ExitCode::SUCCESS)
        }
        Some(parked) => {
            say!("{}", sentence(parked))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn sentence(parked: &ParkedAggregate) -> String {
    format!(
        "{} has parked {} at {} ({}): {}; {} events wait",
        parked.projection,
        parked.stream_id,
        event_of(parked),
        place(parked.position.as_ref()),
        parked.reason,
        parked.waiting_count
    )
}

/// The version, with its stream where that is not the aggregate's own.
fn event_of(parked: &ParkedAggregate) -> String {
    if parked.event_stream_id == parked.stream_id {
        parked.version.to_string()
    } else {
        format!("{}#{}", parked.event_stream_id, parked.version)
    }
}

fn place(position: Option<&Position>) -> String {
    position.map(|position| format!("{}@{}", position.partition, position.offset)).unwrap_or_default()
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header);
    table
}
