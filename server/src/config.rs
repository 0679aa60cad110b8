//! What a node runs with: built-in defaults, then a file, then the environment, then flags; the later wins.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{bail, ensure};
use clap::Args;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Serialize};
use shopstream_command_handlers::SNAPSHOT_EVERY;

mod error;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Place};
use error::{FLAGS, PREFIX};

/// A terabyte.
const MEGABYTES_MAX: usize = 1 << 20;
/// More calls, commands, connections or streams than any machine has room for.
const ROOM_MAX: usize = 1_000_000;

/// The settings of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of everything that lasts: the log, the private Postgres, the provider simulator's calls.
    pub data: PathBuf,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// `host:port` at which other nodes reach this one; none: where it listens.
    pub advertise: Option<String>,
    /// Where metrics and health are served over HTTP.
    pub admin: SocketAddr,
    /// `local`, or `kafka://HOST:PORT,…/TOPIC`.
    pub log: LogUrl,
    /// `postgres://…`; none: a private cluster in the data folder.
    pub database: Option<Secret>,
    /// What this node does.
    pub roles: BTreeSet<Role>,
    /// The payment provider; none: the simulator, started beside the node, where the log is this node's own.
    pub provider: Option<String>,
    /// The node's name in claims.
    pub node: String,
    /// Partitions of a log that is made new.
    pub partitions: u16,
    /// Megabytes of aggregates in memory, over all partitions.
    pub cache_mb: usize,
    /// Megabytes of commits that the journal may lag behind, over all partitions; beyond it commands wait.
    pub tail_mb: usize,
    /// Events after which a long history gets a snapshot, and another one.
    pub snapshot_events: u64,
    /// Commands that wait for one partition before more are refused.
    pub queue: usize,
    /// Calls that are carried out at once before more are refused.
    pub calls: usize,
    /// Connections of clients at once before more are closed as they come.
    pub connections: usize,
    /// Streams at once before more are refused; one that reads the log or takes in orders counts for eight.
    pub streams: usize,
    /// How much of connections and streams, and of calls while others are connected, one address may have, in percent.
    /// 100 behind a proxy, where all clients have one address.
    pub peer_percent: usize,
    /// Seconds between two looks whether the topic is still the one that was read, with the settings it needs.
    pub log_watch_seconds: u64,
    /// Seconds for which a checkout holds its stock.
    pub hold_seconds: u32,
    /// Seconds after which it is given back even while a payment's outcome is unknown.
    pub hold_max_seconds: u32,
    /// Seconds that a call to the payment provider may take before its outcome counts as unknown.
    pub provider_timeout_seconds: u32,
    /// Seconds that a step of a checkout or a return waits for the shop's own answer. Stock that gives none ends the
    /// checkout.
    pub answer_timeout_seconds: u32,
    /// How often a step of a checkout or a return that fails is tried again before a person must look.
    pub tries_max: u32,
    /// Seconds after which a record that processes or views have not come to makes the node not ready.
    pub behind_seconds: u32,
    /// Whether somebody has named the data folder.
    #[serde(skip)]
    pub data_is_named: bool,
    /// Variables with our prefix that are not ours.
    #[serde(skip)]
    pub ignored: Vec<String>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes the calls of clients.
    Gateway,
    /// Owns a share of the partitions and decides their commands.
    Commands,
    /// Stands ready to keep read models and journal; one node at a time does.
    Projections,
    /// Stands ready to drive checkouts, returns and payments; one node at a time does.
    Sagas,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Commands, Self::Projections, Self::Sagas];
}

/// Where the log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LogUrl {
    /// In the data folder.
    Local,
    /// In a topic.
    Kafka {
        /// `host:port`, separated by commas.
        brokers: String,
        /// The topic.
        topic: String,
    },
}

/// A setting that is never printed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Secret(String);

/// Flags that override the file and the environment. Every one of them has a variable `SHOPSTREAM_…`.
#[derive(Args, Clone, Debug, Default, Serialize)]
pub struct ConfigFlags {
    /// A TOML file of settings
    #[arg(long, value_name = "FILE", env = "SHOPSTREAM_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The folder of everything that lasts
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Where gRPC is served
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where other nodes reach this one, if not where it listens
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Where metrics and health are served over HTTP
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// The log: `local`, or `kafka://HOST:PORT,…/TOPIC`
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The database: `postgres://…`; without it a private one is kept in the data folder
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What this node does: gateway, commands, projections, sagas
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The payment provider; without it a simulator is started, where the log is local
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The node's name in claims
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// The flags as a source of settings that can be told from the others.
struct Flags<'a>(&'a ConfigFlags);

