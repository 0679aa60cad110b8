//! Making a cluster. It is made beside its place and renamed into it when it is complete, so that whatever is in that
//! place can be started, at whichever moment an earlier try was broken off and whyever.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::account::Account;
use super::{ClusterError, NAME, die_with_us, io_error, nonce};

/// In a cluster that was made whole, with our database in it.
const COMPLETE: &str = "shopstream.complete";
/// What the names of clusters begin with that are being made, or thrown away.
const DRAFT: &str = "pgdata.new.";
/// The number of the first database that is not Postgres's own.
const FIRST_NUMBER: u32 = 16384;

/// What is needed to make a cluster.
pub(super) struct Maker<'a> {
    /// The folder of `initdb` and `postgres`.
    pub(super) binaries: &'a Path,
    /// The folder in which everything lies.
    pub(super) data: &'a Path,
    pub(super) account: &'a Account,
    pub(super) fsync: bool,
}

impl Maker<'_> {
    /// Sees to it that there is a complete cluster in its place; answers its password.
    ///
    /// # Errors
    /// It cannot be made. What was begun is thrown away by the next try.
    pub(super) fn complete(&self) -> Result<String, ClusterError> {
        self.sweep();
        let pgdata = self.pgdata();
        if pgdata.exists() && !pgdata.join(COMPLETE).exists() && !holds_a_database(&pgdata) {
            // Begun in its place, by an earlier version of this program, and nothing of ours ever came into it.
            let draft = self.draft();
            fs::rename(&pgdata, &draft).map_err(io_error("set aside", &pgdata))?;
            self.sweep();
        }
        if !pgdata.exists() {
            return self.make();
        }
        if !pgdata.join(COMPLETE).exists() {
            self.create_database(&pgdata)?;
            self.mark_complete(&pgdata)?;
        }
        match read_password(&self.password_file()) {
            Some(password) => Ok(password),
            None => self.renew_password(&pgdata),
        }
    }

    fn make(&self) -> Result<String, ClusterError> {
        let password = self.write_password(&nonce())?;
        let draft = self.draft();
        let made = self.init(&draft).and_then(|()| {
            self.create_database(&draft)?;
            self.mark_complete(&draft)?;
            fs::rename(&draft, self.pgdata()).map_err(io_error("put in its place", &draft))?;
            self.flush(self.data)
        });
        if made.is_err() {
            // A full disk has room again at once.
            self.sweep();
        }
        made.map(|()| password)
    }

    fn init(&self, pgdata: &Path) -> Result<(), ClusterError> {
        // Made here, for the folder around it need not be the account's.
        self.account.make_folder(pgdata)?;
        let mut command = Command::new(self.binaries.join("initdb"));
        command.arg("-D").arg(pgdata).args(["-U", NAME, "-E", "UTF8", "--no-locale", "--data-checksums"]);
        command.args(["-A", "scram-sha-256"]);
        command.arg(format!("--pwfile={}", self.password_file().display()));
        if !self.fsync {
            command.arg("--no-sync");
        }
        command.current_dir("/").stdin(Stdio::null());
        self.account.apply(&mut command);
        die_with_us(&mut command, Signal::SIGKILL);
        let output = command.output().map_err(io_error("run initdb for", pgdata))?;
        if output.status.success() { Ok(()) } else { Err(said(&output.stderr)) }
    }

    /// Makes our database where there is none, before the server runs.
    fn create_database(&self, pgdata: &Path) -> Result<(), ClusterError> {
        let asked = format!("SELECT datname FROM pg_database WHERE datname = '{NAME}'");
        // That it is there already is one of the answers to the first line.
        self.single_user(
            pgdata,
            &[&format!("CREATE DATABASE {NAME} OWNER {NAME}"), &asked],
            &format!("datname = \"{NAME}\""),
        )
    }

    /// Gives the role another password, because the old one was lost.
    fn renew_password(&self, pgdata: &Path) -> Result<String, ClusterError> {
        let password = nonce();
        self.single_user(
            pgdata,
            &[&format!("ALTER ROLE {NAME} PASSWORD '{password}'"), "SELECT 1 AS done"],
            "done = \"1\"",
        )?;
        self.write_password(&password)
    }

    /// Carries out statements without a server: no connection, no password. That mode ends well whatever becomes of
    /// them, so the last one has to print `proof`.
    fn single_user(&self, pgdata: &Path, statements: &[&str], proof: &str) -> Result<(), ClusterError> {
        let mut command = Command::new(self.binaries.join("postgres"));
        command.args(["--single", "-D"]).arg(pgdata).arg("postgres").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.account.apply(&mut command);
        die_with_us(&mut command, Signal::SIGTERM);
        let mut child = command.spawn().map_err(io_error("run postgres for", pgdata))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended before it read this has said why.
            let _ = stdin.write_all((statements.join("\n") + "\n").as_bytes());
        }
        let output = child.wait_with_output().map_err(io_error("run postgres for", pgdata))?;
        if output.status.success() && String::from_utf8_lossy(&output.stdout).contains(proof) {
            return Ok(());
        }
        Err(said(&output.stderr))
    }

    fn mark_complete(&self, pgdata: &Path) -> Result<(), ClusterError> {
        let path = pgdata.join(COMPLETE);
        fs::write(&path, "This cluster was made whole. Without this file it may be taken for a draft.\n")
            .map_err(io_error("write", &path))?;
        self.account.own(&path, 0o600)?;
        self.flush(&path)?;
        self.flush(pgdata)
    }

    /// The password in its file: written beside it, given to the account, renamed into place.
    fn write_password(&self, password: &str) -> Result<String, ClusterError> {
        let path = self.password_file();
        let draft = path.with_extension("new");
        // Of an earlier try, whoever it belonged to.
        fs::remove_file(&draft).ok();
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(
            |mut file| {
                writeln!(file, "{password}")?;
                file.sync_all()
            },
        );
        written.map_err(io_error("write", &draft))?;
        self.account.own(&draft, 0o600)?;
        fs::rename(&draft, &path).map_err(io_error("put in its place", &draft))?;
        self.flush(self.data)?;
        Ok(password.to_owned())
    }

    fn flush(&self, path: &Path) -> Result<(), ClusterError> {
        if !self.fsync {
            return Ok(());
        }
        File::open(path).and_then(|file| file.sync_all()).map_err(io_error("flush", path))
    }

    /// Throws away what earlier tries have begun. What cannot be removed now, because an `initdb` that outlived its
    /// starter still writes there, is nobody's and is removed by the next start.
    fn sweep(&self) {
        for entry in fs::read_dir(self.data).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(DRAFT)) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }

    fn pgdata(&self) -> PathBuf {
        self.data.join("pgdata")
    }

    fn draft(&self) -> PathBuf {
        self.data.join(format!("{DRAFT}{}", nonce()))
    }

    fn password_file(&self) -> PathBuf {
        self.data.join("password")
    }
}

/// Whether a database that is not Postgres's own was ever begun here.
fn holds_a_database(pgdata: &Path) -> bool {
    let numbers = fs::read_dir(pgdata.join("base")).into_iter().flatten().flatten();
    let mut numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.any(|number| number >= FIRST_NUMBER)
}

fn read_password(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let password = text.trim();
    (!password.is_empty()).then(|| password.to_owned())
}

fn said(stderr: &[u8]) -> ClusterError {
    ClusterError::Init { output: String::from_utf8_lossy(stderr).trim().replace('\n', "; ") }
}
