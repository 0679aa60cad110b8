//! A Postgres cluster of our own: found among the installed binaries, initialised, started and stopped by this
//! process. `shopstream serve` keeps its read models in one when no database is named; the tests start one each.
//!
//! The server is a child that dies with us: it gets SIGINT (fast shutdown) when the thread that spawned it ends,
//! which is when the process ends, however it ends (`rulings.md` 37).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};

/// The role and database that everything of ours uses.
const NAME: &str = "shopstream";
/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

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
    ended: mpsc::Receiver<io::Result<ExitStatus>>,
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
    /// `initdb` failed.
    #[error("initdb failed: {output}")]
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
    /// Starts a server on `options.data` and waits until it takes connections. Blocks.
    ///
    /// A server left over by a killed process is shutting down by itself; it is awaited.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub fn start(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let binaries = binaries().ok_or(ClusterError::NoBinaries)?;
        let account = Account::choose();
        prepare_folder(&options.data, &account)?;
        let data = options.data.canonicalize().map_err(io_error("find", &options.data))?;
        account.check_path(&data)?;
        let pgdata = data.join("pgdata");
        let password = password(&data.join("password"), &account)?;
        if !pgdata.join("PG_VERSION").exists() {
            init(&binaries, &pgdata, &data.join("password"), &account)?;
        }
        await_leftover(&pgdata, &data)?;
        let sockets = socket_folder(&data, &account)?;
        let fsync = if options.fsync { "on" } else { "off" };
        let fixed = [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={}", sockets.display()),
            "unix_socket_permissions=0700".to_owned(),
            format!("fsync={fsync}"),
            format!("full_page_writes={fsync}"),
            "jit=off".to_owned(),
        ];
        let log_path = data.join("postgres.log");
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
            let (pid, ended) = spawn(command, &log_path, &account)?;
            let cluster = Self { url: url.clone(), pid, ended };
            match cluster.await_ready(&pgdata, &log_path) {
                Ok(()) => return Ok(cluster),
                // The children of a server that was killed end a moment after it, and hold its memory until then.
                Err(ClusterError::Start { log }) if log.contains(IN_USE) && began.elapsed() < PATIENCE => {
                    thread::park_timeout(LOOK);
                }
                Err(error) => return Err(error),
            }
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
    fn await_ready(&self, pgdata: &Path, log: &Path) -> Result<(), ClusterError> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if !matches!(self.ended.recv_timeout(LOOK), Err(mpsc::RecvTimeoutError::Timeout)) {
                break;
            }
            let state = fs::read_to_string(pgdata.join("postmaster.pid")).unwrap_or_default();
            let mut lines = state.lines();
            if lines.next() == Some(&self.pid.to_string())
                && lines.nth(6).is_some_and(|line| line.trim() == "ready")
            {
                return Ok(());
            }
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        Err(ClusterError::Start { log: last.into_iter().rev().collect::<Vec<_>>().join("; ") })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what we want.
        if kill(self.pid, Signal::SIGINT).is_ok() {
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}

/// Who runs the server: Postgres refuses to be root.
struct Account {
    name: String,
    /// `None`: ourselves.
    switch: Option<(Uid, Gid)>,
}

impl Account {
    fn choose() -> Self {
        let own = || {
            User::from_uid(Uid::current()).ok().flatten().map_or_else(|| "this user".into(), |user| user.name)
        };
        if !Uid::effective().is_root() {
            return Self { name: own(), switch: None };
        }
        let found = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
        match found {
            Some(user) => Self { name: user.name, switch: Some((user.uid, user.gid)) },
            None => Self { name: own(), switch: None },
        }
    }

