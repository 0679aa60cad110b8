//! Clients of a whole shop: draft orders under ids that follow from their number, every answer written down.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use shopstream_proto::order::v1::CreateOrderRequest;
use shopstream_proto::r#type::v1::Position;
use shopstream_server::client::Client;
use shopstream_tests::{read_log, requests};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// The lines of an order: more work for a shop than for its client.
const LINES: usize = 20;
/// Calls that may be open at once; more are counted as not sent.
pub(crate) const OPEN_MAX: usize = 20_000;
/// So many different words of advice are kept.
const ADVICE_MAX: usize = 256;
/// How long a client waits for one answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two volleys of an open loop.
const TICK: Duration = Duration::from_millis(5);

/// What clients have seen so far.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Said>>);

/// The answers of a while.
pub(crate) struct Said {
    /// Numbers of orders that were acknowledged.
    pub(crate) accepted: BTreeSet<u64>,
    /// From call to acknowledgement, in microseconds.
    pub(crate) micros: Histogram<u64>,
    /// Told to come later, with how long to wait.
    pub(crate) refused: u64,
    /// The words of the first of those, each once.
    pub(crate) advice: BTreeSet<String>,
    /// No answer in time, or that nobody knows yet: asked again it would be known.
    pub(crate) unknown: u64,
    /// What must not be said to a client who did nothing wrong.
    pub(crate) wrong: Vec<String>,
    /// Where the last one was recorded.
    pub(crate) last: Option<Position>,
}

impl Default for Said {
    fn default() -> Self {
        let micros = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that hold together");
        let (accepted, advice, wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self { accepted, micros, refused: 0, advice, unknown: 0, wrong, last: None }
    }
}

impl Heard {
    pub(crate) fn take(&self) -> Said {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes orders that were acknowledged and taken before.
    pub(crate) fn give_back(&self, accepted: BTreeSet<u64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).accepted.extend(accepted);
    }

    fn hear(&self, number: u64, sent: Instant, answer: Result<Option<Position>, Status>) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(position) => {
                said.accepted.insert(number);
                said.last = position;
                // Beyond a minute it is a minute.
                said.micros.saturating_record(sent.elapsed().as_micros() as u64);
                return true;
            }
            Err(status) if is_advice(&status) => {
                said.refused += 1;
                if said.advice.len() < ADVICE_MAX {
                    said.advice.insert(status.message().to_owned());
                }
            }
            Err(status) if is_unknown(&status) => said.unknown += 1,
            Err(status) => said.wrong.push(format!("order {number}: {status:?}")),
        }
        false
    }
}

/// Nothing was done, and it is said when to come again.
fn is_advice(status: &Status) -> bool {
    let told = status.get_details_retry_info().and_then(|info| info.retry_delay).is_some();
    matches!(status.code(), Code::ResourceExhausted | Code::Unavailable) && told
}

/// The client's own time was over, or nearly.
fn is_unknown(status: &Status) -> bool {
    matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded)
}

fn draft(run: u64, number: u64, lines: usize) -> CreateOrderRequest {
    let line = requests::line(SKU, 1);
    CreateOrderRequest {
        lines: vec![line; lines],
        draft: true,
        ..requests::order(&order_id(run, number), SKU, 1, "tok_ok")
    }
}

/// What all orders are for.
pub(crate) const SKU: &str = "LOAD-1";

fn order_id(run: u64, number: u64) -> String {
    format!("ord_load_{run:x}_{number}")
}

/// Clients of one run.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) client: Client,
    pub(crate) heard: Heard,
    run: u64,
    next: Arc<AtomicU64>,
    lines: usize,
}

impl Load {
    pub(crate) fn new(client: Client, run: u64) -> Self {
        Self { client, heard: Heard::default(), run, next: Arc::default(), lines: LINES }
    }

    /// With orders of so many lines.
    pub(crate) fn of_lines(self, lines: usize) -> Self {
        Self { lines, ..self }
    }

    async fn call(&self, number: u64) -> bool {
        let sent = Instant::now();
        let mut request = Request::new(draft(self.run, number, self.lines));
        request.set_timeout(DEADLINE);
        let answer = self.client.shop().orders.create_order(request).await;
        self.heard.hear(number, sent, answer.map(|answer| answer.into_inner().position))
    }

    /// So many callers, each with one call open, for a while; answers how many were acknowledged a second.
    pub(crate) async fn closed(&self, callers: usize, lasting: Duration) -> anyhow::Result<f64> {
        let (begun, mut at_work) = (Instant::now(), JoinSet::new());
        for _ in 0..callers {
            let load = self.clone();
            at_work.spawn(async move {
                let mut acknowledged = 0_u64;
                while begun.elapsed() < lasting {
                    if load.call(load.number()).await {
                        acknowledged += 1;
                    } else {
                        tokio::time::sleep(TICK).await;
                    }
                }
                acknowledged
            });
        }
        let mut acknowledged = 0;
        while let Some(caller) = at_work.join_next().await {
            acknowledged += caller?;
        }
        Ok(acknowledged as f64 / begun.elapsed().as_secs_f64())
    }

    /// So many calls a second whatever becomes of those before, for a while; answers how many were sent, and how many
    /// were not because the client had too many open.
    pub(crate) async fn open(&self, a_second: f64, lasting: Duration) -> anyhow::Result<(u64, u64)> {
        let (begun, places) = (Instant::now(), Arc::new(Semaphore::new(OPEN_MAX)));
        let (mut at_work, mut sent, mut held) = (JoinSet::new(), 0, 0);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while begun.elapsed() < lasting {
            tick.tick().await;
            let due = (begun.elapsed().as_secs_f64() * a_second) as u64;
            while sent + held < due {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    held += due - sent - held;
                    break;
                };
                let (load, number) = (self.clone(), self.number());
                at_work.spawn(async move {
                    load.call(number).await;
                    drop(place);
                });
                sent += 1;
            }
            while at_work.try_join_next().is_some() {}
        }
        while let Some(ended) = at_work.join_next().await {
            ended?;
        }
        Ok((sent, held))
    }

    /// How long after `relieved` a second began in which `callers` were refused nothing and at least `wanted` was
    /// acknowledged a second; `patience` at least where none does. Looks for `patience` at most.
    pub(crate) async fn recovered(
        &self,
        callers: usize,
        wanted: f64,
        relieved: Instant,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        let mut accepted = BTreeSet::new();
        while relieved.elapsed() < patience {
            let began = relieved.elapsed();
            let served = self.closed(callers, Duration::from_secs(1)).await?;
            let said = self.heard.take();
            accepted.extend(said.accepted);
            if said.refused + said.unknown == 0 && said.wrong.is_empty() && served >= wanted {
                self.heard.give_back(accepted);
                return Ok(began);
            }
        }
        self.heard.give_back(accepted);
        Ok(relieved.elapsed())
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Reads the whole log as a stranger does: every acknowledged order is there once.
    ///
    /// # Errors
    /// One is not.
    pub(crate) async fn recount(&self, accepted: &BTreeSet<u64>) -> anyhow::Result<u64> {
        // It refuses a stream with a gap or a double by itself.
        let streams = read_log(&self.client).await;
        let prefix = format!("default/order/ord_load_{:x}_", self.run);
        for number in accepted {
            let stream = format!("default/order/{}", order_id(self.run, *number));
            let events = streams.get(&stream).map_or(0, Vec::len);
            ensure!(events == 1, "{stream} was acknowledged and has {events} events");
        }
        Ok(streams.keys().filter(|stream| stream.starts_with(&prefix)).count() as u64)
    }
}
