//! `shopstream log`: how the log is.

use std::process::ExitCode;

use comfy_table::Table;
use shopstream_proto::event::v1::{GetLogStatusRequest, PartitionState};

use super::Connected;
use crate::config::Config;
use crate::output::say;

/// Prints every partition as any node sees it. Exit 1 where one does not take commands.
///
/// # Errors
/// The node does not answer.
pub async fn status(config: &Config) -> anyhow::Result<ExitCode> {
    let connected = Connected::open(config).await?;
    let request = GetLogStatusRequest::default();
    let status = connected
        .client
        .call(request, async |mut shop, request| shop.events.get_log_status(request).await)
        .await;
    connected.close().await?;
    let status = status?;
    say!(
        "log {} ({}), generation {}, {} partitions",
        status.log_id,
        status.backend,
        status.generation,
        status.partition_count
    )?;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["partition", "state", "owner", "epoch", "lease", "end", "reason"]);
    let mut all_serve = true;
    for partition in &status.partitions {
        all_serve &= matches!(partition.state(), PartitionState::Serving | PartitionState::Forwarding);
        let lease = match partition.lease_ms {
            0 => String::new(),
            left => format!("{}.{} s", left / 1000, left % 1000 / 100),
        };
        table.add_row([
            partition.partition.to_string(),
            partition.state().as_str_name().trim_start_matches("PARTITION_STATE_").to_lowercase(),
            partition.owner.clone(),
            partition.epoch.to_string(),
            lease,
            partition.end_offset.to_string(),
            partition.reason.clone(),
        ]);
    }
    say!("{table}")?;
    Ok(if all_serve { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
