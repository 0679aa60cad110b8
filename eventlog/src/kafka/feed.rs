//! A consumer on its own thread, and the queues it fills.

mod recovery;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use shopstream_domain::Partition;
use tracing::{debug, warn};

use self::recovery::Doubt;
use super::Options;
use super::error::{Trouble, trouble};
use super::probe::{self, assignment};
use super::queue::Queue;
use super::settings::{self, Discard, Identity};
use crate::cursor::Offset;
use crate::raw::{RawError, RawRecord};

/// How often a feed looks up from its consumer: for readers that came, went or caught up. rdkafka cannot be woken
/// from a poll.
const TICK: Duration = Duration::from_millis(10);
/// The same while nobody reads.
const IDLE: Duration = Duration::from_secs(1);

/// How soon after an error of the connection the log is looked at.
const SOON_AFTER: Duration = Duration::from_secs(5);

/// A reader of one partition that wants to be fed.
pub(super) struct Join {
    pub(super) partition: Partition,
    pub(super) next: Offset,
    pub(super) queue: Arc<Queue>,
}

/// Starts the feed that single-partition readers share. It ends when the sender and all readers are gone.
pub(super) fn start_shared(options: Arc<Options>) -> Result<mpsc::Sender<Join>, RawError> {
    let (sender, joins) = mpsc::channel();
    let config = settings::sharing(&options);
    Feed::new(options, config, Readership::Shared(joins), HashMap::new()).start()?;
    Ok(sender)
}

/// Starts a feed for one reader. It ends with the reader.
pub(super) fn start_own(
    options: Arc<Options>,
    from: &[(Partition, Offset)],
    queue: Arc<Queue>,
) -> Result<(), RawError> {
    let routes =
        from.iter().map(|(partition, next)| (*partition, Route::new(*next, queue.clone()))).collect();
    let config = settings::own(&options);
    Feed::new(options, config, Readership::One(queue), routes).start()
}

/// Who reads.
enum Readership {
    /// One reader: while its queue is full, nothing is polled.
    One(Arc<Queue>),
    /// A queue per partition: one that is full is paused, and the others flow.
    Shared(mpsc::Receiver<Join>),
}

/// A partition on its way to a reader.
struct Route {
    queue: Arc<Queue>,
    next: Offset,
    /// The record before `next`, if it was handed out.
    last: Option<Bytes>,
    /// A record that was handed out before the last look that found the same log: should another one have been read
    /// since, `last` is of that one.
    anchor: Option<(Offset, Bytes)>,
    paused: bool,
    /// A consumer gave this offset instead of `next`.
    jumped: Option<Offset>,
    /// How often in a row the log seemed to end before `next`.
    lost: u32,
    /// How often in a row nothing came though the log went on.
    stalled: u32,
}

impl Route {
    const fn new(next: Offset, queue: Arc<Queue>) -> Self {
        Self { queue, next, last: None, anchor: None, paused: false, jumped: None, lost: 0, stalled: 0 }
    }
}

struct Feed {
    options: Arc<Options>,
    config: ClientConfig,
    readership: Readership,
    routes: HashMap<Partition, Route>,
    /// `None` while in doubt about where the routes stand, and before the first.
    consumer: Option<Discard<BaseConsumer<Identity>>>,
    opened: Option<Instant>,
    doubt: Doubt,
    ticked: Instant,
    /// When to look at the log next.
    look_at: Instant,
    looking: Option<mpsc::Receiver<Vec<(probe::Place, probe::Finding)>>>,
}

impl Feed {
    fn new(
        options: Arc<Options>,
        config: ClientConfig,
        readership: Readership,
        routes: HashMap<Partition, Route>,
    ) -> Self {
        let now = Instant::now();
        let look_at = now + options.watch;
        Self {
            options,
            config,
            readership,
            routes,
            consumer: None,
            opened: None,
            doubt: Doubt::default(),
            ticked: now,
            look_at,
            looking: None,
        }
    }

    fn start(mut self) -> Result<(), RawError> {
        let run = move || while self.turn() {};
        match thread::Builder::new().name("kafka-feed".into()).spawn(run) {
            Ok(_) => Ok(()),
            Err(error) => Err(RawError::Unavailable { detail: format!("no thread to read on: {error}") }),
        }
    }

