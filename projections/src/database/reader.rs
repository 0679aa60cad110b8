//! Connections that many tasks share: their queries go out one behind the other without waiting for answers.
//!
//! A query goes where the fewest are on their way. Where one is stuck, behind a lock or because it reads too much, others
//! go around it; and the same query is at work on few ways at once and waits behind itself beyond that, so that one table
//! does not take all ways from the others. A caller that leaves leaves its query in the
//! pipe: it counts until the server is done with it, which its limit of time sees to.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tracing::{info, warn};

use super::{DatabaseError, Server, explain, spoils};

/// How long a query waits for a connection that is being made again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a query waits for its answer, those before it included.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between two tries to make a connection again: from the first, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A connection whose oldest query is on its way for so long is stuck.
const STUCK: Duration = Duration::from_millis(250);
/// On how many ways one query is at work; further ones wait behind these.
const WAYS_OF_ONE: usize = 2;
/// How many queries wait behind one that is stuck.
const WAITING_MAX: usize = 64;

/// Answers single statements outside any transaction. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader(Arc<Shared>);

struct Shared {
    ways: Vec<watch::Receiver<Option<Arc<Connected>>>>,
    target: Arc<str>,
    /// One keeper per way; they end with the last clone.
    _keepers: JoinSet<()>,
}

/// What a query answered.
pub(crate) struct Answered {
    pub(crate) rows: Vec<Row>,
    /// The server's session to which the connection belongs, see [`Server`].
    pub(crate) session: u64,
}

/// A live connection, the statements prepared on it, and what is on its way.
struct Connected {
    client: Client,
    session: u64,
    statements: RwLock<HashMap<Box<str>, Statement>>,
    flights: Mutex<Flights>,
    /// Told when the connection is of no use any more though it still stands.
    spoiled: Notify,
}

/// Queries on their way, oldest first.
#[derive(Default)]
struct Flights {
    last: u64,
    waiting: VecDeque<Flight>,
}

#[derive(Clone, Copy)]
struct Flight {
    number: u64,
    text: u64,
    since: Instant,
}

impl Reader {
    pub(super) fn start(config: &Config, server: &Server, target: &Arc<str>, count: usize) -> Self {
        let mut keepers = JoinSet::new();
        let ways = (0..count)
            .map(|_| {
                let (way, connected) = watch::channel(None);
                keepers.spawn(keep_connected(config.clone(), server.clone(), target.clone(), way));
                connected
            })
            .collect();
        Self(Arc::new(Shared { ways, target: target.clone(), _keepers: keepers }))
    }

    /// The rows that `sql` answers. The text is prepared once per connection, so it must be one of few.
    pub(crate) async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        Ok(self.ask(sql, params).await?.rows)
    }

    /// As [`Reader::query`], and in which session of the server that was.
    pub(crate) async fn ask(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Answered, DatabaseError> {
        let asked = async {
            match self.try_query(sql, params).await {
                // The server went away under the query. It only read, so it may be asked again, once.
                Err(DatabaseError::Statement(error)) if went_away(&error) => {
                    self.try_query(sql, params).await
                }
                answer => answer,
            }
        };
        timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| {
            let detail = "the query waits behind others that take long".to_owned();
            Err(DatabaseError::Unavailable { target: self.0.target.to_string(), detail })
        })
    }

    async fn try_query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Answered, DatabaseError> {
        let connected = self.connected(FxBuildHasher.hash_one(sql)).await?;
        let flight = InFlight::begin(connected, FxBuildHasher.hash_one(sql));
        let connected = &flight.connected;
        let asked = async {
            let statement = connected.prepare(sql).await?;
            connected.client.query(&statement, params).await
        };
        let rows = asked.await;
        let session = connected.session;
        if let Err(error) = &rows
            && error.code().is_some_and(spoils)
        {
            connected.spoiled.notify_one();
        }
        flight.end();
        Ok(Answered { rows: rows?, session })
    }

    /// The way for a query of this text.
    async fn connected(&self, text: u64) -> Result<Arc<Connected>, DatabaseError> {
        let Shared { ways, target, .. } = &*self.0;
        let away =
            |detail: &str| DatabaseError::Unavailable { target: target.to_string(), detail: detail.into() };
        let alive: Vec<Arc<Connected>> = ways
            .iter()
            .filter_map(|way| {
                way.borrow().as_ref().filter(|connected| !connected.client.is_closed()).cloned()
            })
            .collect();
        if let Some((connected, waiting)) = choose(&alive, text, Instant::now()) {
            if waiting >= WAITING_MAX {
                return Err(away("too many queries wait behind one that takes long"));
            }
            return Ok(connected);
        }
        let Some(mut way) = ways.first().cloned() else { return Err(away("there is no connection")) };
        let wait = way.wait_for(|way| way.as_ref().is_some_and(|connected| !connected.client.is_closed()));
        let away = || away("the connection was lost and is being made again");
        let connected = timeout(PATIENCE, wait).await.map_err(|_| away())?.map_err(|_| away())?;
        connected.clone().ok_or_else(away)
    }

    /// Waits until there is a connection, or for so long: the first query has less patience than the making of a
    /// connection takes beside many others.
    pub(super) async fn opened(&self, patience: Duration) {
        if let Some(mut way) = self.0.ways.first().cloned() {
            // Where there is still none, the first query says so.
            drop(timeout(patience, way.wait_for(Option::is_some)).await);
        }
    }
}

