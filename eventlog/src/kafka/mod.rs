//! The log on Kafka: a partition of the log is a partition of one topic.
//!
//! **Appending.** A fresh idempotent producer per appender, from a pool of warm spares ([`spares`]): a new
//! producer's first record takes half a second, a warm one's takes milliseconds. The Kafka key is left out: the
//! record names its stream in clear text, and this layer knows nothing of what is in the bytes. No headers.
//!
//! **Reading.** A reader of several partitions has a consumer of its own. Readers of one partition each, such as
//! an owner's read-back, share one consumer, because sixteen consumers would be fifty threads ([`readers`]).
//!
//! **Noticing another log.** librdkafka goes on silently after a topic was deleted and made again, where the offsets
//! happen to fit (`event-log.md` §6.3). But it fetches by topic id, so it knows, and says so in a line of its own log:
//! [`settings::Identity`] hears it before any record of the new topic comes. Besides, a reader remembers the last
//! record that it handed out, and one that it handed out before the last look. Whenever its consumer is opened again,
//! and every [`Options::watch`], both are fetched again through a fresh connection and compared ([`probe`]). Where one
//! is missing or differs, the reader ends with [`RawError::Lost`] or [`RawError::Broken`]. A broker older than topic
//! ids leaves only these looks: between two of them a replaced log may be read unnoticed, where offsets fit; the claim
//! rule and the cursor's fingerprint stand behind. What a reader that has not read anything yet can not tell: whether
//! the log is still the one that its caller knew. Offsets never jump: a record beyond the next offset is handed out
//! only when a fresh consumer gives the same one.
//!
//! **Noticing that nothing comes.** After a broker has hung a consumer may fetch for ever and be told of nothing, without an
//! error. The same looks see whether the log goes on behind a reader; where three in a row find more and nothing came, the
//! consumer is opened again. A look comes soon after an error of the connection.

mod error;
mod feed;
mod probe;
mod producer;
mod queue;
mod readers;
mod settings;
mod spares;
pub mod topics;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use shopstream_domain::Partition;

use crate::cursor::Offset;
use crate::raw::{Appender, RawError, RawLog, RawReader};

use error::{Trouble, is_no_topic, no_topic, topic_gone, trouble};
use readers::Readers;
use settings::{Discard, Events};
use spares::Spares;

/// How long a question to the brokers may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a topic that was there may be away. Brokers that start do not know it at once.
const TOPIC_PATIENCE: Duration = Duration::from_secs(10);

/// Between two questions while a leader moves.
const MOVING: Duration = Duration::from_millis(20);
/// Between two questions while the topic is away.
const AWAY: Duration = Duration::from_millis(200);

/// Where the log is, and how much of it may be under way.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// More settings of librdkafka, such as those for authentication. Those that safety rests on cannot be changed.
    pub settings: Vec<(String, String)>,
    /// How many producers to keep warm.
    pub spares: usize,
    /// Bytes one appender takes before it is full.
    pub in_flight_bytes: usize,
    /// Records one appender takes before it is full.
    pub in_flight_records: usize,
    /// How often a reader looks whether the log is still the one it read.
    pub watch: Duration,
}

impl Options {
    /// The usual options for `topic` at `brokers`.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            settings: Vec::new(),
            spares: 2,
            in_flight_bytes: 8 << 20,
            in_flight_records: 16_384,
            watch: Duration::from_secs(60),
        }
    }
}

/// A log on a Kafka topic.
pub struct KafkaLog {
    options: Arc<Options>,
    partitions: Partition,
    asking: Arc<Discard<BaseConsumer<Events>>>,
    spares: Spares,
    readers: Readers,
    /// Why no appender is given out.
    held: Mutex<Option<String>>,
    /// Since when the cluster does not know the topic.
    away: Mutex<Option<Instant>>,
}

impl KafkaLog {
    /// Connects to a topic that exists. It is never created here: see [`topics::apply`].
    ///
    /// # Errors
    /// [`RawError::Refused`] where the topic does not exist or a setting is wrong, [`RawError::Unavailable`] where
    /// no broker answers.
    pub async fn connect(options: Options) -> Result<Self, RawError> {
        let options = Arc::new(options);
        let asking: BaseConsumer<Events> = settings::create(&settings::asking(&options))?;
        let asking = Arc::new(Discard::new(asking));
        let partitions = blocking({
            let (options, asking) = (options.clone(), asking.clone());
            move || partitions(&asking, &options)
        })
        .await?;
        let spares = Spares::start(options.clone());
        let readers = Readers::new(options.clone());
        Ok(Self {
            options,
            partitions,
            asking,
            spares,
            readers,
            held: Mutex::default(),
            away: Mutex::default(),
        })
    }

