//! A shop of its own for a test: the real program, its data in a temporary folder, its ports free ones.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shopstream_server::client::Client;
use tempfile::TempDir;

use crate::network::Machine;
use crate::{Process, Said, program, tied};

/// How long a node may take to start or to stop, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a verb may take.
const VERB: Duration = Duration::from_secs(600);

/// The line that a node says when it does all of its work.
const READY: &str = "ready";
/// The last line of where everything is.
const UP: &str = "data ";

/// What a node runs with, beyond the defaults.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    log: Option<String>,
    provider: Option<String>,
    database: Option<String>,
    node: Option<String>,
    roles: Option<String>,
    log_watch_seconds: Option<u64>,
    hold_seconds: Option<u32>,
    provider_timeout_seconds: Option<u32>,
    answer_timeout_seconds: Option<u32>,
    tries_max: Option<u32>,
    snapshot_events: Option<u64>,
    behind_seconds: Option<u32>,
    machine: Option<Machine>,
    log_folder: Option<PathBuf>,
    descriptors: Option<u64>,
}

impl Setup {
    /// On the log at this URL; makes its topic.
    ///
    /// # Panics
    /// The topic cannot be made.
    pub fn on(log: &str) -> Self {
        Self::on_replicated(log, 1)
    }

    /// The same, with every record on so many brokers, all but one of which must have it before it counts.
    ///
    /// # Panics
    /// The topic cannot be made.
    pub fn on_replicated(log: &str, brokers: u8) -> Self {
        let mut command = tied(program());
        command.args(["topics", "apply", "--log", log, "--power", "independent"]);
        let least = brokers.saturating_sub(1).max(1);
        command.args(["--replication", &brokers.to_string(), "--min-insync", &least.to_string()]);
        let made = Process::spawn("topics apply", command).finish(VERB);
        assert!(made.status.success(), "topics apply: {made:?}");
        Self { log: Some(log.to_owned()), ..Self::default() }
    }

    /// With the payment provider of another node.
    pub fn paid_through(self, provider: &str) -> Self {
        Self { provider: Some(provider.to_owned()), ..self }
    }

    /// With the read models in a database that outlives the node.
    pub fn reading_from(self, database: &str) -> Self {
        Self { database: Some(database.to_owned()), ..self }
    }

