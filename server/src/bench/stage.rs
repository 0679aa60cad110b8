//! What a benchmark stands on: a folder, a log of its own, two servers; and how all of it is cleared away.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use tempfile::TempDir;

use super::BenchOptions;
use super::child::{Server, quote, run_to_end};
use super::machine::{Machine, Meter, Pid};
use crate::config::{Config, LogUrl};
use crate::node::end_leftover;
use crate::output::hint;

/// What a benchmark stands on.
pub(super) struct Stage {
    pub(super) machine: Machine,
    /// The log of this run alone.
    pub(super) log: LogUrl,
    node: Option<Server>,
    echo: Option<Server>,
    /// The payment provider of a log that other nodes could reach; a local one's node keeps its own.
    provider: Option<Server>,
    /// Processes of others that belong to what is measured.
    with: Vec<Pid>,
    /// Last, as the servers live in it.
    folder: TempDir,
}

impl Stage {
    /// Makes a folder, and a topic where that is the log.
    ///
    /// # Errors
    /// The folder cannot be made, or the brokers refuse.
    pub(super) async fn set(options: &BenchOptions, run: &str) -> anyhow::Result<Self> {
        let above = options.dir.clone().unwrap_or_else(default_folder);
        fs::create_dir_all(&above)
            .with_context(|| format!("making {}: name another with --dir", above.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("shopstream-bench-")
            // The private Postgres may run as another user.
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&above)
            .with_context(|| format!("making a folder in {}: name another with --dir", above.display()))?;
        let path = folder.path().to_owned();
        let machine = tokio::task::spawn_blocking(move || Machine::look(&path)).await??;
        if machine.is_in_memory() {
            hint!(
                "warning: {} is in memory: nothing here is durable, and no flush costs anything",
                above.display()
            );
        }
        let log = make_log(&options.log, run).await?;
        Ok(Self { machine, log, node: None, echo: None, provider: None, with: options.with.clone(), folder })
    }

    /// What the node logged last, for people who ask why something failed.
    pub(super) fn last_words(&self) -> String {
        quote(&self.folder.path().join("node.log"))
    }

    /// Stops what runs; the folder goes with the stage.
    ///
    /// # Errors
    /// A server does not stop in order.
    pub(super) async fn strike(self) -> anyhow::Result<()> {
        let Self { node, echo, provider, folder, .. } = self;
        let mut struck = Ok(());
        for server in [node, echo, provider].into_iter().flatten() {
            struck = struck.and(server.stop().await);
        }
        // A node that was killed and not started again has left its provider.
        end_leftover(&folder.path().join("data")).await;
        struck
    }

    /// Starts the echo; answers where it is.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start_echo(&mut self) -> anyhow::Result<String> {
        let args = ["bench", "--echo-server", "127.0.0.1:0"].map(OsStr::new);
        let echo =
            Server::start(&args, &self.folder.path().join("echo.log")).await.context("starting the echo")?;
        Ok(self.echo.insert(echo).url()?.to_owned())
    }

    /// Starts the node, on the data it left if it was killed; answers where it is.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start_node(&mut self) -> anyhow::Result<String> {
        let (data, log) = (self.folder.path().join("data"), self.log.to_string());
        let free = "127.0.0.1:0";
        let args = ["serve", "--listen", free, "--admin", free, "--log", &log, "--data"].map(OsStr::new);
        let provider = self.provider().await?.map(str::to_owned);
        let named = provider.iter().flat_map(|url| [OsStr::new("--provider"), OsStr::new(url)]);
        let args: Vec<&OsStr> = args.into_iter().chain([data.as_os_str()]).chain(named).collect();
        let node =
            Server::start(&args, &self.folder.path().join("node.log")).await.context("starting the node")?;
        Ok(self.node.insert(node).url()?.to_owned())
    }

    /// Where the node finds its payment provider, if it may not keep one itself.
    async fn provider(&mut self) -> anyhow::Result<Option<&str>> {
        if self.log == LogUrl::Local {
            return Ok(None);
        }
        if self.provider.is_none() {
            let data = self.folder.path().join("provider");
            let args = ["provider-simulator", "--listen", "127.0.0.1:0", "--data"].map(OsStr::new);
            let args: Vec<&OsStr> = args.into_iter().chain([data.as_os_str()]).collect();
            let log = self.folder.path().join("provider.log");
            let started = Server::start(&args, &log).await.context("starting the payment provider")?;
            self.provider = Some(started);
        }
        self.provider.as_ref().map(|provider| provider.place("provider")).transpose()
    }

    /// SIGKILL for the node.
    ///
    /// # Errors
    /// None runs.
    pub(super) async fn kill_node(&mut self) -> anyhow::Result<()> {
        self.node.take().context("no node runs")?.kill().await
    }

    /// Counts the CPU time of the echo.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn echo_meter(&self) -> anyhow::Result<Meter> {
        self.meter(self.echo.as_ref())
    }

    /// Counts the CPU time of the node.
    ///
    /// # Errors
    /// None runs.
    pub(super) fn node_meter(&self) -> anyhow::Result<Meter> {
        self.meter(self.node.as_ref())
    }

    fn meter(&self, server: Option<&Server>) -> anyhow::Result<Meter> {
        let server = server.ok_or_else(|| anyhow!("nothing runs that could be measured"))?.pid();
        // Both servers are our children, so we stand for them.
        let ours = self.with.iter().copied().chain([std::process::id()]).collect();
        Ok(Meter { server, ours })
    }
}

/// A topic that nobody else uses, or what the node makes by itself.
async fn make_log(wanted: &LogUrl, run: &str) -> anyhow::Result<LogUrl> {
    let LogUrl::Kafka { brokers, topic } = wanted else { return Ok(LogUrl::Local) };
    let log = LogUrl::Kafka { brokers: brokers.clone(), topic: format!("{topic}-bench-{run}") };
    let url = log.to_string();
    run_to_end(&["topics", "apply", "--log", &url].map(OsStr::new))
        .await
        .with_context(|| format!("making {url}"))?;
    Ok(log)
}

/// Beside the data of a shop, so that it is the same disk.
fn default_folder() -> PathBuf {
    let data = Config::default().data;
    data.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}
