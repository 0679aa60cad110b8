//! The settings of the processes. The defaults are those of the design (`commerce.md` C.5.1).

use std::time::Duration;

/// How patient the processes are, and how much they do at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Processes that run at the same time. What waits for a customer or a clock is not among them.
    pub in_flight_max: usize,
    /// Between two sendings of a command that nobody could take.
    pub resend_after: Duration,
    /// How long a command may go unanswered before its process gives up (F-04).
    pub patience: Duration,
    /// How long a checkout holds stock.
    pub hold_seconds: u32,
    /// How long it may hold stock with all extensions, while a payment's outcome is unknown.
    pub hard_max_seconds: u32,
    /// How often a customer may try to pay one order.
    pub attempts_max: u32,
    /// How long a call to the provider may take before its outcome counts as unknown.
    pub provider_timeout: Duration,
    /// The first wait before the provider is asked about an unknown outcome; doubled each time.
    pub check_after_seconds: u32,
    /// The longest wait between two such questions.
    pub check_after_seconds_max: u32,
    /// How often a step that fails is tried again before an operator must look.
    pub tries_max: u32,
    /// Bytes that the runner reads of the log at once.
    pub read_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            resend_after: Duration::from_secs(5),
            patience: Duration::from_secs(300),
            hold_seconds: 30 * 60,
            hard_max_seconds: 2 * 60 * 60,
            attempts_max: 3,
            provider_timeout: Duration::from_secs(30),
            check_after_seconds: 5,
            check_after_seconds_max: 300,
            tries_max: 5,
            read_bytes: 1 << 20,
        }
    }
}
