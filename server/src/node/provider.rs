//! The payment provider of a node: the one that is named, or the simulator, a process of its own that outlives a
//! killed node, as a real provider would, and is started again when it dies.
//!
//! A simulator that is there already is believed only if the process that answers proves that it is the one which the
//! folder's note means, and that it works on this very folder: the note may have been copied, the port and the
//! process id may be another's by now. No other process is used, and none is ever signalled.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shopstream_proto::provider::v1::IdentifyRequest;
use shopstream_proto::provider::v1::provider_service_client::ProviderServiceClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tracing::{error, info, warn};

use super::{Backoff, folder};
use crate::config::Config;
use crate::provider::{Note, RemoteProvider};

/// How long the simulator may take to listen, and for one before it to let go of its book.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// How often the provider is asked whether it is there.
const BEAT: Duration = Duration::from_millis(500);
/// How long its answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);

/// The provider, and the simulator where this node keeps one.
pub(super) struct Provider {
    remote: RemoteProvider,
    url: watch::Receiver<String>,
    away: watch::Receiver<Option<String>>,
    /// The simulator's process.
    process: Arc<Mutex<Option<Process>>>,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
}

impl Provider {
    /// The named provider, the simulator that still runs on this data, or a new one.
    ///
    /// # Errors
    /// The simulator does not start, or the URL is not one.
    pub(super) async fn find(config: &Config, shop: SocketAddr) -> anyhow::Result<Self> {
        let (url, simulator, process) = match &config.provider {
            Some(url) => (url.clone(), None, None),
            None => {
                let simulator = Simulator { folder: config.data.join("provider"), shop };
                let running = match simulator.running().await {
                    Some(running) => running,
                    None => simulator.start("127.0.0.1:0").await?,
                };
                (running.url, Some(simulator), Some(running.process))
            }
        };
        let remote = RemoteProvider::new(&url)?;
        let (url_in, url) = watch::channel(url);
        let (away_in, away) = watch::channel(None);
        let process = Arc::new(Mutex::new(process));
        let stop = CancellationToken::new();
        let keeper = Keeper {
            simulator,
            process: process.clone(),
            remote: remote.clone(),
            url: url_in,
            away: away_in,
        };
        let keeper = tokio::spawn(keeper.run(stop.clone()));
        Ok(Self { remote, url, away, process, stop, keeper })
    }

    /// The way to it, wherever it is.
    pub(super) fn remote(&self) -> RemoteProvider {
        self.remote.clone()
    }

    /// Where it is.
    pub(super) fn url(&self) -> watch::Receiver<String> {
        self.url.clone()
    }

    /// Why it does not answer at the moment.
    pub(super) fn away(&self) -> watch::Receiver<Option<String>> {
        self.away.clone()
    }

    /// Stops the simulator, if it is this node's, and waits until it is gone.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        // A panic there was told; the process is stopped all the same.
        (&mut self.keeper).await.ok();
        let Some(process) = self.take() else { return };
        process.end();
        let gone = async {
            while process.is_alive() {
                sleep(LOOK).await;
            }
        };
        if timeout(GRACE, gone).await.is_err() {
            warn!(pid = process.pid, "the provider simulator does not end");
        }
    }

    fn take(&self) -> Option<Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Provider {
    /// Only a node that is killed leaves its simulator behind.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(process) = self.take() {
            process.end();
        }
    }
}

/// Ends the simulator that a killed node has left behind on this data, if there is one.
pub(crate) async fn end_leftover(data: &Path) {
    let simulator = Simulator { folder: data.join("provider"), shop: SocketAddr::from(([127, 0, 0, 1], 0)) };
    if let Some(running) = simulator.running().await {
        running.process.end();
    }
}

/// Looks after a provider.
struct Keeper {
    simulator: Option<Simulator>,
    process: Arc<Mutex<Option<Process>>>,
    remote: RemoteProvider,
    url: watch::Sender<String>,
    away: watch::Sender<Option<String>>,
}

