//! `fuzz`: every field of every public method, spoilt in every way that has hurt programs before, over the wire, against
//! a real node. What the methods and their fields are it reads from the descriptors.

pub(crate) mod call;
pub(crate) mod judge;
mod plan;
mod seeds;
mod values;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use prost::Message as _;
use shopstream_proto::inventory::v1::ReserveStockResponse;
use shopstream_tests::{TestShop, requests};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::call::{Heard, Outcome, Wire};
use self::judge::{Finding, Kind};
use self::plan::{Case, Plan};
use self::seeds::Catalogue;
use self::wire::Schema;
use crate::Common;
use crate::memory::Memory;
use crate::neighbour::Neighbour;
use crate::report::Report;

/// Callers at once.
const CALLERS: usize = 4;
/// Of which so many may send what costs a client much too.
const HEAVY: usize = 2;
/// No call may take longer of its own.
const PROMPT: Duration = Duration::from_secs(1);
/// How much more than that on a machine whose good calls are slow: so many times the slowest of those.
const PROMPT_TIMES: u32 = 3;
/// A neighbour's p99 may be so many times what it was among well-behaved callers, and so much more.
const NEIGHBOUR: (u32, Duration) = (3, Duration::from_millis(50));
/// What the node may grow by, in kB.
const GROWTH_MAX: u64 = 1_500_000;
/// Within this time of the last call every view is past the end of the log.
const SETTLED: Duration = Duration::from_secs(60);
/// A shop with so many faults needs no more calls to be found out.
const FINDINGS_MAX: usize = 2_000;
/// Nor does one that was so often too slow.
const SLOW_MAX: usize = 30;

