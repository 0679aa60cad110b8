//! A node: all its parts, started in the order in which they need each other and stopped in the reverse one.

mod admin;
mod backoff;
mod database;
mod descriptors;
mod duty;
mod folder;
mod health;
mod lag;
mod leases;
mod log;
mod offline;
mod provider;
mod saga_store;
mod stock;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use shopstream_command_handlers::coordinator::{Coordinator, Leases, Member, Static, Timing};
use shopstream_command_handlers::{Clock, NoPeers, Options, Peers, Shards, SystemClock};
use shopstream_eventlog::writer::Identity;
use shopstream_eventlog::{Journal, Log};
use shopstream_gateway::{Describe, Gateway, GrpcPeers, Means, Policy, ReadSide};
use shopstream_projections::journal::PostgresJournal;
use shopstream_projections::{Database, LeaseTable, ReadModels};
use shopstream_proto::admin::v1::DescribeNodeResponse;
use shopstream_sagas::{Parts, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use self::backoff::Backoff;
use self::duty::{Driving, Reading};
pub(crate) use self::folder::{has_shop, identity, place};
use self::health::{Health, Senses};
use self::leases::PostgresLeases;
pub(crate) use self::offline::Offline;
use self::provider::Provider;
pub(crate) use self::provider::end_leftover;
use crate::config::{Config, LogUrl, Role};
use crate::output::note;
use crate::telemetry;

/// How long calls may take to end after the node was asked to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long partitions may take to be given to other nodes.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Between two looks whether a node is ready.
const LOOK: Duration = Duration::from_millis(50);
/// After so long, and as long again, it is said why it is not.
const STILL: Duration = Duration::from_secs(10);

/// A running node.
pub struct Node {
    /// Ends all calls, and the processes with them.
    stop_calls: CancellationToken,
    calls: JoinHandle<()>,
    listen: SocketAddr,
    admin: SocketAddr,
    sagas: JoinHandle<()>,
    shards: Shards,
    stop_reading: CancellationToken,
    reading: JoinHandle<()>,
    /// `None`: alone.
    leases: Option<Leases>,
    provider: Provider,
    private: Option<database::Private>,
    health: Health,
    watching: CancellationToken,
    /// Last, so that nobody else takes the folder before all is down.
    _folder: folder::Held,
}

/// Runs a node until SIGTERM, SIGHUP or Ctrl-C, then stops it in order; a second Ctrl-C ends the process at once.
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
    note!("grpc      {}", node.url());
    note!("metrics   http://{}/metrics", node.admin);
    note!("provider  {}", *node.provider.url().borrow());
    note!("data      {}", config.data.display());
    tokio::select! {
        () = node.ready() => {
            note!("ready");
            stop.await;
        }
        () = &mut stop => {}
    }
    info!("stopping");
    node.stop().await
}

/// Ends with SIGTERM, SIGHUP or Ctrl-C, which are heard from this call on, whenever the answer is awaited. From then on
/// another Ctrl-C ends the process at once. Within a tokio runtime.
///
/// Who started the program with SIGHUP ignored, as `nohup` does, wants it to go on. SIGUSR1 and SIGUSR2 mean nothing
/// here and end nothing.
pub fn asked_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let mut hangup = if hangups_are_ignored() { None } else { signal(SignalKind::hangup()).ok() };
    let ends = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    for kind in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        let Ok(mut meaningless) = signal(kind) else { continue };
        tokio::spawn(async move {
            while meaningless.recv().await.is_some() {
                info!("signal {} means nothing here", kind.as_raw_value());
            }
        });
    }
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = ends else { return std::future::pending().await };
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up => {}
        }
        tokio::spawn(async move {
            interrupt.recv().await;
            // 128 + SIGINT, as shells say it.
            std::process::exit(130);
        });
    }
}

/// Whether this process ignores SIGHUP; to be asked before anything listens to it.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (Signal::SIGHUP as u64 - 1)) != 0
}