    /// Under a name of its own, among several nodes.
    pub fn named(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..self }
    }

    /// With these roles only.
    pub fn with_roles(self, roles: &str) -> Self {
        Self { roles: Some(roles.to_owned()), ..self }
    }

    /// Looking so often whether the topic is as it should be.
    pub fn watching_every(self, log_watch_seconds: u64) -> Self {
        Self { log_watch_seconds: Some(log_watch_seconds), ..self }
    }

    /// With checkouts that hold their stock for so long at most, whatever happens.
    pub fn holding_for(self, hold_seconds: u32) -> Self {
        Self { hold_seconds: Some(hold_seconds), ..self }
    }

    /// Giving up on an answer of the provider after so long, to ask again.
    pub fn waiting_for_the_provider(self, provider_timeout_seconds: u32) -> Self {
        Self { provider_timeout_seconds: Some(provider_timeout_seconds), ..self }
    }

    /// Giving up on stock that does not answer after so long.
    pub fn waiting_for_the_stock(self, answer_timeout_seconds: u32) -> Self {
        Self { answer_timeout_seconds: Some(answer_timeout_seconds), ..self }
    }

    /// Trying a step that failed so often again before a person must look.
    pub fn trying_again(self, tries_max: u32) -> Self {
        Self { tries_max: Some(tries_max), ..self }
    }

    /// With a snapshot of every stream that has so many events, and another one after as many more.
    pub fn with_snapshots_every(self, snapshot_events: u64) -> Self {
        Self { snapshot_events: Some(snapshot_events), ..self }
    }

    /// Not ready when processes or views are so far behind.
    pub fn behind_after(self, behind_seconds: u32) -> Self {
        Self { behind_seconds: Some(behind_seconds), ..self }
    }

    /// With its embedded log in this folder, wherever the rest is.
    pub fn logging_to(self, folder: &Path) -> Self {
        Self { log_folder: Some(folder.to_owned()), ..self }
    }

    /// With so many descriptors for the node and no more, as under `ulimit -n`.
    pub fn with_descriptors(self, descriptors: u64) -> Self {
        Self { descriptors: Some(descriptors), ..self }
    }

    /// On this machine; else where the caller is.
    pub fn placed_on(self, machine: &Machine) -> Self {
        Self { machine: Some(machine.clone()), ..self }
    }

    /// An address that nobody uses, where the node is.
    fn free_address(&self) -> String {
        let host = self.machine.as_ref().map_or(Ipv4Addr::LOCALHOST, Machine::address);
        format!("{host}:0")
    }

    /// The program, to run where the node does.
    fn program(&self) -> Command {
        match &self.machine {
            Some(machine) => {
                let inside = machine.command(program());
                let mut command = tied(inside.get_program());
                command.args(inside.get_args());
                command
            }
            None => match self.descriptors {
                Some(count) => {
                    let mut command = tied("prlimit");
                    command.arg(format!("--nofile={count}:{count}")).arg(program());
                    command
                }
                None => tied(program()),
            },
        }
    }

    /// The flags, for every verb alike. The password goes another way: the command line is everybody's to read.
    fn apply(&self, command: &mut Command) {
        let Self { log, provider, node, roles, .. } = self;
        for (flag, value) in [("--log", log), ("--provider", provider), ("--node", node), ("--roles", roles)]
        {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        if let Some(database) = &self.database {
            command.env("SHOPSTREAM_DATABASE", database);
        }
        if let Some(seconds) = self.log_watch_seconds {
            command.env("SHOPSTREAM_LOG_WATCH_SECONDS", seconds.to_string());
        }
        if let Some(seconds) = self.provider_timeout_seconds {
            command.env("SHOPSTREAM_PROVIDER_TIMEOUT_SECONDS", seconds.to_string());
        }
        if let Some(seconds) = self.answer_timeout_seconds {
            command.env("SHOPSTREAM_ANSWER_TIMEOUT_SECONDS", seconds.to_string());
        }
        if let Some(tries) = self.tries_max {
            command.env("SHOPSTREAM_TRIES_MAX", tries.to_string());
        }
        if let Some(events) = self.snapshot_events {
            command.env("SHOPSTREAM_SNAPSHOT_EVENTS", events.to_string());
        }
        if let Some(seconds) = self.behind_seconds {
            command.env("SHOPSTREAM_BEHIND_SECONDS", seconds.to_string());
        }
        if let Some(seconds) = self.hold_seconds {
            command.env("SHOPSTREAM_HOLD_SECONDS", seconds.to_string());
            command.env("SHOPSTREAM_HOLD_MAX_SECONDS", seconds.to_string());
        }
    }
}

/// A shop that runs, and everything it has.
pub struct TestShop {
    node: Process,
    setup: Setup,
    listen: String,
    admin: String,
    provider: String,
    data: PathBuf,
    /// Where several nodes may work, none starts one of its own.
    _simulator: Option<Process>,
    _folder: TempDir,
}

/// What a node says when it is ready.
struct Ready {
    node: Process,
    listen: String,
    admin: String,
    provider: String,
}