    /// Gives out no appender as long as there is a reason: nothing can be claimed. Appenders that are out go on.
    pub fn hold_claims(&self, why: Option<String>) {
        *lock(&self.held) = why;
    }

    /// What about the topic is not as the log wants it.
    ///
    /// # Errors
    /// See [`topics::check`].
    pub async fn check(&self, wanted: topics::Topic) -> Result<Vec<topics::Drift>, RawError> {
        topics::check(&self.options, wanted).await
    }

    fn known(&self, partition: Partition) -> Result<(), RawError> {
        if partition < self.partitions {
            return Ok(());
        }
        let (topic, partitions) = (&self.options.topic, self.partitions);
        Err(RawError::Refused {
            detail: format!("topic {topic} has {partitions} partitions, no {partition}"),
        })
    }
}

#[async_trait]
impl RawLog for KafkaLog {
    fn partitions(&self) -> u16 {
        self.partitions
    }

    async fn appender(&self, partition: Partition) -> Result<Box<dyn Appender>, RawError> {
        self.known(partition)?;
        if let Some(detail) = lock(&self.held).clone() {
            return Err(RawError::Refused { detail });
        }
        let spares = self.spares.clone();
        let producer = blocking(move || spares.take()).await?;
        Ok(Box::new(producer::KafkaAppender::new(producer, partition, self.options.clone())))
    }

    async fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn RawReader>, RawError> {
        for (partition, _) in from {
            self.known(*partition)?;
        }
        // A position that is not plainly inside the log gets a consumer of its own, so that its trouble is its own.
        let shareable = match from {
            [(partition, offset)] => match self.end(*partition).await {
                Err(gone @ RawError::Broken { .. }) => return Err(gone),
                end => end.is_ok_and(|end| *offset <= end),
            },
            _ => false,
        };
        Ok(Box::new(self.readers.open(from, shareable)?))
    }

    async fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        self.known(partition)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (options, asking) = (self.options.clone(), self.asking.clone());
            let asked =
                blocking(move || Ok(asking.fetch_watermarks(&options.topic, partition.into(), PATIENCE)));
            let error = match asked.await? {
                Ok((_, high)) => {
                    *lock(&self.away) = None;
                    return Ok(Offset::try_from(high).unwrap_or(0));
                }
                Err(error) => error,
            };
            let code = error.rdkafka_error_code();
            if !code.is_some_and(is_no_topic) {
                *lock(&self.away) = None;
            }
            let pause = match code {
                // A leader that moves, or is so new that its broker has not heard of it yet.
                code if trouble(code) == Trouble::Passing && Instant::now() < deadline => MOVING,
                Some(code) if is_no_topic(code) => {
                    // The first answer counts, whoever asked: the others need not wait again.
                    let since = *lock(&self.away).get_or_insert_with(Instant::now);
                    if since.elapsed() > TOPIC_PATIENCE {
                        return Err(topic_gone(&self.options, partition));
                    }
                    AWAY
                }
                _ => return Err(error::from_kafka(error)),
            };
            tokio::time::sleep(pause).await;
        }
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn partitions(asking: &BaseConsumer<Events>, options: &Options) -> Result<Partition, RawError> {
    let metadata = asking.fetch_metadata(Some(&options.topic), PATIENCE).map_err(|error| {
        RawError::Unavailable { detail: format!("no broker of {} answers: {error}", options.brokers) }
    })?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
    let found = topic.ok_or_else(|| no_topic(options))?;
    match found.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(code) if is_no_topic(code) => return Err(no_topic(options)),
        Some(code) => return Err(error::from_code(code, &code.to_string())),
    }
    match Partition::try_from(found.partitions().len()) {
        Ok(0) | Err(_) => Err(no_topic(options)),
        Ok(partitions) => Ok(partitions),
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RawError> + Send + 'static,
) -> Result<T, RawError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RawError::Unavailable { detail: error.to_string() }),
    }
}
