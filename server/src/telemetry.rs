//! Log lines and metrics of the process.

use std::io::IsTerminal;

use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::output::Lines;

/// Log lines to standard error, as JSON where asked. `RUST_LOG` chooses them; without it, warnings and our own news.
pub fn log_lines(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(
            "warn,shopstream=info,shopstream_server=info,shopstream_command_handlers=info,shopstream_eventlog=info,shopstream_projections=info,shopstream_sagas=info,shopstream_gateway=info,refinery_core=warn",
        )
    });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines)
        .with_ansi(is_for_eyes())
        .with_target(false);
    // A second subscriber in one process (tests) is refused, and the first stays.
    let _ = if json { lines.json().try_init() } else { lines.try_init() };
}

/// Whether a person looks at the log lines, and wants colours: not in a file, and not where `NO_COLOR` is set.
fn is_for_eyes() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Collects metrics from now on; the handle renders them.
///
/// # Errors
/// Another recorder is installed already.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().context("installing the metrics recorder")
}
