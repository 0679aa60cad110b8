//! A Postgres cluster of our own: found among the installed binaries, initialised, started and stopped by this
//! process. `shopstream serve` keeps its read models in one when no database is named; the tests start one each.
//!
//! The server is a child that dies with us: it gets SIGINT (fast shutdown) when the thread that spawned it ends,
//! which is when the process ends, however it ends (`rulings.md` 37).

mod account;
mod leftover;
mod make;

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use tokio::sync::watch;
use tracing::info;

use self::account::Account;
use self::make::Maker;

/// The role and database that everything of ours uses.
const NAME: &str = "shopstream";
/// How long a server may take to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server may take to start: after a crash it repeats what its write-ahead log holds.
const RECOVERY: Duration = Duration::from_secs(600);
/// After so long, and as long again, it is said that a server is still starting.
const STILL: Duration = Duration::from_secs(10);

/// Between two looks at a server that is starting or stopping.
const LOOK: Duration = Duration::from_millis(10);
/// What a server says that finds the memory of an earlier one, on the same data, in use.
const IN_USE: &str = "pre-existing shared memory block";

/// What cluster to run.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its data; made where missing. As root it belongs to the unprivileged user that runs the server.
    pub data: PathBuf,
    /// `false` only for tests: a crash of the machine then loses the cluster.
    pub fsync: bool,
    /// Further `name=value` settings.
    pub settings: Vec<String>,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    pid: Pid,
    /// Of its socket.
    sockets: PathBuf,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No binaries.
    #[error(
        "no Postgres server found: install one (Debian: apt-get install postgresql), name the folder of its binaries in SHOPSTREAM_PG_BIN, or name a running database with --database"
    )]
    NoBinaries,
    /// A folder on the way to the data is closed for the user that runs the server.
    #[error("user {user} cannot enter {}: open it (chmod o+x) or choose another data directory", folder.display())]
    Closed {
        /// The folder.
        folder: PathBuf,
        /// The user.
        user: String,
    },
    /// What is there belongs to another user.
    #[error(
        "{} belongs to user {owner}, and this is for user {user}: run this as {owner}, or name another data directory; nothing was changed", path.display()
    )]
    NotOurs {
        /// What.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who we are.
        user: String,
    },
    /// The cluster could not be made.
    #[error("the database cluster cannot be made: {output}")]
    Init {
        /// What it said.
        output: String,
    },
    /// Another server runs on this data.
    #[error("a Postgres server (pid {pid}) already runs on {} and does not end", data.display())]
    Running {
        /// Its process id.
        pid: i32,
        /// The data.
        data: PathBuf,
    },
    /// The server ended or did not get ready.
    #[error("Postgres did not start: {log}")]
    Start {
        /// The end of its log.
        log: String,
    },
    /// A file operation failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Cluster {
    /// Starts a server on `options.data` and waits until it takes connections; makes the cluster where there is
    /// none. Blocks.
    ///
    /// It may be broken off at any moment and repeated. A server left over by a killed process is shutting down by
    /// itself; it is awaited.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub fn start(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let binaries = binaries().ok_or(ClusterError::NoBinaries)?;
        let account = Account::of(&options.data)?;
        // One that is there stays as it is.
        if !options.data.exists() {
            account.make_folder(&options.data)?;
        }
        let data = options.data.canonicalize().map_err(io_error("find", &options.data))?;
        account.check_path(&data)?;
        let sockets = leftover::socket_folder(&data, &account)?;
        let pgdata = data.join("pgdata");
        leftover::await_end(&pgdata, &sockets)?;
        let maker = Maker { binaries: &binaries, data: &data, account: &account, fsync: options.fsync };
        let password = maker.complete()?;
        let fsync = if options.fsync { "on" } else { "off" };
        let fixed = [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={}", sockets.display()),
            "unix_socket_permissions=0700".to_owned(),
            format!("fsync={fsync}"),
            format!("full_page_writes={fsync}"),
            "jit=off".to_owned(),
        ];
        let log = data.join("postgres.log");
        let url = format!(
            "postgresql://{NAME}:{password}@/{NAME}?host={}",
            sockets.display().to_string().replace('/', "%2F")
        );
        let began = Instant::now();
        loop {
            let mut command = Command::new(binaries.join("postgres"));
            command.arg("-D").arg(&pgdata);
            for setting in fixed.iter().chain(&options.settings) {
                command.arg("-c").arg(setting);
            }
            let said_before = fs::metadata(&log).map_or(0, |meta| meta.len());
            let (pid, ended) = spawn(command, &log, &account)?;
            let cluster = Self { url: url.clone(), pid, sockets: sockets.clone(), ended };
            match cluster.await_ready(&pgdata, &log, said_before) {
                Ok(()) => return Ok(cluster),
                // The children of a server that was killed end a moment after it, and hold its memory until then.
                Err(ClusterError::Start { log }) if log.contains(IN_USE) && began.elapsed() < PATIENCE => {
                    thread::park_timeout(LOOK);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the server has ended, which it should not do by itself; answers how.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "nobody waited for it".to_owned(),
        }
    }

    /// Where to connect, with the password: never for a log line.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server: a fast shutdown, waited for.
    pub fn stop(self) {
        drop(self);
    }

    /// Waits for the line in `postmaster.pid` that says `ready`.
    fn await_ready(&self, pgdata: &Path, log: &Path, said_before: u64) -> Result<(), ClusterError> {
        let began = Instant::now();
        let mut told = STILL;
        while self.ended.borrow().is_none() && began.elapsed() < RECOVERY {
            let state = fs::read_to_string(pgdata.join("postmaster.pid")).unwrap_or_default();
            let mut lines = state.lines();
            if lines.next() == Some(&self.pid.to_string())
                && lines.nth(6).is_some_and(|line| line.trim() == "ready")
            {
                return Ok(());
            }
            if began.elapsed() > told {
                info!(
                    "the private Postgres is still starting after {} s; it may be recovering",
                    told.as_secs()
                );
                told += STILL;
            }
            thread::park_timeout(LOOK);
        }
        // What servers before this one said explains nothing.
        let mut said = String::new();
        let read = fs::File::open(log).and_then(|mut file| {
            file.seek(SeekFrom::Start(said_before))?;
            file.read_to_string(&mut said)
        });
        if let Err(error) = read {
            said = format!("{} cannot be read: {error}", log.display());
        }
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        Err(ClusterError::Start { log: last.into_iter().rev().collect::<Vec<_>>().join("; ") })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A fast shutdown, and after a while one that leaves the rest to the next start.
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            if self.ended.borrow().is_some() {
                break;
            }
            // An error means that it is ending just now.
            kill(self.pid, signal).ok();
            let began = Instant::now();
            while self.ended.borrow().is_none() && began.elapsed() < PATIENCE {
                thread::park_timeout(LOOK);
            }
        }
        // Only an empty one goes.
        fs::remove_dir(&self.sockets).ok();
    }
}

