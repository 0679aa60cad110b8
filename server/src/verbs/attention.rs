//! `shopstream attention`: what waits for a person, that it may go on, and that it was seen to by hand.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use comfy_table::Table;
use shopstream_proto::process::v1::{
    ListStoppedProcessesRequest, ProcessResolution, ResumeProcessRequest, SettleProcessRequest,
    StoppedProcess,
};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use uuid::Uuid;

use super::Connected;
use crate::client::{Client, Shop};
use crate::config::Config;
use crate::output::say;

/// Processes that are asked for at once.
const PAGE: i32 = 1000;

/// In whose shop.
#[derive(Args, Clone, Debug)]
pub struct Whose {
    /// The tenant
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: MetadataValue<Ascii>,
}

/// Which process may go on, and why.
#[derive(Args, Clone, Debug)]
pub struct ResumeOptions {
    #[command(flatten)]
    whose: Whose,
    /// The process: chk_… of a checkout, ret_… of a return
    process: String,
    /// What you found or did; it is recorded for good, so no names of customers
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who you are; it is recorded too
    #[arg(long, value_name = "NAME", default_value = "operator")]
    actor: MetadataValue<Ascii>,
    /// Only if the process is still at this version, as the list shows it
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<i64>,
    /// The idempotency key; without it every call is a wish of its own
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Which process was seen to, and how.
#[derive(Args, Clone, Debug)]
pub struct SettleOptions {
    /// What was seen to by hand
    #[arg(long, value_enum, value_name = "WHAT")]
    done: Done,
    #[command(flatten)]
    process: ResumeOptions,
}

/// What a person has seen to.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Done {
    /// The money: it is where it belongs, or nobody is owed any
    Money,
    /// The stock: the units are where they belong
    Stock,
    /// Both
    All,
}

impl From<Done> for ProcessResolution {
    fn from(done: Done) -> Self {
        match done {
            Done::Money => Self::MoneyByHand,
            Done::Stock => Self::StockByHand,
            Done::All => Self::AllByHand,
        }
    }
}

/// Prints every process of the tenant that has stopped, checkouts first.
///
/// # Errors
/// The node does not answer.
pub async fn list(config: &Config, whose: &Whose) -> anyhow::Result<()> {
    let connected = Connected::open(config).await?;
    let stopped = stopped(&connected, whose).await;
    connected.close().await?;
    let stopped = stopped?;
    if stopped.is_empty() {
        say!("nothing needs attention")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["process", "order", "since", "step", "detail", "version"]);
    for process in stopped {
        let since = process.stop_time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
        table.add_row([
            process.process_id,
            process.order_id,
            since.map_or_else(String::new, |since| format!("{since:.0}")),
            process.step,
            process.detail,
            process.version.to_string(),
        ]);
    }
    say!("{table}")?;
    Ok(())
}

async fn stopped(connected: &Connected, whose: &Whose) -> anyhow::Result<Vec<StoppedProcess>> {
    let (mut stopped, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListStoppedProcessesRequest { page_size: PAGE, page_token, ..Default::default() };
        let call = async |mut shop: Shop, request| shop.processes.list_stopped_processes(request).await;
        let page = whose.client(connected).call(request, call).await?;
        stopped.extend(page.processes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(stopped);
        }
    }
}

/// Lets a process go on, and says where that is recorded.
///
/// # Errors
/// The node does not answer, or refuses.
pub async fn resume(config: &Config, options: &ResumeOptions) -> anyhow::Result<()> {
    let ResumeOptions { whose, process, reason, actor, expected_version, request_id } = options;
    let request = ResumeProcessRequest {
        request_id: request_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string()),
        expected_version: *expected_version,
        process_id: process.clone(),
        reason: reason.clone(),
    };
    let connected = Connected::open(config).await?;
    let call = async |mut shop: Shop, mut request: Request<_>| {
        request.metadata_mut().insert("shopstream-actor", actor.clone());
        shop.processes.resume_process(request).await
    };
    let resumed = whose.client(&connected).call(request, call).await;
    connected.close().await?;
    let position = resumed?.position.context("an answer without a position")?;
    say!("{process} goes on, recorded at {}@{}", position.partition, position.offset)?;
    Ok(())
}

/// Lets a process go on whose failing step was done by hand, and says where that is recorded.
///
/// # Errors
/// The node does not answer, or refuses.
pub async fn settle(config: &Config, options: &SettleOptions) -> anyhow::Result<()> {
    let SettleOptions { done, process: options } = options;
    let ResumeOptions { whose, process, reason, actor, expected_version, request_id } = options;
    let request = SettleProcessRequest {
        request_id: request_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string()),
        expected_version: *expected_version,
        process_id: process.clone(),
        resolution: ProcessResolution::from(*done).into(),
        reason: reason.clone(),
    };
    let connected = Connected::open(config).await?;
    let call = async |mut shop: Shop, mut request: Request<_>| {
        request.metadata_mut().insert("shopstream-actor", actor.clone());
        shop.processes.settle_process(request).await
    };
    let settled = whose.client(&connected).call(request, call).await;
    connected.close().await?;
    let position = settled?.position.context("an answer without a position")?;
    say!("{process} goes on, recorded at {}@{}", position.partition, position.offset)?;
    Ok(())
}

impl Whose {
    fn client(&self, connected: &Connected) -> Client {
        connected.client.of_tenant(self.tenant.clone())
    }
}
