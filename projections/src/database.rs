//! The way to Postgres: a pool for transactions, and shared pipelined connections for point reads.
//!
//! Every statement has a limit of time, which the server keeps: one that waits for a lock, or reads what nobody thought
//! it would, ends by itself and does not stand before others for ever. A connection is kept only to a server that takes
//! writes.
//!
//! Sixty-four tasks that share one pipelined connection read half as much again as from a pool of sixteen, because
//! nobody waits for a connection (`crates.md` §6 of the design). A transaction needs a connection of its own.

mod listener;
mod pulse;
mod reader;
mod server;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use tracing::info;

pub use self::pulse::{Faint, Pulse};
pub(crate) use self::reader::Reader;
pub(crate) use self::server::Server;
use crate::Projection;

/// How a [`Database`] connects.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// Connections for transactions.
    pub pool_size: usize,
    /// Shared connections for point reads.
    pub readers: usize,
    /// How long a Postgres that is not there yet is waited for.
    pub patience: Duration,
    /// How long statements may take.
    pub limits: Limits,
}

/// How long a statement may take, by what it is for. Beyond that the server ends it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A point read. Who waits for it has gone by then.
    pub read: Duration,
    /// A statement of a transaction that writes a batch of rows.
    pub batch: Duration,
    /// A statement over whole tables: a comparison, a scan, the making of an index.
    pub scan: Duration,
    /// The wait for a lock, of any statement.
    pub lock: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(5),
            batch: Duration::from_secs(60),
            scan: Duration::from_secs(60 * 60),
            lock: Duration::from_secs(10),
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            application_name: "shopstream".into(),
            // One per projection at work, and some for queries that need a snapshot.
            pool_size: 16,
            // Each query takes two of them at most: two may be stuck before others feel it.
            readers: 6,
            patience: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }
}

/// A Postgres database. Cheap to clone; lost connections come back by themselves.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    reader: Reader,
    config: Arc<Config>,
    target: Arc<str>,
    limits: Limits,
    server: Server,
    /// What watches the server; it ends with the last clone.
    _watching: Arc<JoinSet<()>>,
}

/// Between two tries to reach a Postgres that is not there yet.
const RETRY: Duration = Duration::from_millis(100);
/// A server that answers no packet for so long is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to be of use: both sides compute a proof of the password, and after a crash of the
/// server all are made at once.
const CREATE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a transaction waits for a free connection: one that is still being made counts as one that comes.
const POOL_TIMEOUT: Duration = CREATE_TIMEOUT;

