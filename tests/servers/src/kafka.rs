//! A real Kafka.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use crate::container::{Image, Ready};
use crate::{Found, Wanted};

/// How long a cluster may take to start: the first time it brings its jars.
const PATIENCE: Duration = Duration::from_secs(180);
/// Says that tests with Kafka are to be left out, by its name.
const SKIP: &str = "SHOPSTREAM_TEST_SKIP";

pub(crate) static WANTED: Wanted = Wanted {
    name: "kafka",
    variable: "SHOPSTREAM_TEST_KAFKA",
    form: "its brokers, host:port separated by commas",
    programs: "Java, which deploy/kafka/kafka starts one with (`deploy/install test`)",
    image: Image {
        name: "apache/kafka",
        tag: "4.3.1",
        port: 9092,
        ready: Ready::Out("Kafka Server started"),
        variables: &[
            ("KAFKA_NODE_ID", "1"),
            ("KAFKA_PROCESS_ROLES", "broker,controller"),
            ("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093"),
            ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://127.0.0.1:{port}"),
            ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
            ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
            ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093"),
            ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
            ("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "4"),
            ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
            ("KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE", "false"),
        ],
    },
    instead: "\nor leave its tests out with SHOPSTREAM_TEST_SKIP=kafka",
};

/// The brokers for all tests of this process, `host:port` separated by commas; `None`, after a loud line, where
/// `SHOPSTREAM_TEST_SKIP=kafka` leaves them out.
///
/// # Panics
/// There are none: the message names the ways out.
pub fn brokers() -> Option<&'static str> {
    static FOUND: OnceLock<Found<Started>> = OnceLock::new();
    (!is_left_out()).then(|| match FOUND.get_or_init(|| WANTED.find(|| start(1, &[]))) {
        Found::Named(brokers) | Found::Contained(brokers) => brokers.as_str(),
        Found::Started(started) => &started.brokers,
    })
}

/// One or three brokers of the caller's own, which it may break: only programs on this machine give those. `options`
/// are those of `deploy/kafka/kafka start`. `None` as with [`brokers`].
///
/// # Panics
/// There are no programs, or they do not start a broker.
pub fn own(brokers: u8, options: &[String]) -> Option<Started> {
    let programs = WANTED.programs;
    let start = || {
        start(brokers, options)
            .unwrap_or_else(|missing| panic!("a Kafka to break needs {programs}: {missing}"))
    };
    (!is_left_out()).then(start)
}

fn is_left_out() -> bool {
    let left_out = std::env::var(SKIP).unwrap_or_default().split(',').any(|name| name.trim() == WANTED.name);
    if left_out {
        eprintln!("SKIPPED: {SKIP} leaves Kafka out");
    }
    left_out
}

/// Brokers that live as long as this value, and no longer than the process.
#[derive(Debug)]
pub struct Started {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// The folder of its nodes, for `deploy/kafka/kafka` to break them.
    pub folder: PathBuf,
    // The script stops its brokers when the command under it ends, and that ends when our end of the pipe closes.
    _until_closed: ChildStdin,
    _script: Child,
}

/// Starts brokers; says what is missing where there is no Java.
fn start(brokers: u8, options: &[String]) -> Result<Started, String> {
    if !is_on_path("java") {
        return Err("no java on the PATH, nor in JAVA_HOME".into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kafka/kafka");
    let until_closed = "echo \"$SHOPSTREAM_TEST_KAFKA\"; echo \"$SHOPSTREAM_TEST_KAFKA_DIR\"; cat";
    let mut command = Command::new(&script);
    command.args(["run", "--brokers", &brokers.to_string()]).args(options);
    command.args(["--", "sh", "-c", until_closed]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    let (lines, said) = mpsc::channel();
    let stdout = child.stdout.take().expect("piped");
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    let line = || said.recv_timeout(PATIENCE).expect("Kafka starts: what it says is above");
    let (brokers, folder) = (line(), line().into());
    Ok(Started { brokers, folder, _until_closed: child.stdin.take().expect("piped"), _script: child })
}

fn is_on_path(program: &str) -> bool {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    home.into_iter().chain(std::env::split_paths(&path)).any(|folder| folder.join(program).is_file())
}
