//! A log in memory that fails on command or by chance, the same way again from the same seed.
//!
//! Nothing here knows the time: what is on its way arrives after so many *turns*, and a turn passes whenever somebody
//! asks and there is nothing to give. So a run under one thread is the same again, with and without a paused clock.
//! Readers see only what has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_domain::Partition;

use crate::cursor::Offset;
use crate::raw::{Appender, RawError, RawLog, RawReader, RawRecord, Report};

/// Bytes that one appender may have in flight.
const CAPACITY: usize = 4 << 20;

/// A log in memory. Clones share it.
#[derive(Clone)]
pub struct SimLog {
    shared: Arc<Mutex<State>>,
    partitions: u16,
}

/// How often chance does what, each between 0 and 1, and from which seed it draws.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chaos {
    /// Decides everything.
    pub seed: u64,
    /// A record does not arrive; its report is an error.
    pub lose: f64,
    /// A record arrives; its report is an error.
    pub lose_ack: f64,
    /// A record does not arrive, and nothing ever says so.
    pub vanish: f64,
    /// A record arrives twice, the second time any while later.
    pub duplicate: f64,
    /// A record and all behind it from the same appender arrive late.
    pub delay: f64,
    /// A record arrives late, those behind it do not.
    pub reorder: f64,
    /// A record arrives; its report is `Ok` without an offset.
    pub no_offset: f64,
    /// A submission fails at once; the record arrives or not.
    pub refuse: f64,
    /// The longest time on the way, in turns.
    pub turns_max: u32,
}

/// What happens to one submitted record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives and its report is true.
    Arrive,
    /// It does not arrive; its report is this error.
    Lose(RawError),
    /// It arrives; its report is this error.
    LoseAck(RawError),
    /// Its report is this error, at once; it arrives all the same when [`Faults::release`] is called.
    Strand(RawError),
    /// It does not arrive and is never reported, nor is anything behind it.
    Vanish,
    /// It does not arrive; its report says that it did, at this offset.
    Pretend(Option<Offset>),
    /// It arrives twice in a row; the report names the first place.
    Duplicate,
    /// It arrives twice in a row; the report names the second place.
    DuplicateLate,
    /// It arrives; its report is `Ok` without an offset.
    NoOffset,
    /// It arrives; its report is `Ok` without an offset and comes when [`Faults::release`] is called.
    ReportLate,
    /// It arrives, and is reported, when [`Faults::release`] is called; what the same appender submits later does not
    /// wait for it.
    Hold,
    /// `submit` itself fails with this error; the record arrives where `arrives`.
    Refuse {
        /// What `submit` says.
        error: RawError,
        /// Whether the record arrives all the same.
        arrives: bool,
    },
}

/// Makes a [`SimLog`] fail. Clones act on the same log.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Mutex<State>>,
}

struct State {
    partitions: Vec<Line>,
    appenders: BTreeMap<u64, Sending>,
    chaos: Chaos,
    random: StdRng,
    turn: u64,
    last_id: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// One partition.
#[derive(Default)]
struct Line {
    records: Vec<Bytes>,
    /// Counts how often it was made again.
    made: u32,
    /// On the way, in order of submission.
    way: Vec<Request>,
    fates: VecDeque<Fate>,
    full: bool,
}

struct Request {
    appender: u64,
    index: u64,
    bytes: Bytes,
    due: Due,
    /// `None`: a copy that nobody waits for, or one whose report is not said.
    report: Option<Said>,
    copies: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Turn(u64),
    Held,
}

/// What the report of a request says once it has arrived.
enum Said {
    Place { copy: u8 },
    NoOffset,
    Error(RawError),
}

/// One appender.
#[derive(Default)]
struct Sending {
    partition: Partition,
    /// Reports not yet given, from `given` on; `None` where the outcome is not said yet.
    reports: VecDeque<(usize, Option<Report>)>,
    given: u64,
    bytes: usize,
    /// Nothing of this appender's next request arrives before this turn.
    due: u64,
    paused: bool,
}

impl SimLog {
    /// An empty log that does what it is told.
    pub fn new(partitions: u16) -> Self {
        Self::with_chaos(partitions, Chaos::default())
    }

