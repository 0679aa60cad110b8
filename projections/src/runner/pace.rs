//! How often the log is read for Postgres.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Between two reads under load. Nobody waits that long for what comes after a pause, and under load a batch holds
/// what came meanwhile: a transaction costs as much as some dozen rows, and nine views make one each.
const TURN: Duration = Duration::from_millis(10);

/// Spaces out turns.
#[derive(Debug)]
pub(super) struct Pace(Instant);

impl Default for Pace {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Pace {
    /// Waits until the last turn began long enough ago. Cancel-safe.
    pub(super) async fn turn(&mut self) {
        sleep_until(self.0).await;
        self.0 = Instant::now() + TURN;
    }
}
