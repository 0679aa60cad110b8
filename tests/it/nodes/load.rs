//! Commands for every partition without a pause, and how long each partition could not be written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use prost_types::Timestamp;
use shopstream_server::client::Client;
use shopstream_tests::read_log;
use shopstream_tests::requests::stock;
use shopstream_tests::topic::{PARTITIONS, Topic, sku_in};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Request;

/// Between two commands of one prober: as exact as unavailability is measured.
const PACE: Duration = Duration::from_millis(20);
/// A longer wait is told with the time it began.
const NOTABLE: Duration = Duration::from_secs(1);
/// How long one try of a command may take before it is sent again: longer than a takeover.
pub const PATIENT: Duration = Duration::from_secs(15);
/// As long as somebody waits who has another node to go to.
pub const IMPATIENT: Duration = Duration::from_secs(2);

/// The stock items that probe: one in each partition, in order.
pub fn probes() -> impl Iterator<Item = String> {
    (0..PARTITIONS).map(|partition| sku_in(partition, "PROBE"))
}

/// By partition, when something was acknowledged.
pub type Acknowledged = Vec<Vec<Instant>>;

/// What clients were told instead of an acknowledgement, and when.
pub type Errors = Vec<(Instant, String)>;

/// A client per partition, each with commands for its one stock item, one after the other, each sent until it is
/// acknowledged.
pub struct Probers {
    running: Vec<JoinHandle<(Vec<Instant>, Errors)>>,
}

impl Probers {
    /// Begins at the first of these `doors`; whoever is refused, or not answered for so long, goes to the next.
    pub fn start(
        name: &'static str,
        doors: &[&Client],
        patience: Duration,
        stop: &watch::Receiver<bool>,
    ) -> Self {
        let doors: Arc<[Client]> = doors.iter().map(|door| (*door).clone()).collect();
        let one = |sku: String| tokio::spawn(run(name, sku, doors.clone(), patience, stop.clone()));
        Self { running: probes().map(one).collect() }
    }

    /// What was acknowledged, and what was told instead, after `stop`.
    pub async fn finish(self) -> Result<(Acknowledged, Errors)> {
        let (acknowledged, errors): (_, Vec<_>) = try_join_all(self.running).await?.into_iter().unzip();
        Ok((acknowledged, errors.into_iter().flatten().collect()))
    }
}

async fn run(
    name: &'static str,
    sku: String,
    doors: Arc<[Client]>,
    patience: Duration,
    stop: watch::Receiver<bool>,
) -> (Vec<Instant>, Errors) {
    let (mut acknowledged, mut errors, mut door) = (Vec::new(), Errors::new(), 0);
    while !*stop.borrow() {
        let change = stock(&format!("{name}-{}", acknowledged.len()), &sku, 1);
        loop {
            let mut request = Request::new(change.clone());
            request.set_timeout(patience);
            match doors[door % doors.len()].shop().inventory.update_stock(request).await {
                Ok(_) => break,
                Err(status) => {
                    errors
                        .push((Instant::now(), format!("{sku}: {:?}: {}", status.code(), status.message())));
                    door += 1;
                    tokio::time::sleep(PACE / 4).await;
                }
            }
        }
        acknowledged.push(Instant::now());
        tokio::time::sleep(PACE).await;
    }
    (acknowledged, errors)
}

/// Everything that was acknowledged is on the log, once, and nothing else: a node that thought it still owned a
/// partition has changed nothing. Read twice: through a node, and from the topic by nobody of the shop.
pub async fn assert_counted_once(client: &Client, url: &str, load: &[Acknowledged]) -> Result<usize> {
    let streams = read_log(client).await;
    let mut counted = BTreeMap::<_, usize>::new();
    for stream in Topic::of(url).counted().await.into_values() {
        *counted.entry(stream).or_default() += 1;
    }
    let mut total = 0;
    for (partition, sku) in probes().enumerate() {
        let stream = shopstream_tests::topic::stock(&sku).to_string();
        let events = &streams[&stream];
        let commands: BTreeSet<_> = events.iter().map(|event| &event.command_id).collect();
        ensure!(events.len() == commands.len(), "something was done twice in partition {partition}");
        let sent: usize = load.iter().map(|each| each[partition].len()).sum();
        // The first one is how it came to be sold.
        let count = events.len() - 1;
        ensure!(count == sent, "{sent} were acknowledged in partition {partition}, {count} count");
        ensure!(counted[&stream] == sent + 1, "the topic has {} commits of {stream}", counted[&stream]);
        total += sent;
    }
    Ok(total)
}

