//! Appending: one idempotent producer per appender, its reports in the order of submission.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message};
use shopstream_domain::Partition;
use tokio::sync::Notify;

use super::Options;
use super::error::from_kafka;
use super::settings::{self, Discard};
use crate::raw::{Appender, RawError, Report};

/// A producer that has written nothing yet.
pub(super) type Fresh = Discard<ThreadedProducer<Delivery>>;

pub(super) fn create(options: &Options) -> Result<Fresh, RawError> {
    let config = settings::producer(options);
    config.create_with_context(Delivery::default()).map(Discard::new).map_err(from_kafka)
}

/// Appends to one partition. Dropping it drops what has not been sent.
pub(super) struct KafkaAppender {
    producer: Fresh,
    delivery: Arc<Delivery>,
    partition: Partition,
    options: Arc<Options>,
    /// The first error. What comes after it would be in doubt too (`rulings.md` 44), so nothing is taken any more.
    ended: Option<RawError>,
}

impl KafkaAppender {
    pub(super) fn new(producer: Fresh, partition: Partition, options: Arc<Options>) -> Self {
        let delivery = producer.context().clone();
        Self { producer, delivery, partition, options, ended: None }
    }
}

#[async_trait]
impl Appender for KafkaAppender {
    fn submit(&mut self, record: Bytes) -> Result<(), RawError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let number = {
            let mut flight = self.delivery.flight();
            let full = flight.slots.len() >= self.options.in_flight_records
                || flight.bytes + record.len() > self.options.in_flight_bytes;
            if full && !flight.slots.is_empty() {
                return Err(RawError::Full);
            }
            flight.push(record.len())
        };
        let sent = self.producer.send(
            BaseRecord::<(), [u8], usize>::with_opaque_to(&self.options.topic, number)
                .partition(self.partition.into())
                .payload(&record),
        );
        let Err((error, _)) = sent else { return Ok(()) };
        self.delivery.flight().take_back();
        let error = from_kafka(error);
        if error != RawError::Full {
            self.ended = Some(error.clone());
        }
        Err(error)
    }

    async fn reports(&mut self, reports: &mut Vec<Report>) {
        loop {
            let had = reports.len();
            self.delivery.flight().take_reported(reports);
            if let Some(error) = reports[had..].iter().find_map(|report| report.as_ref().err()) {
                self.ended.get_or_insert_with(|| error.clone());
            }
            if reports.len() > had {
                return;
            }
            self.delivery.reported.notified().await;
        }
    }
}

/// Where the delivery reports of one producer arrive, on its polling thread.
#[derive(Default)]
pub(super) struct Delivery {
    flight: Mutex<Flight>,
    reported: Notify,
}

impl Delivery {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Delivery {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        settings::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let report = match result {
            // An implicit acknowledgement has no offset; it is true all the same (`rulings.md` 44).
            Ok(message) => Ok(u64::try_from(message.offset()).ok()),
            // An offset in an error is never to be believed.
            Err((error, _)) => Err(from_kafka(error.clone())),
        };
        if self.flight().report(number, report) {
            self.reported.notify_one();
        }
    }
}

/// What was submitted and not yet reported to the caller, in order of submission.
#[derive(Default)]
struct Flight {
    /// The number of the front of `slots`.
    first: usize,
    slots: VecDeque<Slot>,
    bytes: usize,
}

struct Slot {
    bytes: usize,
    report: Option<Report>,
}

impl Flight {
    fn push(&mut self, bytes: usize) -> usize {
        self.slots.push_back(Slot { bytes, report: None });
        self.bytes += bytes;
        self.first + self.slots.len() - 1
    }

    fn take_back(&mut self) {
        if let Some(slot) = self.slots.pop_back() {
            self.bytes -= slot.bytes;
        }
    }

    /// Files a report; whether it is the one that was waited for. librdkafka reports a partition in order, but
    /// nothing rests on that.
    fn report(&mut self, number: usize, report: Report) -> bool {
        let slot = number.checked_sub(self.first).and_then(|index| self.slots.get_mut(index));
        let Some(slot) = slot else { return false };
        slot.report.get_or_insert(report);
        number == self.first
    }

    fn take_reported(&mut self, reports: &mut Vec<Report>) {
        while let Some(Slot { report: Some(_), .. }) = self.slots.front() {
            if let Some(Slot { bytes, report: Some(report) }) = self.slots.pop_front() {
                self.first += 1;
                self.bytes -= bytes;
                reports.push(report);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_out_in_the_order_of_submission() {
        let mut flight = Flight::default();
        let numbers = [10, 20, 30].map(|bytes| flight.push(bytes));
        let mut reports = Vec::new();
        assert!(!flight.report(numbers[1], Ok(Some(8))));
        flight.take_reported(&mut reports);
        assert_eq!(reports, []);
        assert!(flight.report(numbers[0], Ok(None)));
        flight.take_reported(&mut reports);
        assert_eq!(reports, [Ok(None), Ok(Some(8))]);
        assert_eq!(flight.bytes, 30);
        // Once taken, a second report for the same record has nowhere to go.
        assert!(!flight.report(numbers[0], Ok(Some(7))));
        let error = RawError::Unavailable { detail: "gone".into() };
        assert!(flight.report(numbers[2], Err(error.clone())));
        flight.take_reported(&mut reports);
        assert_eq!(reports.last(), Some(&Err(error)));
        assert_eq!((flight.bytes, flight.push(1)), (0, 3));
    }
}
