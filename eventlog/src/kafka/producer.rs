//! Appending: one idempotent producer per appender, its reports in the order of submission.
//!
//! Records are given to librdkafka a burst at a time, and wait here while one is under way: a group commit. Left to
//! itself it sends each as a request of its own until five records are unanswered, and then its thread spins on the
//! rest; with a producer per partition those threads take the processor that the answers need. Measured on two cores
//! with the broker, 64 callers: 860 commands a second left to itself, 3,100 so; two bursts under way, 1,300.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message};
use shopstream_domain::Partition;
use tokio::sync::Notify;

use super::Options;
use super::error::from_kafka;
use super::settings::{self, Discard};
use crate::raw::{Appender, RawError, Report};

/// Bytes of one burst, or one record: it fits a request.
const BURST_BYTES: usize = settings::BATCH_BYTES / 2;

/// A producer that has written nothing yet.
pub(super) type Fresh = Discard<Polled>;

pub(super) fn create(options: &Options) -> Result<Fresh, RawError> {
    let producer: BaseProducer<Delivery> =
        settings::producer(options).create_with_context(Delivery::default()).map_err(from_kafka)?;
    let polled = Polled { producer: Arc::new(producer), over: Arc::default(), thread: None };
    polled.start().map(Discard::new)
}

/// A producer with a thread that takes its delivery reports. The one of the client library looks up ten times a
/// second and spins through the last millisecond before each; with one per partition that is a sixth of a core.
pub(super) struct Polled {
    producer: Arc<BaseProducer<Delivery>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Polled {
    /// How often the thread looks whether it is over. Reports do not wait for that.
    const LOOK: Duration = Duration::from_secs(1);

    fn start(mut self) -> Result<Self, RawError> {
        let (producer, over) = (self.producer.clone(), self.over.clone());
        let poll = move || {
            while !over.load(Ordering::Relaxed) {
                producer.poll(Self::LOOK);
            }
        };
        let thread = thread::Builder::new().name("kafka-reports".into()).spawn(poll);
        self.thread = Some(thread.map_err(|error| RawError::Unavailable {
            detail: format!("no thread to take delivery reports: {error}"),
        })?);
        Ok(self)
    }
}

impl Deref for Polled {
    type Target = BaseProducer<Delivery>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        // Nothing is to arrive any more that has not been sent, and sooner than the thread looks up.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.over.store(true, Ordering::Relaxed);
        // The last one that holds the producer drops it, and that takes its time; a thread that panicked has let go.
        self.thread.take().map(JoinHandle::join);
    }
}

/// Appends to one partition. Dropping it drops what has not been sent.
pub(super) struct KafkaAppender {
    producer: Fresh,
    delivery: Arc<Delivery>,
    partition: Partition,
    options: Arc<Options>,
    /// Taken, and not yet given to the producer: numbers in order.
    waiting: VecDeque<(usize, Bytes)>,
    /// The last number of the burst under way.
    burst: Option<usize>,
    /// The first error. What comes after it would be in doubt too (`rulings.md` 44), so nothing is taken any more.
    ended: Option<RawError>,
}

impl KafkaAppender {
    pub(super) fn new(producer: Fresh, partition: Partition, options: Arc<Options>) -> Self {
        let delivery = producer.context().clone();
        Self { producer, delivery, partition, options, waiting: VecDeque::new(), burst: None, ended: None }
    }

    /// Sends what waits, unless a burst is under way.
    fn send_waiting(&mut self) {
        let first = self.delivery.flight().first;
        self.burst = self.burst.filter(|last| *last >= first);
        if self.ended.is_none() && self.burst.is_none() {
            self.send_burst();
        }
        if let Some(error) = &self.ended {
            // They were never sent, but nobody needs to know that: what comes after an error is in doubt.
            for (number, _) in self.waiting.drain(..) {
                self.delivery.flight().report(number, Err(error.clone()));
            }
        }
    }

    fn send_burst(&mut self) {
        let mut bytes = 0;
        while let Some((number, record)) = self.waiting.front() {
            bytes += record.len();
            if self.burst.is_some() && bytes > BURST_BYTES {
                break;
            }
            let message = BaseRecord::<(), [u8], usize>::with_opaque_to(&self.options.topic, *number)
                .partition(self.partition.into())
                .payload(record);
            if let Err((error, _)) = self.producer.send(message) {
                // Its queue is larger than what may be in flight here, so it was not for want of room.
                self.ended = Some(from_kafka(error));
                break;
            }
            self.burst = Some(*number);
            self.waiting.pop_front();
        }
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
        self.waiting.push_back((number, record));
        Ok(())
    }

    async fn reports(&mut self, reports: &mut Vec<Report>) {
        loop {
            let had = reports.len();
            self.delivery.flight().take_reported(reports);
            self.send_waiting();
            // What cannot be sent any more was reported just now.
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
