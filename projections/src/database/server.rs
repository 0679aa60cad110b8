//! What is known about the server: whether it answers, and since when it remembers everything.
//!
//! Views commit without waiting for the disk, and a crash of the server takes the last of these commits with it; a
//! failover to a copy takes any of them. So whoever keeps in memory how far it is must hear of that, even while it has
//! nothing to do. A *session* begins with each such loss, and whenever the connection that watches the server was lost.
//! What was known in an earlier session is asked for again before it is believed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tracing::{info, warn};
use uuid::Uuid;

use super::explain;

/// Between two looks at a server that answers.
const LOOK: Duration = Duration::from_millis(500);
/// A server that says nothing for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long its connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const SILENT: &str = "it says nothing";
/// Between two tries to reach one that is away.
const RETRY: Duration = Duration::from_millis(200);

/// What one process knows about its server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

struct Shared {
    /// Its memory, once it has one.
    memory: Mutex<Option<Uuid>>,
    session: watch::Sender<u64>,
    /// Why it does not answer.
    trouble: watch::Sender<Option<String>>,
}

impl Server {
    /// A server that has just answered.
    pub(super) fn new() -> Self {
        let (session, trouble) = (watch::Sender::new(0), watch::Sender::new(None));
        Self(Arc::new(Shared { memory: Mutex::new(None), session, trouble }))
    }

    /// Waits until a later session than `known` has begun. Cancel-safe.
    pub(crate) async fn session_after(&self, known: u64) {
        let mut sessions = self.0.session.subscribe();
        // It cannot fail: the sender is ours.
        drop(sessions.wait_for(|session| *session > known).await);
    }

    /// The session that is now.
    pub(crate) fn session(&self) -> u64 {
        *self.0.session.borrow()
    }

    /// Why the server does not answer; `None`: it does.
    pub(super) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.0.trouble.subscribe()
    }

    /// Asks over a new connection which memory the server has, before anything else is asked there; answers the session
    /// to which the connection belongs.
    pub(crate) async fn greet(&self, client: &Client) -> Result<u64, tokio_postgres::Error> {
        let Some(found) = memory(client).await? else { return Ok(self.session()) };
        let mut known = self.0.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.replace(found);
        if before.is_some_and(|before| before != found) {
            warn!("Postgres may have lost what it had last: everything that follows it starts again from there");
            self.begin_session();
        }
        Ok(self.session())
    }

    fn begin_session(&self) {
        self.0.session.send_modify(|session| *session += 1);
    }

    /// Watches the server over a connection of its own, for ever.
    pub(super) async fn watch(self, config: Config) {
        let mut first = true;
        loop {
            match self.watch_once(&config, first).await {
                Ok(()) => self.complain(SILENT),
                Err(error) => self.complain(&explain(&error)),
            }
            first = false;
            sleep(RETRY).await;
        }
    }

    fn complain(&self, cause: &str) {
        self.0.trouble.send_if_modified(|known| {
            let news = known.is_none();
            if news {
                warn!("Postgres does not answer: {cause}");
                *known = Some(cause.to_owned());
            }
            news
        });
    }

    /// Watches over one connection. `Ok`: the server is silent for good.
    async fn watch_once(&self, config: &Config, first: bool) -> Result<(), tokio_postgres::Error> {
        let Ok(connected) = timeout(SILENCE_MAX, config.connect(NoTls)).await else { return Ok(()) };
        let (client, connection) = connected?;
        let mut serving = JoinSet::new();
        serving.spawn(connection);
        if !first {
            // Nobody knows what happened since the connection before was lost.
            self.begin_session();
        }
        loop {
            let mut greeted = std::pin::pin!(self.greet(&client));
            match timeout(PATIENCE, &mut greeted).await {
                Ok(greeted) => drop(greeted?),
                // As long as the connection stands nothing is lost: it may only be busy.
                Err(_) => {
                    self.complain(SILENT);
                    let Ok(greeted) = timeout(SILENCE_MAX, greeted).await else { return Ok(()) };
                    greeted?;
                }
            }
            if self.0.trouble.send_if_modified(|known| known.take().is_some()) {
                info!("Postgres answers again");
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                // The next question says what is wrong.
                _ = serving.join_next() => {}
            }
        }
    }
}

/// The id of what the server remembers; `None`: our tables are not there yet.
async fn memory(client: &Client) -> Result<Option<Uuid>, tokio_postgres::Error> {
    const LOOK_UP: &str = "SELECT id::text FROM server_memory";
    // As one message each, and with nothing prepared: this comes before anything else.
    for _ in 0..2 {
        let messages = match client.simple_query(LOOK_UP).await {
            Ok(messages) => messages,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        if found.is_some() {
            return Ok(found);
        }
        client.batch_execute("INSERT INTO server_memory DEFAULT VALUES ON CONFLICT DO NOTHING").await?;
    }
    Ok(None)
}
