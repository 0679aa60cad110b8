//! Opening a consumer where its readers stand, after a look at whether the log there is the one they read.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use tracing::{info, warn};

use super::{Feed, TICK};
use crate::kafka::TOPIC_PATIENCE;
use crate::kafka::error::topic_gone;
use crate::kafka::probe::{self, Finding, Place, assignment};
use crate::kafka::settings::{self, Discard, Identity};
use crate::raw::RawError;

/// Between two looks at a log that does not answer as it should.
const AGAIN: Duration = Duration::from_secs(1);
/// So often in a row the log must end too early, before a reader is told: a leader that slept for a while shows an
/// old end when it wakes (`event-log.md` §6.4).
const LOST_TIMES: u32 = 3;
/// So often in a row nothing may come though the log goes on, before the consumer is opened again: after a broker has hung
/// the client library may ask for ever and be told of nothing.
const STALLED_TIMES: u32 = 3;
/// A consumer in doubt again this soon is not opened again at once.
const SOON: Duration = Duration::from_secs(5);

/// What must be cleared up before a consumer is opened again.
#[derive(Default)]
pub(super) struct Doubt {
    /// There is something to clear up.
    any: bool,
    /// Bytes did not match their checksum.
    damage: bool,
    not_before: Option<Instant>,
    no_topic_since: Option<Instant>,
}

impl Doubt {
    pub(super) fn begin(&mut self, opened: Option<Instant>, damage: bool) {
        let soon = opened.is_some_and(|opened| opened.elapsed() < SOON);
        self.not_before = soon.then(|| Instant::now() + AGAIN);
        self.damage |= damage;
        self.any = true;
    }
}

impl Feed {
    /// Opens the consumer, if nothing speaks against it.
    pub(super) fn recover(&mut self) {
        if self.doubt.not_before.is_some_and(|at| Instant::now() < at) {
            // Nobody unparks this thread.
            return thread::park_timeout(TICK);
        }
        if self.doubt.any && !self.all_clear() {
            self.doubt.not_before = Some(Instant::now() + AGAIN);
            return;
        }
        match self.open() {
            Ok(consumer) => {
                if self.doubt.any {
                    info!(topic = self.options.topic, "reading goes on");
                }
                self.doubt = Doubt::default();
                self.consumer = Some(consumer);
                self.opened = Some(Instant::now());
            }
            Err(error) => {
                warn!(topic = self.options.topic, "no consumer: {error}");
                self.doubt.not_before = Some(Instant::now() + AGAIN);
            }
        }
    }

    fn open(&mut self) -> Result<Discard<BaseConsumer<Identity>>, RawError> {
        let consumer: BaseConsumer<Identity> = settings::create(&self.config)?;
        let consumer = Discard::new(consumer);
        let places = self.routes.iter().map(|(partition, route)| (*partition, route.next));
        // Incremental from the start, because the client library lets nobody mix the two ways.
        assignment(&self.options.topic, places)
            .and_then(|assignment| consumer.incremental_assign(&assignment))
            .map_err(crate::kafka::error::from_kafka)?;
        for route in self.routes.values_mut() {
            route.paused = false;
        }
        Ok(consumer)
    }

    /// Looks at every place and tells those readers whose place is gone; whether the others can go on.
    fn all_clear(&mut self) -> bool {
        let (mut clear, mut no_topic_seen) = (true, false);
        for (place, finding) in probe::look(&self.options, self.places(), self.doubt.damage) {
            let partition = place.partition;
            let Some(route) = self.routes.get_mut(&partition) else { continue };
            let error = match finding {
                Finding::Same { .. } => {
                    (route.lost, route.stalled) = (0, 0);
                    continue;
                }
                Finding::Unreachable => {
                    clear = false;
                    continue;
                }
                Finding::NoTopic => {
                    no_topic_seen = true;
                    let since = *self.doubt.no_topic_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < TOPIC_PATIENCE {
                        clear = false;
                        continue;
                    }
                    topic_gone(&self.options, partition)
                }
                Finding::Lost(error) => {
                    route.lost += 1;
                    if route.lost < LOST_TIMES {
                        clear = false;
                        continue;
                    }
                    error
                }
                Finding::Wrong(error) => error,
            };
            warn!(topic = self.options.topic, partition, "reading ends: {error}");
            route.queue.fail(error);
            self.routes.remove(&partition);
        }
        if !no_topic_seen {
            self.doubt.no_topic_since = None;
        }
        clear
    }

    fn places(&self) -> Vec<Place> {
        let place = |(partition, route): (&_, &super::Route)| {
            let last = route.last.clone().map(|last| (route.next - 1, last));
            let known = route.anchor.clone().into_iter().chain(last).collect();
            Place { partition: *partition, next: route.next, known }
        };
        self.routes.iter().map(place).collect()
    }

    /// Now and then has a thread look whether the log is still what was read; what it finds wrong is looked at
    /// again in [`Feed::recover`].
    pub(super) fn watch(&mut self) {
        if let Some(findings) = self.looking.as_ref().map(mpsc::Receiver::try_recv) {
            match findings {
                Err(mpsc::TryRecvError::Empty) => return,
                Err(mpsc::TryRecvError::Disconnected) => {}
                Ok(findings) => self.consider_look(findings),
            }
            self.looking = None;
        }
        if Instant::now() < self.look_at || self.consumer.is_none() || self.routes.is_empty() {
            return;
        }
        let (sender, receiver) = mpsc::channel();
        let (options, places) = (self.options.clone(), self.places());
        let look = move || {
            // Nobody listens any more when the feed has ended.
            let _ = sender.send(probe::look(&options, places, false));
        };
        match thread::Builder::new().name("kafka-watch".into()).spawn(look) {
            Ok(_) => self.looking = Some(receiver),
            Err(error) => warn!("no thread to watch the log with: {error}"),
        }
        self.look_at = Instant::now() + self.options.watch;
    }

    /// Looks at the log no later than so.
    pub(super) fn look_within(&mut self, within: Duration) {
        self.look_at = self.look_at.min(Instant::now() + within);
    }

    fn consider_look(&mut self, findings: Vec<(Place, Finding)>) {
        let mut again = None;
        for (mut place, finding) in findings {
            match finding {
                Finding::Unreachable => again = again.or(Some(super::SOON_AFTER)),
                Finding::Same { more } => {
                    // Whoever reads this partition now may not be who read it when the look began.
                    let route = self.routes.get_mut(&place.partition);
                    let Some(route) = route.filter(|route| route.next >= place.next) else { continue };
                    let stands = more && route.next == place.next && !route.paused && route.queue.has_room();
                    route.stalled = if stands { route.stalled + 1 } else { 0 };
                    route.anchor = place.known.pop();
                    if route.stalled >= STALLED_TIMES && self.consumer.is_some() {
                        let partition = place.partition;
                        self.doubt(&format!("nothing comes of partition {partition}, which goes on"), false);
                    } else if stands {
                        again = Some(AGAIN);
                    }
                }
                wrong if self.consumer.is_some() => {
                    let partition = place.partition;
                    self.doubt(
                        &format!("the log is not what it was at partition {partition}: {wrong:?}"),
                        false,
                    );
                }
                _ => {}
            }
        }
        if let Some(within) = again {
            self.look_within(within);
        }
    }
}
