//! A real Kafka for the running shop.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use shopstream_test_servers::kafka::{self as servers, Started};

use crate::Process;
use crate::network::Machine;

/// How long a node may take to end or to come back.
const PATIENCE: Duration = Duration::from_secs(180);

/// Brokers.
pub struct Cluster {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Those that this process started for one test: they may be broken.
    own: Option<Started>,
}

/// The brokers for all tests of this process; `None`, after a loud line, where they are to be left out.
///
/// # Panics
/// There are none: see [`shopstream_test_servers::kafka::brokers`].
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    let shared = || Some(Cluster { brokers: servers::brokers()?.to_owned(), own: None });
    SHARED.get_or_init(shared).as_ref()
}

impl Cluster {
    /// A new cluster of one or three brokers; `None` as with [`shared`].
    ///
    /// # Panics
    /// There are no programs for it, or it does not start.
    pub fn start(brokers: u8) -> Option<Self> {
        Self::own(brokers, &[])
    }

    /// The same, each broker on a machine of its own.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_on(machines: &[Machine]) -> Option<Self> {
        let place = |machine: &Machine| format!("{}={}", machine.name(), machine.address());
        let options: Vec<_> =
            machines.iter().flat_map(|machine| ["--at".to_owned(), place(machine)]).collect();
        Self::own(machines.len().try_into().expect("one or three"), &options)
    }

    fn own(brokers: u8, options: &[String]) -> Option<Self> {
        let own = servers::own(brokers, options)?;
        Some(Self { brokers: own.brokers.clone(), own: Some(own) })
    }

    /// Where each broker listens.
    ///
    /// # Panics
    /// They are known by other names than their addresses.
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.brokers.split(',').map(|broker| broker.parse().expect("an address")).collect()
    }

    /// The URL of a log on a topic that nobody else uses.
    pub fn log_url(&self, name: &str) -> String {
        let unique = format!("{}.{}", std::process::id(), crate::unique());
        format!("kafka://{}/shopstream.it.{name}.{unique}", self.brokers)
    }

    /// Ends a node as a power button would, and waits until it is gone.
    ///
    /// # Panics
    /// It is not of this test's own.
    pub fn kill9(&self, node: u8) {
        self.tool("kill", node, &["-9"]);
    }

    /// Ends a node in order, and waits until it is gone.
    ///
    /// # Panics
    /// It is not of this test's own.
    pub fn stop(&self, node: u8) {
        self.tool("kill", node, &[]);
    }

    /// Stops a node's clock: it does nothing and knows nothing, and keeps its connections.
    ///
    /// # Panics
    /// It is not of this test's own.
    pub fn pause(&self, node: u8) {
        self.tool("pause", node, &[]);
    }

    /// Lets a node go on after [`Cluster::pause`].
    ///
    /// # Panics
    /// It is not of this test's own.
    pub fn resume(&self, node: u8) {
        self.tool("resume", node, &[]);
    }

    /// Starts a node again, and waits until it is back.
    ///
    /// # Panics
    /// It is not of this test's own, or does not come back.
    pub fn restart(&self, node: u8) {
        self.tool("restart", node, &[]);
    }

    /// Cuts the last `bytes` off a partition on a node that does not run, as a power cut may: the index and what is
    /// known of its producers go with it, and Kafka makes them anew.
    ///
    /// # Panics
    /// There is no such partition.
    pub fn cut(&self, node: u8, topic: &str, partition: u16, bytes: u64) {
        let home = self.folder().join(format!("node-{node}/data")).join(format!("{topic}-{partition}"));
        for entry in fs::read_dir(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display())) {
            let path = entry.expect("an entry").path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("log") => {
                    let length = written(&path);
                    assert!(length > bytes, "{} holds {length} bytes", path.display());
                    let file = fs::OpenOptions::new().write(true).open(&path).expect("a segment");
                    file.set_len(length - bytes).expect("a cut");
                }
                Some("index" | "timeindex" | "snapshot") => fs::remove_file(&path).expect("removed"),
                _ => {}
            }
        }
    }

    /// Flips a bit of a record, in the first letter of the twentieth `word` of a partition, as rot does: behind the
    /// broker's back. Once more, and it is as it was.
    ///
    /// # Panics
    /// There are fewer.
    pub fn flip(&self, node: u8, topic: &str, partition: u16, word: &str) {
        let home = self.folder().join(format!("node-{node}/data")).join(format!("{topic}-{partition}"));
        let path = home.join(format!("{:020}.log", 0));
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // All of the word but the letter, which may have been flipped before.
        let rest = word.as_bytes().get(1..).expect("a word");
        let mut words = bytes.windows(rest.len()).enumerate().filter(|(_, run)| *run == rest);
        let (at, _) = words.nth(19).expect("twenty words");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("a segment");
        file.write_all_at(&[bytes[at - 1] ^ 1], at as u64 - 1).expect("written");
    }

    fn tool(&self, verb: &str, node: u8, more: &[&str]) {
        let mut command = Command::new(crate::repository().join("deploy/kafka/kafka"));
        command.arg(verb).arg(self.folder()).arg(node.to_string()).args(more);
        let said = Process::spawn(&format!("kafka {verb}"), command).finish(PATIENCE);
        assert!(said.status.success(), "{verb} {node}: {said:?}");
    }

    fn folder(&self) -> &Path {
        self.own.as_ref().map(|own| own.folder.as_path()).expect("a cluster of this test's own")
    }
}

/// The length of a segment without the zeroes that it may end with.
fn written(segment: &Path) -> u64 {
    let bytes = fs::read(segment).expect("a segment");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}
