//! How long to wait before something that has ended by itself is started again.

use std::time::Duration;

/// The first wait, and the longest.
const BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// What ran for so long has started well.
const STEADY: Duration = Duration::from_secs(60);

/// Doubles with every wait, until something has run for a while.
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BOUNDS.0)
    }
}

impl Backoff {
    /// Takes note of how long it ran.
    pub(super) fn ran_for(&mut self, ran: Duration) {
        if ran >= STEADY {
            *self = Self::default();
        }
    }

    /// How long to wait this time.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(BOUNDS.1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_again_and_again_is_started_more_and_more_seldom() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.ran_for(Duration::from_secs(59));
        assert_eq!(backoff.next(), BOUNDS.1);
        backoff.ran_for(STEADY);
        assert_eq!(backoff.next(), BOUNDS.0);
    }
}
