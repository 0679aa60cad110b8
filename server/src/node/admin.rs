//! What an operator's tools ask over HTTP: metrics and health.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::health::Health;

/// Serves `/metrics`, `/health/live` and `/health/ready` until `stop`; answers where.
///
/// # Errors
/// The port is taken.
pub(super) async fn serve(
    listen: SocketAddr,
    metrics: PrometheusHandle,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen} for metrics: name another address with --admin"))?;
    let address = listener.local_addr()?;
    let ready = move || {
        let (complaints, degradations) = (health.complaints(), health.degradations());
        let code = if complaints.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        async move { (code, [complaints, degradations].concat().join("\n")) }
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
