//! The settings of every client, each with the failure it prevents.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use tracing::{debug, warn};
use uuid::Uuid;

use super::Options;
use super::error::from_kafka;
use crate::raw::RawError;
use crate::record::MAX_RECORD;

/// The largest batch. Below `max.message.bytes` of the topic: the broker measures the whole batch and would refuse
/// it although each record fits, and only under load (`event-log.md` §6.6).
pub(super) const BATCH_BYTES: usize = 1_000_000;
const _: () = assert!(MAX_RECORD < BATCH_BYTES && BATCH_BYTES < super::topics::MAX_MESSAGE_BYTES);

fn client(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in &options.settings {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "shopstream")
        // A client with the default revived a deleted topic, empty.
        .set("allow.auto.create.topics", "false")
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("topic.metadata.refresh.interval.ms", "60000")
        .set("socket.keepalive.enable", "true")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("retry.backoff.ms", "20")
        .set("log.connection.close", "false")
        .set("enable.metrics.push", "false")
        .set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Of a producer for one appender.
pub(super) fn producer(options: &Options) -> ClientConfig {
    let mut config = client(options);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("batch.size", BATCH_BYTES.to_string())
        .set("message.max.bytes", BATCH_BYTES.to_string())
        // In this order: the broker gives up, then the connection, then the record. Short enough that both a leader
        // and a follower that hang, which the cluster drops after 9 s, are got over before the record gives up.
        .set("request.timeout.ms", "6000")
        .set("socket.timeout.ms", "7000")
        .set("message.timeout.ms", "15000")
        // The appender bounds what is in flight; these only have to be above.
        .set("queue.buffering.max.messages", (options.in_flight_records + 1).to_string())
        .set("queue.buffering.max.kbytes", (options.in_flight_bytes / 512 + 2048).to_string());
    config
}

/// Of a client that only asks.
pub(super) fn asking(options: &Options) -> ClientConfig {
    let mut config = client(options);
    config.set("socket.timeout.ms", "8000");
    config
}

fn consumer(options: &Options) -> ClientConfig {
    let mut config = asking(options);
    config
        // librdkafka wants one; nothing is ever stored under it.
        .set("group.id", format!("shopstream-reader-{}", Uuid::new_v4().simple()))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // The default skips silently to the next new record after a truncation.
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("isolation.level", "read_uncommitted")
        .set("fetch.min.bytes", "1")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "50")
        .set("max.poll.interval.ms", "86400000")
        .set("queued.min.messages", "10000000")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.max.bytes", "16777216");
    config
}

/// Of a consumer that readers read from: it says when its topic is another one ([`Identity`]).
fn feeding(options: &Options) -> ClientConfig {
    let mut config = consumer(options);
    config.set("debug", "metadata").set_log_level(RDKafkaLogLevel::Debug);
    config
}

/// Of the consumer that single-partition readers share. A partition that is added waits for the fetch that is
/// under way, so that one must not wait long for records.
pub(super) fn sharing(options: &Options) -> ClientConfig {
    let mut config = feeding(options);
    config.set("fetch.wait.max.ms", "25");
    config
}

/// Of a consumer with one reader.
pub(super) fn own(options: &Options) -> ClientConfig {
    let mut config = feeding(options);
    // Not as soon as there is a record: with some readers beside the owners, those fetches cost the broker more than
    // the appends.
    config.set("fetch.wait.max.ms", "20").set("fetch.min.bytes", "1000000");
    config
}

/// Of a consumer that fetches single records to compare them.
pub(super) fn probing(options: &Options) -> ClientConfig {
    let mut config = consumer(options);
    config
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        // The broker sends one batch all the same.
        .set("fetch.message.max.bytes", "1");
    config
}

/// Makes a client with a new context.
pub(super) fn create<C, T>(config: &ClientConfig) -> Result<T, RawError>
where
    C: ClientContext + Default,
    T: FromClientConfigAndContext<C>,
{
    config.create_with_context(C::default()).map_err(from_kafka)
}

/// Takes what librdkafka has to say into our log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events;

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for Events {}

/// Hears whether the topic of a consumer was deleted and made again.
///
/// A broker refuses a fetch by the id of a topic that is gone. librdkafka then asks which topic has the name now, notes
/// the new id and reads on where it was, without a word to the program: only its own log tells, and what it logs comes
/// out of the consumer before what it fetches afterwards. rdkafka shows topic ids nowhere else.
#[derive(Debug, Default)]
pub(super) struct Identity {
    changed: AtomicBool,
}

impl Identity {
    /// Whether it has happened.
    pub(super) fn changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }
}

impl ClientContext for Identity {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if is_another_topic(text) {
            self.changed.store(true, Ordering::Relaxed);
        }
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Events.error(error, reason);
    }
}

impl ConsumerContext for Identity {}

/// Whether a line of librdkafka's log says that the id of a topic changed, and not only that it became known.
fn is_another_topic(line: &str) -> bool {
    /// The id that no topic has.
    const NONE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    line.split_once(" changed id from ").is_some_and(|(_, ids)| !ids.starts_with(NONE))
}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            warn!("librdkafka: {facility}: {text}");
        }
        _ => debug!("librdkafka: {facility}: {text}"),
    }
}

/// A client that is dropped on a thread of its own: dropping one takes 40 to 90 ms, and has been seen to hang.
pub(super) struct Discard<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Discard<T> {
    pub(super) const fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Discard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(client) => client,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<T: Send + 'static> Drop for Discard<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Where no thread can be had, it is dropped here.
        let _ = thread::Builder::new().name("kafka-discard".into()).spawn(move || drop(client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_that_becomes_known_is_no_other_topic() {
        let line =
            |from: &str| format!("[thrd:main]: Topic t changed id from {from} to eX3aN1hbTtK2lqf7sXkN");
        assert!(!is_another_topic(&line("AAAAAAAAAAAAAAAAAAAAAA")));
        assert!(is_another_topic(&line("pPjCyY3LQnWmUQLKZYJiKQ")));
        assert!(!is_another_topic("[thrd:main]: Topic t [3] Leader 1 Epoch 0"));
    }
}
