//! `shopstream log repair`: when the log has not any more what the journal has (`rulings.md` 40).
//!
//! The journal is an index of the log, so the two agree up to some place of each partition: the log was cut there, or
//! was made again and agrees nowhere. Behind that place the journal has commits that the log has lost, and the log may
//! have others that the journal never saw. There are two ways to one history again, and an operator chooses:
//! [`Way::KeepLog`] takes the log as it is and lists what is lost; [`Way::AppendLost`] appends it again from the
//! journal. Either way the partitions are claimed above every epoch that was ever seen, so that nothing of an owner of
//! before can count, and then everything that was read behind the place is forgotten and read again.
//!
//! It may be broken off anywhere and called again: the journal is rolled back last, and what was already appended is
//! found by its command id.

mod append;
mod compare;
mod list;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use shopstream_domain::Partition;
use shopstream_eventlog::kafka::{KafkaLog, Options as KafkaOptions};
use shopstream_eventlog::local::{LocalLog, Options as LocalOptions};
use shopstream_eventlog::raw::RawLog;
use shopstream_eventlog::{Log, LogError, LogId};
use shopstream_projections::{Database, Repaired};
use tonic::transport::Endpoint;
use uuid::Uuid;

use self::compare::Compared;
use self::list::List;
use crate::config::{Config, LogUrl};
use crate::node::Offline;
use crate::output::{Unwritten, say};

/// Which history counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The log's: what it has lost is lost.
    KeepLog,
    /// Both: what the log has lost is appended to it again.
    AppendLost,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::KeepLog => "keep_log",
            Self::AppendLost => "append_lost",
        }
    }
}

/// Compares log and journal, and goes `way`; without one only what differs is said. Exit 1 where they differ and it was left
/// at that, or where a lost commit could not be appended because its stream has another history on the log.
///
/// # Errors
/// A node runs, the log does not open or contradicts itself, or the database does not answer. The journal is then as it
/// was.
pub async fn run(config: &Config, way: Option<Way>) -> anyhow::Result<ExitCode> {
    let url = config.url();
    let answers = Endpoint::from_shared(url.clone())?.connect().await.is_ok();
    ensure!(!answers, "a node runs at {url}: stop it first, and every other node of this log");
    let offline = Offline::open(config).await?;
    let done = repair(config, &offline.database, way).await;
    offline.close().await;
    done
}

async fn repair(config: &Config, database: &Database, way: Option<Way>) -> anyhow::Result<ExitCode> {
    database.migrate().await?;
    let Some(filled_from) = database.filled_from().await? else {
        bail!("this database is empty: there is nothing to compare the log with");
    };
    let log = open(config, filled_from.generation + 1).await?;
    ensure!(
        log.partitions() == filled_from.partitions,
        "the log has {} partitions and the journal was filled from one with {}: streams would not be found where they \
         were written; make a topic with as many",
        log.partitions(),
        filled_from.partitions
    );
    let mut compared = Vec::new();
    for partition in 0..log.partitions() {
        compared.push(Compared::look(&log, database, partition).await?);
    }
    let differ = log.topology().log != filled_from.log || compared.iter().any(Compared::differs);
    if !differ {
        say!("log and journal agree")?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(way) = way else { return Ok(say_what_differs(&compared)?) };
    let mut list = List::create(&config.data)?;
    let mut repaired = Vec::new();
    for compared in &compared {
        let done = append::partition(&log, database, compared, way, &mut list).await;
        repaired.push(done.with_context(|| format!("partition {}", compared.partition()))?);
    }
    // Before the journal forgets it: from then on this is the only trace.
    list.finish()?;
    database.roll_back(log.topology(), way.name(), &repaired).await?;
    Ok(tell(&repaired, &list)?)
}

/// Opens the log, or begins one with the next generation where there is not even a first record.
async fn open(config: &Config, generation: u32) -> anyhow::Result<Log> {
    let raw: Arc<dyn RawLog> = match &config.log {
        LogUrl::Local => {
            let options = LocalOptions::new(config.data.join("log"), config.partitions);
            Arc::new(tokio::task::spawn_blocking(move || LocalLog::open(options)).await??)
        }
        LogUrl::Kafka { brokers, topic } => {
            let raw = KafkaLog::connect(KafkaOptions::new(brokers, topic)).await;
            Arc::new(raw.with_context(|| format!("opening topic {topic}"))?)
        }
    };
    match Log::create(raw, LogId(Uuid::now_v7()), generation).await {
        Err(error @ LogError::NoGenesis { .. }) => Err(anyhow::Error::from(error).context(
            "the log begins with records of an owner that did not notice that it was made again: while every node is \
             stopped, delete it once more, make it with `shopstream topics apply`, and call this again",
        )),
        opened => Ok(opened?),
    }
}

fn say_what_differs(compared: &[Compared]) -> Result<ExitCode, Unwritten> {
    for partition in compared.iter().filter(|partition| partition.differs()) {
        say!("{partition}")?;
    }
    say!(
        "either `shopstream log repair --keep-log`: the log is right, and what it has lost is listed; \
         or `shopstream log repair --append-lost`: what it has lost is appended again from the journal"
    )?;
    Ok(ExitCode::FAILURE)
}

fn tell(repaired: &[Repaired], list: &List) -> Result<ExitCode, Unwritten> {
    let sum = |count: fn(&Repaired) -> u64| repaired.iter().map(count).sum::<u64>();
    let (lost, appended) = (sum(|it| it.lost), sum(|it| it.appended));
    let conflicting = sum(|it| it.conflicting);
    let rolled: Vec<Partition> = repaired
        .iter()
        .filter(|it| it.lost + it.appended + it.conflicting > 0)
        .map(|it| it.kept.partition)
        .collect();
    say!(
        "{lost} commits lost, {appended} appended again, {conflicting} not appended because their stream has another \
         history on the log; partitions {rolled:?}"
    )?;
    say!("every one of them is listed in {}", list.path().display())?;
    say!("start the node: it fills the read models again from the log")?;
    Ok(if conflicting == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
