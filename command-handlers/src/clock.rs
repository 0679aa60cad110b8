//! The one place where the write path asks what time it is.

use shopstream_domain::Timestamp;

/// Tells the time. Tests and the simulation bring their own.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the edge at which the clock is asked")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_micros(since_epoch.map_or(0, |span| span.as_micros() as i64))
    }
}