/// How much.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Spoilt calls. So many at least that every way of every field comes once: told by the run
    #[arg(long, default_value_t = 100_000)]
    pub(crate) calls: usize,
    /// Only methods whose path has this in it
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Without the ways whose name has this in it, such as NUL, while a fault that they find is known; may be repeated
    #[arg(long, value_name = "WORD")]
    pub(crate) without: Vec<String>,
    /// Go on however much was found
    #[arg(long)]
    all: bool,
    /// Only the call with this number of the same run, with all that is sent and answered
    #[arg(long)]
    only: Option<usize>,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 10] = [
    ("methods", "every method of the descriptors has a valid request to spoil"),
    ("codes", "nothing is answered INTERNAL or UNKNOWN, and no call is cut off"),
    ("prompt", "no call takes more than a second of its own"),
    ("errors", "every error says why, and where it is the input, which field"),
    ("advice", "who is told to come again is not told so for ever"),
    ("neighbour", "a neighbour's p99 is at most 3 times its own, without errors"),
    ("views", "afterwards every view is past the end of the log"),
    ("works", "afterwards a product, an order and its checkout go as before"),
    ("verify", "the books are right, every view is its replay"),
    ("memory", "memory is bounded"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("fuzz", seed, &PROMISES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = TestShop::start();
    runtime.block_on(fuzz(&shop, seed, options, &mut report))?;
    report.checked("verify", 1);
    match shop.audited() {
        Ok(()) => {}
        Err(said) => {
            let is_good = |line: &&str| line.contains("equal their replay");
            said.lines()
                .filter(|line| !is_good(line))
                .for_each(|line| report.broken("verify", line.to_owned()));
        }
    }
    drop(shop);
    options.common.end(&report, folder)
}

/// What the callers share.
struct Fuzz {
    plan: Plan,
    wire: Wire,
    next: AtomicUsize,
    calls: usize,
    heavy: Semaphore,
    goes_on: bool,
    tally: Mutex<Tally>,
    limit: Duration,
}

#[derive(Default)]
struct Tally {
    codes: BTreeMap<String, u64>,
    checked: BTreeMap<&'static str, u64>,
    findings: Vec<Finding>,
    kinds: BTreeSet<Kind>,
    /// What ReserveStock has set aside, and for how long nobody knows: it has to be given back.
    held: Vec<String>,
    /// Numbers of calls that took too long, to be made again alone.
    slow: Vec<(usize, Duration)>,
    slowest: Duration,
}

impl Tally {
    fn is_enough(&self) -> bool {
        self.findings.len() >= FINDINGS_MAX || self.slow.len() >= SLOW_MAX
    }

    /// Tells of it at once, where it is the first of its kind: a run may be broken off.
    fn find(&mut self, finding: Finding) {
        if self.kinds.insert(finding.kind()) {
            println!("found: {finding}");
        }
        self.findings.push(finding);
    }
}

async fn fuzz(shop: &TestShop, seed: u64, options: &Options, report: &mut Report) -> Result<()> {
    let schema = Schema::public()?;
    let wire = Wire::connect(&shop.url(), CALLERS).await?;
    let catalogue = Catalogue::stock(&wire, &schema).await?;
    let neighbour = Neighbour::move_in(shop.client().await, format!("{seed:x}")).await?;
    let memory = Memory::watch(shop.pid())?;
    let plan = Plan::new(schema, catalogue, seed, options);
    report.checked("methods", plan.methods() as u64);
    plan.unknown().for_each(|path| report.broken("methods", format!("{path}: nobody says what is valid")));
    report.count("fields", plan.fields() as u64);
    report.count("ways to spoil one of them", plan.systematic() as u64);

    let calls = options.calls;
    let mut fuzz = Fuzz {
        plan,
        wire,
        next: AtomicUsize::new(0),
        calls,
        heavy: Semaphore::new(HEAVY),
        goes_on: options.all,
        tally: Mutex::default(),
        limit: PROMPT,
    };
    if let Some(number) = options.only {
        let case = fuzz.plan.case(number);
        println!("{number}: {case}\nsent: {}", hex(&case.frames()));
        println!("heard: {:?}", fuzz.send(&case).await);
        return Ok(());
    }

    let slowest = fuzz.calibrate().await?;
    fuzz.limit = PROMPT.max(slowest * PROMPT_TIMES);
    let quiet = neighbour.take();
    report.count("slowest good call, in ms", slowest.as_millis() as u64);
    report.count("neighbour's p99 among good callers, in ms", quiet.quantile(0.99).as_millis() as u64);

    let fuzz = Arc::new(fuzz);
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let fuzz = fuzz.clone();
        callers.spawn(async move { fuzz.call().await });
    }
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    let made = fuzz.next.load(Ordering::Relaxed).min(calls);
    report.count("calls", made as u64);
    report.count("calls a second", (made as f64 / begun.elapsed().as_secs_f64()) as u64);

    let loud = neighbour.take();
    let (times, more) = NEIGHBOUR;
    report.checked("neighbour", loud.calls());
    report.count("neighbour's p50, in ms", loud.quantile(0.5).as_millis() as u64);
    report.count("neighbour's p99, in ms", loud.quantile(0.99).as_millis() as u64);
    if loud.quantile(0.99) > quiet.quantile(0.99) * times + more {
        report
            .broken("neighbour", format!("p99 {:?}, {:?} before", loud.quantile(0.99), quiet.quantile(0.99)));
    }
    loud.errors.iter().for_each(|error| report.broken("neighbour", error.clone()));
    drop(neighbour);

    fuzz.again_alone().await;
    fuzz.give_back().await?;
    fuzz.tell(report);
    memory.tell(GROWTH_MAX, report);
    settle(shop, &fuzz, report).await;
    works(shop, seed, report).await;
    Ok(())
}

impl Fuzz {
    /// What well-behaved callers see, as many as there will be others; answers the slowest of them.
    async fn calibrate(&self) -> Result<Duration> {
        let rounds = self.plan.methods();
        let each = (0..CALLERS).map(|caller| async move {
            let mut slowest = Duration::ZERO;
            for round in 0..rounds {
                let case = self.plan.good(caller * rounds + round);
                let heard = self.send(&case).await;
                if let Outcome::Broken(why) = heard.outcome {
                    anyhow::bail!("{case}: {why}");
                }
                // What says at its end what it found may take its time.
                if !case.method.server_streaming {
                    slowest = slowest.max(heard.took);
                }
            }
            Ok(slowest)
        });
        let slowest = futures::future::try_join_all(each).await?;
        slowest.into_iter().max().context("callers")
    }

    async fn call(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.calls || (!self.goes_on && self.tally().is_enough()) {
                return;
            }
            let case = self.plan.case(number);
            let place = match case.is_heavy {
                true => self.heavy.acquire().await.ok(),
                false => None,
            };
            let heard = self.send(&case).await;
            drop(place);
            self.judge(number, &case, &heard).await;
        }
    }

    async fn send(&self, case: &Case) -> Heard {
        let heard =
            self.wire.call(case.number, &case.method, case.frames(), case.zipped, &case.metadata).await;
        if case.method.path.ends_with("/ReserveStock")
            && let Some(message) = &heard.message
            && let Ok(made) = ReserveStockResponse::decode(message.clone())
        {
            self.tally().held.push(made.reservation_id);
        }
        heard
    }

    async fn judge(&self, number: usize, case: &Case, heard: &Heard) {
        let mut findings = judge::judge(case, heard);
        // Who waited long already has something to complain of.
        let at_once = heard.took < PROMPT;
        if at_once && judge::is_put_off(case, heard) && !self.is_taken_later(case).await {
            findings.push(("advice", "told to come again, again and again".to_owned()));
        }
        let mut tally = self.tally();
        *tally.codes.entry(judge::code(heard)).or_default() += 1;
        for promise in ["codes", "prompt", "errors", "advice"] {
            *tally.checked.entry(promise).or_default() += 1;
        }
        tally.slowest = tally.slowest.max(heard.took);
        if heard.took > self.limit {
            println!("slow: call {number}: {case}: {:?}: {}", heard.took, judge::code(heard));
            tally.slow.push((number, heard.took));
        }
        for (promise, detail) in findings {
            tally.find(Finding::new(promise, case, detail, heard));
        }
    }

    /// Whether the same call, made again as advised, is answered otherwise.
    async fn is_taken_later(&self, case: &Case) -> bool {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if !judge::is_put_off(case, &self.send(case).await) {
                return true;
            }
        }
        false
    }

    /// Makes the calls that took too long again, one after the other: beside others it may be these that took the time.
    async fn again_alone(&self) {
        let mut slow = std::mem::take(&mut self.tally().slow);
        slow.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let mut told = Vec::new();
        for (number, took) in slow {
            let case = self.plan.case(number);
            // Once for each method, field and way is enough.
            let kind = (case.method.path.clone(), case.field.clone(), case.what.clone());
            if told.contains(&kind) || told.len() >= SLOW_MAX {
                continue;
            }
            told.push(kind);
            let heard = self.send(&case).await;
            if heard.took > self.limit {
                let detail = format!("{:?} alone, {took:?} beside others", heard.took);
                self.tally().find(Finding::new("prompt", &case, detail, &heard));
            }
        }
    }

    /// Gives back what was set aside for longer than anybody wants to wait here.
    async fn give_back(&self) -> Result<()> {
        let held = std::mem::take(&mut self.tally().held);
        self.plan.give_back(&self.wire, held).await
    }

    /// Everything that was found, the same things together.
    fn tell(&self, report: &mut Report) {
        let tally = std::mem::take(&mut *self.tally());
        report.count("slowest answer, in ms", tally.slowest.as_millis() as u64);
        report.count("limit of an answer, in ms", self.limit.as_millis() as u64);
        tally.checked.iter().for_each(|(promise, times)| report.checked(promise, *times));
        tally.codes.iter().for_each(|(code, count)| report.count(code, *count));
        tally.findings.iter().for_each(|finding| report.broken(finding.promise, finding.to_string()));
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until each view has passed what the log has now.
async fn settle(shop: &TestShop, fuzz: &Fuzz, report: &mut Report) {
    let begun = Instant::now();
    let ends = match seeds::ends(&fuzz.wire, fuzz.plan.schema()).await {
        Ok(ends) => ends,
        Err(error) => return report.broken("views", format!("{error:#}")),
    };
    for case in fuzz.plan.reads_at(&ends) {
        report.checked("views", 1);
        loop {
            let heard = fuzz.send(&case).await;
            match judge::refusal(&heard) {
                // Nothing is there, and that is known at this position.
                None => break,
                Some(status) if status.code() == tonic::Code::NotFound => break,
                _ if begun.elapsed() < SETTLED => tokio::time::sleep(Duration::from_millis(200)).await,
                _ => {
                    report.broken("views", format!("{}: {}", case.method.path, judge::code(&heard)));
                    break;
                }
            }
        }
    }
    let (is_ready, why) = shop.ready();
    report.checked("views", 1);
    if !is_ready {
        report.broken("views", format!("not ready: {why}"));
    }
}

/// A new product is ordered and paid.
async fn works(shop: &TestShop, seed: u64, report: &mut Report) {
    report.checked("works", 1);
    let client = shop.client().await;
    let all = async {
        requests::sell(&client, "AFTER-1", 10).await?;
        let order = requests::order(&format!("ord_after_{seed:x}"), "AFTER-1", 1, "tok_after");
        requests::place(&client, order).await
    };
    match tokio::time::timeout(SETTLED, all).await {
        Ok(Ok(order)) if order.status() == shopstream_proto::order::v1::OrderStatus::Confirmed => {}
        Ok(Ok(order)) => report.broken("works", format!("the order is {:?}", order.status())),
        Ok(Err(error)) => report.broken("works", format!("{error:#}")),
        Err(_) => report.broken("works", format!("no order within {SETTLED:?}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(400)];
    shown.iter().map(|byte| format!("{byte:02x}")).collect()
}
