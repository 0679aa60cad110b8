//! `shopstream verify`: are the books right?

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shopstream_domain::StreamId;
use shopstream_eventlog::{EventData, Position, schema};
use shopstream_proto::admin::v1::verify_read_models_response::Event;
use shopstream_proto::admin::v1::{ListParkedAggregatesRequest, VerifyReadModelsRequest};
use shopstream_proto::event::v1::{self as wire, GetLogStatusRequest, PartitionRange, ReadRequest};
use shopstream_proto::provider::v1::ListCallsRequest;
use shopstream_proto::provider::v1::provider_service_client::ProviderServiceClient;
use tokio::time::sleep;
use tonic::Request;

use super::Connected;
use crate::client::{Client, describe};
use crate::config::Config;
use crate::output::{Unwritten, say};
use crate::verify::{Findings, Laws, ProviderCall, Seen, Violation};

/// Calls of the provider that are asked for at once.
const PAGE: i32 = 1000;

/// What the verdict is named that is about no read model.
const PROCESSES: &str = "processes";

/// What is broken for the end of the log as it was, because the shop was at work while its parts were looked at, is not any
/// more a moment later. What is broken for good is found each time.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How strictly to check.
#[derive(Args, Clone, Debug)]
pub struct VerifyOptions {
    /// Unfinished work is a failure too: for a shop at rest
    #[arg(long)]
    quiesced: bool,
    /// Leave the read models out
    #[arg(long)]
    skip_read_models: bool,
}

/// Checks the conservation laws of the whole log up to now, and says what it found. Exit 1 where one is broken.
///
/// # Errors
/// The node or the provider does not answer.
pub async fn run(config: &Config, options: &VerifyOptions) -> anyhow::Result<ExitCode> {
    let connected = Connected::open(config).await?;
    let verified = verify(&connected, config, options).await;
    connected.close().await?;
    verified
}

async fn verify(connected: &Connected, config: &Config, options: &VerifyOptions) -> anyhow::Result<ExitCode> {
    let client = &connected.client;
    let mut folded = Folded::default();
    // Where the node that answers has its provider, unless another way to it is named.
    let url = config.provider.as_deref().or(connected.provider_url.as_deref());
    let mut calls = url.map(|_| Vec::new());
    let mut lasting: Option<Findings> = None;
    for look in 0..LOOKS {
        if look > 0 {
            sleep(BETWEEN_LOOKS).await;
        }
        // The provider first: what it was asked is on the log before.
        if let (Some(url), Some(calls)) = (url, &mut calls) {
            further_calls(url, calls).await?;
        }
        if let Err(violation) = fold_on(client, &mut folded).await? {
            say!("BROKEN  {violation}")?;
            return Ok(ExitCode::FAILURE);
        }
        let mut findings = folded.laws.conclude(calls.as_deref());
        if let Some(before) = lasting {
            findings.violations.retain(|violation| before.violations.contains(violation));
        }
        let settled = findings.violations.is_empty();
        lasting = Some(findings);
        if settled {
            break;
        }
    }
    let findings = lasting.unwrap_or_default();
    let read_models = options.skip_read_models || check_read_models(client, options.quiesced).await?;
    let set_aside = if options.quiesced { parked(client).await? } else { Vec::new() };
    Ok(report(&folded, &findings, calls.as_deref(), read_models && set_aside.is_empty(), options)?)
}

/// What is set aside: for a shop at rest, a line each.
async fn parked(client: &Client) -> anyhow::Result<Vec<String>> {
    let request = ListParkedAggregatesRequest::default();
    let page = client
        .call(request, async |mut shop, request| shop.admin.list_parked_aggregates(request).await)
        .await?;
    let lines: Vec<String> = page
        .aggregates
        .iter()
        .map(|it| format!("{} {}: {}", it.projection, it.stream_id, it.reason))
        .collect();
    for line in &lines {
        say!("parked  {line}")?;
    }
    Ok(lines)
}

