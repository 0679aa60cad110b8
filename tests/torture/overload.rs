//! `overload`: three times as many calls as a shop can serve. It refuses what is too much, with advice when to come
//! again, before its memory grows; what it accepts it answers in time; and afterwards it is as before.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use shopstream_tests::{TestShop, requests};

use crate::Common;
use crate::load::Load;
use crate::memory::Memory;
use crate::report::Report;

/// Callers that take all that the shop can give.
const CALLERS: usize = 64;
/// How long they are measured for.
const PROBE: Duration = Duration::from_secs(6);
/// How many times as many calls.
const TIMES: f64 = 3.0;
/// What the node may grow by under overload, in kB: the queues' and the tail's bounds, and buffers of connections.
const GROWTH_MAX: u64 = 1_500_000;
/// Within this it serves as before.
const RECOVERED: Duration = Duration::from_secs(10);

/// How long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Seconds of overload
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 5] = [
    ("I1", "every acknowledged order is on the log, once"),
    ("refused", "what is too much is refused, with advice when to come again"),
    ("answers", "no client that did nothing wrong is told anything else"),
    ("memory", "memory is bounded"),
    ("recovery", "within ten seconds of relief it serves as before"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("overload", seed, &PROMISES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = TestShop::start();
    let done = runtime.block_on(overload(&shop, seed, Duration::from_secs(options.seconds), &mut report));
    done?;
    shop.finish();
    options.common.end(&report, folder)
}

async fn overload(shop: &TestShop, seed: u64, lasting: Duration, report: &mut Report) -> anyhow::Result<()> {
    let client = shop.client().await;
    requests::sell(&client, crate::load::SKU, 1).await?;
    let load = Load::new(client, seed);
    let capacity = load.closed(CALLERS, PROBE).await?;
    let mut before = load.heard.take();
    let calm = before.micros.value_at_quantile(0.99);
    report.count("served a second by 64 callers", capacity as u64);
    report.count("p99 of those, in ms", calm / 1000);

    let memory = Memory::watch(shop.pid())?;
    let (sent, held) = load.open(capacity * TIMES, lasting).await?;
    let relieved = Instant::now();
    memory.tell(GROWTH_MAX, report);
    let said = load.heard.take();
    let seconds = lasting.as_secs_f64();
    report.count("calls a second under overload", (sent as f64 / seconds) as u64);
    report.count("calls that the client held back, its own places being full", held);
    report.count("accepted a second under overload", (said.accepted.len() as f64 / seconds) as u64);
    report.count("refused with advice", said.refused);
    report.count("unanswered in the client's time", said.unknown);
    for (quantile, name) in [(0.5, "p50"), (0.99, "p99")] {
        let millis = said.micros.value_at_quantile(quantile) / 1000;
        report.count(&format!("{name} of the accepted under overload, in ms"), millis);
    }
    report.checked("refused", said.refused);
    report.checked("answers", sent);
    said.wrong.iter().for_each(|wrong| report.broken("answers", wrong.clone()));

    let recovered = load.recovered(CALLERS, capacity / 2.0, relieved, RECOVERED * 6).await?;
    report.count("recovered after, in ms", recovered.as_millis() as u64);
    report.checked("recovery", 1);
    if recovered > RECOVERED {
        report.broken("recovery", format!("only after {recovered:?}"));
    }

    before.accepted.extend(said.accepted);
    before.accepted.extend(load.heard.take().accepted);
    report.checked("I1", before.accepted.len() as u64);
    match load.recount(&before.accepted).await {
        Ok(found) => report.count("orders on the log", found),
        Err(lost) => report.broken("I1", lost.to_string()),
    }
    Ok(())
}