impl Node {
    /// Starts everything and returns once commands are taken.
    ///
    /// # Errors
    /// What is missing or in use, with the way out.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        ensure!(
            config.provider.is_some() || config.log == LogUrl::Local,
            "other nodes can take this log over, and each would start a payment simulator of its own, which knows nothing \
             of the others' money: name one provider for all of them with --provider (for a trial, one is `shopstream \
             provider-simulator --data DIR --listen 127.0.0.1:50053`)"
        );
        let descriptors = descriptors::raise();
        let folder = folder::hold(&config.data)?;
        // Ports first: what is taken is told before anything long begins.
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listening on {}: name another address with --listen", config.listen))?;
        let listen = listener.local_addr()?;
        let metrics = telemetry::metrics()?;
        let log::Opened { log, watch: log_watch } = log::open(&config).await?;
        let (database, private) = database::open(&config).await?;
        database.prepare(log.topology()).await?;
        let identity = Identity {
            node: config.node.clone(),
            address: config.advertise.clone().unwrap_or_else(|| listen.to_string()),
        };
        let leases = config.is_shared().then(|| leases(&config, &log, &database, &identity));
        let coordinator: Arc<dyn Coordinator> = match (&leases, &config.log) {
            (Some(leases), _) => Arc::new(leases.clone()),
            (None, LogUrl::Local) => Arc::new(Static::alone()),
            // Another process may claim a partition before this one has noticed (`rulings.md` 18).
            (None, LogUrl::Kafka { .. }) => Arc::new(Static::unguarded()),
        };
        let reading = Reading::new(log.clone(), database.clone(), coordinator.clone());
        // Alone it is this node's anyway, and what is wrong with the tables is told at the start.
        let projector = if leases.is_none() { Some(reading.project().await?) } else { None };
        let journal: Arc<dyn Journal> =
            Arc::new(PostgresJournal::new(database.clone(), reading.progress.clone()));
        let reads = ReadModels::open(database.clone(), reading.progress.clone()).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);

        let options = shard_options(&config, log.partitions(), &coordinator);
        let shards = Shards::start(&log, &journal, &clock, &identity, &options);
        let provider = Provider::find(&config, listen).await?;
        let (processed_in, processed) = watch::channel(lag::Reached::new());
        let parts = Parts {
            log: log.clone(),
            commands: shards.commands(),
            journal: journal.clone(),
            store: Arc::new(saga_store::PostgresSagaStore {
                database: database.clone(),
                reads: reads.clone(),
                processed: processed_in,
            }),
            provider: Arc::new(provider.remote()),
            clock: clock.clone(),
            settings: saga_settings(&config),
        };
        let driving = Driving::new(parts, coordinator.clone());
        let watching = CancellationToken::new();
        let (wrong_in, wrong) = watch::channel(None);
        let (behind_in, behind) = watch::channel(Vec::new());
        let senses = Senses {
            log: log_watch.wrong(),
            database: wrong,
            private: private.as_ref().map(database::Private::lost),
            behind,
            provider: provider.away(),
        };
        let health = Health::new(shards.commands(), &reading, &driving, senses, config.roles.clone());
        let looked = lag::Looked {
            log: log.clone(),
            processing: driving.status(),
            processed,
            projecting: reading.states(),
            progress: reading.progress.clone(),
            bound: Duration::from_secs(config.behind_seconds.into()),
        };
        tokio::spawn(log_watch.run(watching.clone()));
        tokio::spawn(database::feel(database.clone(), wrong_in, watching.clone()));
        tokio::spawn(lag::look(looked, behind_in, watching.clone()));
        let stop_calls = CancellationToken::new();
        let gateway = Gateway::new(Means {
            commands: shards.commands(),
            reads,
            database: Some(database),
            journal,
            backend: backend(&config.log),
            log,
            reservations: Arc::new(stock::Stock(driving.stock())),
            clock,
            policy: Policy {
                hold_seconds: config.hold_seconds,
                hold_seconds_max: config.hold_max_seconds,
                calls_max: config.calls,
                connections_max: descriptors::for_clients(config.connections, descriptors),
                streams_max: config.streams,
                peer_percent: config.peer_percent,
                ..Policy::default()
            },
            takes_calls: config.roles.contains(&Role::Gateway),
            has_peers: config.is_shared(),
            read_side: read_side(health.clone()),
            describe: describe(&config, &provider),
            stop: stop_calls.clone(),
        })?;
        // Before the others hear of this node: they will send commands to it.
        let calls = tokio::spawn(gateway.serve(listener));
        if let Some(leases) = &leases {
            leases.join().await?;
        }
        let stop_reading = CancellationToken::new();
        let reading = match projector {
            Some(projector) => tokio::spawn(reading.keep(projector, stop_reading.clone())),
            None if config.roles.contains(&Role::Projections) => {
                tokio::spawn(reading.take_turns(stop_reading.clone()))
            }
            None => tokio::spawn(reading.follow(stop_reading.clone())),
        };
        for idle in shards.ready().await {
            warn!(partition = idle.partition, "not serving partition {}: {:?}", idle.partition, idle.state);
        }
        let sagas = if config.roles.contains(&Role::Sagas) {
            tokio::spawn(driving.take_turns(stop_calls.clone()))
        } else {
            tokio::spawn(std::future::ready(()))
        };
        let admin = admin::serve(config.admin, metrics, health.clone(), watching.clone()).await?;
        Ok(Self {
            stop_calls,
            calls,
            listen,
            admin,
            sagas,
            shards,
            stop_reading,
            reading,
            leases,
            provider,
            private,
            health,
            watching,
            _folder: folder,
        })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Waits until this node does all of its work; says now and then what it waits for.
    async fn ready(&self) {
        let mut told = Instant::now();
        loop {
            let complaints = self.health.own_complaints();
            if complaints.is_empty() {
                return;
            }
            if told.elapsed() >= STILL {
                told = Instant::now();
                warn!("not ready yet: {}", complaints.join("; "));
            }
            sleep(LOOK).await;
        }
    }

    /// Stops in order: what other nodes can do they get first; then no new calls, then processes, shards and read
    /// models; what was acknowledged stays.
    ///
    /// # Errors
    /// A part did not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        if tokio::time::timeout(HAND_OVER, self.shards.hand_over()).await.is_err() {
            warn!("some partitions were not given up within {} s", HAND_OVER.as_secs());
        }
        self.watching.cancel();
        self.stop_calls.cancel();
        if tokio::time::timeout(GRACE, self.calls).await.is_err() {
            warn!("some calls did not end within {} s and were cut off", GRACE.as_secs());
        }
        // A panic there was told by the status; there is nothing more to wait for.
        self.sagas.await.ok();
        self.shards.stop().await;
        self.stop_reading.cancel();
        self.reading.await.ok();
        if let Some(leases) = self.leases {
            leases.stop();
        }
        self.provider.stop().await;
        if let Some(private) = self.private {
            private.stop().await;
        }
        Ok(())
    }
}

