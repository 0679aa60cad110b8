//! The log of a node: the folder or the topic that the configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shopstream_eventlog::kafka::topics::{Gravity, Power, Topic};
use shopstream_eventlog::kafka::{KafkaLog, Options as KafkaOptions};
use shopstream_eventlog::local::{LocalLog, Options as LocalOptions};
use shopstream_eventlog::{Log, LogId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use crate::config::{Config, LogUrl};

/// Producers kept warm for claims where partitions change hands: about as many as a dying node leaves behind.
const SPARES: usize = 8;

/// An open log, and who watches what is under it.
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) watch: Watch,
}

/// Opens the log. A local one is made where there is none; a topic never is.
///
/// # Errors
/// It is not there, not whole, or not the one that the configuration means.
pub(super) async fn open(config: &Config) -> anyhow::Result<Opened> {
    match &config.log {
        LogUrl::Local => {
            let log = open_local(&config.data.join("log"), config.partitions).await?;
            Ok(Opened { log, watch: Watch::nothing() })
        }
        LogUrl::Kafka { brokers, topic } => {
            let every = Duration::from_secs(config.log_watch_seconds);
            let mut options = KafkaOptions { watch: every, ..KafkaOptions::new(brokers, topic) };
            if config.is_shared() {
                options.spares = SPARES;
            }
            let raw = KafkaLog::connect(options)
                .await
                .with_context(|| format!("opening topic {topic} (made by `shopstream topics apply`)"))?;
            let raw = Arc::new(raw);
            let log = Log::open(raw.clone()).await?;
            let watch = Watch::over(raw, log.partitions(), every);
            // Before anything can be claimed.
            watch.look().await;
            Ok(Opened { log, watch })
        }
    }
}

async fn open_local(folder: &Path, partitions: u16) -> anyhow::Result<Log> {
    let options = LocalOptions::new(folder, partitions);
    let raw = tokio::task::spawn_blocking(move || LocalLog::open(options)).await??;
    Ok(Log::create(Arc::new(raw), LogId(Uuid::now_v7()), 1).await?)
}

/// Looks now and then whether the topic still has the settings that the log rests on. While it has not, nothing is
/// claimed and health says so (`rulings.md` 45); who owns a partition keeps it.
pub(super) struct Watch {
    topic: Option<(Arc<KafkaLog>, Topic, Duration)>,
    wrong: watch::Sender<Option<String>>,
}

impl Watch {
    /// Over a log that has no such settings.
    fn nothing() -> Self {
        Self { topic: None, wrong: watch::Sender::new(None) }
    }

    fn over(topic: Arc<KafkaLog>, partitions: u16, every: Duration) -> Self {
        // The least that every log rests on; who has more replicas has not drifted.
        let least = Topic { partitions, replication_factor: 1, min_insync: 1, power: Power::Independent };
        Self { topic: Some((topic, least, every)), wrong: watch::Sender::new(None) }
    }

    /// What is wrong, if anything.
    pub(super) fn wrong(&self) -> watch::Receiver<Option<String>> {
        self.wrong.subscribe()
    }

    /// Looks until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Some((_, _, every)) = self.topic else { return };
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            self.look().await;
        }
    }

    async fn look(&self) {
        let Some((topic, least, _)) = &self.topic else { return };
        let drifts = match topic.check(*least).await {
            Ok(drifts) => drifts,
            // What was known stays true. A topic that is gone is noticed by everybody who reads it.
            Err(error) => return warn!(%error, "the topic's settings cannot be read"),
        };
        let mut grave = Vec::new();
        for drift in drifts {
            metrics::counter!("shopstream_topic_drift_total").increment(1);
            match drift.gravity {
                Gravity::Stop => {
                    error!(%drift, "the topic lost a setting that the log rests on: {drift}");
                    grave.push(drift.to_string());
                }
                Gravity::Alarm => warn!(%drift, "the topic drifted: {drift}"),
            }
        }
        let wrong = (!grave.is_empty()).then(|| {
            format!("{}: nothing is claimed until `shopstream topics apply` mends it", grave.join(", "))
        });
        topic.hold_claims(wrong.clone());
        self.wrong.send_replace(wrong);
    }
}
