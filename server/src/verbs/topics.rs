//! `shopstream topics`: the topic under a log on Kafka.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use shopstream_eventlog::kafka::topics::{self, Topic};
use shopstream_eventlog::kafka::{KafkaLog, Options};
use shopstream_eventlog::{Log, LogId};
use uuid::Uuid;

use crate::config::LogUrl;
use crate::output::say;

/// The topic that is wanted.
#[derive(Args, Clone, Debug)]
pub struct TopicsOptions {
    /// The log: `kafka://HOST:PORT,…/TOPIC`
    #[arg(long, value_name = "URL", env = "SHOPSTREAM_LOG")]
    log: LogUrl,
    /// How many partitions; never changed afterwards
    #[arg(long, default_value_t = 16)]
    partitions: u16,
    /// On how many brokers each record is kept
    #[arg(long, default_value_t = 1)]
    replication: u16,
    /// How many of them must have a record before it is acknowledged
    #[arg(long, default_value_t = 1)]
    min_insync: u16,
    /// Whether all brokers may lose power at once (every record is then flushed) or not
    #[arg(long, value_enum, default_value_t = Power::Shared)]
    power: Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Power {
    /// One power cut may hit all brokers
    Shared,
    /// The brokers do not lose power together
    Independent,
}

/// Makes the topic, or mends its settings, and writes its genesis; says what it did. Exit 1 where something is left that
/// is not as it was asked for.
///
/// # Errors
/// The brokers do not answer or refuse.
pub async fn apply(options: &TopicsOptions) -> anyhow::Result<ExitCode> {
    let LogUrl::Kafka { brokers, topic } = &options.log else {
        bail!("a local log has no topics: name one as kafka://HOST:PORT,…/TOPIC");
    };
    let kafka = Options::new(brokers, topic);
    let wanted = Topic {
        partitions: options.partitions,
        replication_factor: options.replication,
        min_insync: options.min_insync,
        power: match options.power {
            Power::Shared => topics::Power::Shared,
            Power::Independent => topics::Power::Independent,
        },
    };
    let applied = topics::apply(&kafka, wanted).await.with_context(|| format!("applying topic {topic}"))?;
    if applied.created {
        say!("made topic {topic} with {} partitions", options.partitions)?;
    }
    for drift in &applied.altered {
        say!("mended: {drift}")?;
    }
    for drift in &applied.left {
        say!("left: {drift}, and that cannot be changed on a topic that is there")?;
    }
    if !applied.created && applied.altered.is_empty() && applied.left.is_empty() {
        say!("topic {topic} is as it should be already: nothing was changed")?;
    }
    if options.power == Power::Independent && flushes(&kafka, wanted).await? {
        say!(
            "left: the topic flushes every record (flush.messages is 1), which is safer and slower than \
             --power independent asks for"
        )?;
    }
    let raw = KafkaLog::connect(kafka).await.with_context(|| format!("connecting to {brokers}"))?;
    let log = Log::create(Arc::new(raw), LogId(Uuid::now_v7()), 1).await?;
    say!("log {}, generation {}", log.topology().log, log.topology().generation)?;
    Ok(if applied.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the brokers flush every record of the topic.
async fn flushes(kafka: &Options, topic: Topic) -> anyhow::Result<bool> {
    let flushed = Topic { power: topics::Power::Shared, ..topic };
    let drift = topics::check(kafka, flushed).await.context("looking at the topic once more")?;
    Ok(drift.iter().all(|drift| drift.setting != "flush.messages"))
}
