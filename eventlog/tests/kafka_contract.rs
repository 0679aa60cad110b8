//! Kafka keeps the promises of every backend.

mod kafka_support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kafka_support::{brokers, log_with, options};
use shopstream_eventlog::contract::{self, Backend};
use shopstream_eventlog::kafka::{KafkaLog, Options};
use shopstream_eventlog::raw::RawLog;

struct Kafka {
    brokers: String,
    last: Mutex<Option<Options>>,
}

#[async_trait(?Send)]
impl Backend for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    async fn fresh(&self, partitions: u16) -> Arc<dyn RawLog> {
        let options = options(&self.brokers, "contract");
        *self.last.lock().unwrap() = Some(options.clone());
        Arc::new(log_with(options, partitions).await)
    }

    async fn reopen(&self) -> Arc<dyn RawLog> {
        let options = self.last.lock().unwrap().clone().expect("a log was made");
        Arc::new(KafkaLog::connect(options).await.unwrap())
    }

    fn capacity(&self) -> Option<usize> {
        self.last.lock().unwrap().as_ref().map(|options| options.in_flight_bytes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_the_contract() {
    let Some(brokers) = brokers() else { return };
    contract::run(&Kafka { brokers, last: Mutex::default() }).await;
}
