//! What a run says at its end: a line per promise, the counts, green or red.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

/// How many broken cases are told; the rest is counted.
const TOLD: usize = 5;

/// The result of a run so far.
pub(crate) struct Report {
    command: &'static str,
    seed: u64,
    began: Instant,
    promises: Vec<Promise>,
    counts: Vec<(String, u64)>,
}

/// A promise, and how often it was put to the test.
struct Promise {
    id: &'static str,
    says: &'static str,
    checked: u64,
    broken: u64,
    told: Vec<String>,
}

impl Report {
    /// A run of `command` that keeps to `promises`: id and sentence.
    pub(crate) fn new(command: &'static str, seed: u64, promises: &[(&'static str, &'static str)]) -> Self {
        println!("shopstream-torture {command}: seed {seed}, commit {}", commit());
        let untried = |(id, says)| Promise { id, says, checked: 0, broken: 0, told: Vec::new() };
        let promises = promises.iter().copied().map(untried).collect();
        Self { command, seed, began: Instant::now(), promises, counts: Vec::new() }
    }

    /// The promise `id` was put to the test so many times more.
    pub(crate) fn checked(&mut self, id: &str, times: u64) {
        if let Some(promise) = self.promise(id) {
            promise.checked += times;
        }
    }

    /// The promise `id` was broken.
    pub(crate) fn broken(&mut self, id: &str, detail: String) {
        if let Some(promise) = self.promise(id) {
            promise.broken += 1;
            if promise.told.len() < TOLD {
                promise.told.push(detail);
            }
        }
    }

    /// Adds to a count; counts are told in the order of their first use.
    pub(crate) fn count(&mut self, name: &str, more: u64) {
        match self.counts.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += more,
            None => self.counts.push((name.to_owned(), more)),
        }
    }

    /// A count so far.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.counts.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
    }

    /// No promise is broken, and each was put to the test.
    pub(crate) fn is_green(&self) -> bool {
        self.promises.iter().all(|promise| promise.broken == 0 && promise.checked > 0)
    }

    fn promise(&mut self, id: &str) -> Option<&mut Promise> {
        let found = self.promises.iter_mut().find(|promise| promise.id == id);
        debug_assert!(found.is_some(), "the run knows no promise {id}");
        found
    }

    pub(crate) fn print(&self) {
        for promise in &self.promises {
            println!("{:<9} {:<8} {:<58} {}", promise.id, promise.state(), promise.says, promise.checked);
            for detail in &promise.told {
                println!("          - {detail}");
            }
        }
        for (name, count) in &self.counts {
            println!("{name}: {count}");
        }
        let verdict = if self.is_green() { "green" } else { "RED" };
        println!("{verdict} in {:.1} s, seed {}", self.began.elapsed().as_secs_f64(), self.seed);
    }

    pub(crate) fn to_json(&self) -> Value {
        let promise = |promise: &Promise| {
            json!({
                "id": promise.id, "says": promise.says, "state": promise.state(),
                "checked": promise.checked, "broken": promise.broken, "first": promise.told,
            })
        };
        json!({
            "command": self.command,
            "seed": self.seed,
            "commit": commit(),
            "green": self.is_green(),
            "seconds": self.began.elapsed().as_secs_f64(),
            "promises": self.promises.iter().map(promise).collect::<Vec<_>>(),
            "counts": self.counts.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }
}

impl Promise {
    fn state(&self) -> &'static str {
        match (self.broken, self.checked) {
            (0, 0) => "UNTRIED",
            (0, _) => "held",
            _ => "BROKEN",
        }
    }
}

/// What is under test, as far as git knows.
fn commit() -> String {
    let folder = shopstream_tests::repository();
    let asked = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(folder).output();
    let said = asked.ok().filter(|said| said.status.success());
    said.map_or_else(|| "unknown".into(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}
