//! How long ago the oldest record was written that the processes or the views have not come to. That they run says
//! nothing: a loop that nobody wakes runs too.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use shopstream_domain::Partition;
use shopstream_eventlog::{Log, Offset};
use shopstream_projections::{Progress, Projection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::duty::{Processing, Projecting};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long the log may take to say where it ends.
const ANSWER: Duration = Duration::from_secs(1);

/// The next offset of every partition that a reader has saved.
pub(super) type Reached = BTreeMap<Partition, Offset>;

/// What is looked at.
pub(super) struct Looked {
    pub(super) log: Log,
    pub(super) processing: watch::Receiver<Processing>,
    /// How far the processes have come.
    pub(super) processed: watch::Receiver<Reached>,
    pub(super) projecting: watch::Receiver<Projecting>,
    /// How far the views have come.
    pub(super) progress: Progress,
    /// Who is further behind than this does not do its work.
    pub(super) bound: Duration,
}

/// Looks until `stop`, and tells who is behind.
pub(super) async fn look(looked: Looked, behind: watch::Sender<Vec<String>>, stop: CancellationToken) {
    let mut processes = Marks::default();
    let mut views = Projection::ALL.map(|projection| (projection, Marks::default()));
    while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
        let ends = ends(&looked.log).await;
        let now = Instant::now();
        let mut complaints = Vec::new();
        if looked.processing.borrow().is_some() {
            let reached = looked.processed.borrow().clone();
            let lag = processes.see(now, &ends, |partition| reached.get(&partition).copied().unwrap_or(0));
            metrics::gauge!("shopstream_processes_lag_seconds").set(lag.as_secs_f64());
            complain(&mut complaints, "processes", lag, looked.bound);
        } else {
            processes = Marks::default();
        }
        if looked.projecting.borrow().is_some() {
            for (projection, marks) in &mut views {
                let lag = marks.see(now, &ends, |partition| looked.progress.next(*projection, partition));
                complain(&mut complaints, &format!("projection {projection}"), lag, looked.bound);
            }
        } else {
            views = Projection::ALL.map(|projection| (projection, Marks::default()));
        }
        behind.send_if_modified(|behind| {
            let changed = *behind != complaints;
            *behind = complaints;
            changed
        });
    }
}

fn complain(complaints: &mut Vec<String>, who: &str, lag: Duration, bound: Duration) {
    if lag > bound {
        complaints.push(format!(
            "{who}: behind: what was written {} s ago has not been come to (behind_seconds is {})",
            lag.as_secs(),
            bound.as_secs()
        ));
    }
}

/// Where every partition ends that can say so.
async fn ends(log: &Log) -> Reached {
    let ends = (0..log.partitions()).map(async |partition| {
        let end = timeout(ANSWER, log.end(partition)).await.ok()?.ok()?;
        Some((partition, end))
    });
    join_all(ends).await.into_iter().flatten().collect()
}

/// For every partition an end that was seen, and when.
#[derive(Default)]
struct Marks(BTreeMap<Partition, (Offset, Instant)>);

impl Marks {
    /// How long ago the oldest end was seen that is not reached yet.
    fn see(&mut self, now: Instant, ends: &Reached, reached: impl Fn(Partition) -> Offset) -> Duration {
        let mut oldest = now;
        for (&partition, &end) in ends {
            let mark = self.0.entry(partition).or_insert((end, now));
            if reached(partition) >= mark.0 {
                *mark = (end, now);
            }
            if reached(partition) < mark.0 {
                oldest = oldest.min(mark.1);
            }
        }
        now - oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_that_was_not_come_to_counts() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let ends = |first, second| Reached::from([(0, first), (1, second)]);
        let mut marks = Marks::default();
        let mut see = |now, ends, reached: [Offset; 2]| {
            marks.see(at(now), &ends, |partition| reached[usize::from(partition)]).as_secs()
        };
        assert_eq!(see(0, ends(5, 5), [5, 5]), 0, "nothing to do");
        assert_eq!(see(10, ends(9, 5), [5, 5]), 0, "seen just now");
        assert_eq!(see(14, ends(20, 8), [7, 5]), 4, "the end of before is not reached");
        assert_eq!(see(15, ends(30, 8), [9, 5]), 1, "it is, and then the oldest is the other partition's");
        assert_eq!(see(20, ends(30, 8), [29, 8]), 5, "the end that was seen at 15");
        assert_eq!(see(21, ends(30, 8), [30, 8]), 0);
    }
}