impl TestShop {
    /// A shop on the embedded log.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// A shop that runs with this setup.
    ///
    /// # Panics
    /// It does not get ready.
    pub fn start_with(mut setup: Setup) -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        // Whoever takes over a log that others can reach has to find what was paid there.
        let simulator = (setup.log.is_some() && setup.provider.is_none()).then(|| {
            let (simulator, url) = simulator(&setup, &folder.path().join("provider"));
            setup.provider = Some(url);
            simulator
        });
        if let Some(log) = &setup.log_folder {
            fs::create_dir(&data).and_then(|()| symlink(log, data.join("log"))).expect("a link to its log");
        }
        let free = setup.free_address();
        let Ready { node, listen, admin, provider } = serve(&data, &setup, &free, &free, READY);
        Self { node, setup, listen, admin, provider, data, _simulator: simulator, _folder: folder }
    }

    /// The folder of everything that lasts.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The URL of its metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.admin)
    }

    /// Where it takes calls.
    ///
    /// # Panics
    /// It named no address.
    pub fn door(&self) -> SocketAddr {
        self.listen.parse().expect("an address")
    }

    /// The URL of its gRPC services.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The URL of its payment provider.
    pub fn provider_url(&self) -> &str {
        &self.provider
    }

    /// A client of the running node.
    ///
    /// # Panics
    /// Nobody answers.
    pub async fn client(&self) -> Client {
        Client::connect(&self.url()).await.expect("a node that is ready")
    }

    /// The id of the node's process.
    pub fn pid(&self) -> Pid {
        self.node.pid()
    }

    /// Whether the node has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.node.is_alive()
    }

    /// Starts a verb on this shop.
    pub fn start_verb(&self, verb: &[&str]) -> Process {
        let mut command = self.setup.program();
        command.args(verb).args(["--listen", &self.listen]).arg("--data").arg(&self.data);
        self.setup.apply(&mut command);
        Process::spawn(&verb.join(" "), command)
    }

    /// Carries out a verb on this shop.
    pub fn verb(&self, verb: &[&str]) -> Said {
        self.start_verb(verb).finish(VERB)
    }

    /// The books are right and nothing is unfinished; read models are what the log says. Waits for what a test has
    /// placed and not seen to its end.
    ///
    /// # Panics
    /// They are not.
    pub fn verify(&self) {
        self.audited().unwrap_or_else(|said| panic!("verify --quiesced: {said}"));
    }

    /// As [`TestShop::verify`].
    ///
    /// # Errors
    /// What the verb says of books that are not right.
    pub fn audited(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let said = self.verb(&["verify", "--quiesced"]);
            if said.status.success() {
                return Ok(());
            }
            let said = format!("{}{}", said.out, said.err);
            // Books that are wrong do not mend themselves.
            let is_under_way =
                said.lines().any(|line| line.starts_with("unfinished ")) && said.contains("hold;");
            if !is_under_way || begun.elapsed() >= PATIENCE {
                return Err(said);
            }
        }
    }

    /// A node on the data of this one, which should not come up; what it says.
    pub fn second_node(&self) -> Said {
        serve_refused(&self.data, &[], &[])
    }

    /// A node on the data of this one, after [`TestShop::kill9`], with these variables; it should not come up.
    pub fn refused_again(&self, variables: &[(&str, &str)]) -> Said {
        serve_refused(&self.data, &[], variables)
    }

    /// A node with these flags, which should not come up; what it says.
    pub fn refused(flags: &[&str]) -> Said {
        let folder = folder();
        serve_refused(&folder.path().join("data"), flags, &[])
    }

    /// Ends the node as a power button would.
    pub fn kill9(&mut self) {
        self.node.signal(Signal::SIGKILL);
        self.node.wait(PATIENCE);
    }

    /// Stops the node's clock: it does nothing and knows nothing, as behind a long pause of its machine.
    pub fn pause(&mut self) {
        self.node.signal(Signal::SIGSTOP);
    }

    /// Lets the node go on after [`TestShop::pause`].
    pub fn resume(&mut self) {
        self.node.signal(Signal::SIGCONT);
    }

    /// Asks the node to stop in order, and does not wait for it.
    pub fn ask_to_stop(&mut self) {
        self.node.signal(Signal::SIGTERM);
    }

    /// Whether the node says over HTTP that it is ready, and what it says otherwise.
    ///
    /// # Panics
    /// Nobody answers.
    pub fn ready(&self) -> (bool, String) {
        let mut stream = TcpStream::connect(&self.admin).expect("a node");
        stream.write_all(b"GET /health/ready HTTP/1.0\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
        (head.contains(" 200 "), body.to_owned())
    }

    /// Stops the node in order.
    ///
    /// # Panics
    /// It does not stop in order.
    pub fn stop(&mut self) {
        self.ask_to_stop();
        let status = self.node.wait(PATIENCE);
        let complaints = self.complaints();
        assert!(status.success(), "the node stopped with {status}: {complaints}");
        assert!(!complaints.contains("panicked at"), "{complaints}");
    }

    /// Sends this signal, waits for an orderly end, and answers what the node said last.
    ///
    /// # Panics
    /// It does not end in order.
    pub fn ended_by(&mut self, signal: Signal) -> String {
        self.node.signal(signal);
        let status = self.node.wait(PATIENCE);
        assert!(status.success(), "{signal} ended the node with {status}: {}", self.complaints());
        self.complaints()
    }

    /// A shop on a copy of this one's data as it is now, on ports of its own.
    ///
    /// # Panics
    /// It cannot be copied, or does not get ready.
    pub fn copied(&self) -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        let copied = Command::new("cp").arg("-a").arg(&self.data).arg(&data).status().expect("cp");
        assert!(copied.success(), "cp: {copied}");
        let (setup, free) = (self.setup.clone(), self.setup.free_address());
        let Ready { node, listen, admin, provider } = serve(&data, &setup, &free, &free, READY);
        Self { node, setup, listen, admin, provider, data, _simulator: None, _folder: folder }
    }

    /// The last lines of the node's log.
    pub fn complaints(&self) -> String {
        self.node.complaints()
    }

    /// Starts the node again, after [`TestShop::kill9`] or [`TestShop::stop`], on the same data and ports.
    pub fn restart(&mut self) {
        self.serve_again(READY);
    }

    /// As [`TestShop::restart`], where something is wrong that keeps the node from being ready.
    pub fn restart_unready(&mut self) {
        self.serve_again(UP);
    }

    fn serve_again(&mut self, until: &str) {
        let ready = serve(&self.data, &self.setup, &self.listen, &self.admin, until);
        (self.node, self.provider) = (ready.node, ready.provider);
    }

    /// Checks the books and stops the node in order.
    ///
    /// # Panics
    /// Something is wrong with either.
    pub fn finish(mut self) {
        self.verify();
        self.stop();
    }
}

