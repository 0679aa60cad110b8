//! The list of a repair: one JSON object per line for every commit that the log had lost.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use shopstream_eventlog::CommitRecord;

/// What became of a lost commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Lost,
    Appended,
    Conflicting,
}

/// No payloads: they may name people.
#[derive(Serialize)]
struct Line<'a> {
    outcome: Outcome,
    stream: &'a str,
    first_version: u64,
    events: Vec<&'a str>,
    command_id: String,
    actor: &'a str,
    recorded_at: String,
    /// Where it was.
    partition: u16,
    offset: u64,
}

/// The file.
pub(super) struct List {
    path: PathBuf,
    file: BufWriter<File>,
}

impl List {
    /// A new file in the data folder, named by the time.
    pub(super) fn create(data: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)?;
        let path = data.join(format!("repair-{}.jsonl", uuid::Uuid::now_v7()));
        let file = File::create_new(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn add(&mut self, outcome: Outcome, record: &CommitRecord) -> anyhow::Result<()> {
        let CommitRecord { position, commit, .. } = record;
        let line = Line {
            outcome,
            stream: commit.stream.as_str(),
            first_version: commit.first_version,
            events: commit.events.iter().map(|event| event.event_type.as_str()).collect(),
            command_id: commit.command_id.0.to_string(),
            actor: &commit.actor,
            recorded_at: commit.recorded_at.to_string(),
            partition: position.partition,
            offset: position.offset,
        };
        serde_json::to_writer(&mut self.file, &line)?;
        Ok(self.file.write_all(b"\n")?)
    }

    /// All of it is on the disk when this returns.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        Ok(self.file.get_ref().sync_all()?)
    }
}
