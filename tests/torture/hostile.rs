//! `hostile`: what a stranger on the network can do to a node, attack by attack, and what a well-behaved client beside
//! him feels of it.

mod attacks;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use shopstream_proto::event::v1::GetLogStatusRequest;
use shopstream_server::client::Client;
use shopstream_tests::{Setup, TestShop};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic_types::StatusExt;

use crate::Common;
use crate::fuzz::call::Outcome;
use crate::fuzz::wire::Schema;
use crate::memory::Memory;
use crate::neighbour::{Neighbour, Seen};
use crate::report::Report;

/// How long a neighbour is watched in peace before.
const CALM: Duration = Duration::from_secs(3);
/// A neighbour's p99 may be so many times what it was in peace, and so much more: the attackers are on this machine too.
const NEIGHBOUR: (u32, Duration) = (3, Duration::from_millis(150));
/// Between two new clients.
const NEWCOMER: Duration = Duration::from_millis(250);
/// How long a new client may take to connect and be answered.
const WELCOME: Duration = Duration::from_secs(5);
/// So many different refusals are told.
const REFUSALS_MAX: usize = 12;

/// Which, and how much.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The attacks; all of them where none is named
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// A tenth of it, as CI does it
    #[arg(long)]
    short: bool,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 5] = [
    ("neighbour", "a well-behaved client is answered, p99 at most 3 times its own"),
    ("door", "a new client gets in, and health answers"),
    ("advice", "who is refused is told so by a code, a reason and advice"),
    ("memory", "memory is bounded"),
    ("verify", "afterwards the books are right, every view is its replay"),
];

/// An attack.
struct Scenario {
    name: &'static str,
    says: &'static str,
    /// What the node may grow by, in kB; its bounds are the same in both forms.
    growth_max: u64,
    descriptors: Option<u64>,
    attack: attacks::Attack,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let known = attacks::all();
    for wanted in &options.scenarios {
        if !known.iter().any(|scenario| scenario.name == wanted) {
            let names: Vec<_> = known.iter().map(|scenario| scenario.name).collect();
            bail!("no scenario {wanted:?}; there are: {}", names.join(", "));
        }
    }
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("hostile", seed, &PROMISES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for scenario in known {
        if !options.scenarios.is_empty() && !options.scenarios.iter().any(|name| name == scenario.name) {
            continue;
        }
        let setup = match scenario.descriptors {
            Some(count) => Setup::default().with_descriptors(count),
            None => Setup::default(),
        };
        println!("{}: {}", scenario.name, scenario.says);
        let mut shop = TestShop::start_with(setup);
        runtime.block_on(play(&shop, &scenario, options.short, &mut report))?;
        report.checked("verify", 1);
        if !shop.is_alive() {
            report.broken("verify", format!("{}: the node has ended: {}", scenario.name, shop.complaints()));
        } else if let Err(said) = shop.audited() {
            report.broken("verify", format!("{}: {said}", scenario.name));
        }
    }
    options.common.end(&report, folder)
}

/// What attackers were told, by code, reason and advice.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<BTreeMap<String, u64>>>);

impl Told {
    fn note(&self, what: String) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < 256 || told.contains_key(&what) {
            *told.entry(what).or_default() += 1;
        }
    }

    fn hear(&self, outcome: &Outcome) {
        self.note(match outcome {
            Outcome::Done => "OK".to_owned(),
            Outcome::Late => "no answer in the client's time".to_owned(),
            Outcome::Broken(why) => format!("cut off: {}", why.chars().take(80).collect::<String>()),
            Outcome::Refused(status) => described(status),
        });
    }
}

fn described(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let advice = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let advice = advice.map_or_else(String::new, |delay| format!(", again after {delay:?}"));
    format!("{:?} {reason}{advice}", status.code())
}

/// What an attack works with.
pub(crate) struct Ground {
    url: String,
    door: SocketAddr,
    metrics: SocketAddr,
    schema: Schema,
    told: Told,
    client: Client,
    short: bool,
}

impl Ground {
    /// So many in the long form, a tenth in the short one.
    fn many(&self, long: usize) -> usize {
        if self.short { long.div_ceil(10) } else { long }
    }

    /// So long in the long form, a third of that in the short one.
    fn lasting(&self, long: Duration) -> Duration {
        if self.short { long / 3 } else { long }
    }
}