    /// An empty log that fails by chance.
    pub fn with_chaos(partitions: u16, chaos: Chaos) -> Self {
        let state = State {
            partitions: (0..partitions).map(|_| Line::default()).collect(),
            appenders: BTreeMap::new(),
            chaos,
            random: StdRng::seed_from_u64(chaos.seed),
            turn: 0,
            last_id: 0,
            wakers: BTreeMap::new(),
        };
        Self { shared: Arc::new(Mutex::new(state)), partitions }
    }

    /// The handle that makes this log fail.
    pub fn faults(&self) -> Faults {
        Faults { shared: Arc::clone(&self.shared) }
    }
}

impl Faults {
    /// From now on chance does this.
    pub fn chaos(&self, chaos: Chaos) {
        let mut state = lock(&self.shared);
        state.random = StdRng::seed_from_u64(chaos.seed);
        state.chaos = chaos;
    }

    /// Decides what happens to the next records submitted to `partition`, one each, before chance is asked.
    pub fn next(&self, partition: Partition, fates: impl IntoIterator<Item = Fate>) {
        lock(&self.shared).line(partition).fates.extend(fates);
    }

    /// The next record does not arrive, and its report is an error.
    pub fn lose(&self, partition: Partition) {
        self.next(partition, [Fate::Lose(unavailable())]);
    }

    /// The next record arrives, but its report is an error.
    pub fn lose_ack(&self, partition: Partition) {
        self.next(partition, [Fate::LoseAck(unavailable())]);
    }

    /// The next record does not arrive, and nothing ever says so.
    pub fn vanish(&self, partition: Partition) {
        self.next(partition, [Fate::Vanish]);
    }

    /// The next record arrives twice.
    pub fn duplicate(&self, partition: Partition) {
        self.next(partition, [Fate::Duplicate]);
    }

    /// The next record is on its way until [`Faults::release`].
    pub fn hold(&self, partition: Partition) {
        self.next(partition, [Fate::Hold]);
    }

    /// All held records of `partition` arrive now, in the order of their submission.
    pub fn release(&self, partition: Partition) {
        let mut state = lock(&self.shared);
        let turn = state.turn;
        for request in &mut state.line(partition).way {
            if request.due == Due::Held {
                request.due = Due::Turn(turn);
            }
        }
        state.deliver();
    }

    /// The next record is not taken and will not arrive.
    pub fn fail(&self, partition: Partition, error: RawError) {
        self.next(partition, [Fate::Refuse { error, arrives: false }]);
    }

    /// Every submission to `partition` is refused as too much, until told otherwise.
    pub fn full(&self, partition: Partition, full: bool) {
        lock(&self.shared).line(partition).full = full;
    }

    /// Of every appender of `partition` that there is now, nothing arrives and nothing is reported until
    /// [`Faults::resume`]. Appenders made later are not touched.
    pub fn pause(&self, partition: Partition) {
        let mut state = lock(&self.shared);
        state
            .appenders
            .values_mut()
            .filter(|sending| sending.partition == partition)
            .for_each(|it| it.paused = true);
    }

    /// Ends every pause of `partition`.
    pub fn resume(&self, partition: Partition) {
        let mut state = lock(&self.shared);
        state
            .appenders
            .values_mut()
            .filter(|sending| sending.partition == partition)
            .for_each(|it| it.paused = false);
        state.deliver();
    }

    /// Everything that is on its way and not paused arrives now, and chance has no part in what comes later.
    pub fn heal(&self) {
        let mut state = lock(&self.shared);
        state.chaos = Chaos::default();
        for line in &mut state.partitions {
            line.fates.clear();
            line.full = false;
            line.way.iter_mut().for_each(|request| request.due = Due::Turn(0));
        }
        state.appenders.values_mut().for_each(|sending| sending.paused = false);
        state.deliver();
    }

    /// The records of `partition` from `end` on are gone.
    pub fn truncate(&self, partition: Partition, end: Offset) {
        let mut state = lock(&self.shared);
        state.line(partition).records.truncate(end as usize);
        state.wake();
    }