/// How long partitions could not be written, by what was done to the nodes.
#[derive(Default)]
pub struct Upheavals(BTreeMap<&'static str, Vec<Upheaval>>);

struct Upheaval {
    from: Instant,
    to: Instant,
    moved: BTreeSet<u32>,
}

impl Upheavals {
    /// `what` was done, which moved these partitions, and was over by now.
    pub fn note(&mut self, what: &'static str, from: Instant, moved: BTreeSet<u32>) {
        self.0.entry(what).or_default().push(Upheaval { from, to: Instant::now(), moved });
    }

    /// What clients were told while something was done whose name has `word` in it.
    pub fn told<'a>(&self, word: &str, errors: &'a Errors) -> Vec<&'a str> {
        let done: Vec<_> =
            self.0.iter().filter(|(what, _)| what.contains(word)).flat_map(|(_, all)| all).collect();
        let within = |at: &Instant| done.iter().any(|upheaval| (upheaval.from..=upheaval.to).contains(at));
        errors.iter().filter(|(at, _)| within(at)).map(|(_, told)| told.as_str()).collect()
    }

    /// Prints a line for each kind, with what the partitions that stayed felt of it; answers by kind how long the
    /// slowest partition that moved was not writable, and the slowest that stayed, for those only felt the machine.
    pub fn report(&self, load: &Acknowledged) -> BTreeMap<&'static str, (Duration, Duration)> {
        let longest = self.0.iter().map(|(what, upheavals)| {
            let (mut moved, mut stayed) = (Vec::new(), Vec::new());
            for upheaval in upheavals {
                for partition in 0..u32::from(PARTITIONS) {
                    let list = if upheaval.moved.contains(&partition) { &mut moved } else { &mut stayed };
                    let (gap, from) = upheaval.longest_gap(&load[partition as usize]);
                    list.push(gap);
                    if gap > NOTABLE {
                        let from = time_of_day(from);
                        eprintln!("{what}: partition {partition} {} ms from {from}", gap.as_millis());
                    }
                }
            }
            let [moved, stayed] = [Spread::of(moved), Spread::of(stayed)];
            eprintln!("{what:<34} {:>3} times; moved: {moved}; stayed: {stayed}", upheavals.len());
            (*what, (moved.max, stayed.max))
        });
        longest.collect()
    }
}

impl Upheaval {
    /// The longest time without an acknowledgement, and when it began. Only what lies within: whatever is done next
    /// may well begin before the next acknowledgement, and is not to be blamed on this.
    fn longest_gap(&self, acknowledged: &[Instant]) -> (Duration, Instant) {
        let pairs = acknowledged.windows(2).map(|pair| (pair[0].max(self.from), pair[1].min(self.to)));
        let gaps = pairs.filter(|(from, to)| from < to).map(|(from, to)| (to - from, from));
        gaps.max().unwrap_or((Duration::ZERO, self.from))
    }
}

/// For who reads the logs.
#[expect(clippy::disallowed_methods, reason = "the logs tell the time of day")]
fn time_of_day(instant: Instant) -> Timestamp {
    Timestamp::from(SystemTime::now() - instant.elapsed())
}

struct Spread {
    count: usize,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        Self { count: times.len(), p50: at(50), p99: at(99), max: times.last().copied().unwrap_or_default() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50, p99, max } = self;
        let [p50, p99, max] = [p50, p99, max].map(Duration::as_millis);
        write!(f, "{count:>4} partitions p50 {p50:>5} ms p99 {p99:>5} ms max {max:>5} ms")
    }
}

#[test]
fn an_error_counts_where_it_was_told_meanwhile() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut upheavals = Upheavals::default();
    upheavals.0.entry("planned").or_default().push(upheaval(at(100), at(200)));
    upheavals.0.entry("not so").or_default().push(upheaval(at(300), at(400)));
    let errors = [(99, "before"), (150, "during"), (350, "otherwise")];
    let errors: Errors = errors.map(|(ms, told)| (at(ms), told.to_owned())).into();
    assert_eq!(upheavals.told("planned", &errors), ["during"]);
}

#[test]
fn a_wait_counts_for_what_was_done_meanwhile() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let acknowledged: Vec<_> = [0, 90, 110, 990, 1_010, 4_000].map(at).into();
    let (hand_over, kill) = (upheaval(at(100), at(1_000)), upheaval(at(1_000), at(5_000)));
    assert_eq!(hand_over.longest_gap(&acknowledged), (Duration::from_millis(880), at(110)));
    assert_eq!(kill.longest_gap(&acknowledged), (Duration::from_millis(2_990), at(1_010)));
    let (late, before) = ([0, 995, 4_000].map(at), upheaval(at(990), at(1_000)));
    assert_eq!(before.longest_gap(&late).0, Duration::from_millis(5), "not what the kill cost");
    assert_eq!(hand_over.longest_gap(&[at(0), at(5_000)]).0, Duration::from_millis(900), "all the time");
}

fn upheaval(from: Instant, to: Instant) -> Upheaval {
    Upheaval { from, to, moved: BTreeSet::new() }
}
