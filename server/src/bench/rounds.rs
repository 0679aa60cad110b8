//! The measurements in their order: checkouts, then rounds that alternate echo and node, then the crash.

use anyhow::Context as _;
use prost::Message;
use tokio::sync::watch;
use tokio::time::sleep;

use super::acknowledged::Acknowledged;
use super::calls::{Caller, Drafter, Numbers, Receiver};
use super::load::{closed_loop, until_broken};
use super::recount::{Recount, recount};
use super::report::{Figures, Report, Sample};
use super::setup::stock_up;
use super::stage::Stage;
use super::views::Views;
use super::{BenchOptions, bulk, checkouts};
use crate::client::Client;
use crate::config::LogUrl;

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
    let echo = Client::connect(&stage.start_echo().await?).await?;
    let node = Client::connect(&stage.start_node().await?).await?;
    let views = Views { client: node.clone(), numbers: numbers.clone() };
    let mut rounds =
        Rounds { stage, options, echo, node, views, numbers, acknowledged: Acknowledged::default() };
    let checkouts = rounds.checkouts().await.context("the checkouts")?;
    let mut figures = Figures::default();
    for round in 1..=options.rounds() {
        eprintln!("round {round} of {}", options.rounds());
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
    acknowledged: Acknowledged,
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
    async fn checkouts(&mut self) -> anyhow::Result<checkouts::Checkouts> {
        let count = self.options.checkouts();
        // Two units of each SKU for every order, and some to spare.
        let units = 3 * i64::try_from(count)?;
        stock_up(&self.node, &self.numbers, units, &mut self.acknowledged).await?;
        checkouts::run(&self.node, &self.numbers, count, &mut self.acknowledged).await
    }

    async fn round(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        figures.echo.add("echo", self.echo().await?);
        let burst = self.node_under(drafters(&self.node, &self.numbers), Pace::Burst).await?;
        figures.unary.add("unary", burst);
        let in_step = self.node_under(drafters(&self.node, &self.numbers), Pace::InStep).await?;
        figures.in_step.add("unary with views in step", in_step);
        let receiver = |_| Receiver { shop: self.node.shop(), numbers: self.numbers.clone() };
        let hot = self.node_under((0..HOT_CALLERS).map(receiver).collect(), Pace::Burst).await?;
        figures.hot.add("hot aggregate", hot);
        figures.bulk.add("bulk", self.bulk().await?);
        Ok(())
    }

    async fn echo(&self) -> anyhow::Result<Sample> {
        // Numbers of its own: it promises nothing that could be recounted.
        let numbers = Numbers::of_new_run();
        let (window, open) = (self.options.window(), watch::Sender::new(true).subscribe());
        let callers = drafters(&self.echo, &numbers);
        let load = closed_loop(callers, &numbers, window, &open, &self.stage.echo_meter()?).await?;
        Ok(Sample::of(&load, window, None))
    }

    /// Loads the node with an eye on the views, then lets them catch up.
    async fn node_under<C: Caller>(&mut self, callers: Vec<C>, pace: Pace) -> anyhow::Result<Sample> {
        let (window, lag) = (self.options.window(), self.views.watch());
        let gate = match pace {
            Pace::Burst => watch::Sender::new(true).subscribe(),
            Pace::InStep => lag.gate.clone(),
        };
        let load = closed_loop(callers, &self.numbers, window, &gate, &self.stage.node_meter()?).await?;
        let (lag, probes) = lag.end().await.context("watching the views")?;
        let sample = Sample::of(&load, window, Some(lag));
        self.acknowledged.extend(load.acknowledged);
        self.acknowledged.extend(probes);
        self.catch_up().await?;
        Ok(sample)
    }

    async fn bulk(&mut self) -> anyhow::Result<Sample> {
        let (window, meter) = (self.options.window(), self.stage.node_meter()?);
        let warm_up = bulk::send(&self.node, &self.numbers, window.warm_up, &meter).await?;
        self.acknowledged.extend(warm_up.acknowledged);
        let bulk::Bulk { per_second, acknowledged, spent } =
            bulk::send(&self.node, &self.numbers, window.measured, &meter).await?;
        let sample = Sample::streamed(per_second, acknowledged.numbers.len() as u64, &spent, None);
        self.acknowledged.extend(acknowledged);
        self.catch_up().await?;
        Ok(sample)
    }

    /// Lets the views come to the end, so that one measurement does not pay for another.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let took = self.views.show_all(&mut self.acknowledged).await.context("waiting for the views")?;
        if took > super::views::LAG_MAX {
            eprintln!("the views caught up after {:.1} s", took.as_secs_f64());
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
        self.acknowledged.extend(acknowledged);
        eprintln!("killed the node under load; starting it again and recounting");
        let again = Client::connect(&self.stage.start_node().await?).await?;
        recount(&again, &self.numbers, &self.acknowledged).await
    }
}

fn drafters(client: &Client, numbers: &Numbers) -> Vec<Drafter> {
    (0..CALLERS).map(|_| Drafter { shop: client.shop(), numbers: numbers.clone() }).collect()
}
