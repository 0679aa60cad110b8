//! The database of a node: the one that is named, or a private cluster in the data folder.

use std::time::Duration;

use anyhow::Context as _;
use shopstream_projections::cluster::{Cluster, ClusterError, ClusterOptions};
use shopstream_projections::{ConnectOptions, Database};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Backoff;
use crate::config::Config;

/// How long a named database may be away at the start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the database is asked whether it is there.
const BEAT: Duration = Duration::from_millis(500);
/// How long its answer may take.
const ANSWER: Duration = Duration::from_secs(1);

/// What the private cluster runs with: enough memory for a year of a real shop, and few checkpoints.
const SETTINGS: [&str; 6] = [
    "shared_buffers=256MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "wal_compression=on",
    "max_connections=64",
    "log_min_messages=warning",
];

/// Connects; starts the private cluster first where no database is named.
///
/// # Errors
/// There is no Postgres, or it does not answer.
pub(super) async fn open(config: &Config) -> anyhow::Result<(Database, Option<Private>)> {
    let options = ConnectOptions { patience: PATIENCE, ..ConnectOptions::default() };
    if let Some(url) = &config.database {
        return Ok((Database::connect(url.expose(), &options).await?, None));
    }
    let settings = SETTINGS.map(str::to_owned).into();
    let data = config.data.join("postgres");
    let private = ClusterOptions { data, fsync: true, settings };
    let cluster = start(&private).await.context("starting the private Postgres")?;
    let url = cluster.url().to_owned();
    // From now on it is started again whenever it dies.
    let private = Private::keep(cluster, private);
    Ok((Database::connect(&url, &options).await?, Some(private)))
}

async fn start(options: &ClusterOptions) -> Result<Cluster, ClusterError> {
    let options = options.clone();
    let started = tokio::task::spawn_blocking(move || Cluster::start(&options)).await;
    started.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}

/// A private cluster that is started again whenever it dies, until it is stopped.
pub(super) struct Private {
    lost: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
}

impl Private {
    fn keep(cluster: Cluster, options: ClusterOptions) -> Self {
        let (lost_in, lost) = watch::channel(None);
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(keep(cluster, options, lost_in, stop.clone()));
        Self { lost, stop, keeper }
    }

    /// Why there is none at the moment.
    pub(super) fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }

    /// Stops it, waiting until it is down.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // A panic there was told; the kernel ends the server with this process.
        self.keeper.await.ok();
    }
}

async fn keep(
    mut cluster: Cluster,
    options: ClusterOptions,
    lost: watch::Sender<Option<String>>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::default();
    loop {
        let ran = Instant::now();
        let Some(how) = stop.run_until_cancelled(cluster.ended()).await else { break };
        backoff.ran_for(ran.elapsed());
        error!("the private Postgres has ended by itself ({how}): it is started again");
        lost.send_replace(Some(format!("it has ended by itself ({how}) and is started again")));
        cluster = loop {
            if stop.run_until_cancelled(sleep(backoff.next())).await.is_none() {
                return;
            }
            // Broken off by the stop, it ends with this process.
            match stop.run_until_cancelled(start(&options)).await {
                None => return,
                Some(Ok(cluster)) => break cluster,
                Some(Err(cause)) => {
                    error!(%cause, "the private Postgres cannot be started: {cause}");
                    lost.send_replace(Some(format!("it cannot be started: {cause}")));
                }
            }
        };
        metrics::counter!("shopstream_private_postgres_restarts_total").increment(1);
        info!("the private Postgres runs again");
        lost.send_replace(None);
    }
    tokio::task::spawn_blocking(move || cluster.stop()).await.ok();
}

/// Asks the database again and again whether it is there, until `stop`, and tells what is wrong with it. Whoever has
/// nothing to ask of it notices nothing.
pub(super) async fn feel(database: Database, wrong: watch::Sender<Option<String>>, stop: CancellationToken) {
    let mut pulse = database.pulse();
    while stop.run_until_cancelled(sleep(BEAT)).await.is_some() {
        let felt = match timeout(ANSWER, pulse.beat()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it does not answer within {} s", ANSWER.as_secs())),
        };
        metrics::gauge!("shopstream_database_reachable").set(if felt.is_none() { 1.0 } else { 0.0 });
        wrong.send_if_modified(|wrong| {
            let changed = *wrong != felt;
            *wrong = felt;
            changed
        });
    }
}
