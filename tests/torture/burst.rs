//! `burst`: thousands of changes that no process has to act on, all at once, and right behind them an order. Its checkout must
//! begin at once: processes read everything, and what means nothing to them must not cost them a turn.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use hdrhistogram::Histogram;
use shopstream_proto::order::v1::{OrderStatus, TimelineEntry, TrackOrderRequest};
use shopstream_server::client::Client;
use shopstream_tests::requests::{self, stock};
use shopstream_tests::{Setup, TestShop};
use tokio::task::JoinSet;

use crate::Common;
use crate::report::Report;

/// Who makes the changes, each one after the other on an item of its own.
const CALLERS: u64 = 128;
/// What is ordered.
const SKU: &str = "BURST-1";
/// From an order to the first event of its checkout.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How often, and how much.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Bursts, each with an order behind it
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Changes of a burst
    #[arg(long, default_value_t = 10_000)]
    changes: u64,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 3] = [
    ("at once", "p99 of the time from an order to the beginning of its checkout is 100 ms at most"),
    ("ends", "every order is paid and confirmed"),
    ("books", "the books are right and every view is its replay"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("burst", seed, &PROMISES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shop = TestShop::start_with(Setup::default());
    runtime.block_on(rounds(&shop, options, &mut report))?;
    report.checked("books", 1);
    if let Err(said) = shop.audited() {
        report.broken("books", said);
    }
    options.common.end(&report, folder)
}

async fn rounds(shop: &TestShop, options: &Options, report: &mut Report) -> Result<()> {
    let client = shop.client().await;
    requests::sell(&client, SKU, 1_000_000).await?;
    for caller in 0..CALLERS {
        requests::sell(&client, &item(caller), 1).await?;
    }
    let mut micros = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
    for round in 0..options.rounds {
        change(&client, round, options.changes / CALLERS).await?;
        let order_id = format!("ord_{round}");
        let order = requests::order(&order_id, SKU, 1, "tok_ok");
        let ended = requests::place(&client, order).await.with_context(|| format!("round {round}"))?;
        report.checked("ends", 1);
        if ended.status() != OrderStatus::Confirmed {
            report.broken("ends", format!("round {round}: {ended:?}"));
        }
        let began = began_after(&client, order_id).await.with_context(|| format!("round {round}"))?;
        micros.saturating_record(u64::try_from(began.as_micros())?);
        report.count("changes", options.changes / CALLERS * CALLERS);
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("most", 1.0)] {
        let name = format!("{name} from an order to the beginning of its checkout, in microseconds");
        report.count(&name, micros.value_at_quantile(quantile));
    }
    report.checked("at once", options.rounds);
    let p99 = Duration::from_micros(micros.value_at_quantile(0.99));
    if p99 > AT_ONCE {
        report.broken("at once", format!("{p99:?}"));
    }
    Ok(())
}

/// What this caller changes.
fn item(caller: u64) -> String {
    format!("MANY-{caller}")
}

async fn change(client: &Client, round: u64, each: u64) -> Result<()> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            for n in 0..each {
                let one = stock(&format!("burst:{round}:{caller}:{n}"), &item(caller), 1);
                client
                    .call(one, async |mut shop, request| shop.inventory.update_stock(request).await)
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// By the times with which the node recorded both.
async fn began_after(client: &Client, order_id: String) -> Result<Duration> {
    let track = TrackOrderRequest { order_id, ..TrackOrderRequest::default() };
    let mut story = client.shop().orders.track_order(track).await?.into_inner();
    let (mut submitted, mut began) = (None, None);
    while let Some(chapter) = story.message().await? {
        let Some(entry) = chapter.entry else { continue };
        if entry.event_type == "OrderSubmitted" {
            submitted = submitted.or_else(|| recorded(&entry));
        } else if entry.stream_id.contains("/checkout/") {
            began = began.or_else(|| recorded(&entry));
        }
    }
    let (submitted, began) = (submitted.context("no OrderSubmitted")?, began.context("no checkout")?);
    Ok(began.saturating_sub(submitted))
}

/// Since 1970.
fn recorded(entry: &TimelineEntry) -> Option<Duration> {
    let time = entry.record_time?;
    Some(Duration::new(u64::try_from(time.seconds).ok()?, u32::try_from(time.nanos).ok()?))
}
