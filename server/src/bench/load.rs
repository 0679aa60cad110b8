//! Closed-loop load: so many callers, each with one call in flight, for a while.
//!
//! Its latencies are those of that many callers at full speed, never the latency at a rate: a caller that waits sends
//! nothing meanwhile.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use shopstream_proto::r#type::v1::Position;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tonic::{Code, Status};

use super::acknowledged::Acknowledged;
use super::calls::{Caller, Numbers};
use super::machine::{Meter, Spent};
use crate::client::describe;

/// How long a caller waits before it asks again: it was asked for patience, and refusals without a pause would be
/// measured as work.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the last calls may take to be answered.
const GRACE: Duration = Duration::from_secs(60);

/// The longest latency that is told apart from longer ones.
const MICROS_MAX: u64 = 60_000_000;

/// The time that counts: after the warm-up, before the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

/// Lets callers call only while it is open.
pub(super) type Gate = watch::Receiver<bool>;

/// What became of a load.
pub(super) struct Load {
    /// From a call to its answer, in microseconds, for the calls that were answered within the window.
    pub(super) micros: Histogram<u64>,
    /// How often a caller was told to come again later, at any time.
    pub(super) refused: u64,
    /// Commands that were answered, at any time.
    pub(super) acknowledged: Acknowledged,
    /// The CPU time of the window.
    pub(super) spent: Spent,
}

/// Lets `callers` call until the window is over, as fast as they can and the gate lets them.
///
/// # Errors
/// A call is refused for another reason than that there is too much to do.
pub(super) async fn closed_loop<C: Caller>(
    callers: Vec<C>,
    numbers: &Numbers,
    window: Window,
    gate: &Gate,
    meter: &Meter,
) -> anyhow::Result<Load> {
    let open = Instant::now() + window.warm_up;
    let shut = open + window.measured;
    let mut at_work = JoinSet::new();
    for caller in callers {
        let tally = Tally { open, shut, ..Tally::new()? };
        at_work.spawn(tally.of(caller, numbers.clone(), gate.clone()));
    }
    let spent = async {
        sleep_until(open).await;
        let before = meter.usage()?;
        sleep_until(shut).await;
        anyhow::Ok(meter.usage()?.since(&before))
    };
    let all = async {
        let mut all = Tally::new()?;
        while let Some(tally) = at_work.join_next().await {
            all.add(tally??)?;
        }
        anyhow::Ok(all)
    };
    let both = timeout(window.warm_up + window.measured + GRACE, async { tokio::try_join!(all, spent) });
    let (Tally { micros, refused, acknowledged, .. }, spent) =
        both.await.context("calls were not answered a minute after the end of the load")??;
    Ok(Load { micros, refused, acknowledged, spent })
}

/// Lets `callers` call until each of them meets its first error; answers what was acknowledged until then.
///
/// # Errors
/// A caller panicked.
pub(super) async fn until_broken<C: Caller>(
    callers: Vec<C>,
    numbers: &Numbers,
) -> anyhow::Result<Acknowledged> {
    let mut at_work = JoinSet::new();
    for mut caller in callers {
        let numbers = numbers.clone();
        at_work.spawn(async move {
            let mut acknowledged = Acknowledged::default();
            loop {
                let number = numbers.next();
                match caller.call(number).await {
                    Ok(position) => acknowledged.add(number, position),
                    Err(status) if status.code() == Code::ResourceExhausted => sleep(PAUSE).await,
                    Err(_broken) => return acknowledged,
                }
            }
        });
    }
    let mut all = Acknowledged::default();
    while let Some(acknowledged) = at_work.join_next().await {
        all.extend(acknowledged?);
    }
    Ok(all)
}

/// The node asks for patience: too much at once, or not known now.
fn is_not_now(status: &Status) -> bool {
    matches!(status.code(), Code::ResourceExhausted | Code::Unavailable)
}

/// What one caller has seen, or all of them.
struct Tally {
    open: Instant,
    shut: Instant,
    micros: Histogram<u64>,
    refused: u64,
    acknowledged: Acknowledged,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            open: now,
            shut: now,
            micros: Histogram::new_with_max(MICROS_MAX, 3)?,
            refused: 0,
            acknowledged: Acknowledged::default(),
        })
    }

    async fn of<C: Caller>(
        mut self,
        mut caller: C,
        numbers: Numbers,
        mut gate: Gate,
    ) -> anyhow::Result<Self> {
        loop {
            if !*gate.borrow() {
                // A gate whose keeper has left stays as it is.
                timeout_at(self.shut, gate.wait_for(|open| *open)).await.ok();
            }
            let begun = Instant::now();
            if begun >= self.shut {
                return Ok(self);
            }
            let number = numbers.next();
            let position = self.answer(&mut caller, number).await?;
            self.acknowledged.add(number, position);
            let ended = Instant::now();
            if (self.open..self.shut).contains(&ended) {
                self.micros.saturating_record((ended - begun).as_micros() as u64);
            }
        }
    }

    /// Asks until there is an answer, with the same request: what was not known before is then answered as it was.
    async fn answer<C: Caller>(&mut self, caller: &mut C, number: u64) -> anyhow::Result<Option<Position>> {
        loop {
            match caller.call(number).await {
                Ok(position) => return Ok(position),
                Err(status) if is_not_now(&status) => {
                    self.refused += 1;
                    sleep(PAUSE).await;
                }
                Err(status) => bail!("command {number} was not taken: {}", describe(&status)),
            }
        }
    }

    fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.micros.add(&other.micros)?;
        self.refused += other.refused;
        self.acknowledged.extend(other.acknowledged);
        Ok(())
    }
}