    /// `partition` is deleted and made again with these records. Readers of the old one fail.
    pub fn recreate(&self, partition: Partition, records: impl IntoIterator<Item = Bytes>) {
        let mut state = lock(&self.shared);
        let line = state.line(partition);
        line.records = records.into_iter().collect();
        line.made += 1;
        state.wake();
    }

    /// `partition` is deleted and made again with these records, and nobody is told: readers go on where they are.
    pub fn swap(&self, partition: Partition, records: impl IntoIterator<Item = Bytes>) {
        let mut state = lock(&self.shared);
        state.line(partition).records = records.into_iter().collect();
        state.wake();
    }

    /// Readers of `partition` fail and have to be opened again.
    pub fn shake(&self, partition: Partition) {
        let mut state = lock(&self.shared);
        state.line(partition).made += 1;
        state.wake();
    }

    /// The records that have arrived in `partition`.
    pub fn records(&self, partition: Partition) -> Vec<Bytes> {
        lock(&self.shared).line(partition).records.clone()
    }

    /// Where the next record of `partition` goes.
    pub fn end(&self, partition: Partition) -> Offset {
        lock(&self.shared).line(partition).records.len() as Offset
    }

    /// How many records are on their way.
    pub fn on_the_way(&self) -> usize {
        lock(&self.shared).partitions.iter().map(|line| line.way.len()).sum()
    }
}

fn unavailable() -> RawError {
    RawError::Unavailable { detail: "the simulation lost it".into() }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn line(&mut self, partition: Partition) -> &mut Line {
        &mut self.partitions[usize::from(partition)]
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// What chance, or the test, has in mind for the next record, and how many turns it is on the way.
    fn fate(&mut self, partition: Partition) -> (Fate, Way) {
        if let Some(fate) = self.line(partition).fates.pop_front() {
            return (fate, Way::Straight);
        }
        let chaos = self.chaos;
        if chaos.turns_max == 0 {
            return (Fate::Arrive, Way::Straight);
        }
        let way = match self.random.random::<f64>() {
            draw if draw < chaos.delay => Way::Delayed(self.random.random_range(1..=chaos.turns_max)),
            draw if draw < chaos.delay + chaos.reorder => {
                Way::Overtaken(self.random.random_range(1..=chaos.turns_max))
            }
            _ => Way::Delayed(self.random.random_range(0..=2)),
        };
        let mut draw = self.random.random::<f64>();
        let mut falls = |probability: f64| {
            draw -= probability;
            draw < 0.0
        };
        let fate = if falls(chaos.lose) {
            Fate::Lose(unavailable())
        } else if falls(chaos.lose_ack) {
            Fate::LoseAck(unavailable())
        } else if falls(chaos.vanish) {
            Fate::Vanish
        } else if falls(chaos.duplicate) {
            if self.random.random() { Fate::Duplicate } else { Fate::DuplicateLate }
        } else if falls(chaos.no_offset) {
            Fate::NoOffset
        } else if falls(chaos.refuse) {
            Fate::Refuse { error: unavailable(), arrives: self.random.random() }
        } else {
            Fate::Arrive
        };
        (fate, way)
    }

    fn submit(&mut self, id: u64, bytes: Bytes) -> Result<(), RawError> {
        let Some(sending) = self.appenders.get(&id) else { return Err(unavailable()) };
        let (partition, in_flight) = (sending.partition, sending.bytes);
        if self.line(partition).full || in_flight + bytes.len() > CAPACITY {
            return Err(RawError::Full);
        }
        let (fate, way) = self.fate(partition);
        let chaos = self.chaos;
        let echo = (chaos.turns_max > 0 && self.random.random::<f64>() < chaos.duplicate)
            .then(|| u64::from(self.random.random_range(0..=chaos.turns_max)));
        let turn = self.turn;
        let Some(sending) = self.appenders.get_mut(&id) else { return Err(unavailable()) };
        let due = match way {
            Way::Straight => sending.due.max(turn),
            Way::Delayed(turns) => {
                sending.due = sending.due.max(turn + u64::from(turns));
                sending.due
            }
            Way::Overtaken(turns) => sending.due.max(turn) + u64::from(turns),
        };
        let index = sending.given + sending.reports.len() as u64;
        let mut slot = None;
        let mut request = Request {
            appender: id,
            index,
            bytes: bytes.clone(),
            due: Due::Turn(due),
            report: None,
            copies: 1,
        };
        let (mut refused, mut late) = (Ok(()), None);
        match fate {
            Fate::Arrive => request.report = Some(Said::Place { copy: 0 }),
            Fate::Lose(error) => {
                request.copies = 0;
                request.report = Some(Said::Error(error));
            }
            Fate::LoseAck(error) => request.report = Some(Said::Error(error)),
            Fate::Strand(error) => {
                request.due = Due::Held;
                slot = Some(Err(error));
            }
            Fate::Vanish => request.copies = 0,
            Fate::Pretend(offset) => {
                request.copies = 0;
                slot = Some(Ok(offset));
            }
            Fate::Duplicate => (request.copies, request.report) = (2, Some(Said::Place { copy: 0 })),
            Fate::DuplicateLate => (request.copies, request.report) = (2, Some(Said::Place { copy: 1 })),
            Fate::NoOffset => request.report = Some(Said::NoOffset),
            Fate::ReportLate => {
                let bytes = Bytes::new();
                let report = Some(Said::NoOffset);
                late = Some(Request { appender: id, index, bytes, due: Due::Held, report, copies: 0 });
            }
            Fate::Hold => (request.due, request.report) = (Due::Held, Some(Said::Place { copy: 0 })),
            Fate::Refuse { error, arrives } => {
                request.copies = u8::from(arrives);
                refused = Err(error);
            }
        }
        if refused.is_ok() {
            sending.bytes += bytes.len();
            sending.reports.push_back((bytes.len(), slot));
        }
        let way = &mut self.line(partition).way;
        if let Some(turns) = echo
            && request.copies > 0
            && request.due != Due::Held
        {
            let due = Due::Turn(due + turns);
            way.push(Request { appender: id, index, bytes, due, report: None, copies: 1 });
        }
        way.push(request);
        way.extend(late);
        self.deliver();
        refused
    }

    /// Lets everything arrive that is due.
    fn deliver(&mut self) {
        let mut moved = false;
        for line in &mut self.partitions {
            loop {
                // The earliest, and of those the one submitted first.
                let due = line.way.iter().enumerate().filter_map(|(at, request)| match request.due {
                    Due::Turn(turn) if turn <= self.turn => {
                        let paused =
                            self.appenders.get(&request.appender).is_some_and(|sending| sending.paused);
                        (!paused).then_some((turn, at))
                    }
                    Due::Turn(_) | Due::Held => None,
                });
                let Some((_, at)) = due.min() else { break };
                let request = line.way.remove(at);
                moved = true;
                let offset = line.records.len() as Offset;
                line.records.extend((0..request.copies).map(|_| request.bytes.clone()));
                let report = match request.report {
                    None => continue,
                    Some(Said::Place { copy }) => Ok(Some(offset + Offset::from(copy))),
                    Some(Said::NoOffset) => Ok(None),
                    Some(Said::Error(error)) => Err(error),
                };
                if let Some(sending) = self.appenders.get_mut(&request.appender)
                    && let Some(slot) = sending.reports.get_mut((request.index - sending.given) as usize)
                {
                    slot.1 = Some(report);
                }
            }
        }
        if moved {
            self.wake();
        }
    }

    fn wake(&mut self) {
        for waker in std::mem::take(&mut self.wakers).into_values() {
            waker.wake();
        }
    }

    /// There was nothing to give: a turn passes, and while something is still on its way, whoever asked asks again.
    fn idle(&mut self, id: u64, cx: &Context<'_>) {
        self.turn += 1;
        self.wakers.insert(id, cx.waker().clone());
        self.deliver();
        let appenders = &self.appenders;
        let coming = self.partitions.iter().flat_map(|line| &line.way).any(|request| {
            request.due != Due::Held
                && !appenders.get(&request.appender).is_some_and(|sending| sending.paused)
        });
        if coming {
            cx.waker().wake_by_ref();
        }
    }
}

enum Way {
    Straight,
    Delayed(u32),
    Overtaken(u32),
}

#[async_trait]
impl RawLog for SimLog {
    fn partitions(&self) -> u16 {
        self.partitions
    }

    async fn appender(&self, partition: Partition) -> Result<Box<dyn Appender>, RawError> {
        let mut state = lock(&self.shared);
        let id = state.id();
        state.appenders.insert(id, Sending { partition, ..Sending::default() });
        Ok(Box::new(SimAppender { shared: Arc::clone(&self.shared), id }))
    }

    async fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn RawReader>, RawError> {
        let mut state = lock(&self.shared);
        let id = state.id();
        let places = from
            .iter()
            .map(|&(partition, next)| Place { partition, next, made: state.line(partition).made })
            .collect();
        Ok(Box::new(SimReader { shared: Arc::clone(&self.shared), id, places, first: 0 }))
    }

    async fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        Ok(lock(&self.shared).line(partition).records.len() as Offset)
    }
}

struct SimAppender {
    shared: Arc<Mutex<State>>,
    id: u64,
}

#[async_trait]
impl Appender for SimAppender {
    fn submit(&mut self, record: Bytes) -> Result<(), RawError> {
        lock(&self.shared).submit(self.id, record)
    }

