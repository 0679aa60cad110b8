//! A Postgres of the test's own, which it may kill and start again under a node.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shopstream_projections::cluster::{Cluster, ClusterError, ClusterOptions};
use shopstream_server::client::until;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use tokio_util::task::AbortOnDropHandle;

/// The port of a server that listens.
const PORT: u16 = 5432;
/// The sessions of this database but the one that asks.
const OTHERS: &str = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// A running server and its data.
pub struct Database {
    cluster: Cluster,
    url: String,
    /// Where it listens besides its socket.
    address: Option<Ipv4Addr>,
    options: ClusterOptions,
    _folder: TempDir,
}

impl Database {
    /// A new one from the binaries on this machine; `None`, after a loud line, where there are none.
    ///
    /// # Panics
    /// There are none and `SHOPSTREAM_TEST_REQUIRE` names `postgres`, or it does not start.
    pub fn start() -> Option<Self> {
        Self::start_at(None)
    }

    /// The same, for clients on other machines too: its URL names this address of this process.
    ///
    /// # Panics
    /// As [`Database::start`].
    pub fn listening(address: Ipv4Addr) -> Option<Self> {
        Self::start_at(Some(address))
    }

    fn start_at(address: Option<Ipv4Addr>) -> Option<Self> {
        let folder = crate::shop::folder();
        let mut settings = Vec::new();
        if let Some(address) = address {
            let allowed = folder.path().join("pg_hba.conf");
            fs::write(&allowed, "local all all scram-sha-256\nhost all all samenet scram-sha-256\n")
                .expect("written");
            let path = allowed.display();
            settings = vec![
                format!("listen_addresses={address}"),
                format!("port={PORT}"),
                format!("hba_file={path}"),
            ];
        }
        let options = ClusterOptions { data: folder.path().join("postgres"), fsync: true, settings };
        match Cluster::start(&options) {
            Ok(cluster) => {
                let url = url(cluster.url(), address);
                Some(Self { cluster, url, address, options, _folder: folder })
            }
            Err(error @ ClusterError::NoBinaries) => {
                crate::skip("postgres", &error.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Where to connect; the same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens for other machines, if it does.
    pub fn door(&self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::from((address, PORT)))
    }

    /// The id of its postmaster.
    pub fn pid(&self) -> Pid {
        crate::shop::postmaster(&self.options.data)
    }

    /// The sessions of others, each a process of the server.
    ///
    /// # Errors
    /// It does not answer for two minutes.
    pub async fn sessions(&self) -> anyhow::Result<Vec<Pid>> {
        let (operator, _connection) = self.operator().await?;
        let rows = operator.query(&format!("SELECT pid FROM {OTHERS}"), &[]).await?;
        Ok(rows.iter().map(|row| Pid::from_raw(row.get(0))).collect())
    }

    /// Says whether sessions that begin from here on may write. Where they may not, those of others are ended.
    ///
    /// # Errors
    /// It does not answer for two minutes.
    pub async fn allow_writes(&self, allowed: bool) -> anyhow::Result<()> {
        let (operator, _connection) = self.operator().await?;
        let name: String = operator.query_one("SELECT current_database()::text", &[]).await?.get(0);
        let value = if allowed { "off" } else { "on" };
        let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
        operator.batch_execute(&set).await?;
        if !allowed {
            operator.batch_execute(&format!("SELECT pg_terminate_backend(pid) FROM {OTHERS}")).await?;
        }
        Ok(())
    }

    /// A session that may always write, once the server takes any: it may be recovering.
    async fn operator(&self) -> anyhow::Result<(Client, AbortOnDropHandle<()>)> {
        let (client, connection) =
            until(async || Ok(tokio_postgres::connect(&self.url, NoTls).await.ok())).await?;
        let connection = tokio::spawn(async { drop(connection.await) });
        client.batch_execute("SET default_transaction_read_only = off").await?;
        Ok((client, AbortOnDropHandle::new(connection)))
    }

    /// The server again, on the same data, after it was killed.
    ///
    /// # Panics
    /// It does not start, or elsewhere.
    pub fn restart(self) -> Self {
        let Self { cluster, url, address, options, _folder } = self;
        drop(cluster);
        let cluster = Cluster::start(&options).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(self::url(cluster.url(), address), url, "clients would not find it");
        Self { cluster, url, address, options, _folder }
    }
}

/// The processes of a server that stand still: they neither answer nor refuse. They go on when this is dropped.
#[must_use]
pub struct Paused(Vec<Pid>);

impl Paused {
    /// Stops the clock of the server with this postmaster.
    ///
    /// # Panics
    /// It does not run.
    pub fn server(postmaster: Pid) -> Self {
        kill(postmaster, Signal::SIGSTOP).expect("a server that runs");
        // None is added while the one that makes them stands still.
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.expect("a server that runs");
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
        let paused = Self(children.chain([postmaster]).collect());
        for pid in &paused.0 {
            // One that ends just now answers nobody.
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        paused
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

/// The URL of a server's socket, or the one with which it is reached at `address`: who and what are the same.
fn url(socket: &str, address: Option<Ipv4Addr>) -> String {
    let Some(address) = address else { return socket.to_owned() };
    let (named, _) = socket.split_once('?').expect("the folder of a socket");
    named.replacen("@/", &format!("@{address}:{PORT}/"), 1)
}
