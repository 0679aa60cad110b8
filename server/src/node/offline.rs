//! The data of a node that does not run, for verbs that need it still.

use shopstream_projections::Database;

use super::{database, folder};
use crate::config::Config;

/// The data folder, held, and the database.
pub(crate) struct Offline {
    pub(crate) database: Database,
    cluster: Option<database::Private>,
    _folder: folder::Held,
}

impl Offline {
    /// Takes the folder and opens the database; starts the private cluster where none is named.
    ///
    /// # Errors
    /// A process uses the folder, or there is no Postgres.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            folder::has_shop(&config.data) || config.is_shared(),
            "there is no shop in {}: name its folder with --data",
            config.data.display()
        );
        let _folder = folder::hold(&config.data)?;
        let (database, cluster) = database::open(config).await?;
        Ok(Self { database, cluster, _folder })
    }

    /// Stops what was started.
    pub(crate) async fn close(self) {
        let Self { database, cluster, _folder } = self;
        // Before the server: it would complain of lost connections.
        drop(database);
        if let Some(cluster) = cluster {
            cluster.stop().await;
        }
    }
}
