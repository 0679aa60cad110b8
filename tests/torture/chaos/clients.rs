//! Clients that never stop, and what they saw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shopstream_server::client::Client;
use shopstream_tests::requests::stock;
use shopstream_tests::topic::{self, Topic};
use tokio::task::JoinSet;
use tonic::Request;

use crate::report::Report;

/// How long one try may take before the next one, through another node.
const TRY: Duration = Duration::from_secs(2);
/// After a refusal.
const BREATH: Duration = Duration::from_millis(20);
/// Items that a node is asked about to see whether it serves.
pub(super) const PROBES: usize = 64;
/// Within this a node that others can serve for has a command carried out.
const CARRIED_OUT: Duration = Duration::from_secs(20);
/// Within this every client is answered again.
const ANSWERED: Duration = Duration::from_secs(60);

/// The name of an item.
pub(super) fn sku(item: usize) -> String {
    format!("CHAOS-{item}")
}

/// The name of an item that is only asked for whether a node serves.
pub(super) fn probe(number: usize) -> String {
    format!("PROBE-{number}")
}

/// Has a command for each of [`PROBES`] items carried out through one node: enough for every partition. Answers how long
/// the last one took.
///
/// # Errors
/// One was not, within [`CARRIED_OUT`].
pub(super) async fn carried_out(door: &Client, round: &str) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut asked = JoinSet::new();
    for number in 0..PROBES {
        let (door, request) = (door.clone(), format!("probe-{round}"));
        asked.spawn(async move {
            let mut said = String::new();
            while begun.elapsed() < CARRIED_OUT {
                let mut request = Request::new(stock(&request, &probe(number), 1));
                request.set_timeout(TRY);
                match door.shop().inventory.update_stock(request).await {
                    Ok(_) => return Ok(begun.elapsed()),
                    Err(status) => said = format!("{}: {:?}", probe(number), status),
                }
                tokio::time::sleep(BREATH).await;
            }
            Err(said)
        });
    }
    let mut longest = Duration::ZERO;
    while let Some(ended) = asked.join_next().await {
        longest = longest.max(ended.map_err(|error| error.to_string())??);
    }
    Ok(longest)
}

/// Running clients.
pub(super) struct Clients {
    running: JoinSet<()>,
    seen: Arc<Seen>,
    wanted: u64,
    stalls: Mutex<BTreeMap<&'static str, Vec<Duration>>>,
}

/// What they saw so far.
struct Seen {
    acknowledged: AtomicU64,
    repeated: AtomicU64,
    items: Vec<Mutex<Item>>,
}

/// One client's own.
#[derive(Clone, Default)]
struct Item {
    /// The version of the item that was acknowledged last; 1 is how it came to be.
    version: i64,
    last: Option<Instant>,
    /// The longest time between two acknowledgements since somebody asked.
    longest: Duration,
    wrong: Vec<String>,
}

/// What they saw in all.
pub(super) struct Ended {
    pub(super) acknowledged: u64,
    pub(super) repeated: u64,
    /// Commands acknowledged, by item.
    pub(super) by_item: Vec<u64>,
    pub(super) wrong: Vec<String>,
    /// By fault: p50, p99 and maximum of the longest wait of every client, in milliseconds.
    pub(super) stalls: BTreeMap<&'static str, [u64; 3]>,
}