impl Provider for Flags<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(FLAGS)
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Serialized::defaults(self.0).data()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: default_data(),
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            advertise: None,
            admin: SocketAddr::from(([127, 0, 0, 1], 50052)),
            log: LogUrl::Local,
            database: None,
            roles: Role::ALL.into(),
            provider: None,
            node: nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .unwrap_or_else(|| "node".into()),
            partitions: 16,
            cache_mb: 512,
            tail_mb: 256,
            snapshot_events: SNAPSHOT_EVERY,
            queue: 4096,
            calls: 1024,
            connections: 4096,
            streams: 1024,
            peer_percent: 50,
            log_watch_seconds: 60,
            hold_seconds: 30 * 60,
            hold_max_seconds: 2 * 60 * 60,
            provider_timeout_seconds: 30,
            answer_timeout_seconds: 300,
            tries_max: 5,
            behind_seconds: 10,
            data_is_named: false,
            ignored: Vec::new(),
        }
    }
}

/// `/var/lib/shopstream` for root, else the user's data folder.
fn default_data() -> PathBuf {
    if nix::unistd::Uid::effective().is_root() {
        return PathBuf::from("/var/lib/shopstream");
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| ".".into())).join(".local/share");
    std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from).join("shopstream")
}

/// Whether an orchestrator sets a variable of this name for every service whose name begins like ours: in Kubernetes
/// `SHOPSTREAM_SERVICE_HOST`, `SHOPSTREAM_PORT_50051_TCP_ADDR`, `SHOPSTREAM_DB_PORT` and so on.
fn is_of_an_orchestrator(name: &str) -> bool {
    let name = format!("_{name}");
    let of_a_port = |rest: &str| {
        let protocol = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        protocol.len() < rest.len() && ["_tcp", "_udp", "_sctp"].iter().any(|it| protocol.starts_with(it))
    };
    // The last two are those of a container that is linked under our name.
    name.ends_with("_service_host")
        || name.contains("_service_port")
        || name.ends_with("_port")
        || name.match_indices("_port_").any(|(at, it)| of_a_port(&name[at + it.len()..]))
        || name == "_name"
        || name.starts_with("_env_")
}

/// Those that are set.
fn variables_of_an_orchestrator() -> Vec<String> {
    let ours = |name: &str| {
        let rest = name.get(..PREFIX.len()).filter(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
        rest.is_some() && is_of_an_orchestrator(&name[PREFIX.len()..].to_ascii_lowercase())
    };
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| ours(name))
        .collect();
    names.sort_unstable();
    names
}

