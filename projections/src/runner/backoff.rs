//! Pauses between tries after errors.

use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// A pause that doubles each time, up to five seconds.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    pub(super) async fn pause(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(LAST);
    }

    /// It worked: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }
}
