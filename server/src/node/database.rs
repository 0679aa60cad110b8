//! The database of a node: the one that is named, or a private cluster in the data folder.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use shopstream_projections::cluster::{Cluster, ClusterOptions};
use shopstream_projections::{ConnectOptions, Database};

use crate::config::Config;

/// How long a named database may be away at the start.
const PATIENCE: Duration = Duration::from_secs(30);

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
pub(super) async fn open(config: &Config) -> anyhow::Result<(Database, Option<Cluster>)> {
    let options = ConnectOptions { patience: PATIENCE, ..ConnectOptions::default() };
    if let Some(url) = &config.database {
        return Ok((Database::connect(url.expose(), &options).await?, None));
    }
    let cluster = start_private(&config.data.join("postgres")).await?;
    let database = Database::connect(cluster.url(), &options).await?;
    Ok((database, Some(cluster)))
}

async fn start_private(folder: &Path) -> anyhow::Result<Cluster> {
    let settings = SETTINGS.map(str::to_owned).into();
    let options = ClusterOptions { data: folder.into(), fsync: true, settings };
    tokio::task::spawn_blocking(move || Cluster::start(&options))
        .await?
        .context("starting the private Postgres")
}
