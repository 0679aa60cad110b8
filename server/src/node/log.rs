//! The log of a node: the folder or the topic that the configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shopstream_eventlog::kafka::topics::{self, Gravity, Power, Topic};
use shopstream_eventlog::kafka::{KafkaLog, Options as KafkaOptions};
use shopstream_eventlog::local::{LocalLog, Options as LocalOptions};
use shopstream_eventlog::{Log, LogId};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use crate::config::{Config, LogUrl};

/// Producers kept warm for claims where partitions change hands: about as many as a dying node leaves behind.
const SPARES: usize = 8;
/// Between two looks at the topic's settings (`rulings.md` 45).
const WATCH: Duration = Duration::from_secs(60);

/// Opens the log. A local one is made where there is none; a topic never is.
///
/// # Errors
/// It is not there, not whole, or not the one that the configuration means.
pub(super) async fn open(config: &Config) -> anyhow::Result<Log> {
    match &config.log {
        LogUrl::Local => open_local(&config.data.join("log"), config.partitions).await,
        LogUrl::Kafka { brokers, topic } => {
            let mut options = KafkaOptions::new(brokers, topic);
            if config.is_shared() {
                options.spares = SPARES;
            }
            let raw = KafkaLog::connect(options)
                .await
                .with_context(|| format!("opening topic {topic} (made by `shopstream topics apply`)"))?;
            Ok(Log::open(Arc::new(raw)).await?)
        }
    }
}

async fn open_local(folder: &Path, partitions: u16) -> anyhow::Result<Log> {
    let options = LocalOptions::new(folder, partitions);
    let raw = tokio::task::spawn_blocking(move || LocalLog::open(options)).await??;
    Ok(Log::create(Arc::new(raw), LogId(Uuid::now_v7()), 1).await?)
}

/// Looks every minute whether the topic still has the settings that the log rests on, and alarms where not.
pub(super) async fn watch(config: LogUrl, partitions: u16, stop: CancellationToken) {
    let LogUrl::Kafka { brokers, topic } = config else { return };
    let options = KafkaOptions::new(brokers, topic);
    // The least that every log rests on; who has more replicas has not drifted.
    let least = Topic { partitions, replication_factor: 1, min_insync: 1, power: Power::Independent };
    let mut ticks = tokio::time::interval(WATCH);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match topics::check(&options, least).await {
            Ok(drifts) => {
                for drift in drifts {
                    metrics::counter!("shopstream_topic_drift_total").increment(1);
                    match drift.gravity {
                        Gravity::Stop => {
                            error!(%drift, "the topic lost a setting that the log rests on: {drift}")
                        }
                        Gravity::Alarm => warn!(%drift, "the topic drifted: {drift}"),
                    }
                }
            }
            Err(error) => warn!(%error, "the topic's settings cannot be read"),
        }
    }
}
