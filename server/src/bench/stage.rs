//! The order of events: servers are set up, measured in rounds, crashed and recounted, and all is cleared away.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use prost::Message;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::sleep;

use super::acknowledged::Acknowledged;
use super::calls::{Caller, Drafter, Numbers, Receiver};
use super::child::{Server, run_to_end};
use super::load::{Gate, Load, closed_loop, until_broken};
use super::machine::{Machine, Meter, Pid};
use super::recount::{Recount, recount};
use super::report::{Figures, Report, Sample};
use super::setup::stock_up;
use super::views::Views;
use super::{BenchOptions, bulk, checkouts};
use crate::client::{Client, Shop};
use crate::config::{Config, LogUrl};

/// Callers that write orders.
const CALLERS: usize = 64;
/// Callers that meet in one aggregate.
const HOT_CALLERS: usize = 32;

/// What a benchmark stands on.
pub(super) struct Stage {
    options: BenchOptions,
    machine: Machine,
    /// The log of this run alone.
    log: LogUrl,
    node: Option<Server>,
    echo: Option<Server>,
    numbers: Numbers,
    acknowledged: Acknowledged,
    /// Last, as the servers live in it.
    folder: TempDir,
}

impl Stage {
    /// Makes a folder, and a topic where that is the log.
    ///
    /// # Errors
    /// The folder cannot be made, or the brokers refuse.
    pub(super) async fn set(options: &BenchOptions) -> anyhow::Result<Self> {
        let above = options.dir.clone().unwrap_or_else(default_folder);
        fs::create_dir_all(&above).with_context(|| format!("making {}: name another with --dir", above.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("shopstream-bench-")
            // The private Postgres may run as another user.
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&above)
            .with_context(|| format!("making a folder in {}: name another with --dir", above.display()))?;
        let path = folder.path().to_owned();
        let machine = tokio::task::spawn_blocking(move || Machine::look(&path)).await??;
        if machine.is_in_memory() {
            eprintln!("warning: {} is in memory: nothing here is durable, and no flush costs anything", above.display());
        }
        let numbers = Numbers::of_new_run();
        let log = make_log(&options.log, &numbers).await?;
        Ok(Self {
            options: options.clone(),
            machine,
            log,
            node: None,
            echo: None,
            numbers,
            acknowledged: Acknowledged::default(),
            folder,
        })
    }

    /// Measures everything.
    ///
    /// # Errors
    /// A server does not start, or a command is refused.
    pub(super) async fn measure(&mut self) -> anyhow::Result<Report> {
        let echo = Client::connect(self.start_echo().await?.url()?).await?;
        let node = Client::connect(self.start_node().await?.url()?).await?;
        // Two units of each SKU for every order, and some to spare.
        let units = 3 * i64::try_from(self.options.checkouts())?;
        stock_up(&node, &self.numbers, units, &mut self.acknowledged).await?;

        let checkouts =
            checkouts::run(&node, &self.numbers, self.options.checkouts(), &mut self.acknowledged).await?;
        let mut figures = Figures::default();
        for round in 1..=self.options.rounds() {
            eprintln!("round {round} of {}", self.options.rounds());
            self.round(&echo, &node, &mut figures).await.with_context(|| format!("round {round}"))?;
        }
        let recount = self.crash(&node).await.context("the crash")?;
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            debug_assertions: cfg!(debug_assertions),
            machine: self.machine.clone(),
            log: self.log.to_string(),
            window_seconds: self.options.window().measured.as_secs_f64(),
            request_bytes: self.numbers.draft(self.numbers.given()).encoded_len(),
            goals: figures.goals(self.log != LogUrl::Local),
            figures,
            checkouts,
            recount,
        })
    }

    /// Stops what runs; the folder goes with the stage.
    ///
    /// # Errors
    /// A server does not stop in order.
    pub(super) async fn strike(self) -> anyhow::Result<()> {
        let Self { node, echo, .. } = self;
        for server in [node, echo].into_iter().flatten() {
            server.stop().await?;
        }
        Ok(())
    }

    async fn round(&mut self, echo: &Client, node: &Client, figures: &mut Figures) -> anyhow::Result<()> {
        let window = self.options.window();
        let always_open = watch::Sender::new(true).subscribe();
        let views = Views { client: node.clone(), numbers: self.numbers.clone() };
        let drafters = |client: &Client, numbers: &Numbers| {
            let caller = |shop: Shop| Drafter { shop, numbers: numbers.clone() };
            (0..CALLERS).map(|_| caller(client.shop())).collect::<Vec<_>>()
        };

        let numbers = Numbers::of_new_run();
        let meter = self.meter(self.echo.as_ref())?;
        let load = closed_loop(drafters(echo, &numbers), &numbers, window, &always_open, &meter).await?;
        figures.echo.add("echo", Sample::of(&load, window, None));

        let burst = self.watched(&views, drafters(node, &self.numbers), Some(&always_open)).await?;
        figures.unary.add("unary", burst);
        let in_step = self.watched(&views, drafters(node, &self.numbers), None).await?;
        figures.in_step.add("unary with views in step", in_step);
        let receivers =
            (0..HOT_CALLERS).map(|_| Receiver { shop: node.shop(), numbers: self.numbers.clone() }).collect();
        let hot = self.watched(&views, receivers, Some(&always_open)).await?;
        figures.hot.add("hot aggregate", hot);

        let meter = self.meter(self.node.as_ref())?;
        let warm = bulk::send(node, &self.numbers, window.warm_up, &meter).await?;
        self.acknowledged.extend(warm.acknowledged);
        let streamed = bulk::send(node, &self.numbers, window.measured, &meter).await?;
        let count = streamed.acknowledged.numbers.len() as u64;
        figures.bulk.add("bulk", Sample::streamed(streamed.per_second, count, &streamed.spent, None));
        self.acknowledged.extend(streamed.acknowledged);
        self.catch_up(&views).await
    }

    /// A load on the node with an eye on the views; held back by their lag unless another gate is named.
    async fn watched<C: Caller>(
        &mut self,
        views: &Views,
        callers: Vec<C>,
        gate: Option<&Gate>,
    ) -> anyhow::Result<Sample> {
        let window = self.options.window();
        let lag = views.watch();
        let meter = self.meter(self.node.as_ref())?;
        let Load { acknowledged, .. } = &mut closed_loop(callers, &self.numbers, window, gate.unwrap_or(&lag.gate), &meter).await?;
        Ok(todo!())
    }

    /// Lets the views come to the end before the next measurement.
    async fn catch_up(&mut self, views: &Views) -> anyhow::Result<()> {
        let took = views.show_all(&mut self.acknowledged).await.context("waiting for the views")?;
        eprintln!("the views caught up after {:.1} s", took.as_secs_f64());
        Ok(())
    }

    /// Kills the node under load, starts it again and recounts.
    async fn crash(&mut self, node: &Client) -> anyhow::Result<Recount> {
        let drafters = (0..CALLERS).map(|_| Drafter { shop: node.shop(), numbers: self.numbers.clone() }).collect();
        let loaded = until_broken(drafters, &self.numbers);
        let killed = async {
            sleep(self.options.window().measured).await;
            self.node.take().context("no node runs")?.kill().await
        };
        let (acknowledged, ()) = tokio::try_join!(loaded, killed)?;
        self.acknowledged.extend(acknowledged);
        eprintln!("killed the node under load; starting it again and recounting");
        let again = Client::connect(self.start_node().await?.url()?).await?;
        recount(&again, &self.numbers, &self.acknowledged).await
    }

    async fn start_echo(&mut self) -> anyhow::Result<&Server> {
        let args = ["bench", "--echo-server", "127.0.0.1:0"].map(OsStr::new);
        let server = Server::start(&args, &self.folder.path().join("echo.log")).await.context("starting the echo")?;
        Ok(self.echo.insert(server))
    }

    async fn start_node(&mut self) -> anyhow::Result<&Server> {
        let (data, log) = (self.folder.path().join("data"), self.log.to_string());
        let free = "127.0.0.1:0";
        let args = ["serve", "--listen", free, "--admin", free, "--log", log.as_str(), "--data"].map(OsStr::new);
        let args: Vec<&OsStr> = args.into_iter().chain([data.as_os_str()]).collect();
        let server = Server::start(&args, &self.folder.path().join("node.log")).await.context("starting the node")?;
        Ok(self.node.insert(server))
    }

    fn meter(&self, server: Option<&Server>) -> anyhow::Result<Meter> {
        let server = server.ok_or_else(|| anyhow!("nothing runs that could be measured"))?.pid();
        // Both servers are our children.
        let ours: Vec<Pid> = self.options.with.iter().copied().chain([std::process::id()]).collect();
        Ok(Meter { server, ours })
    }
}