fn report(
    folded: &Folded,
    findings: &Findings,
    calls: Option<&[ProviderCall]>,
    read_models: bool,
    options: &VerifyOptions,
) -> Result<ExitCode, Unwritten> {
    for violation in &findings.violations {
        say!("BROKEN  {violation}")?;
    }
    for stream in &findings.skipped {
        say!("unfinished  {stream}")?;
    }
    say!(
        "{} events, {} provider calls: laws 1 to 6, 9, 11, 12 and 14 {}; {} unfinished",
        folded.events,
        calls.map_or_else(|| "no".into(), |calls| calls.len().to_string()),
        if findings.violations.is_empty() { "hold" } else { "are BROKEN" },
        findings.skipped.len()
    )?;
    let unfinished = options.quiesced && !findings.skipped.is_empty();
    let holds = findings.violations.is_empty() && read_models && !unfinished;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Folded {
    laws: Laws,
    events: u64,
    /// The next offset of each partition, in their order.
    next: Vec<i64>,
}

/// Folds every event from where the fold is up to the end of the log as it is now.
async fn fold_on(client: &Client, folded: &mut Folded) -> anyhow::Result<Result<(), Violation>> {
    let request = GetLogStatusRequest::default();
    let status =
        client.call(request, async |mut shop, request| shop.events.get_log_status(request).await).await?;
    let begun = std::mem::take(&mut folded.next);
    let ranges: Vec<PartitionRange> = status
        .partitions
        .iter()
        .map(|partition| PartitionRange {
            partition: partition.partition,
            from_offset: begun.get(partition.partition as usize).copied().unwrap_or(0),
            to_offset: Some(partition.end_offset),
        })
        .collect();
    folded.next = status.partitions.iter().map(|partition| partition.end_offset).collect();
    let ranges: Vec<PartitionRange> =
        ranges.into_iter().filter(|range| range.to_offset.is_some_and(|to| to > range.from_offset)).collect();
    if ranges.is_empty() {
        return Ok(Ok(()));
    }
    let bar =
        progress_bar(status.partitions.iter().map(|partition| partition.end_offset.max(0) as u64).sum());
    let refused = |status: tonic::Status| anyhow::anyhow!(describe(&status));
    let request = ReadRequest { partitions: ranges, ..ReadRequest::default() };
    let mut batches = client.shop().events.read(Request::new(request)).await.map_err(refused)?.into_inner();
    while let Some(batch) = batches.message().await.map_err(refused)? {
        for event in &batch.events {
            if let Err(violation) = folded.laws.see(&seen(event)?) {
                bar.finish_and_clear();
                return Ok(Err(violation));
            }
            folded.events += 1;
        }
        bar.set_position(batch.next.iter().map(|next| next.offset.max(0) as u64).sum());
    }
    bar.finish_and_clear();
    Ok(Ok(()))
}

fn seen(event: &wire::Event) -> anyhow::Result<Seen> {
    let stream: StreamId = event.stream_id.parse()?;
    let place = event.position.as_ref().context("an event without a position")?;
    let data = EventData {
        event_type: event.event_type.clone(),
        schema_version: event.schema_version as u16,
        payload: event.payload_json.clone().into(),
    };
    let position = Position { partition: place.partition as u16, offset: place.offset as u64 };
    let event = schema::decode(stream.kind(), &data).with_context(|| format!("at {position}"))?;
    Ok(Seen { position, stream, event })
}

/// Law 10: every read model equals a replay of the log.
async fn check_read_models(client: &Client, to_the_end: bool) -> anyhow::Result<bool> {
    let refused = |status: tonic::Status| anyhow::anyhow!(describe(&status));
    let request = Request::new(VerifyReadModelsRequest { to_the_end, ..VerifyReadModelsRequest::default() });
    let mut answers = client.shop().admin.verify_read_models(request).await.map_err(refused)?.into_inner();
    let bar = progress_bar(0);
    let mut all_equal = true;
    while let Some(answer) = answers.message().await.map_err(refused)? {
        match answer.event {
            Some(Event::Progress(progress)) => {
                bar.set_message(answer.name);
                bar.set_length(progress.total_count.unsigned_abs());
                bar.set_position(progress.done_count.unsigned_abs());
            }
            Some(Event::Verdict(verdict)) if verdict.equal && answer.name == PROCESSES => {
                bar.suspend(|| say!("processes: they have read the log to its end"))?;
            }
            Some(Event::Verdict(verdict)) if verdict.equal => {
                bar.suspend(|| say!("{}: {} rows equal their replay", answer.name, verdict.row_count))?;
            }
            Some(Event::Verdict(verdict)) => {
                all_equal = false;
                bar.suspend(|| say!("BROKEN  law 10: {}: {}", answer.name, verdict.difference))?;
            }
            None => {}
        }
    }
    bar.finish_and_clear();
    Ok(all_equal)
}

/// Asks the provider for the calls behind those that are known: its list only grows.
async fn further_calls(url: &str, calls: &mut Vec<ProviderCall>) -> anyhow::Result<()> {
    let mut provider = ProviderServiceClient::connect(url.to_owned())
        .await
        .with_context(|| format!("no provider answers at {url}"))?;
    loop {
        let request = ListCallsRequest { skip: calls.len() as i64, page_size: PAGE };
        let page = provider.list_calls(request).await?.into_inner().calls;
        let last = page.len() < PAGE as usize;
        calls.extend(page.into_iter().map(|call| ProviderCall {
            question: call.operation == "get",
            key: call.key,
            effective: call.effective,
        }));
        if last {
            return Ok(());
        }
    }
}

fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message("records");
    match ProgressStyle::with_template("{msg:>10} {wide_bar} {pos}/{len} {per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
