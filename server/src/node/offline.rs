//! The data of a node that does not run, for verbs that need it still.

use shopstream_projections::Database;
use shopstream_projections::cluster::Cluster;

use super::{database, folder};
use crate::config::Config;

/// The data folder, held, and the database.
pub(crate) struct Offline {
    pub(crate) database: Database,
    cluster: Option<Cluster>,
    _folder: folder::Held,
}

impl Offline {
    /// Takes the folder and opens the database; starts the private cluster where none is named.
    ///
    /// # Errors
    /// A process uses the folder, or there is no Postgres.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let _folder = folder::hold(&config.data)?;
        let (database, cluster) = database::open(config).await?;
        Ok(Self { database, cluster, _folder })
    }

    /// Stops what was started.
    ///
    /// # Errors
    /// The private cluster did not stop.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Some(cluster) = self.cluster {
            tokio::task::spawn_blocking(move || cluster.stop()).await?;
        }
        Ok(())
    }
}
