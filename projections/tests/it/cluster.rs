//! A cluster of one's own is whole, or it is made anew.

use std::fs;
use std::path::Path;

use shopstream_projections::cluster::{Cluster, ClusterError, ClusterOptions};
use shopstream_projections::{ConnectOptions, Database};
use tempfile::TempDir;

fn folder() -> TempDir {
    // Postgres runs as another user where we are root, and that one must come in.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    tempfile::Builder::new().prefix("shopstream-cluster-").permissions(everybody).tempdir().expect("a folder")
}

/// Starts a server on this data and uses its database.
async fn start(data: &Path) -> Cluster {
    let options = ClusterOptions { data: data.into(), fsync: false, settings: Vec::new() };
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(&options)).await.expect("no panic");
    let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
    let database = Database::connect(cluster.url(), &ConnectOptions::default()).await.expect("its database");
    database.pulse().beat().await.expect("an answer");
    cluster
}

async fn stop(cluster: Cluster) {
    tokio::task::spawn_blocking(move || cluster.stop()).await.expect("no panic");
}

fn installed() -> bool {
    let folder = folder();
    let options = ClusterOptions { data: folder.path().join("no/one"), fsync: false, settings: Vec::new() };
    // With a name in the way nothing is made, whatever is installed.
    fs::write(folder.path().join("no"), "").expect("a file");
    !matches!(Cluster::start(&options), Err(ClusterError::NoBinaries))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_off_start_left_is_made_anew() {
    if !installed() {
        return eprintln!("SKIPPED for want of the programs of a Postgres server");
    }
    let folder = folder();
    let data = folder.path().join("postgres");
    // An initdb in the very place, that was killed early; and a password that a full disk did not take.
    fs::create_dir_all(data.join("pgdata/base/1")).expect("folders");
    fs::write(data.join("pgdata/PG_VERSION"), "15\n").expect("a file");
    fs::write(data.join("password"), "").expect("a file");
    fs::create_dir(data.join("pgdata.new.1")).expect("a folder");
    fs::write(data.join("pgdata.new.1/PG_VERSION"), "15\n").expect("a file");
    stop(start(&data).await).await;
    let left: Vec<_> =
        fs::read_dir(&data).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("new")), "{left:?}");

    // A cluster of an earlier version has no mark, and one whose password is lost gets another.
    fs::remove_file(data.join("pgdata/shopstream.complete")).expect("a mark");
    stop(start(&data).await).await;
    fs::remove_file(data.join("password")).expect("a password");
    stop(start(&data).await).await;
}

/// The number of a process that lives and is no server stands in the files of one that was killed, or copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_a_file_is_no_server() {
    if !installed() {
        return eprintln!("SKIPPED for want of the programs of a Postgres server");
    }
    let folder = folder();
    let data = folder.path().join("postgres");
    stop(start(&data).await).await;
    // Of root or ours, alive, and of Postgres if this test has a server beside.
    let running = start(&folder.path().join("other")).await;
    let other = fs::read_to_string(folder.path().join("other/pgdata/postmaster.pid")).expect("a server");
    fs::write(data.join("pgdata/postmaster.pid"), other).expect("a copied file");
    let cluster = start(&data).await;
    let ended = tokio::time::timeout(std::time::Duration::from_millis(200), running.ended()).await;
    assert!(ended.is_err(), "the other server was ended: {ended:?}");
    stop(cluster).await;
    stop(running).await;
}
