//! A log to project from, for tests.

mod log;

pub use self::log::TestLog;
