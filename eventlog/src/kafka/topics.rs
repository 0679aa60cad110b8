//! The topic under the log: made with the settings that the log rests on, and watched for drift.
//!
//! Not checked here, because rdkafka cannot ask for it: the cluster feature `eligible.leader.replicas.version`,
//! which new clusters have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::error::{from_code, from_kafka, is_no_topic, no_topic};
use super::settings::{self, Discard, Events};
use super::{Options, PATIENCE, blocking};
use crate::raw::RawError;

/// The least `max.message.bytes`; Kafka's own default.
pub const MAX_MESSAGE_BYTES: usize = 1_048_588;
/// How long a new topic may take until every partition has a leader.
const BIRTH: Duration = Duration::from_secs(20);

/// Whether all replicas may lose power at once (`rulings.md` 47).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// They may: the broker flushes every append, at the price of a third of the throughput.
    Shared,
    /// They hang on independent supplies, and a flush is left to the operating system.
    Independent,
}

/// A topic as the log wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// N. It cannot be changed later.
    pub partitions: u16,
    /// On how many brokers each partition is.
    pub replication_factor: u16,
    /// On how many brokers a record is before it is acknowledged.
    pub min_insync: u16,
    /// See there.
    pub power: Power,
}

impl Topic {
    fn settings(self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            // Compaction or retention would delete claims, and with them the meaning of all that follows.
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
            ("retention.bytes", "-1".to_owned()),
            // Otherwise a clock that is an hour ahead makes every claim be refused.
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("max.message.bytes", MAX_MESSAGE_BYTES.to_string()),
            ("min.insync.replicas", self.min_insync.to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ];
        if self.power == Power::Shared {
            settings.push(("flush.messages", "1".to_owned()));
        }
        settings
    }
}

/// Something that is not as the log wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Its name.
    pub setting: String,
    /// What it should be, or at least.
    pub wanted: String,
    /// What it is.
    pub found: String,
    /// What it means.
    pub gravity: Gravity,
}

/// What a drift means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// What was acknowledged may be lost or not be found: claim nothing, and sound an alarm.
    Stop,
    /// Sound an alarm.
    Alarm,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, wanted, found, .. } = self;
        write!(f, "{setting} is {found}, the log needs {wanted}")
    }
}

/// What [`apply`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The topic was made.
    pub created: bool,
    /// What was not as it should be, and was changed.
    pub altered: Vec<Drift>,
    /// What is still not as it should be, such as the number of partitions.
    pub left: Vec<Drift>,
}

