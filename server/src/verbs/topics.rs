//! `shopstream topics`: the topic under a log on Kafka.

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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Power {
    /// One power cut may hit all brokers
    Shared,
    /// The brokers do not lose power together
    Independent,
}

/// Makes the topic, or mends its settings, and writes its genesis; says what it did.
///
/// # Errors
/// The brokers do not answer or refuse.
pub async fn apply(options: &TopicsOptions) -> anyhow::Result<()> {
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
        say!("left: {drift}")?;
    }
    let raw = KafkaLog::connect(kafka).await.with_context(|| format!("connecting to {brokers}"))?;
    let log = Log::create(Arc::new(raw), LogId(Uuid::now_v7()), 1).await?;
    say!("log {}, generation {}", log.topology().log, log.topology().generation)?;
    Ok(())
}
