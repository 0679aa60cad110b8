//! Whether the log is still the one that was read: fetches single records again, through a fresh connection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use shopstream_domain::Partition;

use super::Options;
use super::error::{Trouble, is_no_topic, trouble};
use super::settings::{self, Events};
use crate::cursor::Offset;
use crate::raw::RawError;

/// How long one record may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a reader is.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) partition: Partition,
    pub(super) next: Offset,
    /// Records that the reader handed out, the older first.
    pub(super) known: Vec<(Offset, Bytes)>,
}

/// What was found at a place.
#[derive(Debug)]
pub(super) enum Finding {
    /// Nothing speaks against reading on, and whether there is something to read.
    Same { more: bool },
    /// Not the log that was read.
    Wrong(RawError),
    /// The log seems to end before the place. A leader that slept says so too, so look again.
    Lost(RawError),
    /// No such topic, or no such partition.
    NoTopic,
    /// Nobody answered.
    Unreachable,
}

/// Looks at each place; with `ahead` also at the next record, for bytes that are damaged.
pub(super) fn look(options: &Options, places: Vec<Place>, ahead: bool) -> Vec<(Place, Finding)> {
    let probe = Probe::new(options);
    places
        .into_iter()
        .map(|place| {
            let finding = match &probe {
                Ok(probe) => probe.look(&place, ahead).unwrap_or_else(|finding| finding),
                Err(Code::NoError) => Finding::Unreachable,
                Err(code) if is_no_topic(*code) => Finding::NoTopic,
                Err(code) => match super::error::from_code(*code, &code.to_string()) {
                    refused @ RawError::Refused { .. } => Finding::Wrong(refused),
                    _ => Finding::Unreachable,
                },
            };
            (place, finding)
        })
        .collect()
}

struct Probe<'a> {
    options: &'a Options,
    consumer: BaseConsumer<Events>,
}

/// What a fetch brought.
enum Fetched {
    Record(Offset, Bytes),
    End,
    OutOfRange,
}

impl<'a> Probe<'a> {
    fn new(options: &'a Options) -> Result<Self, Code> {
        let consumer: BaseConsumer<Events> =
            settings::create(&settings::probing(options)).map_err(|_| Code::NoError)?;
        let metadata = consumer.fetch_metadata(Some(&options.topic), PATIENCE).map_err(|_| Code::NoError)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
        match topic.map(|topic| topic.error().map(Code::from)) {
            None => Err(Code::UnknownTopic),
            Some(Some(code)) => Err(code),
            Some(None) => Ok(Self { options, consumer }),
        }
    }

    fn look(&self, place: &Place, ahead: bool) -> Result<Finding, Finding> {
        let Place { partition, next, ref known } = *place;
        for (known, last) in known {
            match self.fetch(partition, *known)? {
                Fetched::Record(offset, bytes) if offset == *known && bytes == *last => {}
                Fetched::Record(..) => {
                    let detail = format!(
                        "the record that was read at offset {known} is not there any more: the topic was truncated, or \
                         deleted and made again"
                    );
                    return Err(Finding::Wrong(RawError::Broken { partition, detail }));
                }
                Fetched::End | Fetched::OutOfRange => return Err(self.outside(partition, *known, next)),
            }
        }
        if !known.is_empty() && !ahead {
            let watermarks = self.consumer.fetch_watermarks(&self.options.topic, partition.into(), PATIENCE);
            let (_, high) = watermarks.map_err(|_| Finding::Unreachable)?;
            return Ok(Finding::Same { more: Offset::try_from(high).unwrap_or(0) > next });
        }
        match self.fetch(partition, next)? {
            Fetched::Record(..) => Ok(Finding::Same { more: true }),
            Fetched::End => Ok(Finding::Same { more: false }),
            Fetched::OutOfRange => Err(self.outside(partition, next, next)),
        }
    }

    /// What to say to the reader at `next` of a `wanted` record that the log does not have.
    fn outside(&self, partition: Partition, wanted: Offset, next: Offset) -> Finding {
        let watermarks = self.consumer.fetch_watermarks(&self.options.topic, partition.into(), PATIENCE);
        let Ok((low, high)) = watermarks else { return Finding::Unreachable };
        let [low, end] = [low, high].map(|offset| Offset::try_from(offset).unwrap_or(0));
        if wanted < low {
            let detail = format!(
                "the partition begins at offset {low}: the record at {wanted} and those before it were deleted"
            );
            return Finding::Wrong(RawError::Broken { partition, detail });
        }
        Finding::Lost(RawError::Lost { partition, wanted: next, end })
    }

    fn fetch(&self, partition: Partition, offset: Offset) -> Result<Fetched, Finding> {
        let assigned = assignment(&self.options.topic, [(partition, offset)])
            .and_then(|assignment| self.consumer.assign(&assignment));
        if assigned.is_err() {
            return Err(Finding::Unreachable);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Finding::Unreachable);
            }
            match self.consumer.poll(left) {
                Some(Ok(message)) if message.partition() == i32::from(partition) => {
                    let found = Offset::try_from(message.offset()).unwrap_or(0);
                    return Ok(Fetched::Record(
                        found,
                        Bytes::copy_from_slice(message.payload().unwrap_or(&[])),
                    ));
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == i32::from(partition) => {
                    return Ok(Fetched::End);
                }
                None | Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(Code::AutoOffsetReset) => return Ok(Fetched::OutOfRange),
                    Some(code) if is_no_topic(code) => return Err(Finding::NoTopic),
                    code if trouble(code) == Trouble::BadBytes => {
                        let detail = format!("the record at offset {offset} is damaged: {error}");
                        return Err(Finding::Wrong(RawError::Broken { partition, detail }));
                    }
                    _ => {}
                },
            }
        }
    }
}

/// The partitions of `topic`, each from an offset on.
pub(super) fn assignment(
    topic: &str,
    from: impl IntoIterator<Item = (Partition, Offset)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in from {
        list.add_partition_offset(topic, partition.into(), KafkaOffset::Offset(offset as i64))?;
    }
    Ok(list)
}