/// This node's share of what several work on.
fn leases(config: &Config, log: &Log, database: &Database, identity: &Identity) -> Leases {
    let Identity { node, address } = identity.clone();
    let commands = config.roles.contains(&Role::Commands);
    let me = Member { id: Uuid::new_v4(), node, address, commands };
    let store = Arc::new(PostgresLeases(LeaseTable::open(database)));
    Leases::new(me, store, log.partitions(), Timing::default())
}

/// What a node says of itself to its operators.
fn describe(config: &Config, provider: &Provider) -> Describe {
    let (name, data, provider_url) = (config.node.clone(), config.data.clone(), provider.url());
    Arc::new(move || DescribeNodeResponse {
        name: name.clone(),
        data: data.display().to_string(),
        data_identity: folder::identity(&data).unwrap_or_default(),
        provider_url: provider_url.borrow().clone(),
    })
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
        patience: Duration::from_secs(config.answer_timeout_seconds.into()),
        tries_max: config.tries_max,
        ..Settings::default()
    }
}

/// The bounds of one shard: each has its part of what the node may use.
fn shard_options(config: &Config, partitions: u16, coordinator: &Arc<dyn Coordinator>) -> Options {
    let part = |megabytes: usize| (megabytes << 20) / usize::from(partitions.max(1));
    let peers: Arc<dyn Peers> =
        if config.is_shared() { Arc::new(GrpcPeers::default()) } else { Arc::new(NoPeers) };
    Options {
        queue: config.queue,
        cache_bytes: part(config.cache_mb),
        tail_bytes: part(config.tail_mb),
        snapshot_every: config.snapshot_events,
        coordinator: coordinator.clone(),
        peers,
        nonces: Arc::new(rand::random::<u64>),
    }
}
