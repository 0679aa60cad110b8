//! Finds or starts the cluster of this test process.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, ClusterOptions};

const URL: &str = "SHOPSTREAM_TEST_POSTGRES";
const PREFIX: &str = "shopstream-test-pg-";
/// Where private clusters live.
const HOME: &str = "/tmp";

/// A cluster that takes connections.
pub(super) struct TestCluster {
    url: String,
}

impl TestCluster {
    pub(super) async fn find_or_start() -> Self {
        match std::env::var(URL) {
            Ok(url) => Self { url },
            Err(_) => tokio::task::spawn_blocking(start).await.expect("starting a cluster does not panic"),
        }
    }

    /// The address of a database in this cluster.
    pub(super) fn url(&self, name: &str) -> String {
        let (address, options) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let authority = address.find("://").map_or(0, |scheme| scheme + "://".len());
        let server = address[authority..].find('/').map_or(address, |slash| &address[..authority + slash]);
        format!("{server}/{name}?{options}")
    }
}

fn start() -> TestCluster {
    sweep();
    let data = PathBuf::from(format!("{HOME}/{PREFIX}{}", std::process::id()));
    // Tests kill processes, never the power.
    let options = ClusterOptions { data, fsync: false, settings: vec!["max_connections=400".into()] };
    let cluster = Cluster::start(&options).unwrap_or_else(|error| {
        panic!("{error}; or set {URL} to the URL of a role that may create databases")
    });
    let url = cluster.url().to_owned();
    // It ends when this process ends, not before.
    std::mem::forget(cluster);
    TestCluster { url }
}

/// Removes what the clusters of processes that are gone have left.
fn sweep() {
    for entry in fs::read_dir(HOME).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // A failure leaves rubbish, which the next run meets again.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
