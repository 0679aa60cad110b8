//! Figures: how fast each projection goes, and how far it is behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use shopstream_domain::Timestamp;
use shopstream_eventlog::Log;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::{Progress, Projection};

/// Tells the time, for lag in seconds.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How often lag is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts what projections do. Cheap to clone.
#[derive(Clone)]
pub(super) struct Meter {
    now: Now,
    /// When the newest event of each projection was recorded, in microseconds.
    newest: Arc<[AtomicI64]>,
}

impl Meter {
    pub(super) fn new(now: Now) -> Self {
        Self { now, newest: Projection::ALL.map(|_| AtomicI64::new(i64::MIN)).into() }
    }

    /// One transaction is committed.
    pub(super) fn applied(&self, projection: Projection, rows: u64, events: u64, newest: Option<Timestamp>) {
        let name = projection.name();
        counter!("shopstream_projection_rows_total", "projection" => name).increment(rows);
        counter!("shopstream_projection_events_total", "projection" => name).increment(events);
        histogram!("shopstream_projection_batch_events", "projection" => name).record(events as f64);
        if let Some(newest) = newest {
            self.newest[projection.index()].fetch_max(newest.micros(), Ordering::Relaxed);
        }
    }

    /// So many aggregates are parked.
    pub(super) fn parked(&self, projection: Projection, aggregates: usize) {
        gauge!("shopstream_projection_parked_aggregates", "projection" => projection.name())
            .set(aggregates as f64);
    }

    /// Something failed and is tried again.
    pub(super) fn failed(&self, projection: Projection) {
        counter!("shopstream_projection_failures_total", "projection" => projection.name()).increment(1);
    }

    /// Publishes each projection's lag, for ever.
    pub(super) async fn watch_lag(self, log: Log, progress: Progress) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let mut ends = Vec::with_capacity(log.partitions().into());
            for partition in 0..log.partitions() {
                match log.end(partition).await {
                    Ok(end) => ends.push(end),
                    Err(error) => {
                        debug!(%error, "the end of the log is not known now");
                        break;
                    }
                }
            }
            if ends.len() == usize::from(log.partitions()) {
                Projection::ALL.into_iter().for_each(|projection| self.publish(projection, &ends, &progress));
            }
        }
    }

    fn publish(&self, projection: Projection, ends: &[u64], progress: &Progress) {
        let records: u64 = {
            let offsets = progress.watch(projection);
            let next = offsets.borrow();
            ends.iter().zip(next.iter()).map(|(end, next)| end.saturating_sub(*next)).sum()
        };
        // The age of the newest event that is in, where newer ones are not; not known before the first.
        let newest = self.newest[projection.index()].load(Ordering::Relaxed);
        let behind = records > 0 && newest != i64::MIN;
        let micros = if behind { (self.now)().since(Timestamp::from_micros(newest)).micros() } else { 0 };
        gauge!("shopstream_projection_lag_records", "projection" => projection.name()).set(records as f64);
        gauge!("shopstream_projection_lag_seconds", "projection" => projection.name())
            .set(micros as f64 / 1e6);
    }
}