impl Keeper {
    async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut since = Instant::now();
        while stop.run_until_cancelled(sleep(BEAT)).await.is_some() {
            let answer = timeout(ANSWER, self.remote.identify()).await;
            let away = match answer {
                // Another program than the simulator need not know this question.
                Ok(Ok(_)) => None,
                Ok(Err(status)) if !matches!(status.code(), Code::Unavailable | Code::Unknown) => None,
                Ok(Err(status)) => Some(format!("it does not answer: {}", status.message())),
                Err(_) => Some(format!("it does not answer within {} s", ANSWER.as_secs())),
            };
            metrics::gauge!("shopstream_provider_reachable").set(if away.is_none() { 1.0 } else { 0.0 });
            if self.away.send_replace(away.clone()) != away {
                match &away {
                    Some(away) => warn!("payments wait for the provider: {away}"),
                    None => info!("the provider answers"),
                }
            }
            let Some(simulator) = &self.simulator else { continue };
            if away.is_none() || self.lives() {
                continue;
            }
            backoff.ran_for(since.elapsed());
            if stop.run_until_cancelled(sleep(backoff.next())).await.is_none() {
                return;
            }
            error!("the provider simulator has ended by itself: it is started again");
            let Some(started) = stop.run_until_cancelled(self.start_again(simulator)).await else { return };
            match started {
                Ok(()) => {
                    since = Instant::now();
                    metrics::counter!("shopstream_provider_restarts_total").increment(1);
                }
                Err(cause) => error!("the provider simulator cannot be started: {cause:#}"),
            }
        }
    }

    fn lives(&self) -> bool {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_ref().is_some_and(Process::is_alive)
    }

    /// Where it was, for whoever was told that address; elsewhere if that port is another's by now.
    async fn start_again(&self, simulator: &Simulator) -> anyhow::Result<()> {
        let before = self.url.borrow().trim_start_matches("http://").to_owned();
        let running = match simulator.start(&before).await {
            Ok(running) => running,
            Err(_) => simulator.start("127.0.0.1:0").await?,
        };
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(running.process);
        self.remote.move_to(&running.url)?;
        self.url.send_replace(running.url);
        Ok(())
    }
}

/// A simulator of a folder.
struct Simulator {
    folder: PathBuf,
    shop: SocketAddr,
}

/// One that has proved who it is.
struct Running {
    url: String,
    process: Process,
}

impl Simulator {
    /// The one that the folder's note means, if it runs.
    async fn running(&self) -> Option<Running> {
        let note = Note::read(&self.folder)?;
        let url = format!("http://{}", note.address);
        let mut client = client(&url)?;
        let who = timeout(ANSWER, client.identify(IdentifyRequest {})).await.ok()?.ok()?.into_inner();
        let is_it = who.instance == note.instance && Some(who.folder) == folder::place(&self.folder);
        is_it.then_some(Running { url, process: Process::find(who.process_id)? })
    }

    async fn start(&self, listen: &str) -> anyhow::Result<Running> {
        let folder = &self.folder;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        // What another one has left behind would pass for the new one's.
        Note::remove(folder);
        let log_path = folder.join("simulator.log");
        let log = File::create(&log_path).with_context(|| format!("making {}", log_path.display()))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("provider-simulator")
            .args(["--listen", listen, "--shop", &format!("http://{}", self.shop), "--data"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("starting the provider simulator")?;
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            if let Some(running) = self.running().await {
                break running;
            }
            if let Some(status) = child.try_wait()? {
                let said = fs::read_to_string(&log_path).unwrap_or_default();
                bail!("the provider simulator ended at once ({status}): {}", said.trim());
            }
            if Instant::now() > deadline {
                child.kill().ok();
                child.wait().ok();
                bail!("the provider simulator does not listen; see {}", log_path.display());
            }
            sleep(LOOK).await;
        };
        // Reaps it when it ends; the thread ends with the process at the latest.
        std::thread::spawn(move || child.wait());
        Ok(found)
    }
}

fn client(url: &str) -> Option<ProviderServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned()).ok()?.connect_timeout(ANSWER);
    Some(ProviderServiceClient::new(endpoint.connect_lazy()))
}

/// A process that proved who it is: its number together with its time of birth, which no later one with that number
/// has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    born: u64,
}

impl Process {
    fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
        // The name before may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let is_dead = fields.next()? == "Z";
        let born = fields.nth(18)?.parse().ok()?;
        (!is_dead).then_some(Self { pid, born })
    }

    fn is_alive(&self) -> bool {
        Self::find(self.pid).is_some_and(|found| found == *self)
    }

    fn end(&self) {
        if self.is_alive() {
            // An error means that it is ending just now.
            kill(Pid::from_raw(self.pid), Signal::SIGTERM).ok();
        }
    }
}
