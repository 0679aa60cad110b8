//! What a server that was not stopped in order has left: processes, and files that name them.
//!
//! A process is known by what it does, never by its number alone: the number may be another's by now, and files that
//! name it come along when a folder is copied. A server has its data as its working directory, wherever it was when
//! it was started.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::account::Account;
use super::{ClusterError, LOOK, io_error};

/// How long a server that is stopping may take. It got its signal when its node died.
const PATIENCE: Duration = Duration::from_secs(60);
/// A folder of sockets in which nothing has happened for so long is not one of a server that is only starting.
const STALE: Duration = Duration::from_secs(60);
/// What the names of our folders of sockets begin with.
const SOCKETS: &str = "shopstream-";
/// What Postgres writes beside its socket.
const SOCKET: &str = ".s.PGSQL.5432";

/// Waits for a server that a killed process left behind, and removes files that name processes which are not one.
///
/// # Errors
/// It does not end.
pub(super) fn await_end(pgdata: &Path, sockets: &Path) -> Result<(), ClusterError> {
    let began = Instant::now();
    while let Some(pid) = server_on(pgdata) {
        if began.elapsed() > PATIENCE {
            return Err(ClusterError::Running { pid, data: pgdata.into() });
        }
        thread::park_timeout(LOOK);
    }
    // Postgres trusts such a file as long as any process has the number, as after a copy of a folder in use.
    for file in [pgdata.join("postmaster.pid"), sockets.join(format!("{SOCKET}.lock"))] {
        if named_in(&file).is_some_and(is_alive) {
            fs::remove_file(&file).map_err(io_error("remove", &file))?;
        }
    }
    Ok(())
}

/// A process of a Postgres server that works on `pgdata`.
fn server_on(pgdata: &Path) -> Option<i32> {
    let pgdata = pgdata.canonicalize().ok()?;
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.find(|pid| works_on(*pid, &pgdata))
}

/// Whether this process is a Postgres server's with `pgdata` as its data.
fn works_on(pid: i32, pgdata: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == pgdata)
        && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

/// The process that a lock file of Postgres names; one without a server has a minus before its number.
fn named_in(file: &Path) -> Option<i32> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.lines().next()?.trim().parse::<i32>().ok()?.abs())
}

fn is_alive(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Where the socket lies: short, because its path has at most 107 bytes, and the same for the same data.
pub(super) fn socket_folder(data: &Path, account: &Account) -> Result<PathBuf, ClusterError> {
    let base = if account.is_another() && Path::new("/run").is_dir() { "/run" } else { "/tmp" };
    let mut name: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in data.as_os_str().as_encoded_bytes() {
        name = (name ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let folder = PathBuf::from(format!("{base}/{SOCKETS}{name:016x}"));
    account.make_folder(&folder)?;
    // From now on it is one in which something happens.
    let touched = fs::File::open(&folder).and_then(|open| open.set_modified(now()));
    touched.map_err(io_error("touch", &folder))?;
    sweep(Path::new(base), &folder);
    Ok(folder)
}

/// Removes the folders of sockets whose servers are gone.
fn sweep(base: &Path, own: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let folder = entry.path();
        let hash = entry.file_name().to_str().and_then(|name| Some(name.strip_prefix(SOCKETS)?.to_owned()));
        let is_ours =
            hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_ours && folder != own && is_stale(&folder) {
            for name in [SOCKET.to_owned(), format!("{SOCKET}.lock")] {
                fs::remove_file(folder.join(name)).ok();
            }
            // Only an empty one goes.
            fs::remove_dir(&folder).ok();
        }
    }
}

/// Whether nothing has happened in this folder for a while, and the server that it names works no more.
fn is_stale(folder: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(folder) else { return false };
    let is_old = meta.modified().is_ok_and(|at| now().duration_since(at).is_ok_and(|age| age > STALE));
    let is_quiet = meta.is_dir() && is_old && meta.nlink() > 0;
    let lock = fs::read_to_string(folder.join(format!("{SOCKET}.lock"))).unwrap_or_default();
    let mut lines = lock.lines();
    let server = lines.next().and_then(|line| line.trim().parse::<i32>().ok()).map(i32::abs);
    let serves = server.zip(lines.next()).is_some_and(|(pid, data)| {
        // Where we may not look, it may well be alive.
        works_on(pid, Path::new(data.trim()))
            || (is_alive(pid) && fs::read_link(format!("/proc/{pid}/cwd")).is_err())
    });
    is_quiet && !serves
}

/// Files bear the machine's time, so it is compared with that.
#[expect(clippy::disallowed_methods, reason = "compared with the times of files, which no `Clock` makes")]
fn now() -> SystemTime {
    SystemTime::now()
}