impl Config {
    /// The settings that result from defaults, file, environment and flags.
    ///
    /// # Errors
    /// [`ConfigError`], or that there is no such file.
    pub fn load(flags: &ConfigFlags) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = &flags.config {
            ensure!(file.is_file(), "there is no configuration file {}", file.display());
            figment = figment.merge(Toml::file_exact(file));
        }
        // Variables of the tests, the scripts and the Postgres launcher share the prefix.
        let ours = Env::prefixed(PREFIX).filter(|name| {
            let name = name.as_str().to_ascii_lowercase();
            !["test_", "pg_", "kafka_"].iter().any(|other| name.starts_with(other))
                && !["config", "cache"].contains(&name.as_str())
                && !is_of_an_orchestrator(&name)
        });
        let settings = figment.merge(ours).merge(Flags(flags));
        let mut config: Self = settings.extract().map_err(|error| ConfigError::found(&settings, error))?;
        config.data_is_named = error::is_named(&settings, "data");
        config.ignored = variables_of_an_orchestrator();
        // Roles apart find each other by leases in the database, over a log that all of them reach.
        let whole = config.roles == Role::ALL.into();
        let apart = config.is_shared() && !config.roles.is_empty();
        ensure!(whole || apart, ConfigError::value(&settings, "roles"));
        ensure!((1..=1024).contains(&config.partitions), ConfigError::value(&settings, "partitions"));
        let share = (1..=100).contains(&config.peer_percent);
        ensure!(share, ConfigError::value(&settings, "peer_percent"));
        let watch = (1..=86_400).contains(&config.log_watch_seconds);
        ensure!(watch, ConfigError::value(&settings, "log_watch_seconds"));
        let snapshots = (1..=1_000_000).contains(&config.snapshot_events);
        ensure!(snapshots, ConfigError::value(&settings, "snapshot_events"));
        let hold = (1..=config.hold_max_seconds).contains(&config.hold_seconds);
        ensure!(hold, ConfigError::value(&settings, "hold_seconds"));
        let answer = (1..=600).contains(&config.provider_timeout_seconds);
        ensure!(answer, ConfigError::value(&settings, "provider_timeout_seconds"));
        let step = (1..=3600).contains(&config.answer_timeout_seconds);
        ensure!(step, ConfigError::value(&settings, "answer_timeout_seconds"));
        ensure!(config.tries_max <= 100, ConfigError::value(&settings, "tries_max"));
        let Self { cache_mb, tail_mb, queue, calls, connections, streams, .. } = config;
        for (name, megabytes) in [("cache_mb", cache_mb), ("tail_mb", tail_mb)] {
            ensure!((1..=MEGABYTES_MAX).contains(&megabytes), ConfigError::value(&settings, name));
        }
        // A node with room for none would call itself ready and send everybody away.
        for (name, room) in
            [("queue", queue), ("calls", calls), ("connections", connections), ("streams", streams)]
        {
            ensure!((1..=ROOM_MAX).contains(&room), ConfigError::value(&settings, name));
        }
        let behind = (1..=3600).contains(&config.behind_seconds);
        ensure!(behind, ConfigError::value(&settings, "behind_seconds"));
        Ok(config)
    }

    /// Whether other nodes may work on the same shop: its log and its database are where they can reach them.
    pub fn is_shared(&self) -> bool {
        self.log != LogUrl::Local && self.database.is_some()
    }

    /// Combinations that work and hurt.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.listen.ip().is_loopback() {
            warnings.push(format!(
                "{} is not a loopback address, and there is no authentication yet",
                self.listen
            ));
        }
        if self.is_shared() && self.advertise.is_none() && self.listen.ip().is_unspecified() {
            warnings.push(format!(
                "other nodes cannot reach this one at {}: name an address with --advertise",
                self.listen
            ));
        }
        if let (LogUrl::Kafka { .. }, None) = (&self.log, &self.database) {
            warnings.push(
                "the log is on Kafka but the read models are in a private Postgres of this node".into(),
            );
        }
        if self.log != LogUrl::Local && self.provider.is_none() {
            warnings.push(
                "other nodes can take this log over, and each would start a payment simulator of its own: `serve` \
                 refuses to, until one provider for all is named with --provider"
                    .into(),
            );
        }
        if !self.ignored.is_empty() {
            warnings.push(format!(
                "{} are variables of an orchestrator and no settings: they are ignored",
                self.ignored.join(", ")
            ));
        }
        warnings
    }

    /// The settings as TOML, secrets masked.
    ///
    /// # Errors
    /// Never, unless a setting has no TOML form.
    pub fn render(&self) -> anyhow::Result<String> {
        let mut shown = self.clone();
        if shown.database.is_some() {
            shown.database = Some(Secret("*****".into()));
        }
        let value = figment::value::Value::serialize(&shown)?;
        let figment::value::Value::Dict(_, settings) = value else { bail!("settings are a table") };
        let mut text = String::new();
        for (name, value) in settings {
            let value: serde_json::Value = value.deserialize()?;
            if !value.is_null() {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        Ok(text)
    }

    /// The same node on ports that nobody uses.
    pub fn on_free_ports(mut self) -> Self {
        self.listen.set_port(0);
        self.admin.set_port(0);
        self
    }

    /// Where clients of this node connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }
}

impl FromStr for LogUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "local" {
            return Ok(Self::Local);
        }
        let parts = text.strip_prefix("kafka://").and_then(|rest| rest.split_once('/'));
        match parts {
            Some((brokers, topic)) if !brokers.is_empty() && !topic.is_empty() => {
                Ok(Self::Kafka { brokers: brokers.into(), topic: topic.into() })
            }
            _ => bail!("{text:?} is neither `local` nor `kafka://HOST:PORT,…/TOPIC`"),
        }
    }
}

impl TryFrom<String> for LogUrl {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        text.parse()
    }
}

impl From<LogUrl> for String {
    fn from(url: LogUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Kafka { brokers, topic } => write!(f, "kafka://{brokers}/{topic}"),
        }
    }
}

impl Secret {
    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.0
    }
}