    async fn reports(&mut self, reports: &mut Vec<Report>) {
        poll_fn(|cx| {
            let mut state = lock(&self.shared);
            let Some(sending) = state.appenders.get_mut(&self.id) else { return Poll::Pending };
            if sending.reports.is_empty() {
                // Nothing will come: not even a turn passes.
                return Poll::Pending;
            }
            let before = reports.len();
            while let Some((bytes, Some(_))) = sending.reports.front() {
                if sending.paused {
                    break;
                }
                sending.bytes -= bytes;
                sending.given += 1;
                reports.extend(sending.reports.pop_front().and_then(|(_, report)| report));
            }
            if reports.len() > before {
                return Poll::Ready(());
            }
            state.idle(self.id, cx);
            Poll::Pending
        })
        .await;
    }
}

struct SimReader {
    shared: Arc<Mutex<State>>,
    id: u64,
    places: Vec<Place>,
    /// Which place to look at first, so that a busy partition does not hide the others.
    first: usize,
}

struct Place {
    partition: Partition,
    next: Offset,
    made: u32,
}

#[async_trait]
impl RawReader for SimReader {
    async fn next(&mut self, max_bytes: usize, records: &mut Vec<RawRecord>) -> Result<(), RawError> {
        poll_fn(|cx| {
            let mut state = lock(&self.shared);
            let mut bytes = 0;
            let count = self.places.len();
            for at in 0..count {
                let place = &mut self.places[(self.first + at) % count];
                let line = state.line(place.partition);
                let end = line.records.len() as Offset;
                if line.made != place.made {
                    return Poll::Ready(Err(RawError::Unavailable {
                        detail: "the partition was made again".into(),
                    }));
                }
                if place.next > end {
                    let (partition, wanted) = (place.partition, place.next);
                    return Poll::Ready(Err(RawError::Lost { partition, wanted, end }));
                }
                for record in &line.records[place.next as usize..] {
                    if bytes >= max_bytes.max(1) {
                        break;
                    }
                    bytes += record.len().max(1);
                    records.push(RawRecord {
                        partition: place.partition,
                        offset: place.next,
                        bytes: record.clone(),
                    });
                    place.next += 1;
                }
            }
            if bytes > 0 {
                self.first = (self.first + 1) % count;
                return Poll::Ready(Ok(()));
            }
            state.idle(self.id, cx);
            Poll::Pending
        })
        .await
    }
}

impl Drop for SimReader {
    fn drop(&mut self) {
        lock(&self.shared).wakers.remove(&self.id);
    }
}
