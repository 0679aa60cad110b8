//! What an operator's tools ask over HTTP: metrics and health.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use shopstream_command_handlers::{Commands, PartitionState};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves `/metrics`, `/health/live` and `/health/ready` until `stop`; answers where.
///
/// # Errors
/// The port is taken.
pub(super) async fn serve(
    listen: SocketAddr,
    metrics: PrometheusHandle,
    commands: Commands,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen} for metrics: name another address with --admin"))?;
    let address = listener.local_addr()?;
    let ready = move || {
        let idle: Vec<String> = commands
            .status()
            .into_iter()
            .filter(|status| match status.state {
                PartitionState::Serving => false,
                // Sent on, if it is known where.
                PartitionState::Elsewhere => commands.coordinator().locate(status.partition).is_none(),
                _ => true,
            })
            .map(|status| format!("partition {}: {:?}", status.partition, status.state))
            .collect();
        let code = if idle.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        async move { (code, idle.join("\n")) }
    };
    let router = Router::new()
        .route("/metrics", get(move || async move { metrics.render() }))
        .route("/health/live", get(|| async { "" }))
        .route("/health/ready", get(ready));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "metrics are served no more");
        }
    });
    Ok(address)
}
