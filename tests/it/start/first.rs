//! The first start: broken off anywhere, it is repeated.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shopstream_tests::{Process, long, program, tied};

use super::PATIENCE;

/// `SHOPSTREAM_TEST_LONG=1` kills it at 100 moments.
#[test]
fn a_first_start_can_be_killed_at_any_moment() {
    let rounds = if long() { 100 } else { 6 };
    let begun = Instant::now();
    let folder = folder();
    ended(ready(&folder.path().join("data")));
    // With its end: the later moments are beyond `ready`, and as good.
    let whole = begun.elapsed();
    for round in 0..rounds {
        let folder = self::folder();
        let data = folder.path().join("data");
        // Some are killed twice, which must not be worse.
        for again in 0..=(round % 3 / 2) {
            let at = whole.mul_f64(f64::from(round * 2 + 1 + again) / f64::from(rounds * 2 + 1));
            let mut node = serve(&data);
            wait(at);
            // Its children die with it, or because it does.
            if round % 2 == 0 {
                let _ = kill(Pid::from_raw(-node.pid().as_raw()), Signal::SIGKILL);
            } else {
                node.signal(Signal::SIGKILL);
            }
            node.wait(PATIENCE);
            eprintln!("round {round}: killed after {at:?}");
        }
        ended(ready(&data));
    }
}

fn folder() -> tempfile::TempDir {
    // Postgres runs as another user where we are root, and that one must come in.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    tempfile::Builder::new().prefix("shopstream-first-").permissions(everybody).tempdir().expect("a folder")
}

/// A node with a process group of its own.
fn serve(data: &Path) -> Process {
    let mut command = tied(program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(data);
    command.process_group(0);
    Process::spawn("serve", command)
}

fn ready(data: &Path) -> Process {
    let mut node = serve(data);
    while let Some(line) = node.line(PATIENCE) {
        if line == "ready" {
            return node;
        }
    }
    panic!("it does not start again: {}", node.complaints());
}

fn ended(mut node: Process) {
    node.signal(Signal::SIGTERM);
    let status = node.wait(PATIENCE);
    assert!(status.success(), "{status}: {}", node.complaints());
}

/// The moment of the kill is the fault itself, not a wait for a fact.
fn wait(how_long: Duration) {
    let until = Instant::now() + how_long;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}
