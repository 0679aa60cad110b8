//! A real Kafka for tests: the one that `SHOPSTREAM_TEST_KAFKA` names, else one started on this machine.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::Process;

/// How long a cluster may take to start: the first time it brings its jars.
const PATIENCE: Duration = Duration::from_secs(180);

/// Brokers that live as long as this value, and no longer than the test process.
pub struct Cluster {
    _process: Option<Process>,
    /// `host:port`, separated by commas.
    pub brokers: String,
}

/// One broker for all tests of this process; `None`, after a loud line, where there can be none and none is required.
///
/// # Panics
/// There can be none and `SHOPSTREAM_TEST_REQUIRE` names `kafka`.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| named().or_else(|| Cluster::start(1))).as_ref()
}

fn named() -> Option<Cluster> {
    let brokers = std::env::var("SHOPSTREAM_TEST_KAFKA").ok()?;
    Some(Cluster { _process: None, brokers })
}

impl Cluster {
    /// A new cluster of one or three brokers; `None` as with [`shared`].
    ///
    /// # Panics
    /// As [`shared`], or it does not start.
    pub fn start(brokers: u8) -> Option<Self> {
        if !is_on_path("java") {
            crate::skip(
                "kafka",
                "no Java: run deploy/install test, or name brokers in SHOPSTREAM_TEST_KAFKA",
            );
            return None;
        }
        let mut command = Command::new(crate::repository().join("deploy/kafka/kafka"));
        // The script stops its brokers when the command ends, and the command when our end of the pipe closes.
        let until_closed = "echo \"$SHOPSTREAM_TEST_KAFKA\"; cat";
        command.args(["run", "--brokers", &brokers.to_string(), "--", "sh", "-c", until_closed]);
        let mut process = Process::spawn("kafka", command).living_by_stdin();
        let Some(brokers) = process.line(PATIENCE) else { panic!("no Kafka: {}", process.complaints()) };
        Some(Self { _process: Some(process), brokers })
    }

    /// The URL of a log on a topic that nobody else uses.
    pub fn log_url(&self, name: &str) -> String {
        let unique = format!("{}.{}", std::process::id(), crate::unique());
        format!("kafka://{}/shopstream.it.{name}.{unique}", self.brokers)
    }
}

fn is_on_path(program: &str) -> bool {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    home.into_iter().chain(std::env::split_paths(&path)).any(|folder| folder.join(program).is_file())
}
