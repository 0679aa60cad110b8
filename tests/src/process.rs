//! Child processes: bounded in time, ended by their own process id, everything they say kept.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines kept of what a process writes to standard error; older ones are forgotten.
const KEPT: usize = 500;

/// Names a folder where all that any process writes to standard error is kept, for who looks for a rare failure.
const LOGS: &str = "SHOPSTREAM_TEST_LOGS";

/// How long the last complaints of a process that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running child.
pub struct Process {
    name: String,
    pid: Pid,
    /// Open as long as this value.
    _stdin: Option<ChildStdin>,
    lives_by_stdin: bool,
    // Behind a lock only so that a process may be shared between tests.
    out: Mutex<Receiver<String>>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    /// Ends when there will be no more complaints.
    silent: Mutex<Receiver<()>>,
    end: Mutex<Receiver<ExitStatus>>,
    ended: Option<ExitStatus>,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// The last lines of its standard error.
    pub err: String,
}

/// `program`, told to stop by the kernel should the test process end without doing so itself. It hears a hang-up, also
/// where the tests run under `nohup`.
pub fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", "setpriv", "--pdeathsig", "TERM", "--"]).arg(program);
    command
}

impl Process {
    /// Starts `command`. Its standard input is a pipe that stays open as long as this value. Dropped, it is killed.
    ///
    /// # Panics
    /// There is no such program.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (started, start) = mpsc::channel();
        let (report, end) = mpsc::channel();
        // The kernel ties a child to the thread that made it, so that thread stays until the child has ended.
        thread::spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(started.send(Err(error))),
            };
            let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let _ = started.send(Ok((child.id(), streams)));
            if let Ok(status) = child.wait() {
                let _ = report.send(status);
            }
        });
        let started = start.recv().expect("the thread answers");
        let (pid, (stdin, stdout, stderr)) =
            started.unwrap_or_else(|error| panic!("starting {name}: {error}"));
        let (lines, out) = mpsc::channel();
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        read_lines(stdout.expect("piped"), move |line| send(&lines, line));
        let (kept, mut log) = (complaints.clone(), log_of(name, pid));
        let (speaks, silent) = mpsc::channel();
        read_lines(stderr.expect("piped"), move |line| {
            let _as_long_as_it_speaks: &Sender<()> = &speaks;
            if let Some(log) = &mut log {
                writeln!(log, "{line}").expect("the folder of the logs takes them");
            }
            keep(&kept, line);
        });
        let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
        let (name, lives_by_stdin) = (name.to_owned(), false);
        let (out, silent, end) = (Mutex::new(out), Mutex::new(silent), Mutex::new(end));
        Self { name, pid, _stdin: stdin, lives_by_stdin, out, complaints, silent, end, ended: None }
    }

    /// This child ends by itself when its standard input does, in its own time: it is not killed.
    pub fn living_by_stdin(mut self) -> Self {
        self.lives_by_stdin = true;
        self
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The next line of its standard output; `None` when it will write no more.
    ///
    /// # Panics
    /// It writes nothing for so long.
    pub fn line(&mut self, patience: Duration) -> Option<String> {
        match held(&mut self.out).recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} says nothing: {}", self.name, self.complaints()),
        }
    }

    /// The last lines of its standard error.
    pub fn complaints(&self) -> String {
        let kept = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = held(&mut self.end).try_recv().ok();
        }
        self.ended.is_none()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // Its id is nobody else's before it is waited for; an error means that it is ending just now.
        if self.is_alive() {
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end for so long; it is killed then.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let Ok(status) = held(&mut self.end).recv_timeout(patience) else {
            self.signal(Signal::SIGKILL);
            panic!("{} does not end within {patience:?}: {}", self.name, self.complaints());
        };
        self.ended = Some(status);
        status
    }

    /// Waits for its end and takes what it said.
    ///
    /// # Panics
    /// See [`Process::wait`].
    pub fn finish(mut self, patience: Duration) -> Said {
        let deadline = Instant::now() + patience;
        let mut out = String::new();
        // To the end of the output first: a full pipe would keep it from ending.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match held(&mut self.out).recv_timeout(left) {
                Ok(line) => out.push_str(&(line + "\n")),
                Err(_) => break,
            }
        }
        let status = self.wait(deadline.saturating_duration_since(Instant::now()));
        // What it said last is not lost on the way. A child of its own may hold the pipe longer than it lived.
        let _ = held(&mut self.silent).recv_timeout(LAST_WORDS);
        Said { status, out, err: self.complaints() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.lives_by_stdin {
            self.signal(Signal::SIGKILL);
        }
    }
}

fn held<T>(lock: &mut Mutex<T>) -> &mut T {
    lock.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn log_of(name: &str, pid: u32) -> Option<File> {
    let folder = std::env::var_os(LOGS)?;
    let path = Path::new(&folder).join(format!("{pid}-{name}.log"));
    let made = fs::create_dir_all(&folder).and_then(|()| File::create(&path));
    Some(made.unwrap_or_else(|error| panic!("{LOGS}: {}: {error}", path.display())))
}

fn read_lines(stream: impl Read + Send + 'static, take: impl FnMut(String) + Send + 'static) {
    thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).for_each(take));
}

fn send(lines: &Sender<String>, line: String) {
    // Nobody listens any more: the process may go on writing all the same.
    let _ = lines.send(line);
}

fn keep(kept: &Mutex<VecDeque<String>>, line: String) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(line);
}
