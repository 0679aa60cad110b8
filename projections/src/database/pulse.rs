//! A connection that only asks whether the server is there and takes writes.

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::explain;

/// What is wrong with a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Faint {
    /// It does not answer.
    #[error("it does not answer: {detail}")]
    Away {
        /// What was seen.
        detail: String,
    },
    /// It answers and takes no writes.
    #[error("it is read-only")]
    ReadOnly,
}

/// Asks over a connection of its own, which is made again when it is lost.
pub struct Pulse {
    config: Config,
    client: Option<Client>,
}

impl Pulse {
    pub(super) const fn new(config: Config) -> Self {
        Self { config, client: None }
    }

    /// Asks once. Within a tokio runtime. Dropped half-way, it asks over another connection the next time.
    ///
    /// # Errors
    /// See [`Faint`].
    pub async fn beat(&mut self) -> Result<(), Faint> {
        let away = |error: tokio_postgres::Error| Faint::Away { detail: explain(&error) };
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(away)?;
                // How it ends, the client says.
                tokio::spawn(async move { drop(connection.await) });
                client
            }
        };
        let answer = client.simple_query("SHOW transaction_read_only").await.map_err(away)?;
        let is_read_only =
            answer.iter().any(|it| matches!(it, SimpleQueryMessage::Row(row) if row.get(0) == Some("on")));
        if is_read_only {
            // A session may stay so when the server no longer is.
            return Err(Faint::ReadOnly);
        }
        self.client = Some(client);
        Ok(())
    }
}