impl Clients {
    pub(super) fn start(doors: Arc<[Client]>, items: usize, wanted: u64) -> Self {
        let item = || Mutex::new(Item { version: 1, ..Item::default() });
        let seen = Arc::new(Seen {
            acknowledged: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            items: (0..items).map(|_| item()).collect(),
        });
        let mut running = JoinSet::new();
        for item in 0..items {
            running.spawn(one(item, doors.clone(), seen.clone(), wanted));
        }
        Self { running, seen, wanted, stalls: Mutex::default() }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.seen.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn are_done(&self) -> bool {
        self.acknowledged() >= self.wanted
    }

    /// Waits until every client was answered after `since`; answers each one's longest wait since the last time, or
    /// `None` where one is not answered.
    pub(super) fn all_answered_since(&self, since: Instant) -> Option<Vec<Duration>> {
        while since.elapsed() < ANSWERED {
            let items = self.seen.items.iter().map(held);
            if self.are_done() || items.into_iter().all(|item| item.last.is_some_and(|last| last > since)) {
                let waits = self.seen.items.iter().map(|item| std::mem::take(&mut held(item).longest));
                return Some(waits.collect());
            }
            std::thread::park_timeout(BREATH);
        }
        None
    }

    pub(super) fn note(&self, fault: &'static str, waits: Vec<Duration>) {
        held(&self.stalls).entry(fault).or_default().extend(waits);
    }

    /// Waits until enough was acknowledged.
    pub(super) async fn finish(mut self) -> anyhow::Result<Ended> {
        while let Some(ended) = self.running.join_next().await {
            ended?;
        }
        let items: Vec<Item> = self.seen.items.iter().map(|item| held(item).clone()).collect();
        let stalls = std::mem::take(&mut *held(&self.stalls));
        let spread = |mut waits: Vec<Duration>| {
            waits.sort_unstable();
            let at = |share: f64| {
                let index = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
                waits.get(index).map_or(0, |wait| wait.as_millis() as u64)
            };
            [at(0.5), at(0.99), at(1.0)]
        };
        Ok(Ended {
            acknowledged: self.acknowledged(),
            repeated: self.seen.repeated.load(Ordering::Relaxed),
            by_item: items.iter().map(|item| item.version.unsigned_abs() - 1).collect(),
            wrong: items.into_iter().flat_map(|item| item.wrong).collect(),
            stalls: stalls.into_iter().map(|(fault, waits)| (fault, spread(waits))).collect(),
        })
    }
}

async fn one(item: usize, doors: Arc<[Client]>, seen: Arc<Seen>, wanted: u64) {
    let (sku, mut door) = (sku(item), item);
    let mut number = 0_u64;
    while seen.acknowledged.load(Ordering::Relaxed) < wanted {
        let command = stock(&format!("chaos-{number}"), &sku, 1);
        let version = loop {
            let mut request = Request::new(command.clone());
            request.set_timeout(TRY);
            match doors[door % doors.len()].shop().inventory.update_stock(request).await {
                Ok(answer) => break answer.into_inner().version,
                Err(_) => {
                    seen.repeated.fetch_add(1, Ordering::Relaxed);
                    door += 1;
                    tokio::time::sleep(BREATH).await;
                }
            }
        };
        seen.acknowledged.fetch_add(1, Ordering::Relaxed);
        number += 1;
        let mut mine = held(&seen.items[item]);
        if version != mine.version + 1 {
            let wrong = format!("{sku}: version {version} was acknowledged after {}", mine.version);
            mine.wrong.push(wrong);
        }
        let now = Instant::now();
        let waited = mine.last.map_or(Duration::ZERO, |last| now - last);
        (mine.version, mine.last, mine.longest) = (version, Some(now), mine.longest.max(waited));
    }
}

/// Reads the topic as nobody of the shop does, and counts each item's commits that count.
pub(super) async fn recount(url: &str, acknowledged: &[u64], report: &mut Report) {
    let mut counted = BTreeMap::<String, u64>::new();
    for stream in Topic::of(url).counted().await.into_values() {
        *counted.entry(stream).or_default() += 1;
    }
    for (item, acknowledged) in acknowledged.iter().enumerate() {
        let stream = topic::stock(&sku(item)).to_string();
        // The first one is how it came to be.
        let count = counted.get(&stream).copied().unwrap_or_default().saturating_sub(1);
        report.checked("I1", *acknowledged);
        report.checked("I3", count);
        let said = || format!("{stream}: {acknowledged} acknowledged, {count} count");
        if count < *acknowledged {
            report.broken("I1", said());
        }
        if count > *acknowledged {
            report.broken("I3", said());
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
