//! Lines that nobody takes: the reader has left, or the disk behind them is full.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shopstream_tests::{TestShop, program};

use super::PATIENCE;

/// Of a shell, for a program whose reader has left.
const READER_LEFT: i32 = 141;

fn full() -> Stdio {
    Stdio::from(File::options().write(true).open("/dev/full").expect("a full disk"))
}

/// A pipe that nobody reads.
fn left() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    Stdio::from(writer)
}

#[test]
fn a_verb_whose_reader_leaves_ends_quietly() {
    let mut shop = TestShop::start();
    assert!(shop.verb(&["demo"]).status.success());
    let listen = shop.door().to_string();
    let verbs: [&[&str]; 8] = [
        &["config"],
        &["events", "--listen", &listen],
        &["log", "status", "--listen", &listen],
        &["verify", "--listen", &listen],
        &["parked", "list", "--listen", &listen],
        &["parked", "list", "--skipped", "--listen", &listen],
        &["attention", "list", "--listen", &listen],
        &["demo", "--listen", &listen],
    ];
    for verb in verbs {
        let run = |out: Stdio, err: Stdio| {
            let child =
                Command::new(program()).args(verb).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
            child.expect("the program").wait_with_output().expect("its end")
        };
        let said = run(left(), Stdio::piped());
        assert_eq!(said.status.code(), Some(READER_LEFT), "{verb:?}: {said:?}");
        assert!(said.stderr.is_empty(), "{verb:?}: {said:?}");
        let said = run(full(), Stdio::piped());
        assert_eq!(said.status.code(), Some(1), "{verb:?}: {said:?}");
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(
            text.contains("the output cannot be written") && !text.contains("panicked"),
            "{verb:?}: {text}"
        );
        assert_eq!(run(full(), full()).status.code(), Some(1), "{verb:?}: neither can be written");
    }
    shop.stop();
}

/// Who serves goes on: the shop is worth more than a line about it.
#[test]
fn a_node_whose_lines_nobody_takes_serves() {
    for (out, err) in [(full(), full()), (left(), left())] {
        let folder = self::folder();
        // Its own word for its address is lost, so it is told one.
        let admin = free();
        let mut node = Command::new(program())
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", &admin, "--data"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the program");
        let begun = Instant::now();
        while !asked(&admin, "/health/ready").contains(" 200 ") {
            assert!(node.try_wait().expect("looked").is_none(), "it ended");
            assert!(begun.elapsed() < PATIENCE, "{}", asked(&admin, "/health/ready"));
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        assert!(asked(&admin, "/metrics").contains("shopstream_lines_dropped_total"), "not counted");
        assert!(ended(&mut node).success());
    }
}

/// The echo of the benchmark hears the signal itself; whoever started it must not hear it first.
#[test]
fn the_echo_of_the_benchmark_ends_in_order_every_time() {
    for round in 0..20 {
        let mut echo = Command::new(program())
            .args(["bench", "--echo-server", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut out = echo.stdout.take().expect("piped");
        let mut said = String::new();
        while !said.contains("ready\n") {
            let mut more = [0; 256];
            let read = out.read(&mut more).expect("its lines");
            assert!(read > 0, "it ended: {said}");
            said.push_str(&String::from_utf8_lossy(&more[..read]));
        }
        let status = ended(&mut echo);
        let mut complaints = String::new();
        echo.stderr.take().expect("piped").read_to_string(&mut complaints).expect("its complaints");
        assert!(status.success(), "round {round}: {status}: {complaints}");
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("asked to end");
    child.wait().expect("its end")
}

fn folder() -> tempfile::TempDir {
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    tempfile::Builder::new().prefix("shopstream-lines-").permissions(everybody).tempdir().expect("a folder")
}

/// An address that nobody uses now.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|door| door.local_addr()).expect("a port").to_string()
}

/// What is answered over HTTP; nothing where nobody listens.
fn asked(address: &str, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let asked = write!(stream, "GET {path} HTTP/1.0\r\n\r\n");
        drop(asked.and_then(|()| stream.read_to_string(&mut answer)));
    }
    answer
}
