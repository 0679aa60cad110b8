//! A node: all its parts, started in the order in which they need each other and stopped in the reverse one.

mod admin;
mod database;
mod folder;
mod health;
mod log;
mod offline;
pub mod provider;
mod saga_store;
mod stock;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shopstream_command_handlers::{Clock, Commands, Options, Shards, SystemClock};
use shopstream_eventlog::Journal;
use shopstream_eventlog::writer::Identity;
use shopstream_gateway::{Gateway, Means, Policy, ReadSide};
use shopstream_projections::cluster::Cluster;
use shopstream_projections::journal::PostgresJournal;
use shopstream_projections::{Projector, ReadModels};
use shopstream_sagas::{Parts, Sagas, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::health::Health;
pub(crate) use self::offline::Offline;
use self::provider::Provider;
use crate::config::{Config, LogUrl};
use crate::provider::RemoteProvider;
use crate::telemetry;

/// How long calls may take to end after the node was asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    /// Ends all calls.
    stop_calls: CancellationToken,
    calls: JoinHandle<()>,
    listen: SocketAddr,
    admin: SocketAddr,
    sagas: JoinHandle<()>,
    shards: Shards,
    projector: Projector,
    provider: Provider,
    cluster: Option<Cluster>,
    watching: CancellationToken,
    /// Last, so that nobody else takes the folder before all is down.
    _folder: folder::Held,
}

/// Runs a node until SIGTERM or Ctrl-C, then stops it in order; a second Ctrl-C ends the process at once.
///
/// # Errors
/// It does not start, or not stop in order.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    config.warnings().iter().for_each(|warning| warn!("{warning}"));
    let mut stop = std::pin::pin!(asked_to_stop());
    let node = tokio::select! {
        node = Node::start(config.clone()) => node?,
        () = &mut stop => return Ok(()),
    };
    println!("grpc      {}", node.url());
    println!("metrics   http://{}/metrics", node.admin);
    println!("provider  {}", node.provider.url);
    println!("data      {}", config.data.display());
    println!("ready");
    stop.await;
    info!("stopping");
    node.stop().await
}

/// Waits for SIGTERM or Ctrl-C. From then on another Ctrl-C ends the process at once.
pub async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        interrupt.recv().await;
        // 128 + SIGINT, as shells say it.
        std::process::exit(130);
    });
}

impl Node {
    /// Starts everything and returns once commands are taken.
    ///
    /// # Errors
    /// What is missing or in use, with the way out.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let folder = folder::hold(&config.data)?;
        // Ports first: what is taken is told before anything long begins.
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listening on {}: name another address with --listen", config.listen))?;
        let listen = listener.local_addr()?;
        let metrics = telemetry::metrics()?;
        let log::Opened { log, watch } = log::open(&config).await?;
        let (database, cluster) = database::open(&config).await?;
        let projector = Projector::start(log.clone(), database.clone(), || SystemClock.now()).await?;
        let journal: Arc<dyn Journal> =
            Arc::new(PostgresJournal::new(database.clone(), projector.progress()));
        let reads = ReadModels::open(database.clone(), projector.progress()).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);

        let identity = Identity { node: config.node.clone(), address: listen.to_string() };
        let shards =
            Shards::start(&log, &journal, &clock, &identity, &shard_options(&config, log.partitions()));
        for idle in shards.ready().await {
            warn!(partition = idle.partition, "not serving partition {}: {:?}", idle.partition, idle.state);
        }
        let provider = Provider::find(&config, listen).await?;
        let sagas = Sagas::start(Parts {
            log: log.clone(),
            commands: shards.commands(),
            journal: journal.clone(),
            store: Arc::new(saga_store::PostgresSagaStore {
                database: database.clone(),
                reads: reads.clone(),
            }),
            provider: Arc::new(RemoteProvider::new(&provider.url)?),
            clock: clock.clone(),
            settings: saga_settings(&config),
        });
        let health = Health::new(shards.commands(), &projector, sagas.status(), watch.wrong());
        let watching = CancellationToken::new();
        tokio::spawn(watch.run(watching.clone()));
        let stop_calls = CancellationToken::new();
        let gateway = Gateway::new(Means {
            commands: shards.commands(),
            reads,
            database: database.clone(),
            journal,
            backend: backend(&config.log),
            log,
            reservations: Arc::new(stock::Stock(sagas.stock())),
            clock,
            policy: Policy {
                hold_seconds: config.hold_seconds,
                calls_max: config.calls,
                ..Policy::default()
            },
            read_side: read_side(health.clone()),
            stop: stop_calls.clone(),
        })?;
        let calls = tokio::spawn(async move {
            if let Err(error) = gateway.serve(listener).await {
                error!(%error, "no calls are taken any more");
            }
        });
        let admin = admin::serve(config.admin, metrics, health, watching.clone()).await?;
        Ok(Self {
            stop_calls: stop_calls.clone(),
            calls,
            listen,
            admin,
            sagas: tokio::spawn(drive(sagas, shards.commands(), stop_calls.clone())),
            shards,
            projector,
            provider,
            cluster,
            watching,
            _folder: folder,
        })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Stops in order: no new calls, then processes, shards and read models; what was acknowledged stays.
    ///
    /// # Errors
    /// A part did not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.watching.cancel();
        self.stop_calls.cancel();
        if tokio::time::timeout(GRACE, self.calls).await.is_err() {
            warn!("some calls did not end within {} s and were cut off", GRACE.as_secs());
        }
        // A panic there was told by the status; there is nothing more to wait for.
        self.sagas.await.ok();
        self.shards.stop().await;
        self.projector.stop().await;
        self.provider.stop();
        if let Some(cluster) = self.cluster {
            tokio::task::spawn_blocking(move || cluster.stop()).await?;
        }
        Ok(())
    }
}

/// Lets the processes run until the node stops, or until another node owns a partition: it drives them from then on
/// (`rulings.md` 18).
async fn drive(sagas: Sagas, commands: Commands, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        fenced = commands.fenced() => {
            warn!(partition = fenced.partition, "another node owns a partition: processes stop here");
        }
    }
    sagas.stop().await;
}

fn read_side(health: Health) -> ReadSide {
    Arc::new(move || health.reads())
}

const fn backend(log: &LogUrl) -> &'static str {
    match log {
        LogUrl::Local => "local",
        LogUrl::Kafka { .. } => "kafka",
    }
}

fn saga_settings(config: &Config) -> Settings {
    Settings {
        hold_seconds: config.hold_seconds,
        hard_max_seconds: config.hold_max_seconds,
        provider_timeout: Duration::from_secs(config.provider_timeout_seconds.into()),
        ..Settings::default()
    }
}

/// The bounds of one shard: each has its part of what the node may use.
fn shard_options(config: &Config, partitions: u16) -> Options {
    let part = |megabytes: usize| (megabytes << 20) / usize::from(partitions.max(1));
    Options {
        queue: config.queue,
        cache_bytes: part(config.cache_mb),
        tail_bytes: part(config.tail_mb),
        // On a topic another node may have claimed a partition before this one has noticed (`rulings.md` 18).
        barrier_before_answers: config.log != LogUrl::Local,
        nonces: Arc::new(rand::random::<u64>),
    }
}
