//! A real Postgres: one server per test process, a database per test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shopstream_projections::cluster::{Cluster, ClusterError, ClusterOptions};
use shopstream_projections::{ConnectOptions, Database};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::container::{Image, Ready};
use crate::{Found, Wanted};

const PREFIX: &str = "shopstream-test-pg-";
/// Where private clusters live.
const HOME: &str = "/tmp";
/// How long a cluster may take to answer; it takes a fraction of a second unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) static WANTED: Wanted = Wanted {
    name: "postgres",
    variable: "SHOPSTREAM_TEST_POSTGRES",
    form: "the URL of a role that may create databases",
    programs: "the programs of a Postgres server (`deploy/install test`, or their folder in SHOPSTREAM_PG_BIN)",
    image: Image {
        name: "postgres",
        tag: "15",
        port: 5432,
        // On standard output the line comes once more before, from the server that only makes the database.
        ready: Ready::Err("listening on IPv4 address \"0.0.0.0\", port 5432"),
        variables: &[("POSTGRES_PASSWORD", PASSWORD)],
    },
    instead: "",
};
const PASSWORD: &str = "shopstream";

/// An empty database of one's own.
pub struct TestDatabase {
    /// The connection.
    pub database: Database,
    /// Its address, for connections that a test makes itself.
    pub url: String,
}

/// Makes an empty database in the server of this process, which is found first.
///
/// # Panics
/// There is no server: the message names the ways out.
pub async fn database() -> TestDatabase {
    static SERVER: OnceCell<String> = OnceCell::const_new();

    let find = || async { tokio::task::spawn_blocking(find).await.expect("the ways out are named above") };
    let server = SERVER.get_or_init(find).await;
    let name = format!("test_{}", Uuid::new_v4().simple());
    create(server, &name).await;
    let url = url_of(server, &name);
    let options = ConnectOptions { patience: PATIENCE, ..ConnectOptions::default() };
    let database = Database::connect(&url, &options).await.expect("the new database answers");
    TestDatabase { database, url }
}

async fn create(server: &str, name: &str) {
    // Through the pool first, which waits for a server that is only starting.
    let options =
        ConnectOptions { patience: PATIENCE, pool_size: 1, readers: 1, ..ConnectOptions::default() };
    let admin = url_of(server, "postgres");
    drop(Database::connect(&admin, &options).await.expect("the server answers"));
    let connected = tokio_postgres::connect(&admin, tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("the server answers");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the role may create databases");
    drop(client);
    connection.await.expect("no panic").expect("an orderly end");
}

/// The address of a server, whatever database it names.
fn find() -> String {
    match WANTED.find(start) {
        Found::Named(url) | Found::Started(url) => url,
        Found::Contained(address) => format!("postgres://postgres:{PASSWORD}@{address}/postgres"),
    }
}

/// Starts a private cluster that lives as long as this process.
fn start() -> Result<String, String> {
    sweep();
    let data = PathBuf::from(format!("{HOME}/{PREFIX}{}", std::process::id()));
    // Tests kill processes, never the power.
    let options = ClusterOptions { data, fsync: false, settings: vec!["max_connections=400".into()] };
    let cluster = match Cluster::start(&options) {
        Ok(cluster) => cluster,
        Err(ClusterError::NoBinaries) => return Err("no such programs were found".into()),
        Err(error) => panic!("{error}"),
    };
    let url = cluster.url().to_owned();
    // It ends when this process ends, not before.
    std::mem::forget(cluster);
    Ok(url)
}

/// The address of another database of the same server.
fn url_of(url: &str, name: &str) -> String {
    let (address, options) = url.split_once('?').unwrap_or((url, ""));
    let authority = address.find("://").map_or(0, |scheme| scheme + "://".len());
    let server = address[authority..].find('/').map_or(address, |slash| &address[..authority + slash]);
    format!("{server}/{name}?{options}")
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