impl Database {
    /// Connects to the database of `url`: `postgres://user@host/db`, or `host=/run/folder dbname=…` for a socket.
    /// Waits for a Postgres that is not there yet, as long as `options.patience`.
    ///
    /// # Errors
    /// [`DatabaseError::Url`], [`DatabaseError::Unavailable`], or what Postgres has against this client.
    pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Self, DatabaseError> {
        let mut config: Config = url.parse().map_err(|source| DatabaseError::Url { source })?;
        config
            .application_name(&options.application_name)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(Duration::from_secs(30))
            // A standby, and a session that began while nothing might be written, would refuse to the end of their days.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let limits = options.limits;
        let target: Arc<str> = target_of(&config).into();
        await_server(&config, &target, options.patience).await?;
        let server = Server::new();
        let reader =
            Reader::start(&limited(&config, limits.read, limits), &server, &target, options.readers.max(1));
        let manager = Manager::from_config(
            limited(&config, limits.batch, limits),
            NoTls,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(options.pool_size.max(1))
            .wait_timeout(Some(POOL_TIMEOUT))
            .create_timeout(Some(CREATE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| DatabaseError::Unavailable {
                target: target.to_string(),
                detail: error.to_string(),
            })?;
        let mut watching = JoinSet::new();
        watching.spawn(server.clone().watch(limited(&config, limits.read, limits)));
        reader.opened(CREATE_TIMEOUT).await;
        info!("connected to Postgres at {target}");
        let config = Arc::new(config);
        Ok(Self { pool, reader, config, target, limits, server, _watching: Arc::new(watching) })
    }

    /// Where this database is, for people: host and name, never a password.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Why the server does not answer; `None`: it does. Known within a second, whether or not anybody asks anything.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.server.trouble()
    }

    /// What is known about the server.
    pub(crate) const fn server(&self) -> &Server {
        &self.server
    }

    /// Whether `error` says that connections are of no use any more: the server ends them, or takes no writes on them.
    /// Those that nobody uses are thrown away then.
    pub(crate) fn heard(&self, error: &DatabaseError) {
        if error.spoils_connections() {
            self.pool.retain(|_, _| false);
        }
    }

    /// Gives the statements of a transaction that reads whole tables the time for that.
    pub(crate) async fn allow_scan(
        &self,
        transaction: &deadpool_postgres::Transaction<'_>,
    ) -> Result<(), DatabaseError> {
        let millis = self.limits.scan.as_millis();
        Ok(transaction.batch_execute(&format!("SET LOCAL statement_timeout TO {millis}")).await?)
    }

    /// A connection of one's own, for a transaction.
    pub(crate) async fn client(&self) -> Result<Object, DatabaseError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => DatabaseError::from(error),
            other => {
                DatabaseError::Unavailable { target: self.target.to_string(), detail: other.to_string() }
            }
        })
    }

    /// A connection that nobody else shares and whose commits do not wait for the disk: everybody sees them at once,
    /// and a crash of the server may forget the last of them. Within a tokio runtime.
    pub(crate) fn own_hasty_reader(&self) -> Reader {
        let mut config = limited(&self.config, self.limits.read, self.limits);
        Reader::start(with_option(&mut config, "synchronous_commit=off"), &self.server, &self.target, 1)
    }

    /// Counts what is told on `channel`, through a connection that only listens. Within a tokio runtime.
    pub(crate) fn listen(&self, channel: &'static str) -> watch::Receiver<u64> {
        listener::listen(Config::clone(&self.config), channel)
    }

    /// Whoever wants to know whether it is there, without waiting for what others ask of it.
    pub fn pulse(&self) -> Pulse {
        Pulse::new(Config::clone(&self.config))
    }

    /// The shared connections.
    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }
}

/// The way to a server that ends a statement after `statement`, and a transaction in which nobody says anything.
fn limited(config: &Config, statement: Duration, limits: Limits) -> Config {
    let mut config = config.clone();
    with_option(&mut config, &format!("statement_timeout={}", statement.as_millis()));
    with_option(&mut config, &format!("lock_timeout={}", limits.lock.min(statement).as_millis()));
    with_option(&mut config, &format!("idle_in_transaction_session_timeout={}", limits.batch.as_millis()));
    config
}

fn with_option<'a>(config: &'a mut Config, option: &str) -> &'a mut Config {
    let options = format!("{} -c {option}", config.get_options().unwrap_or_default());
    config.options(options.trim_start())
}

/// Tries until the server answers, or says that it never will.
async fn await_server(config: &Config, target: &str, patience: Duration) -> Result<(), DatabaseError> {
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        let error = match config.connect(NoTls).await {
            // Dropping the client ends its connection.
            Ok((_client, _connection)) => return Ok(()),
            Err(error) => error,
        };
        // A server that refuses by name (wrong password, no such database) will refuse again; one that is only
        // starting up says so under class 57, and one that has too many clients or no room just now under class 53.
        let passes = |code: &str| ["53", "57"].iter().any(|class| code.starts_with(class));
        let refused = error.code().is_some_and(|code| !passes(code.code()));
        if refused || Instant::now() + RETRY > deadline {
            return Err(DatabaseError::Unavailable { target: target.to_owned(), detail: explain(&error) });
        }
        if !std::mem::replace(&mut told, true) {
            info!("waiting up to {} s for Postgres at {target}: {}", patience.as_secs(), explain(&error));
        }
        sleep(RETRY).await;
    }
}

/// What went wrong, with its cause: the driver's own text is only `error connecting to server`.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(said), _) => said.message().to_owned(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

