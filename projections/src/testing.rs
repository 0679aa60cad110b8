//! A real Postgres for tests, and a log to project from.
//!
//! One cluster per test process, a database per test: in the server of the URL in `SHOPSTREAM_TEST_POSTGRES` (of a
//! role that may create databases), else in a private one, see [`crate::cluster`].

mod cluster;
mod log;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

use self::cluster::TestCluster;
pub use self::log::TestLog;
use crate::{ConnectOptions, Database};

/// How long a cluster may take to answer; it takes a fraction of a second unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// An empty database of one's own.
pub struct TestDatabase {
    /// The connection.
    pub database: Database,
    /// Its address, for connections that this test makes itself.
    pub url: String,
}

/// Makes an empty database in the cluster of this process, which is started first where there is none.
///
/// # Panics
/// There is no Postgres: the message names the ways out.
pub async fn database() -> TestDatabase {
    static CLUSTER: OnceCell<TestCluster> = OnceCell::const_new();
    static COUNT: AtomicU32 = AtomicU32::new(0);

    let cluster = CLUSTER.get_or_init(TestCluster::find_or_start).await;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    let options =
        ConnectOptions { patience: PATIENCE, pool_size: 1, readers: 1, ..ConnectOptions::default() };
    let admin =
        Database::connect(&cluster.url("postgres"), &options).await.expect("the test cluster answers");
    let admin = admin.client().await.expect("the test cluster answers");
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the role may create databases");
    let url = cluster.url(&name);
    let options = ConnectOptions { patience: PATIENCE, ..ConnectOptions::default() };
    let database = Database::connect(&url, &options).await.expect("the new database answers");
    TestDatabase { database, url }
}
