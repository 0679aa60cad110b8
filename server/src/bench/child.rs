//! The programs that are measured, each a process of its own: this same executable with another verb.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use super::machine::Pid;

/// How long a server may need until it is ready: the first start of a node makes a Postgres cluster.
const START: Duration = Duration::from_secs(180);
/// How long it may need to stop.
const STOP: Duration = Duration::from_secs(60);
/// Lines of a server's own log that an error quotes.
const QUOTED: usize = 15;

/// A server that is ready. Killed when it is dropped, but better stopped: a killed node leaves its provider running.
pub(super) struct Server {
    process: tokio::process::Child,
    pid: Pid,
    /// What it said before `ready`: a word and a place on each line.
    said: HashMap<String, String>,
}

impl Server {
    /// Starts `shopstream ARGS…` and waits for its line `ready`; what it logs is added to the file `log`.
    ///
    /// # Errors
    /// It ends instead, or takes too long; with the last lines of its log.
    pub(super) async fn start(args: &[&OsStr], log: &Path) -> anyhow::Result<Self> {
        let mut command = program()?;
        die_with_us(&mut command);
        let mut process = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log)?)
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().context("it ended at once")?;
        let stdout = process.stdout.take().context("its output is not ours")?;
        let mut lines = BufReader::new(stdout).lines();
        let said = match timeout(START, until_ready(&mut lines)).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => return Err(error.context(quote(log))),
            Err(_) => bail!("not ready after {} s\n{}", START.as_secs(), quote(log)),
        };
        // Nobody reads the rest, but a full pipe would stop the server.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { process, pid, said })
    }

    /// Its process.
    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Where its gRPC is.
    ///
    /// # Errors
    /// It did not say.
    pub(super) fn url(&self) -> anyhow::Result<&str> {
        self.place("grpc")
    }

    /// The place that it named behind this word.
    ///
    /// # Errors
    /// It did not say.
    pub(super) fn place(&self, word: &str) -> anyhow::Result<&str> {
        self.said.get(word).map(String::as_str).with_context(|| format!("it did not say where its {word} is"))
    }

    /// SIGKILL: the crash that no program can prepare for.
    ///
    /// # Errors
    /// It is not ours any more.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Errors
    /// It does not stop, or says that it could not stop in order.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        kill(nix::unistd::Pid::from_raw(self.pid as i32), Signal::SIGTERM)?;
        let ended = timeout(STOP, self.process.wait()).await;
        let status = ended.with_context(|| format!("still running {} s after SIGTERM", STOP.as_secs()))??;
        ensure!(status.success(), "stopped with {status}");
        Ok(())
    }
}

/// Runs `shopstream ARGS…` to its end.
///
/// # Errors
/// It fails; with what it said.
pub(super) async fn run_to_end(args: &[&OsStr]) -> anyhow::Result<()> {
    let output = program()?.args(args).stdin(Stdio::null()).output().await?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// This executable, hearing nothing of the settings that the caller's own shop may have in the environment: a
/// benchmark must never write into that.
fn program() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this executable")?);
    let ours = |name: &str| name.starts_with("SHOPSTREAM_") && !name.starts_with("SHOPSTREAM_PG_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(ours) {
            command.env_remove(name);
        }
    }
    // Ctrl-C in the terminal is for the benchmark, which then stops its servers in order.
    command.process_group(0);
    Ok(command)
}

/// Has the kernel stop a server when this benchmark is ended so suddenly that it cannot.
fn die_with_us(command: &mut Command) {
    // SAFETY: the closure makes one system call and allocates nothing.
    #[expect(unsafe_code, reason = "the parent-death signal can only be set in the child")]
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
    }
}

async fn until_ready(
    lines: &mut tokio::io::Lines<BufReader<ChildStdout>>,
) -> anyhow::Result<HashMap<String, String>> {
    let mut said = HashMap::new();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("ready") {
            return Ok(said);
        }
        if let Some((word, place)) = line.split_once(' ') {
            said.insert(word.to_owned(), place.trim().to_owned());
        }
    }
    bail!("it ended before it was ready")
}

/// The last lines of a server's log.
pub(super) fn quote(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("the last it logged:\n{}", lines[lines.len().saturating_sub(QUOTED)..].join("\n"))
}