/// Where a query of this text goes, and how many wait there if that way is stuck.
fn choose(alive: &[Arc<Connected>], text: u64, now: Instant) -> Option<(Arc<Connected>, usize)> {
    let is_stuck = |it: &Connected| it.flights().oldest().is_some_and(|since| now - since > STUCK);
    let load = |it: &Connected| it.flights().waiting.len();
    let alike: Vec<&Arc<Connected>> = alive.iter().filter(|it| it.flights().is_first(text)).collect();
    let best = if alike.len() >= WAYS_OF_ONE {
        alike.into_iter().min_by_key(|it| load(it))?
    } else {
        alive.iter().min_by_key(|it| (is_stuck(it), load(it)))?
    };
    let waiting = if is_stuck(best) { load(best) } else { 0 };
    Some((best.clone(), waiting))
}

impl Flights {
    fn oldest(&self) -> Option<Instant> {
        self.waiting.front().map(|flight| flight.since)
    }

    fn is_first(&self, text: u64) -> bool {
        self.waiting.front().is_some_and(|flight| flight.text == text)
    }

    /// The server answers in the order in which it was asked: with this one it is done with all before it.
    fn ended(&mut self, number: u64) {
        while self.waiting.front().is_some_and(|flight| flight.number <= number) {
            self.waiting.pop_front();
        }
        // What comes next begins now.
        if let Some(next) = self.waiting.front_mut() {
            next.since = Instant::now();
        }
    }
}

/// A query on its way, until the server is done with it.
struct InFlight {
    connected: Arc<Connected>,
    number: u64,
    ended: bool,
}

impl InFlight {
    fn begin(connected: Arc<Connected>, text: u64) -> Self {
        let number = {
            let mut flights = connected.flights();
            flights.last += 1;
            let flight = Flight { number: flights.last, text, since: Instant::now() };
            flights.waiting.push_back(flight);
            flight.number
        };
        Self { connected, number, ended: false }
    }

    fn end(mut self) {
        self.ended = true;
        self.connected.flights().ended(self.number);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        // The caller has left. When the server answers an empty question behind it, it is done with this one.
        let (connected, number) = (self.connected.clone(), self.number);
        runtime.spawn(async move {
            // However that ends, nothing is on its way any more.
            drop(connected.client.simple_query("").await);
            connected.flights().ended(number);
        });
    }
}

/// Whether the connection is gone, or the server has just said that it ends it (class 57P).
fn went_away(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.code().is_some_and(|code| code.code().starts_with("57P"))
}

impl Connected {
    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn prepare(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.statements.read().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        // Two tasks may prepare the same text at once; the later one stays, both are good.
        let statement = self.client.prepare(sql).await?;
        self.statements.write().unwrap_or_else(PoisonError::into_inner).insert(sql.into(), statement.clone());
        Ok(statement)
    }
}

/// Makes a connection, serves it until it ends, and makes the next.
async fn keep_connected(
    config: Config,
    server: Server,
    target: Arc<str>,
    way: watch::Sender<Option<Arc<Connected>>>,
) {
    let mut pause = BACKOFF.0;
    loop {
        match serve(&config, &server, &way).await {
            Ok(()) => {
                pause = BACKOFF.0;
                info!("a read connection to Postgres at {target} was closed");
            }
            Err(error) => warn!("a read connection to Postgres at {target} was lost: {}", explain(&error)),
        }
        if way.send_replace(None).is_some() {
            pause = BACKOFF.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Serves one connection to its end.
async fn serve(
    config: &Config,
    server: &Server,
    way: &watch::Sender<Option<Arc<Connected>>>,
) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let mut connection = std::pin::pin!(connection);
    let session = tokio::select! {
        session = server.greet(&client) => session?,
        ended = &mut connection => return ended,
    };
    let connected = Arc::new(Connected {
        client,
        session,
        statements: RwLock::default(),
        flights: Mutex::default(),
        spoiled: Notify::new(),
    });
    way.send_replace(Some(connected.clone()));
    tokio::select! {
        ended = connection => ended,
        () = connected.spoiled.notified() => Ok(()),
    }
}