/// The folder that holds `initdb` and `postgres`: named, on the path, or where distributions put them.
fn binaries() -> Option<PathBuf> {
    let named = std::env::var_os("SHOPSTREAM_PG_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    named
        .into_iter()
        .chain(versions.into_iter().map(|(_, folder)| folder))
        .chain(std::env::split_paths(&path))
        .find(|folder| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file()))
}

type Spawned = (Pid, watch::Receiver<Option<String>>);

/// Spawns the server from a thread that then waits for it: the parent-death signal follows that thread.
fn spawn(mut command: Command, log: &Path, account: &Account) -> Result<Spawned, ClusterError> {
    let log_file =
        fs::OpenOptions::new().create(true).append(true).open(log).map_err(io_error("open", log))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file).current_dir("/").process_group(0);
    account.apply(&mut command);
    die_with_us(&mut command, Signal::SIGINT);
    let (started_in, started) = std::sync::mpsc::channel();
    let (ended_in, ended) = watch::channel(None);
    thread::Builder::new()
        .name("postgres".into())
        .spawn(move || match command.spawn() {
            Ok(mut child) => {
                // Nobody listens any more only when the starter has gone, and then the child is stopped anyway.
                let _ = started_in.send(Ok(Pid::from_raw(child.id() as i32)));
                let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                ended_in.send_replace(Some(how));
            }
            Err(error) => {
                let _ = started_in.send(Err(error));
            }
        })
        .map_err(io_error("start a thread for", log))?;
    let failed = || io::Error::other("the thread that starts Postgres ended");
    let pid = started
        .recv()
        .unwrap_or_else(|_| Err(failed()))
        .map_err(io_error("run postgres, logging to", log))?;
    Ok((pid, ended))
}

/// Has the kernel send `signal` to the child when the thread that spawns it ends, which is when this process does.
fn die_with_us(command: &mut Command, signal: Signal) {
    let parent = getpid();
    // SAFETY: the closure makes two system calls and allocates nothing. It runs after the change of user, which
    // would clear the setting.
    #[expect(unsafe_code, reason = "the parent-death signal can only be set in the child")]
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(signal)?;
            // We may have died before that.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
}

/// A name or a password that nobody else has.
fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Io { what, path, source }
}
