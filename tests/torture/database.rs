//! `database`: Postgres is killed under load and stays away. Whoever needs it is told to come again; what was
//! acknowledged stays; and when it comes back everything catches up.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_server::client::Client;
use shopstream_tests::requests::{self, stock};
use shopstream_tests::{Database, Setup, TestShop};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::Common;
use crate::asked::{AGAIN, Asked, DEADLINE, read};
use crate::load::{Load, SKU};
use crate::report::Report;

/// Callers of each kind.
const CALLERS: usize = 4;
/// The order that is asked for.
const KNOWN: &str = "ord_known";
/// Within this all read models show what was acknowledged last.
const CAUGHT_UP: Duration = Duration::from_secs(60);
/// Load before the kill.
const WARM: Duration = Duration::from_secs(3);

/// How long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Seconds without a database
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 4] = [
    ("I1", "every acknowledged command is on the log, once"),
    ("answers", "who is not served is told to come again"),
    ("catch-up", "within a minute the read models show everything"),
    ("books", "the books are right and every view is its replay"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("database", seed, &PROMISES);
    let Some(database) = Database::start() else {
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = TestShop::start_with(Setup::default().reading_from(database.url()));
    let away = Duration::from_secs(options.seconds);
    let database = runtime.block_on(without(&shop, database, seed, away, &mut report))?;
    shop.finish();
    report.checked("books", 1);
    drop(database);
    options.common.end(&report, folder)
}

async fn without(
    shop: &TestShop,
    database: Database,
    seed: u64,
    away: Duration,
    report: &mut Report,
) -> anyhow::Result<Database> {
    let client = shop.client().await;
    requests::sell(&client, SKU, 1).await?;
    let known = requests::order(KNOWN, SKU, 1, "tok_ok");
    requests::place(&client, known).await?;
    let (asked, stop) = (Asked::default(), CancellationToken::new());
    let mut at_work = JoinSet::new();
    for caller in 0..CALLERS {
        at_work.spawn(receive(client.clone(), caller, asked.clone(), stop.clone()));
        at_work.spawn(read(client.clone(), KNOWN, asked.clone(), stop.clone()));
    }
    let load = Load::new(client.clone(), seed);
    load.closed(CALLERS, WARM).await?;
    let mut accepted = load.heard.take().accepted;
    tell(&asked, &accepted, "before", WARM, report);

    let pid = database.pid();
    kill(pid, Signal::SIGKILL).context("killing Postgres")?;
    load.closed(CALLERS, away).await?;
    let said = load.heard.take();
    let told = tell(&asked, &said.accepted, "without", away, report);
    report.count("new orders refused without a database", said.refused);
    report.count("new orders unanswered in time without a database", said.unknown);
    said.wrong.iter().for_each(|wrong| report.broken("answers", wrong.clone()));
    report.checked("answers", said.refused + told);
    accepted.extend(said.accepted);

    let database = tokio::task::spawn_blocking(move || database.restart()).await?;
    let back = Instant::now();
    load.closed(CALLERS, WARM).await?;
    let said = load.heard.take();
    report.count("new orders accepted in the three seconds after", said.accepted.len() as u64);
    accepted.extend(said.accepted);
    let last = stock("last", SKU, 1);
    let last =
        client.call(last, async |mut shop, request| shop.inventory.update_stock(request).await).await?;
    let seen = GetStockRequest {
        min_position: last.position.into_iter().chain(said.last).collect(),
        sku: SKU.into(),
        location: String::new(),
    };
    client.call(seen, async |mut shop, request| shop.inventory.get_stock(request).await).await?;
    let caught_up = back.elapsed();
    report.count("caught up after, in ms", caught_up.as_millis() as u64);
    report.checked("catch-up", 1);
    if caught_up > CAUGHT_UP {
        report.broken("catch-up", format!("only after {caught_up:?}"));
    }
    stop.cancel();
    while let Some(ended) = at_work.join_next().await {
        ended?;
    }
    for wrong in asked.take().wrong {
        report.broken("answers", wrong);
    }
    report.checked("I1", accepted.len() as u64);
    match load.recount(&accepted).await {
        Ok(found) => report.count("orders on the log", found),
        Err(lost) => report.broken("I1", lost.to_string()),
    }
    Ok(database)
}

/// Counts what was answered, and answers how often somebody was told to come again.
fn tell(asked: &Asked, accepted: &BTreeSet<u64>, when: &str, lasting: Duration, report: &mut Report) -> u64 {
    let a_second = |count: u64| (count as f64 / lasting.as_secs_f64()) as u64;
    report.count(&format!("new orders accepted a second {when}"), a_second(accepted.len() as u64));
    let (answers, mut told) = (asked.take(), 0);
    for (what, count) in answers.counts {
        if what.ends_with(AGAIN) {
            told += count;
            report.count(&format!("{what}, {when}"), count);
        } else {
            report.count(&format!("{what} a second {when}"), a_second(count));
        }
    }
    answers.wrong.into_iter().for_each(|wrong| report.broken("answers", wrong));
    told
}

/// Commands on a stream that its owner knows already.
async fn receive(client: Client, caller: usize, asked: Asked, stop: CancellationToken) {
    let mut number = 0;
    while !stop.is_cancelled() {
        let mut request = Request::new(stock(&format!("{caller}:{number}"), SKU, 1));
        request.set_timeout(DEADLINE);
        if asked.hear("commands on a warm stream", client.shop().inventory.update_stock(request).await) {
            number += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
