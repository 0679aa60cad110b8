//! What the machine does meanwhile: whose CPU time a measurement really was, and how fast the disk flushes.

use std::collections::HashMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Linux counts CPU time in hundredths of a second for every program, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);
/// Flushes of [`flush_latency`]; about as many milliseconds on a quick disk.
const FLUSHES: u64 = 300;
/// Bytes of one record there.
const RECORD: usize = 300;

/// A process by its number.
pub(super) type Pid = u32;

/// CPU time used so far: by the machine, by a server, and by everything that belongs to the benchmark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// All cores together, working or not.
    capacity: u64,
    busy: u64,
    server_alone: u64,
    server: u64,
    ours: u64,
}

/// Who used the CPU between two moments.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spent {
    /// By the server's own process.
    pub(super) server_alone: Duration,
    /// By the server with everything that it started, such as Postgres.
    pub(super) server: Duration,
    /// Part of the machine, 0 to 1, that went to processes which have nothing to do with the benchmark.
    pub(super) others: f64,
}

/// Whose CPU time is counted. Each process counts with all that it started.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    /// What is measured.
    pub(super) server: Pid,
    /// Everything that belongs to the benchmark, the server among them.
    pub(super) ours: Vec<Pid>,
}

impl Meter {
    /// The CPU time used so far.
    ///
    /// # Errors
    /// `/proc` does not read as Linux writes it.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let processes = Processes::now()?;
        let (busy, capacity) = machine()?;
        Ok(Usage {
            capacity,
            busy,
            server_alone: processes.alone(self.server),
            server: processes.tree(self.server),
            ours: self.ours.iter().map(|pid| processes.tree(*pid)).sum(),
        })
    }
}

impl Usage {
    /// What was used from `before` to `self`.
    pub(super) fn since(&self, before: &Self) -> Spent {
        let ours = self.ours.saturating_sub(before.ours);
        let busy = self.busy.saturating_sub(before.busy);
        let capacity = self.capacity.saturating_sub(before.capacity).max(1);
        Spent {
            server_alone: ticks(self.server_alone.saturating_sub(before.server_alone)),
            server: ticks(self.server.saturating_sub(before.server)),
            others: busy.saturating_sub(ours) as f64 / capacity as f64,
        }
    }
}

fn ticks(count: u64) -> Duration {
    TICK * u32::try_from(count).unwrap_or(u32::MAX)
}

/// Ticks of all cores: busy ones, and all.
fn machine() -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields[..] else {
        anyhow::bail!("/proc/stat begins with {line:?}");
    };
    let busy = user + nice + system + irq + softirq + steal;
    Ok((busy, busy + idle + iowait))
}

/// All processes of one moment.
struct Processes(HashMap<Pid, Process>);

#[derive(Clone, Copy)]
struct Process {
    parent: Pid,
    /// Ticks of its own.
    own: u64,
    /// Ticks of its children that have ended.
    buried: u64,
}

impl Processes {
    fn now() -> anyhow::Result<Self> {
        let mut all = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has just ended is no error: its time is in its parent's sum.
            if let Some(process) =
                fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|s| Process::parse(&s))
            {
                all.insert(pid, process);
            }
        }
        Ok(Self(all))
    }

    fn alone(&self, pid: Pid) -> u64 {
        self.0.get(&pid).map_or(0, |process| process.own)
    }

    fn tree(&self, root: Pid) -> u64 {
        self.0.iter().filter(|(pid, _)| self.descends(**pid, root)).map(|(_, p)| p.own + p.buried).sum()
    }

    fn descends(&self, mut pid: Pid, root: Pid) -> bool {
        // Bounded: a list of parents that was read while it changed could hold a circle.
        for _ in 0..64 {
            if pid == root {
                return true;
            }
            match self.0.get(&pid) {
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    }
}

impl Process {
    /// Reads a line of `/proc/PID/stat`, see proc(5).
    fn parse(stat: &str) -> Option<Self> {
        // The name stands in brackets and may hold spaces and brackets itself.
        let (_, after_name) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: number(1)? as Pid,
            own: number(11)? + number(12)?,
            buried: number(13)? + number(14)?,
        })
    }
}

/// What the figures were taken on: without it they say nothing.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) file_system: String,
    /// `fdatasync` of one record into a file that was written beforehand.
    pub(super) flush_p50_ms: f64,
    pub(super) flush_p99_ms: f64,
}

impl Machine {
    /// Looks at this machine and the disk under `folder`. Blocks for a moment.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn look(folder: &Path) -> anyhow::Result<Self> {
        let flushes = flush_latency(folder).with_context(|| format!("writing in {}", folder.display()))?;
        let at = |quantile| flushes.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(folder)?,
            flush_p50_ms: at(0.5),
            flush_p99_ms: at(0.99),
        })
    }

    /// Whether what is written here lasts at all.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs")
    }
}

fn flush_latency(folder: &Path) -> anyhow::Result<Histogram<u64>> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; RECORD * FLUSHES as usize])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut micros = Histogram::new_with_max(10_000_000, 2)?;
    for _ in 0..FLUSHES {
        file.write_all(&[1; RECORD])?;
        let begun = Instant::now();
        file.sync_data()?;
        micros.saturating_record(begun.elapsed().as_micros() as u64);
    }
    Ok(micros)
}

/// The type of the file system that `folder` is on, as the table of mounts names it.
fn file_system(folder: &Path) -> anyhow::Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let over = mounts.filter(|(place, _)| folder.starts_with(place));
    // Of two on one place the later one is seen.
    let nearest = over.max_by_key(|(place, _)| place.components().count());
    Ok(nearest.map_or("unknown", |(_, kind)| kind).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_process_is_called() {
        let line = "12 (a) b (c)) S 7 12 12 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99";
        let process = Process::parse(line).unwrap();
        assert_eq!((process.parent, process.own, process.buried), (7, 120, 7));
        assert!(Process::parse("12 (cut").is_none());
    }

    #[test]
    fn work_of_a_child_is_the_servers_and_not_that_of_others() {
        let process = |parent, own| Process { parent, own, buried: 1 };
        let processes = Processes([(1, process(0, 5)), (10, process(1, 7)), (11, process(10, 20))].into());
        assert_eq!((processes.alone(10), processes.tree(10), processes.tree(99)), (7, 29, 0));
        let before = Usage { capacity: 0, busy: 0, server_alone: 0, server: 0, ours: 0 };
        let after = Usage { capacity: 200, busy: 100, server_alone: 7, server: 29, ours: 80 };
        let spent = after.since(&before);
        assert_eq!((spent.server_alone, spent.server), (TICK * 7, TICK * 29));
        assert!((spent.others - 0.1).abs() < 1e-9);
    }
}