fn target_of(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let name = config.get_dbname().or_else(|| config.get_user()).unwrap_or("postgres");
    format!("{host}:{port}/{name}")
}

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is not one.
    #[error(
        "this is no Postgres address: write postgres://user@host:port/name, or host=/run/folder dbname=name"
    )]
    Url {
        /// What the parser says.
        source: tokio_postgres::Error,
    },
    /// It cannot be reached, or takes no more clients.
    #[error("Postgres at {target} is not available: {detail}; start it, or name another with --database")]
    Unavailable {
        /// Host, port and name.
        target: String,
        /// What was seen.
        detail: String,
    },
    /// A statement failed.
    #[error("Postgres: {}", explain(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// The fixed tables could not be made or brought up to date.
    #[error("the tables could not be brought up to date")]
    Migration(#[from] refinery::Error),
    /// The tables were filled from another log.
    #[error(
        "this database was filled from log {stored}, and this is log {found}: name the log that belongs to it, or an \
         empty database, which is filled from this log; where this log was made in the place of a lost one, see \
         `shopstream log repair`"
    )]
    OtherLog {
        /// The log of the tables.
        stored: shopstream_eventlog::LogId,
        /// The log at hand.
        found: shopstream_eventlog::LogId,
    },
    /// The server was started again, or another took its place, since it was known how far a view is.
    #[error("Postgres has begun again: how far {projection} is has to be found out first")]
    BegunAgain {
        /// The view.
        projection: Projection,
    },
    /// A view could not be filled again.
    #[error("{projection} cannot be filled from the log: {detail}")]
    Rebuild {
        /// The view.
        projection: Projection,
        /// What was in the way.
        detail: String,
    },
    /// Another process brings the tables up to date, and does not end.
    #[error(
        "another process ({holder}) brings the tables up to date and does not end: stop it, then start again"
    )]
    Migrating {
        /// Who.
        holder: String,
    },
    /// A view's tables were made by a program whose tables look otherwise.
    #[error(
        "the tables of {projection} were made by another version of this program; where that one has ended, a node that \
         keeps the read models fills them again by itself when it starts"
    )]
    OtherShape {
        /// The view.
        projection: Projection,
    },
    /// A row does not say what it should.
    #[error("a row of {table} cannot be read")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        source: crate::column::Unreadable,
    },
}

impl DatabaseError {
    /// Whether it may pass by itself: the server was away, or the transaction met another one.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::BegunAgain { .. } => true,
            Self::Statement(error) => error.code().is_none_or(|code| {
                // Connection lost, out of resources, operator intervention, system error, rollback.
                ["08", "53", "57", "58", "40"].iter().any(|class| code.code().starts_with(class))
            }),
            Self::Url { .. }
            | Self::Migration(_)
            | Self::Migrating { .. }
            | Self::Rebuild { .. }
            | Self::OtherLog { .. }
            | Self::OtherShape { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether the server will never keep this: what was to be written is at fault, or what was written, and not the
    /// server or somebody else's transaction. So says the class: a row twice, data exceptions, broken constraints, program limits.
    pub fn is_about_data(&self) -> bool {
        match self {
            Self::Unreadable { .. } => true,
            Self::Statement(error) => match error.code() {
                Some(code) => ["21", "22", "23", "54"].iter().any(|class| code.code().starts_with(class)),
                // What could not even be written down for the server.
                None => !error.is_closed() && std::error::Error::source(error).is_some_and(is_conversion),
            },
            Self::Url { .. }
            | Self::Unavailable { .. }
            | Self::Migration(_)
            | Self::Migrating { .. }
            | Self::Rebuild { .. }
            | Self::OtherLog { .. }
            | Self::BegunAgain { .. }
            | Self::OtherShape { .. } => false,
        }
    }

    /// See [`Database::heard`].
    fn spoils_connections(&self) -> bool {
        match self {
            Self::Statement(error) => error.is_closed() || error.code().is_some_and(spoils),
            _ => false,
        }
    }
}

/// Whether the server will say the same to everything that this connection asks: it takes no writes there, or ends it.
fn spoils(code: &SqlState) -> bool {
    *code == SqlState::READ_ONLY_SQL_TRANSACTION || code.code().starts_with("57P")
}

/// Whether a failure without an answer of the server was one of making the question, not of asking it.
fn is_conversion(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<std::io::Error>().is_none()
}
