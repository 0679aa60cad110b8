//! A Postgres of the test's own, which it may kill and start again under a node.

use nix::unistd::Pid;
use shopstream_projections::cluster::{Cluster, ClusterError, ClusterOptions};
use tempfile::TempDir;

/// A running server and its data.
pub struct Database {
    cluster: Cluster,
    options: ClusterOptions,
    _folder: TempDir,
}

impl Database {
    /// A new one from the binaries on this machine; `None`, after a loud line, where there are none.
    ///
    /// # Panics
    /// There are none and `SHOPSTREAM_TEST_REQUIRE` names `postgres`, or it does not start.
    pub fn start() -> Option<Self> {
        let folder = crate::shop::folder();
        let options =
            ClusterOptions { data: folder.path().join("postgres"), fsync: true, settings: Vec::new() };
        match Cluster::start(&options) {
            Ok(cluster) => Some(Self { cluster, options, _folder: folder }),
            Err(error @ ClusterError::NoBinaries) => {
                crate::skip("postgres", &error.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Where to connect; the same after a restart.
    pub fn url(&self) -> &str {
        self.cluster.url()
    }

    /// The id of its postmaster.
    pub fn pid(&self) -> Pid {
        crate::shop::postmaster(&self.options.data)
    }

    /// The server again, on the same data, after it was killed.
    ///
    /// # Panics
    /// It does not start, or elsewhere.
    pub fn restart(self) -> Self {
        let Self { cluster, options, _folder } = self;
        let url = cluster.url().to_owned();
        drop(cluster);
        let cluster = Cluster::start(&options).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(cluster.url(), url, "clients would not find it");
        Self { cluster, options, _folder }
    }
}
