//! The measurements in their order: checkouts, then rounds that alternate echo and node, then the crash.

use anyhow::Context as _;
use prost::Message;
use tokio::sync::watch;
use tokio::time::sleep;

use super::acknowledged::Acknowledged;
use super::bulk::Bulk;
use super::calls::{Caller, Drafter, Numbers, Receiver};
use super::checkouts::{self, Checkouts};
use super::load::{Gate, closed_loop, until_broken};
use super::recount::{Promises, Recount, recount};
use super::report::{Figures, Report, Sample};
use super::setup::stock_up;
use super::stage::Stage;
use super::views::{LAG_MAX, Views};
use super::{BenchOptions, bulk};
use crate::client::Client;
use crate::config::LogUrl;
use crate::output::hint;

/// Callers that write orders.
const CALLERS: usize = 64;
/// Callers that meet in one aggregate.
const HOT_CALLERS: usize = 32;

/// Measures everything.
///
/// # Errors
/// A server does not start, or a command is refused.
pub(super) async fn measure(
    stage: &mut Stage,
    options: &BenchOptions,
    numbers: Numbers,
) -> anyhow::Result<Report> {
    hint!("starting echo and node");
    let echo = Client::connect(&stage.start_echo().await?).await?;
    let node = Client::connect(&stage.start_node().await?).await?;
    let views = Views::of(node.clone());
    let promises = Promises::default();
    let mut rounds = Rounds { stage, options, echo, node, views, numbers, promises };
    let checkouts = rounds.checkouts().await.context("the checkouts")?;
    let mut figures = Figures::default();
    for round in 1..=options.rounds() {
        hint!("round {round} of {}", options.rounds());
        rounds.round(&mut figures).await.with_context(|| format!("round {round}"))?;
    }
    let request_bytes = rounds.numbers.draft(rounds.numbers.given()).encoded_len();
    let recount = rounds.crash().await.context("the crash")?;
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        debug_assertions: cfg!(debug_assertions),
        machine: stage.machine.clone(),
        log: stage.log.to_string(),
        window_seconds: options.window().measured.as_secs(),
        request_bytes,
        goals: figures.goals(stage.log != LogUrl::Local),
        figures,
        checkouts,
        recount,
    })
}

/// What all measurements share.
struct Rounds<'a> {
    stage: &'a mut Stage,
    options: &'a BenchOptions,
    echo: Client,
    node: Client,
    views: Views,
    /// Of the commands that the node is sent.
    numbers: Numbers,
    /// All that the node has promised since it was first started.
    promises: Promises,
}

/// How callers and views share the machine.
#[derive(Clone, Copy)]
enum Pace {
    /// As fast as the node answers, whatever becomes of the views.
    Burst,
    /// Held back while the views are behind.
    InStep,
}

impl Rounds<'_> {
    async fn checkouts(&mut self) -> anyhow::Result<Checkouts> {
        let count = self.options.checkouts();
        hint!("{count} checkouts");
        // Two units of each SKU for every order, and some to spare.
        stock_up(&self.node, &Numbers::of_new_run(), 3 * i64::try_from(count)?).await?;
        self.promises.receipts += 1;
        checkouts::run(&self.node, &self.numbers, count, &mut self.promises.orders).await
    }

    async fn round(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        figures.echo.add("echo", self.echo().await?);
        figures.unary.add("unary", self.drafts(Pace::Burst).await?);
        figures.in_step.add("unary with views in step", self.drafts(Pace::InStep).await?);
        figures.hot.add("hot aggregate", self.receipts().await?);
        figures.bulk.add("bulk", self.bulk().await?);
        Ok(())
    }

    async fn echo(&self) -> anyhow::Result<Sample> {
        // Numbers of its own: it promises nothing that could be recounted.
        let numbers = Numbers::of_new_run();
        let (window, meter) = (self.options.window(), self.stage.echo_meter()?);
        let load =
            closed_loop(drafters(&self.echo, &numbers), &numbers, window, &always_open(), &meter).await?;
        Ok(Sample::of(&load, window, None))
    }

    async fn drafts(&mut self, pace: Pace) -> anyhow::Result<Sample> {
        let (sample, drafted) =
            self.watched(drafters(&self.node, &self.numbers), &self.numbers, pace).await?;
        self.promises.orders.extend(drafted);
        self.catch_up().await?;
        Ok(sample)
    }

    async fn receipts(&mut self) -> anyhow::Result<Sample> {
        let numbers = Numbers::of_new_run();
        let receiver = |_| Receiver { shop: self.node.shop(), numbers: numbers.clone() };
        let receivers = (0..HOT_CALLERS).map(receiver).collect();
        let (sample, received) = self.watched(receivers, &numbers, Pace::Burst).await?;
        self.promises.receipts += received.numbers.len() as u64;
        self.catch_up().await?;
        Ok(sample)
    }

    /// Loads the node with an eye on the views.
    async fn watched<C: Caller>(
        &self,
        callers: Vec<C>,
        numbers: &Numbers,
        pace: Pace,
    ) -> anyhow::Result<(Sample, Acknowledged)> {
        let (window, lag) = (self.options.window(), self.views.watch());
        let gate = match pace {
            Pace::Burst => always_open(),
            Pace::InStep => lag.gate.clone(),
        };
        let load = closed_loop(callers, numbers, window, &gate, &self.stage.node_meter()?).await?;
        let lag = lag.end().await.context("watching the views")?;
        Ok((Sample::of(&load, window, Some(lag)), load.acknowledged))
    }

    async fn bulk(&mut self) -> anyhow::Result<Sample> {
        let (window, meter) = (self.options.window(), self.stage.node_meter()?);
        let warm_up = bulk::send(&self.node, &self.numbers, window.warm_up, &meter).await?;
        self.promises.orders.extend(warm_up.acknowledged);
        let Bulk { per_second, acknowledged, refused, spent } =
            bulk::send(&self.node, &self.numbers, window.measured, &meter).await?;
        let count = acknowledged.numbers.len() as u64;
        let sample = Sample { refused, ..Sample::streamed(per_second, count, &spent, None) };
        self.promises.orders.extend(acknowledged);
        self.catch_up().await?;
        Ok(sample)
    }

    /// Lets the views come to the end, so that one measurement does not pay for another.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let took = self.views.show_all(&self.promises.orders).await.context("waiting for the views")?;
        if took > LAG_MAX {
            hint!("the views caught up after {:.1} s", took.as_secs_f64());
        }
        Ok(())
    }

    /// Kills the node under load, starts it again and recounts.
    async fn crash(mut self) -> anyhow::Result<Recount> {
        let load = until_broken(drafters(&self.node, &self.numbers), &self.numbers);
        let kill = async {
            sleep(self.options.window().measured).await;
            self.stage.kill_node().await
        };
        let (acknowledged, ()) = tokio::try_join!(load, kill)?;
        self.promises.orders.extend(acknowledged);
        hint!("killed the node under load; starting it again and recounting");
        let again = Client::connect(&self.stage.start_node().await?).await?;
        recount(&again, &self.numbers, &self.promises).await
    }
}

fn drafters(client: &Client, numbers: &Numbers) -> Vec<Drafter> {
    (0..CALLERS).map(|_| Drafter { shop: client.shop(), numbers: numbers.clone() }).collect()
}

fn always_open() -> Gate {
    watch::Sender::new(true).subscribe()
}
