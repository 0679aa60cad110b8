//! The payment provider of a node: the one that is named, or the simulator, a process of its own that outlives a
//! killed node, as a real provider would (`rulings.md` 29).

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::transport::Endpoint;

use crate::config::Config;

/// How long the simulator may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the provider is.
pub(super) struct Provider {
    pub(super) url: String,
    /// The simulator's process, if this node keeps one.
    pid: Option<Pid>,
}

impl Provider {
    /// The named provider, the simulator that still runs on this data, or a new one.
    pub(super) async fn find(config: &Config, shop: SocketAddr) -> anyhow::Result<Self> {
        if let Some(url) = &config.provider {
            return Ok(Self { url: url.clone(), pid: None });
        }
        let folder = config.data.join("provider");
        if let Some(running) = Self::running(&folder).await {
            return Ok(running);
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        // What a simulator that is gone left behind would pass for the new one's.
        fs::remove_file(address_file(&folder)).ok();
        let log = File::create(folder.join("simulator.log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("provider-simulator")
            .args(["--shop", &format!("http://{shop}"), "--data"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("starting the provider simulator")?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let found = loop {
            if let Some(running) = Self::running(&folder).await {
                break running;
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the provider simulator ended at once ({status}); see {}",
                    folder.join("simulator.log").display()
                );
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "the provider simulator does not listen; see {}",
                    folder.join("simulator.log").display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // Reaps it when it ends; the thread ends with the process at the latest.
        std::thread::spawn(move || child.wait());
        Ok(found)
    }

    async fn running(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(address_file(folder)).ok()?;
        let (address, pid) = text.trim().split_once('\n')?;
        let url = format!("http://{address}");
        Endpoint::from_shared(url.clone()).ok()?.connect().await.ok()?;
        Some(Self { url, pid: Some(Pid::from_raw(pid.trim().parse().ok()?)) })
    }
}

impl Drop for Provider {
    /// Stops the simulator, if it is this node's: only a node that is killed leaves it behind.
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // An error means that it has ended already.
            kill(pid, Signal::SIGTERM).ok();
        }
    }
}

/// Where the provider of this configuration is: as named, or as its simulator wrote down.
pub fn url(config: &Config) -> Option<String> {
    let simulator = || {
        let text = fs::read_to_string(address_file(&config.data.join("provider"))).ok()?;
        Some(format!("http://{}", text.lines().next()?))
    };
    config.provider.clone().or_else(simulator)
}

fn address_file(folder: &Path) -> PathBuf {
    folder.join("address")
}
