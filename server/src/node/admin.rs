//! What an operator's tools ask over HTTP: metrics and health.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::health::Health;

/// Connections of tools at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a question may take to arrive, and how long a connection may wait for the next one.
const HEADER: Duration = Duration::from_secs(5);
/// How long a connection may last, whatever is asked over it.
const LIFE: Duration = Duration::from_secs(60);
/// How long nobody is let in where there is no descriptor left.
const BREATH: Duration = Duration::from_millis(100);

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
    tokio::spawn(take(listener, router, stop));
    Ok(address)
}

/// Lets tools in until `stop`. Whoever comes where all connections are taken gets the place of the one that has been there
/// longest: a question is answered in milliseconds, so that one has had its answer or never asked. However many connect
/// and say nothing, whoever asks how the node is finds it open.
async fn take(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut connections = VecDeque::with_capacity(CONNECTIONS_MAX);
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        connections.retain(|connection: &AbortOnDropHandle<()>| !connection.is_finished());
        if connections.len() == CONNECTIONS_MAX {
            shopstream_gateway::refused("connection", "admin");
            connections.pop_front();
        }
        connections.push_back(AbortOnDropHandle::new(tokio::spawn(carry(stream, router.clone()))));
    }
}

async fn carry(stream: TcpStream, router: Router) {
    let mut server = Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER);
    let served = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whoever keeps a connection comes back over a new one; how it ends is the client's affair.
    let _ = timeout(LIFE, served).await;
}