async fn play(shop: &TestShop, scenario: &Scenario, short: bool, report: &mut Report) -> Result<()> {
    let name = scenario.name;
    let client = shop.client().await;
    let neighbour = Neighbour::move_in(client.clone(), name.replace('-', "_")).await?;
    let metrics = shop.metrics_url();
    let metrics = metrics.trim_start_matches("http://").trim_end_matches("/metrics").parse()?;
    let ground = Ground {
        url: shop.url(),
        door: shop.door(),
        metrics,
        schema: Schema::public()?,
        told: Told::default(),
        client,
        short,
    };
    attacks::prepare(&ground, name).await?;
    drop(neighbour.take());
    tokio::time::sleep(CALM).await;
    let calm = neighbour.take();
    let newcomers = Newcomers::watch(ground.url.clone(), ground.metrics);
    let memory = Memory::watch(shop.pid())?;
    let begun = Instant::now();
    let attacked = (scenario.attack)(&ground).await;
    let lasted = begun.elapsed();
    // What is over at once may have left something behind.
    tokio::time::sleep(CALM.saturating_sub(lasted)).await;
    let seen = neighbour.take();
    let newcomers = newcomers.told();
    drop(neighbour);

    let told = std::mem::take(&mut *ground.told.0.lock().unwrap_or_else(PoisonError::into_inner));
    println!(
        "  {:.1} s; a client beside it: {} in peace, {} meanwhile",
        lasted.as_secs_f64(),
        of(&calm),
        of(&seen)
    );
    println!("  new clients: {newcomers}");
    let mut most: Vec<_> = told.iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    most.iter()
        .take(REFUSALS_MAX)
        .for_each(|(what, count)| println!("  attackers were told {count} times: {what}"));

    let broken = |report: &mut Report, promise: &str, detail: String| {
        report.broken(promise, format!("{name}: {detail}"));
    };
    report.checked("neighbour", seen.calls());
    let (times, more) = NEIGHBOUR;
    let bound = calm.quantile(0.99) * times + more;
    if seen.quantile(0.99) > bound {
        broken(
            report,
            "neighbour",
            format!("p99 {:?}, {:?} in peace", seen.quantile(0.99), calm.quantile(0.99)),
        );
    }
    if let Some(first) = seen.errors.first() {
        broken(report, "neighbour", format!("{} errors: {first}", seen.failed));
    }
    report.checked("door", newcomers.tried);
    newcomers.wrong.iter().for_each(|wrong| broken(report, "door", wrong.clone()));
    report.checked("advice", told.values().sum::<u64>().max(1));
    for (what, count) in &told {
        let is_clear = ["OK", "cut off", "closed"].iter().any(|word| what.starts_with(word))
            || what.split(' ').nth(1).is_some_and(|reason| !reason.is_empty());
        if !is_clear
            || what.starts_with("Internal")
            || what.starts_with("Unknown")
            || what.starts_with("no answer")
        {
            broken(report, "advice", format!("{count} times: {what}"));
        }
    }
    if let Err(wrong) = attacked {
        broken(report, "door", format!("{wrong:#}"));
    }
    println!("  memory: {}", memory.told());
    memory.judge(name, scenario.growth_max, report);
    Ok(())
}

fn of(seen: &Seen) -> String {
    let millis = |quantile: f64| seen.quantile(quantile).as_secs_f64() * 1e3;
    let (p50, p99) = (millis(0.5), millis(0.99));
    format!("p50 {p50:.1} ms, p99 {p99:.1} ms, {} errors of {}", seen.failed, seen.calls())
}

/// Clients that come one after the other, each over a connection of its own, and ask one thing; and one that asks health.
struct Newcomers {
    seen: Arc<Mutex<Welcome>>,
    _coming: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Welcome {
    tried: u64,
    slowest: Duration,
    wrong: Vec<String>,
}

impl Welcome {
    fn note(&mut self, took: Duration, come: Result<()>, health: Result<()>) {
        self.tried += 2;
        self.slowest = self.slowest.max(took);
        let named = [("a new client", come), ("health", health)];
        let wrong = named.into_iter().filter_map(|(who, said)| Some(format!("{who}: {:#}", said.err()?)));
        self.wrong.extend(wrong);
    }
}

impl std::fmt::Display for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tried, {} in vain, slowest {:?}", self.tried, self.wrong.len(), self.slowest)
    }
}

impl Newcomers {
    fn watch(url: String, metrics: SocketAddr) -> Self {
        let seen = Arc::<Mutex<Welcome>>::default();
        let noted = seen.clone();
        let coming = tokio::spawn(async move {
            loop {
                let begun = Instant::now();
                let come = tokio::time::timeout(WELCOME, come(&url)).await;
                let took = begun.elapsed();
                let health = tokio::task::spawn_blocking(move || is_alive(metrics)).await;
                let come = come.unwrap_or_else(|_| Err(anyhow!("waits for {WELCOME:?} in vain")));
                let health = health.unwrap_or_else(|error| Err(error.into()));
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(took, come, health);
                tokio::time::sleep(NEWCOMER).await;
            }
        });
        Self { seen, _coming: AbortOnDropHandle::new(coming) }
    }

    fn told(self) -> Welcome {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn come(url: &str) -> Result<()> {
    let client = Client::connect(url).await?;
    client.shop().events.get_log_status(GetLogStatusRequest::default()).await?;
    Ok(())
}

fn is_alive(metrics: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&metrics, WELCOME)?;
    stream.set_read_timeout(Some(WELCOME))?;
    stream.write_all(b"GET /health/live HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.") {
        bail!("no answer of HTTP");
    }
    Ok(())
}
