//! Finds or starts the cluster.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};

const URL: &str = "SHOPSTREAM_TEST_POSTGRES";
const FOLDER: &str = "SHOPSTREAM_PG_BIN";
const WAY_OUT: &str = "no Postgres for tests: set SHOPSTREAM_TEST_POSTGRES to the URL of a role that may create \
     databases, or install the server programs (Debian: `apt-get install postgresql`), or name their folder in \
     SHOPSTREAM_PG_BIN";

/// A cluster that takes connections, or soon will.
pub(super) enum Cluster {
    /// Somebody else's, up to the name of the database.
    Given { url: String },
    /// Ours, by the folder of its socket.
    Private { folder: PathBuf },
}

impl Cluster {
    pub(super) async fn find_or_start() -> Self {
        match env::var(URL) {
            Ok(url) => Self::Given { url },
            Err(_) => tokio::task::spawn_blocking(start).await.expect("starting Postgres does not panic"),
        }
    }

    /// The address of a database in this cluster.
    pub(super) fn url(&self, name: &str) -> String {
        match self {
            Self::Given { url } => {
                let (address, options) = url.split_once('?').map_or((url.as_str(), ""), |(a, o)| (a, o));
                let server = address.find("://").and_then(|scheme| {
                    address[scheme + 3..].find('/').map(|slash| &address[..scheme + 3 + slash])
                });
                let separator = if options.is_empty() { "" } else { "?" };
                format!("{}/{name}{separator}{options}", server.unwrap_or(address))
            }
            Self::Private { folder } => format!("host={} user=shopstream dbname={name}", folder.display()),
        }
    }
}

/// Starts a cluster that ends with this process.
fn start() -> Cluster {
    let binaries = binaries().expect(WAY_OUT);
    sweep();
    let folder = home().join(format!("{PREFIX}{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the cluster can be made");
    let account = account();
    if let Some(user) = &account {
        std::os::unix::fs::chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .expect("root may give the folder away");
    }
    let data = folder.join("data");
    let made = command(&binaries.join("initdb"), account.as_ref())
        .args(["--auth=trust", "--username=shopstream", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
        .arg(&data)
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));

    let mut server = command(&binaries.join("postgres"), account.as_ref());
    server.arg("-D").arg(&data).arg("-k").arg(&folder).stdout(Stdio::null());
    // Tests kill processes, never the power.
    for setting in ["listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=400"] {
        server.arg("-c").arg(setting);
    }
    server.stderr(fs::File::create(folder.join("log")).expect("a log file can be made"));
    // The signal comes when the thread that started the server ends, so that thread has to live as long as the
    // process: it waits for the server.
    let (started, starting) = mpsc::channel();
    thread::spawn(move || {
        let child = server.spawn();
        let sent = started.send(child.as_ref().map(drop).map_err(ToString::to_string));
        if let (Ok(mut child), Ok(())) = (child, sent) {
            drop(child.wait());
        }
    });
    starting.recv().expect("the thread answers").expect("postgres starts");
    Cluster::Private { folder }
}

/// A command under the account that may run Postgres, ended when its parent thread ends.
#[expect(unsafe_code, reason = "only between fork and exec can the signal be asked for")]
fn command(program: &Path, account: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).current_dir("/");
    if let Some(user) = account {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    // SAFETY: prctl is async-signal-safe and allocates nothing. It comes after the change of user, which would
    // clear it.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGINT)?));
    }
    command
}

/// Postgres does not run as root: as root, whom to run it as.
fn account() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let known = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    Some(known.expect("there is a user postgres or nobody"))
}

fn binaries() -> Option<PathBuf> {
    let named = env::var_os(FOLDER).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    named
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(debian.map(|version| version.path().join("bin")))
        .find(|folder| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file()))
}

const PREFIX: &str = "shopstream-test-pg-";

/// Where clusters live. Not the temporary folder that the environment names: the path of a socket may have only
/// about a hundred bytes.
fn home() -> &'static Path {
    Path::new("/tmp")
}

/// Removes what the clusters of processes that are gone have left.
fn sweep() {
    for entry in fs::read_dir(home()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let is_gone = |pid: &str| !Path::new("/proc").join(OsStr::new(pid)).exists();
        // A failure leaves rubbish, which the next run meets again.
        if owner.is_some_and(is_gone) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
