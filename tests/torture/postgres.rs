//! `postgres`: the database breaks at one random moment after the other, under clients that never stop and under nobody: its
//! postmaster or one of its sessions is killed, or it takes no writes for a while, as a server that was failed over does.
//! Each time all views and processes must go on by themselves, and whoever names a position never gets an older answer.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_proto::order::v1::OrderStatus;
use shopstream_server::client::Client;
use shopstream_tests::requests::{self, stock};
use shopstream_tests::{Database, Setup, TestShop};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Common;
use crate::load::{Load, SKU};
use crate::report::Report;

/// Callers of a busy shop.
const CALLERS: usize = 4;
/// What nobody but the witness receives.
const WITNESSED: &str = "WITNESS-1";
/// The longest time between two moments, and the longest that the database takes no writes.
const CALM: Duration = Duration::from_millis(600);

/// How often.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Moments at which the database breaks
    #[arg(long, default_value_t = 200)]
    moments: u64,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 5] = [
    ("I1", "every acknowledged command is on the log, once"),
    ("answers", "who is not served is told to come again"),
    ("reads", "who names a position sees what was acknowledged there, and nothing older"),
    ("goes on", "after each moment an order is placed, paid and seen, and the node gets ready"),
    ("books", "the books are right and every view is its replay"),
];

/// A way to break.
#[derive(Clone, Copy)]
enum Fault {
    Postmaster,
    Session,
    ReadOnly,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Postmaster, Self::Session, Self::ReadOnly];

    const fn word(self) -> &'static str {
        match self {
            Self::Postmaster => "the postmaster killed",
            Self::Session => "a session killed",
            Self::ReadOnly => "no writes for a while",
        }
    }
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("postgres", seed, &PROMISES);
    let Some(database) = Database::start() else {
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = TestShop::start_with(Setup::default().reading_from(database.url()));
    let database = runtime.block_on(moments(&shop, database, seed, options.moments, &mut report))?;
    report.checked("books", 1);
    if let Err(said) = shop.audited() {
        report.broken("books", said);
    }
    drop((shop, database));
    options.common.end(&report, folder)
}

async fn moments(
    shop: &TestShop,
    mut database: Database,
    seed: u64,
    count: u64,
    report: &mut Report,
) -> Result<Database> {
    let mut random = StdRng::seed_from_u64(seed);
    let client = shop.client().await;
    requests::sell(&client, SKU, 1_000_000).await?;
    requests::sell(&client, WITNESSED, 1).await?;
    let load = Load::new(client.clone(), seed).of_lines(2);
    let mut witness = Witness { client: client.clone(), seed, received: 1, wrong: Vec::new() };
    let mut accepted = BTreeSet::new();
    for moment in 0..count {
        let busy: bool = random.random();
        let fault = *Fault::ALL.choose(&mut random).context("there are some")?;
        let work = busy.then(|| Work::begin(&load, witness.clone()));
        tokio::time::sleep(CALM.mul_f64(random.random())).await;
        let lasting = CALM.mul_f64(random.random());
        database = fault.strike(database, lasting, &mut random).await?;
        if let Some(work) = work {
            tokio::time::sleep(CALM.mul_f64(random.random())).await;
            witness = work.end().await?;
        }
        report.count(&format!("{}, {}", fault.word(), if busy { "busy" } else { "idle" }), 1);

        witness.look().await.with_context(|| format!("moment {moment}, {}", fault.word()))?;
        let order = requests::order(&format!("ord_{moment}"), SKU, 1, "tok_ok");
        let ended = requests::place(&client, order).await.with_context(|| format!("moment {moment}"))?;
        report.checked("goes on", 1);
        if ended.status() != OrderStatus::Confirmed {
            report.broken("goes on", format!("moment {moment}, {}: {ended:?}", fault.word()));
        }
        let ready = shopstream_server::client::until(async || Ok(shop.ready().0.then_some(())));
        ready.await.with_context(|| format!("moment {moment}, {}: {:?}", fault.word(), shop.ready()))?;

        let said = load.heard.take();
        report.checked("answers", 1);
        report.count("orders accepted beside it", said.accepted.len() as u64);
        report.count("orders told to come again", said.refused);
        report.count("orders unanswered in time", said.unknown);
        said.wrong.into_iter().for_each(|wrong| report.broken("answers", wrong));
        accepted.extend(said.accepted);
    }
    report.checked("reads", witness.received);
    report.count("named positions asked for", witness.received);
    witness.wrong.iter().for_each(|wrong| report.broken("reads", wrong.clone()));
    report.checked("I1", accepted.len() as u64);
    if let Err(lost) = load.recount(&accepted).await {
        report.broken("I1", lost.to_string());
    }
    Ok(database)
}

impl Fault {
    /// Breaks the database, and mends what does not mend itself.
    async fn strike(self, database: Database, lasting: Duration, random: &mut StdRng) -> Result<Database> {
        match self {
            Self::Postmaster => {
                kill(database.pid(), Signal::SIGKILL).context("killing the postmaster")?;
                tokio::time::sleep(lasting).await;
                Ok(tokio::task::spawn_blocking(move || database.restart()).await?)
            }
            Self::Session => {
                let sessions = database.sessions().await?;
                let session = sessions.choose(random).context("the shop has sessions")?;
                // The server ends all of them then, and recovers: nobody knows what that one did to shared memory.
                kill(*session, Signal::SIGKILL).context("killing a session")?;
                Ok(database)
            }
            Self::ReadOnly => {
                database.allow_writes(false).await?;
                tokio::time::sleep(lasting).await;
                database.allow_writes(true).await?;
                Ok(database)
            }
        }
    }
}

/// Clients at work while the database breaks.
struct Work {
    stop: CancellationToken,
    load: JoinHandle<Result<()>>,
    witness: JoinHandle<Result<Witness>>,
}

impl Work {
    fn begin(load: &Load, mut witness: Witness) -> Self {
        let stop = CancellationToken::new();
        let (load, stopped) = (load.clone(), stop.clone());
        let load = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                load.closed(CALLERS, Duration::from_millis(50)).await?;
            }
            Ok(())
        });
        let stopped = stop.clone();
        let witness = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                witness.look().await?;
            }
            Ok(witness)
        });
        Self { stop, load, witness }
    }

    async fn end(self) -> Result<Witness> {
        self.stop.cancel();
        self.load.await??;
        self.witness.await?
    }
}

/// Receives one unit after the other of what nobody else receives or sells, and asks each time how many there are.
#[derive(Clone)]
struct Witness {
    client: Client,
    seed: u64,
    received: u64,
    wrong: Vec<String>,
}

impl Witness {
    async fn look(&mut self) -> Result<()> {
        let one = stock(&format!("witness:{:x}:{}", self.seed, self.received), WITNESSED, 1);
        let received =
            self.client.call(one, async |mut shop, request| shop.inventory.update_stock(request).await);
        let min_position = received.await?.position.into_iter().collect();
        self.received += 1;
        let seen = GetStockRequest { min_position, sku: WITNESSED.into(), location: String::new() };
        let seen = self.client.call(seen, async |mut shop, request| shop.inventory.get_stock(request).await);
        let seen = seen.await?.stock.map_or(0, |stock| stock.on_hand);
        if u64::try_from(seen) != Ok(self.received) {
            self.wrong.push(format!("{seen} where {} were acknowledged", self.received));
        }
        Ok(())
    }
}