    /// One look at everything; whether there is still somebody to feed.
    fn turn(&mut self) -> bool {
        if !self.welcome() {
            return false;
        }
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            if !self.look_round() {
                return false;
            }
        }
        let Some(consumer) = &self.consumer else {
            if self.routes.is_empty() {
                thread::park_timeout(TICK);
            } else {
                self.recover();
            }
            return true;
        };
        if matches!(&self.readership, Readership::One(queue) if !queue.wait_for_room(TICK)) {
            return true;
        }
        let timeout = if self.routes.is_empty() { Duration::ZERO } else { TICK };
        let polled = consumer.poll(timeout).map(|polled| polled.map(record));
        if consumer.context().changed() {
            self.doubt("the topic was deleted and made again", false);
            return true;
        }
        match polled {
            None => {}
            Some(Ok(record)) => self.hand_on(record),
            Some(Err(error)) => self.consider(&error),
        }
        true
    }

    /// Takes readers that came; `false` when nobody will come any more and nobody is here.
    fn welcome(&mut self) -> bool {
        loop {
            let Readership::Shared(joins) = &self.readership else { return true };
            let join = if self.routes.is_empty() {
                joins.recv_timeout(IDLE)
            } else {
                joins.try_recv().map_err(|error| match error {
                    mpsc::TryRecvError::Empty => mpsc::RecvTimeoutError::Timeout,
                    mpsc::TryRecvError::Disconnected => mpsc::RecvTimeoutError::Disconnected,
                })
            };
            match join {
                Ok(join) => self.add(join),
                Err(mpsc::RecvTimeoutError::Timeout) => return true,
                Err(mpsc::RecvTimeoutError::Disconnected) => return !self.routes.is_empty(),
            }
        }
    }

    fn add(&mut self, Join { partition, next, queue }: Join) {
        self.remove(partition);
        self.routes.insert(partition, Route::new(next, queue));
        let Some(consumer) = &self.consumer else { return };
        let assigned = assignment(&self.options.topic, [(partition, next)])
            .and_then(|assignment| consumer.incremental_assign(&assignment));
        if let Err(error) = assigned {
            self.doubt(&error.to_string(), false);
        }
    }

    fn remove(&mut self, partition: Partition) {
        let Entry::Occupied(route) = self.routes.entry(partition) else { return };
        let next = route.remove().next;
        let Some(consumer) = &self.consumer else { return };
        let unassigned = assignment(&self.options.topic, [(partition, next)])
            .and_then(|assignment| consumer.incremental_unassign(&assignment));
        if let Err(error) = unassigned {
            self.doubt(&error.to_string(), false);
        }
    }

    /// Lets readers go that are gone, goes on with those that caught up, and now and then looks at the log.
    fn look_round(&mut self) -> bool {
        if let Readership::One(queue) = &self.readership {
            if queue.is_over() {
                return false;
            }
        } else {
            let over = self.routes.iter().filter(|(_, route)| route.queue.is_over());
            for partition in over.map(|(partition, _)| *partition).collect::<Vec<_>>() {
                self.remove(partition);
            }
            self.resume();
        }
        self.watch();
        true
    }

    fn resume(&mut self) {
        let Some(consumer) = &self.consumer else { return };
        let ready = self.routes.iter_mut().filter(|(_, route)| route.paused && route.queue.has_room());
        let mut resumed = Ok(());
        for (partition, route) in ready {
            route.paused = false;
            resumed = resumed
                .and_then(|()| assignment(&self.options.topic, [(*partition, route.next)]))
                .and_then(|assignment| consumer.resume(&assignment));
        }
        if let Err(error) = resumed {
            self.doubt(&error.to_string(), false);
        }
    }

    fn hand_on(&mut self, record: RawRecord) {
        let RawRecord { partition, offset, .. } = record;
        let Some(route) = self.routes.get_mut(&partition) else { return };
        if offset < route.next {
            return;
        }
        if offset > route.next && route.jumped != Some(offset) {
            let jump = format!("partition {partition} jumped from offset {} to {offset}", route.next);
            route.jumped = Some(offset);
            return self.doubt(&jump, false);
        }
        // A second consumer gave the same offset: it is what the log has. The layer above refuses holes.
        route.next = offset + 1;
        route.last = Some(record.bytes.clone());
        let room = route.queue.push(record);
        if room || route.paused || matches!(self.readership, Readership::One(_)) {
            return;
        }
        route.paused = true;
        let Some(consumer) = &self.consumer else { return };
        let paused = assignment(&self.options.topic, [(partition, offset + 1)])
            .and_then(|assignment| consumer.pause(&assignment));
        if let Err(error) = paused {
            self.doubt(&error.to_string(), false);
        }
    }

    fn consider(&mut self, error: &KafkaError) {
        match trouble(error.rdkafka_error_code()) {
            Trouble::Passing => {
                debug!(topic = self.options.topic, "reading goes on by itself after: {error}");
                self.look_within(SOON_AFTER);
            }
            Trouble::BadBytes => self.doubt(&error.to_string(), true),
            Trouble::Doubt => self.doubt(&error.to_string(), false),
        }
    }

    /// Drops the consumer. It is opened again where the routes stand, once the log there is what was read.
    fn doubt(&mut self, why: &str, damage: bool) {
        warn!(
            topic = self.options.topic,
            "reading is in doubt, every position is checked and opened again: {why}"
        );
        self.consumer = None;
        self.doubt.begin(self.opened, damage);
    }
}

impl Drop for Feed {
    /// Whatever ended the feed, no reader waits for ever.
    fn drop(&mut self) {
        for route in self.routes.values() {
            route.queue.fail(RawError::Unavailable { detail: "the reading thread has ended".into() });
        }
    }
}

fn record(message: BorrowedMessage<'_>) -> RawRecord {
    RawRecord {
        partition: message.partition() as Partition,
        offset: Offset::try_from(message.offset()).unwrap_or(0),
        bytes: Bytes::copy_from_slice(message.payload().unwrap_or(&[])),
    }
}