impl Drop for TestShop {
    fn drop(&mut self) {
        if self.node.is_alive() {
            self.node.signal(Signal::SIGTERM);
            // A test that failed may have left it paused.
            self.resume();
            self.node.wait(PATIENCE);
        }
        // A node that was killed leaves its provider behind, as it should.
        let address = fs::read_to_string(self.data.join("provider/address")).unwrap_or_default();
        if let Some(pid) = address.lines().nth(1).and_then(|line| line.trim().parse().ok()) {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if command.contains("provider-simulator") {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
    }
}

/// A temporary folder. Postgres runs as another user where we are root, and that one must come in.
pub(crate) fn folder() -> TempDir {
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let folder = tempfile::Builder::new().prefix("shopstream-it-").permissions(everybody).tempdir();
    folder.expect("a temporary folder")
}

/// The id of the postmaster on the data of a private Postgres.
pub(crate) fn postmaster(postgres: &Path) -> Pid {
    let path = postgres.join("pgdata/postmaster.pid");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id");
    Pid::from_raw(pid)
}

fn serve_refused(data: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = tied(program());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(flags)
        .envs(variables.iter().copied());
    Process::spawn("a node that should not come up", command).finish(PATIENCE)
}

/// A payment provider for several nodes; answers its URL too.
fn simulator(setup: &Setup, data: &Path) -> (Process, String) {
    let mut command = setup.program();
    command.args(["provider-simulator", "--listen", &setup.free_address(), "--data"]).arg(data);
    let mut simulator = Process::spawn("provider-simulator", command);
    let line = simulator.line(PATIENCE).unwrap_or_else(|| panic!("no simulator: {}", simulator.complaints()));
    let url = url_of(&[line], "provider");
    (simulator, url)
}

fn serve(data: &Path, setup: &Setup, listen: &str, admin: &str, until: &str) -> Ready {
    let mut command = setup.program();
    command.args(["serve", "--listen", listen, "--admin", admin, "--data"]).arg(data);
    setup.apply(&mut command);
    let mut node = Process::spawn("serve", command);
    let mut said = Vec::new();
    while let Some(line) = node.line(PATIENCE) {
        if line.starts_with(until) {
            let url = |name: &str| url_of(&said, name);
            let (listen, admin, provider) = (url("grpc"), url("metrics"), url("provider"));
            let admin = admin.trim_end_matches("/metrics");
            let address = |url: &str| url.trim_start_matches("http://").to_owned();
            return Ready { listen: address(&listen), admin: address(admin), provider, node };
        }
        said.push(line);
    }
    panic!("serve ended before it was ready: {}", node.complaints());
}

fn url_of(said: &[String], name: &str) -> String {
    let line = said.iter().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("serve names no {name}: {said:?}")).trim().to_owned()
}

/// A shop that tests share which leave it as it was for the others. It lasts while one of them has it; the last one
/// checks its books.
pub struct Shared(Option<TestShop>);

impl Shared {
    /// The shop that is shared now, or a new one.
    pub fn shop() -> Arc<Self> {
        static CURRENT: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let shop = Arc::new(Self(Some(TestShop::start())));
            *current = Arc::downgrade(&shop);
            shop
        })
    }
}

impl std::ops::Deref for Shared {
    type Target = TestShop;

    fn deref(&self) -> &TestShop {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(shop) = self.0.take()
            && !std::thread::panicking()
        {
            shop.finish();
        }
    }
}