/// Makes the topic, or brings the settings of one that exists to what the log wants. Numbers of partitions and
/// replicas are never changed, only reported.
///
/// # Errors
/// See [`RawError`].
pub async fn apply(options: &Options, topic: Topic) -> Result<Applied, RawError> {
    let admin = Admin::new(options)?;
    match admin.drift(topic).await {
        Ok(drift) => {
            let (altered, _): (Vec<_>, Vec<_>) =
                drift.into_iter().partition(|drift| drift.setting.contains('.'));
            if !altered.is_empty() {
                admin.alter(&altered).await?;
            }
            let left = admin.drift(topic).await.map_err(|absent| absent.say(options))?;
            Ok(Applied { created: false, altered, left })
        }
        Err(Absent::NoTopic) => {
            admin.create(topic).await?;
            let deadline = Instant::now() + BIRTH;
            loop {
                match admin.drift(topic).await {
                    Ok(left) => return Ok(Applied { created: true, altered: Vec::new(), left }),
                    Err(error) if Instant::now() > deadline => return Err(error.say(options)),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        Err(error) => Err(error.say(options)),
    }
}

/// What about the topic is not as the log wants it; empty where all is well.
///
/// # Errors
/// See [`RawError`]; [`RawError::Refused`] where the topic does not exist.
pub async fn check(options: &Options, topic: Topic) -> Result<Vec<Drift>, RawError> {
    Admin::new(options)?.drift(topic).await.map_err(|absent| absent.say(options))
}

/// Why nothing is known of the topic.
enum Absent {
    NoTopic,
    Error(RawError),
}

impl Absent {
    fn say(self, options: &Options) -> RawError {
        match self {
            Self::NoTopic => no_topic(options),
            Self::Error(error) => error,
        }
    }
}

struct Admin<'a> {
    client: Arc<Discard<AdminClient<Events>>>,
    options: &'a Options,
}

/// What the cluster says about a topic's shape.
struct Shape {
    partitions: usize,
    least_replicas: usize,
}

impl<'a> Admin<'a> {
    fn new(options: &'a Options) -> Result<Self, RawError> {
        let client: AdminClient<Events> = settings::create(&settings::asking(options))?;
        Ok(Self { client: Arc::new(Discard::new(client)), options })
    }

    async fn create(&self, topic: Topic) -> Result<(), RawError> {
        let settings = topic.settings();
        let replication = TopicReplication::Fixed(topic.replication_factor.into());
        let mut new = NewTopic::new(&self.options.topic, topic.partitions.into(), replication);
        for (key, value) in &settings {
            new = new.set(key, value);
        }
        let results = self.client.create_topics([&new], &patience()).await.map_err(from_kafka)?;
        match results.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
            Some(Err((name, code))) => Err(from_code(code, &format!("topic {name} cannot be made: {code}"))),
        }
    }

    async fn drift(&self, topic: Topic) -> Result<Vec<Drift>, Absent> {
        let shape = self.shape().await?;
        let mut drift = Vec::new();
        let mut differs = |setting: &str, wanted: String, found: String, gravity| {
            drift.push(Drift { setting: setting.to_owned(), wanted, found, gravity });
        };
        let wanted = usize::from(topic.partitions);
        if shape.partitions != wanted {
            // Fewer: streams are not where they were written. More: the first N are the log (`rulings.md` 46).
            let gravity = if shape.partitions < wanted { Gravity::Stop } else { Gravity::Alarm };
            differs("partitions", wanted.to_string(), shape.partitions.to_string(), gravity);
        }
        let wanted = usize::from(topic.replication_factor);
        if shape.least_replicas < wanted {
            differs("replicas", wanted.to_string(), shape.least_replicas.to_string(), Gravity::Alarm);
        }
        let found = self.describe().await.map_err(Absent::Error)?;
        for (setting, wanted) in topic.settings() {
            let found = found.get(setting).and_then(|entry| entry.value.clone()).unwrap_or_default();
            if !fits(setting, &wanted, &found) {
                differs(setting, wanted, found, Gravity::Stop);
            }
        }
        Ok(drift)
    }

    async fn shape(&self) -> Result<Shape, Absent> {
        let (client, topic) = (self.client.clone(), self.options.topic.clone());
        let shape = blocking(move || {
            let metadata = client.inner().fetch_metadata(Some(&topic), PATIENCE).map_err(from_kafka)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
                return Ok(None);
            };
            match found.error().map(Code::from) {
                None if found.partitions().is_empty() => return Ok(None),
                None => {}
                Some(code) if is_no_topic(code) => return Ok(None),
                Some(code) => return Err(from_code(code, &code.to_string())),
            }
            if let Some(orphan) = found.partitions().iter().find(|partition| partition.leader() < 0) {
                let detail = format!("partition {} of {topic} has no leader", orphan.id());
                return Err(RawError::Unavailable { detail });
            }
            let replicas = found.partitions().iter().map(|partition| partition.replicas().len());
            Ok(Some(Shape {
                partitions: found.partitions().len(),
                least_replicas: replicas.min().unwrap_or(0),
            }))
        });
        shape.await.map_err(Absent::Error)?.ok_or(Absent::NoTopic)
    }

    async fn describe(&self) -> Result<ConfigResource, RawError> {
        let topic = ResourceSpecifier::Topic(&self.options.topic);
        let described = self.client.describe_configs([&topic], &patience()).await.map_err(from_kafka)?;
        match described.into_iter().next() {
            Some(Ok(resource)) => Ok(resource),
            Some(Err(code)) => Err(from_code(code, &code.to_string())),
            None => Err(RawError::Unavailable { detail: "the broker describes nothing".into() }),
        }
    }

    /// Sets what drifted. The call replaces all settings of the topic, so the others are given again.
    async fn alter(&self, drift: &[Drift]) -> Result<(), RawError> {
        let before = self.describe().await?;
        let own = before.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
        let mut settings: BTreeMap<&str, &str> =
            own.filter_map(|entry| Some((&*entry.name, entry.value.as_deref()?))).collect();
        settings.extend(drift.iter().map(|drift| (&*drift.setting, &*drift.wanted)));
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&self.options.topic));
        for (key, value) in settings {
            alter = alter.set(key, value);
        }
        self.client.alter_configs([&alter], &patience()).await.map_err(from_kafka)?;
        Ok(())
    }
}

fn patience() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Whether a setting is as wanted, or better.
fn fits(setting: &str, wanted: &str, found: &str) -> bool {
    match setting {
        "max.message.bytes" | "min.insync.replicas" => {
            matches!((wanted.parse::<u64>(), found.parse::<u64>()), (Ok(wanted), Ok(found)) if found >= wanted)
        }
        _ => wanted == found,
    }
}
