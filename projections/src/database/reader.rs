//! Connections that many tasks share: their queries go out one behind the other without waiting for answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tracing::{info, warn};

use super::{DatabaseError, explain};

/// How long a query waits for a connection that is being made again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries to make a connection again: from the first, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Answers single statements outside any transaction. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader(Arc<Shared>);

struct Shared {
    slots: Vec<watch::Receiver<Option<Arc<Connected>>>>,
    next: AtomicUsize,
    target: Arc<str>,
    /// One keeper per slot; they end with the last clone.
    _keepers: JoinSet<()>,
}

/// A live connection and the statements prepared on it.
struct Connected {
    client: Client,
    statements: RwLock<HashMap<Box<str>, Statement>>,
}

impl Reader {
    pub(super) fn start(config: &Config, target: &Arc<str>, count: usize) -> Self {
        let mut keepers = JoinSet::new();
        let slots = (0..count)
            .map(|_| {
                let (slot, connected) = watch::channel(None);
                keepers.spawn(keep_connected(config.clone(), target.clone(), slot));
                connected
            })
            .collect();
        Self(Arc::new(Shared { slots, next: AtomicUsize::new(0), target: target.clone(), _keepers: keepers }))
    }

    /// The rows that `sql` answers. The text is prepared once per connection, so it must be one of few.
    pub(crate) async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        match self.try_query(sql, params).await {
            // The server went away under the query. It only read, so it may be asked again, once.
            Err(DatabaseError::Statement(error)) if went_away(&error) => self.try_query(sql, params).await,
            answer => answer,
        }
    }

    async fn try_query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DatabaseError> {
        let connected = self.connected().await?;
        let statement = connected.prepare(sql).await?;
        Ok(connected.client.query(&statement, params).await?)
    }

    async fn connected(&self) -> Result<Arc<Connected>, DatabaseError> {
        let Shared { slots, next, target, .. } = &*self.0;
        let turn = next.fetch_add(1, Ordering::Relaxed);
        let alive = (0..slots.len()).find_map(|i| {
            let slot = slots[(turn + i) % slots.len()].borrow();
            slot.as_ref().filter(|connected| !connected.client.is_closed()).cloned()
        });
        if let Some(connected) = alive {
            return Ok(connected);
        }
        let mut slot = slots[turn % slots.len()].clone();
        let wait = slot.wait_for(|slot| slot.as_ref().is_some_and(|connected| !connected.client.is_closed()));
        let away = || DatabaseError::Unavailable {
            target: target.to_string(),
            detail: "the connection was lost and is being made again".to_owned(),
        };
        let connected = timeout(PATIENCE, wait).await.map_err(|_| away())?.map_err(|_| away())?;
        connected.clone().ok_or_else(away)
    }
}

/// Whether the connection is gone, or the server has just said that it ends it (class 57P).
fn went_away(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.code().is_some_and(|code| code.code().starts_with("57P"))
}

impl Connected {
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
async fn keep_connected(config: Config, target: Arc<str>, slot: watch::Sender<Option<Arc<Connected>>>) {
    let mut pause = BACKOFF.0;
    loop {
        match config.connect(NoTls).await {
            Ok((client, connection)) => {
                pause = BACKOFF.0;
                slot.send_replace(Some(Arc::new(Connected { client, statements: RwLock::default() })));
                let ended = connection.await;
                slot.send_replace(None);
                match ended {
                    Ok(()) => info!("a read connection to Postgres at {target} was closed"),
                    Err(error) => {
                        warn!("a read connection to Postgres at {target} was lost: {}", explain(&error))
                    }
                }
            }
            Err(error) => warn!("Postgres at {target} cannot be reached: {}", explain(&error)),
        }
        sleep(pause).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}
