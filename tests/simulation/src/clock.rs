//! Time as the paused clock of tokio has it: it stands while anybody has something to do, and jumps to the next timer
//! when nobody has.

use shopstream_command_handlers::Clock;
use shopstream_domain::Timestamp;

/// A Monday in January 2026.
const BEGIN: Timestamp = Timestamp::from_seconds(1_767_600_000);

pub(crate) struct SimClock {
    began: tokio::time::Instant,
}

impl SimClock {
    pub(crate) fn start() -> Self {
        Self { began: tokio::time::Instant::now() }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(BEGIN.micros().saturating_add(passed))
    }
}
