//! Time as the paused clock of tokio has it: it stands while anybody has something to do, and jumps to the next timer
//! when nobody has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use shopstream_command_handlers::Clock;
use shopstream_domain::Timestamp;

/// A Monday in January 2026.
const BEGIN: Timestamp = Timestamp::from_seconds(1_767_600_000);

/// So often nobody looks at the clock in one moment, unless somebody goes round in circles, and while he does, the clock
/// does not move: the run would never end.
const LOOKS_MAX: u32 = 100_000;

pub(crate) struct SimClock {
    began: tokio::time::Instant,
    looks: Mutex<Looks>,
    stood_still: AtomicBool,
}

/// How often somebody looked in this moment.
struct Looks {
    moment: tokio::time::Instant,
    count: u32,
}

impl SimClock {
    pub(crate) fn start() -> Self {
        let began = tokio::time::Instant::now();
        Self {
            began,
            looks: Mutex::new(Looks { moment: began, count: 0 }),
            stood_still: AtomicBool::new(false),
        }
    }

    /// Whether somebody went round in circles: see [`LOOKS_MAX`].
    pub(crate) fn stood_still(&self) -> bool {
        self.stood_still.load(Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    /// # Panics
    /// Time stands still: see [`LOOKS_MAX`]. Whoever looks then is broken off, so that the run has an end.
    fn now(&self) -> Timestamp {
        let moment = tokio::time::Instant::now();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.moment != moment {
            *looks = Looks { moment, count: 0 };
        }
        looks.count += 1;
        if looks.count > LOOKS_MAX {
            self.stood_still.store(true, Ordering::Relaxed);
            panic!("time stands still: somebody goes round in circles");
        }
        let passed = i64::try_from((moment - self.began).as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(BEGIN.micros().saturating_add(passed))
    }
}
