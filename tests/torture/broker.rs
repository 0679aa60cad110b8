//! `broker`: the only broker of a whole shop is killed under load and stays away, then it hangs. Nothing is acknowledged that
//! is not on the log, whoever asks for it is told to come again, what is known is still told, and when the broker is back the shop
//! goes on by itself.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use shopstream_tests::kafka::Cluster;
use shopstream_tests::{Setup, TestShop, requests};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Common;
use crate::asked::{ANSWERED, Asked, read};
use crate::load::{Load, SKU};
use crate::memory::Memory;
use crate::report::Report;
use crate::tally::Tally;

/// Callers with one order open each.
const CALLERS: usize = 32;
/// The order that others ask for meanwhile, and how many of them there are.
const KNOWN: &str = "ord_known";
const READERS: usize = 2;
/// Load on a broker that is well.
const WARM: Duration = Duration::from_secs(2);
/// Within this the shop goes on.
const RECOVERED: Duration = Duration::from_secs(30);
/// What the node may grow by, in kB: the queues' and the producer's bounds, and buffers of connections.
const GROWTH_MAX: u64 = 1_500_000;
/// The number of the only broker.
const BROKER: u8 = 1;

/// How long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Seconds without a broker, and as many with one that hangs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 7] = [
    ("I1", "every acknowledged order is on the log, once"),
    ("away", "nothing is acknowledged that a broker which is away has not got"),
    ("answers", "no client that did nothing wrong is told anything but to come again"),
    ("queries", "what is known is told all the while"),
    ("memory", "memory is bounded, and the process lives"),
    ("recovery", "within half a minute of the broker's return it serves again by itself"),
    ("books", "the books are right and every view is its replay"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("broker", seed, &PROMISES);
    let Some(kafka) = Cluster::start(1) else { return Ok(ExitCode::SUCCESS) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = TestShop::start_with(Setup::on(&kafka.log_url("broker")));
    let away = Duration::from_secs(options.seconds);
    runtime.block_on(dead_and_hung(&shop, &kafka, seed, away, &mut report))?;
    shop.finish();
    report.checked("books", 1);
    options.common.end(&report, folder)
}

async fn dead_and_hung(
    shop: &TestShop,
    kafka: &Cluster,
    seed: u64,
    away: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let client = shop.client().await;
    requests::sell(&client, SKU, 1).await?;
    requests::place(&client, requests::order(KNOWN, SKU, 1, "tok_ok")).await?;
    let (asked, stop) = (Asked::default(), CancellationToken::new());
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(read(client.clone(), KNOWN, asked.clone(), stop.clone()));
    }
    let mut tally = Tally::new(Load::new(client, seed), CALLERS, report);
    let (_, served) = tally.order("on a broker that is well", WARM).await?;
    tally.report.count("orders served a second", served as u64);
    let memory = Memory::watch(shop.pid())?;

    tokio::task::block_in_place(|| kafka.kill9(BROKER));
    order_in_vain("without a broker", &mut tally, &asked, away).await?;
    tokio::task::block_in_place(|| kafka.restart(BROKER));
    tally.recover("the broker that was killed", RECOVERED).await?;

    tokio::task::block_in_place(|| kafka.pause(BROKER));
    order_in_vain("on a broker that hangs", &mut tally, &asked, away).await?;
    tokio::task::block_in_place(|| kafka.resume(BROKER));
    tally.recover("the broker that hung", RECOVERED).await?;

    stop.cancel();
    while let Some(ended) = readers.join_next().await {
        ended?;
    }
    memory.tell(GROWTH_MAX, tally.report);
    tally.recount().await;
    Ok(())
}

/// Orders while none can be taken, and others ask for what is known.
async fn order_in_vain(
    when: &str,
    tally: &mut Tally<'_>,
    asked: &Asked,
    lasting: Duration,
) -> anyhow::Result<()> {
    asked.take();
    let (said, _) = tally.order(when, lasting).await?;
    let told = asked.take();
    tally.report.checked("away", said.refused + said.unknown);
    if !said.accepted.is_empty() {
        tally.report.broken("away", format!("{} orders were acknowledged {when}", said.accepted.len()));
    }
    let mut answered = 0;
    for (what, count) in told.counts {
        tally.report.count(&format!("{what} {when}"), count);
        if what.ends_with(ANSWERED) {
            answered += count;
        } else {
            tally.report.broken("queries", format!("{count} {what} {when}"));
        }
    }
    tally.report.checked("queries", answered);
    told.wrong.into_iter().for_each(|wrong| tally.report.broken("answers", wrong));
    Ok(())
}
