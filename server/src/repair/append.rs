//! One partition, made whole again.

use std::collections::{HashMap, HashSet};

use anyhow::bail;
use shopstream_domain::StreamId;
use shopstream_eventlog::writer::{Identity, Progress, SubmitError};
use shopstream_eventlog::{CommandId, CommitRecord, Log, PartitionWriter};
use shopstream_projections::{Database, Repaired};

use super::Way;
use super::compare::{Compared, Rows};
use super::list::{List, Outcome};

/// Commits appended before all of them are waited for.
const TOGETHER: usize = 512;

/// Claims the partition above every epoch that was ever seen, appends what the log has lost where `way` says so, lists
/// it, and steps down.
///
/// # Errors
/// Somebody else claims it meanwhile, or log or database do not answer. Called again, it goes on.
pub(super) async fn partition(
    log: &Log,
    database: &Database,
    compared: &Compared,
    way: Way,
    list: &mut List,
) -> anyhow::Result<Repaired> {
    let Compared { agreed, .. } = compared;
    let mut done = Repaired { kept: *agreed, lost: 0, appended: 0, conflicting: 0 };
    let mut behind = Behind::default();
    let identity = Identity { node: "log repair".into(), address: String::new() };
    let floor = database.highest_epoch(compared.partition()).await?;
    let claimed = PartitionWriter::claim(log, *agreed, identity, floor, rand::random(), |record| {
        behind.note(&record);
    });
    let mut writer = claimed.await?;
    let mut rows = Rows::of(database, compared.partition(), agreed.next).await?;
    let mut in_flight = 0;
    while let Some(record) = rows.next().await? {
        let outcome = match (way, behind.judge(&record)) {
            (_, Judged::Present) => continue,
            (Way::AppendLost, Judged::Missing) => Outcome::Appended,
            (Way::AppendLost, Judged::Conflicting) => Outcome::Conflicting,
            (Way::KeepLog, _) => Outcome::Lost,
        };
        list.add(outcome, &record)?;
        match outcome {
            Outcome::Lost => done.lost += 1,
            Outcome::Conflicting => done.conflicting += 1,
            Outcome::Appended => {
                done.appended += 1;
                submit(&mut writer, &record, &mut in_flight).await?;
            }
        }
        if in_flight >= TOGETHER {
            confirm(&mut writer, &mut in_flight).await?;
        }
    }
    confirm(&mut writer, &mut in_flight).await?;
    if let Err(trouble) = writer.release().await {
        bail!("stepping down: {trouble:?}");
    }
    Ok(done)
}

async fn submit(
    writer: &mut PartitionWriter,
    record: &CommitRecord,
    in_flight: &mut usize,
) -> anyhow::Result<()> {
    loop {
        match writer.submit(&record.commit) {
            Ok(_) => {
                *in_flight += 1;
                return Ok(());
            }
            Err(SubmitError::Full) if *in_flight > 0 => confirm(writer, in_flight).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until everything in flight counts.
async fn confirm(writer: &mut PartitionWriter, in_flight: &mut usize) -> anyhow::Result<()> {
    while *in_flight > 0 {
        match writer.progress().await {
            Progress::Confirmed(confirmed) => *in_flight -= confirmed.len(),
            trouble => bail!("appending: {trouble:?}; call the repair again"),
        }
    }
    Ok(())
}

/// What the log has behind the place where it and the journal agree.
#[derive(Default)]
struct Behind(HashMap<StreamId, Stream>);

/// The commits of one stream there.
#[derive(Default)]
struct Stream {
    commands: HashSet<CommandId>,
    /// How many of them the journal has too, from the first on.
    met: usize,
}

/// What a commit of the journal is to the log.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    /// An earlier call has appended it.
    Present,
    /// It can go behind what is there.
    Missing,
    /// Its stream has gone another way.
    Conflicting,
}

impl Behind {
    fn note(&mut self, record: &CommitRecord) {
        self.0.entry(record.commit.stream.clone()).or_default().commands.insert(record.commit.command_id);
    }

    /// Asked once for every commit, in order.
    fn judge(&mut self, record: &CommitRecord) -> Judged {
        let Some(stream) = self.0.get_mut(&record.commit.stream) else { return Judged::Missing };
        if stream.commands.contains(&record.commit.command_id) {
            stream.met += 1;
            return Judged::Present;
        }
        if stream.met == stream.commands.len() { Judged::Missing } else { Judged::Conflicting }
    }
}