    fn own(&self, path: &Path, mode: u32) -> Result<(), ClusterError> {
        if let Some((uid, gid)) = self.switch {
            nix::unistd::chown(path, Some(uid), Some(gid))
                .map_err(|errno| io_error("give away", path)(errno.into()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("protect", path))
    }

    fn apply(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.switch {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Names the first folder on the way to `path` that this account may not enter.
    fn check_path(&self, path: &Path) -> Result<(), ClusterError> {
        let Some((uid, gid)) = self.switch else { return Ok(()) };
        for folder in path.ancestors() {
            let Ok(meta) = fs::metadata(folder) else { continue };
            let enter = if meta.uid() == uid.as_raw() {
                0o100
            } else if meta.gid() == gid.as_raw() {
                0o010
            } else {
                0o001
            };
            if meta.mode() & enter == 0 {
                return Err(ClusterError::Closed { folder: folder.into(), user: self.name.clone() });
            }
        }
        Ok(())
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

fn prepare_folder(data: &Path, account: &Account) -> Result<(), ClusterError> {
    fs::create_dir_all(data).map_err(io_error("make", data))?;
    account.own(data, 0o700)
}

/// Where the socket lies: short, because its path has at most 107 bytes, and the same for the same data.
fn socket_folder(data: &Path, account: &Account) -> Result<PathBuf, ClusterError> {
    let base = if account.switch.is_some() && Path::new("/run").is_dir() { "/run" } else { "/tmp" };
    let mut name: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in data.as_os_str().as_encoded_bytes() {
        name = (name ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let folder = PathBuf::from(format!("{base}/shopstream-{name:016x}"));
    fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
    account.own(&folder, 0o700)?;
    Ok(folder)
}

/// The password in the file, made where missing, readable for its owner alone.
fn password(path: &Path, account: &Account) -> Result<String, ClusterError> {
    if let Ok(password) = fs::read_to_string(path) {
        return Ok(password.trim().to_owned());
    }
    let password = uuid::Uuid::new_v4().simple().to_string();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io_error("make", path))?;
    writeln!(file, "{password}").map_err(io_error("write", path))?;
    account.own(path, 0o600)?;
    Ok(password)
}

fn init(binaries: &Path, pgdata: &Path, password: &Path, account: &Account) -> Result<(), ClusterError> {
    // What an interrupted initdb left behind has no PG_VERSION and no data of ours.
    if pgdata.exists() {
        fs::remove_dir_all(pgdata).map_err(io_error("clear", pgdata))?;
    }
    let mut command = Command::new(binaries.join("initdb"));
    command.arg("-D").arg(pgdata).args(["-U", NAME, "-E", "UTF8", "--no-locale", "--data-checksums"]);
    command.args(["-A", "scram-sha-256"]).arg(format!("--pwfile={}", password.display()));
    command.current_dir("/").stdin(Stdio::null());
    account.apply(&mut command);
    let output = command.output().map_err(io_error("run initdb for", pgdata))?;
    if output.status.success() {
        return create_database(binaries, pgdata, account);
    }
    Err(ClusterError::Init { output: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ") })
}

/// Makes our database before the server first runs, in single-user mode: no connection, no password.
fn create_database(binaries: &Path, pgdata: &Path, account: &Account) -> Result<(), ClusterError> {
    let mut command = Command::new(binaries.join("postgres"));
    command.args(["--single", "-D"]).arg(pgdata).arg("postgres").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    account.apply(&mut command);
    let mut child = command.spawn().map_err(io_error("run postgres for", pgdata))?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "CREATE DATABASE {NAME} OWNER {NAME}")
            .map_err(io_error("talk to postgres for", pgdata))?;
    }
    let output = child.wait_with_output().map_err(io_error("run postgres for", pgdata))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ClusterError::Init { output: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ") })
}

/// Waits for a server that a killed process left behind: it got its SIGINT and is shutting down.
fn await_leftover(pgdata: &Path, data: &Path) -> Result<(), ClusterError> {
    let file = pgdata.join("postmaster.pid");
    let began = Instant::now();
    loop {
        let pid = fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()));
        let Some(pid) = pid else { return Ok(()) };
        // A pid that lives but is no Postgres was given to somebody else; Postgres itself clears such a file.
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if command.trim() != "postgres" {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(ClusterError::Running { pid, data: data.into() });
        }
        thread::park_timeout(LOOK);
    }
}

type Spawned = (Pid, mpsc::Receiver<io::Result<ExitStatus>>);

/// Spawns the server from a thread that then waits for it: the parent-death signal follows that thread.
fn spawn(mut command: Command, log: &Path, account: &Account) -> Result<Spawned, ClusterError> {
    let log_file =
        fs::OpenOptions::new().create(true).append(true).open(log).map_err(io_error("open", log))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file).current_dir("/").process_group(0);
    account.apply(&mut command);
    // SAFETY: the closure makes one system call and allocates nothing. It runs after the change of user, which
    // would clear the setting.
    #[expect(unsafe_code, reason = "the parent-death signal can only be set in the child")]
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGINT).map_err(io::Error::from));
    }
    let (started_in, started) = mpsc::channel();
    let (ended_in, ended) = mpsc::channel();
    thread::Builder::new()
        .name("postgres".into())
        .spawn(move || match command.spawn() {
            Ok(mut child) => {
                // Nobody listens any more only when the starter has gone, and then the child is stopped anyway.
                let _ = started_in.send(Ok(Pid::from_raw(child.id() as i32)));
                let _ = ended_in.send(child.wait());
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

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Io { what, path, source }
}
