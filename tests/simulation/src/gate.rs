//! A node's way to the log, which can be closed: the node then reads nothing and gets no new appender, while others go
//! on. What its appenders have on the way is held back by [`Faults::pause`](shopstream_eventlog::sim::Faults::pause).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use async_trait::async_trait;
use shopstream_domain::Partition;
use shopstream_eventlog::Offset;
use shopstream_eventlog::raw::{Appender, RawError, RawLog, RawReader, RawRecord};
use shopstream_eventlog::sim::SimLog;

/// Open or closed. Clones are the same gate.
///
/// Not a watch channel: that one wakes its waiters in a random order, and a run has to be the same again.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    closed: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    pub(crate) fn open(&self) {
        let mut state = self.state();
        state.closed = false;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.closed {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|known| known.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with `work` only while the gate is open.
    async fn pass<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            ready!(self.poll_open(cx));
            work.as_mut().poll(cx)
        })
        .await
    }
}

/// The log behind a gate.
pub(crate) struct GatedLog {
    pub(crate) log: SimLog,
    pub(crate) gate: Gate,
}

#[async_trait]
impl RawLog for GatedLog {
    fn partitions(&self) -> u16 {
        self.log.partitions()
    }

    async fn appender(&self, partition: Partition) -> Result<Box<dyn Appender>, RawError> {
        self.gate.pass(self.log.appender(partition)).await
    }

    async fn reader(&self, from: &[(Partition, Offset)]) -> Result<Box<dyn RawReader>, RawError> {
        let reader = self.gate.pass(self.log.reader(from)).await?;
        Ok(Box::new(GatedReader { reader, gate: self.gate.clone() }))
    }

    async fn end(&self, partition: Partition) -> Result<Offset, RawError> {
        self.gate.pass(self.log.end(partition)).await
    }
}

struct GatedReader {
    reader: Box<dyn RawReader>,
    gate: Gate,
}

#[async_trait]
impl RawReader for GatedReader {
    async fn next(&mut self, max_bytes: usize, records: &mut Vec<RawRecord>) -> Result<(), RawError> {
        self.gate.pass(self.reader.next(max_bytes, records)).await
    }
}
