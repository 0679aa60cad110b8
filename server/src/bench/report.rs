//! What was measured, as a table for people and as JSON for programs.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::checkouts::Checkouts;
use super::load::{Load, Window};
use super::machine::{Machine, Spent};
use super::recount::Recount;
use super::views::{LAG_MAX, Lag};
use crate::output::{Unwritten, hint, say};

/// Part of the machine that others may use before a round is called dirty.
const DIRTY: f64 = 0.10;
/// By how much that part may differ between the two sides of a ratio before the ratio says nothing.
const APART: f64 = 0.10;

/// The end of a benchmark.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    /// Debug assertions cost a little; a program is compared with itself only.
    pub(super) debug_assertions: bool,
    pub(super) machine: Machine,
    /// What was measured: `local`, or a topic.
    pub(super) log: String,
    pub(super) window_seconds: u64,
    pub(super) request_bytes: usize,
    pub(super) figures: Figures,
    pub(super) goals: Vec<Goal>,
    pub(super) checkouts: Checkouts,
    pub(super) recount: Recount,
}

/// Every round's figures.
#[derive(Default, Serialize)]
pub(super) struct Figures {
    pub(super) echo: Figure,
    pub(super) unary: Figure,
    pub(super) in_step: Figure,
    pub(super) hot: Figure,
    pub(super) bulk: Figure,
}

/// The same measurement, round by round.
#[derive(Default, Serialize)]
pub(super) struct Figure(Vec<Sample>);

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    /// From a call to its answer; not known of a stream, which is answered once.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Calls that were told to come again later.
    pub(super) refused: u64,
    /// CPU time of the server's own process for each command.
    pub(super) server_us: f64,
    /// The same with all that the server started, such as Postgres.
    pub(super) all_us: f64,
    /// Part of the machine that others used.
    pub(super) others: f64,
    /// How far the views were behind at worst, and when the load ended.
    pub(super) lag_worst_s: Option<f64>,
    pub(super) lag_at_end_s: Option<f64>,
}

/// A figure that is wanted.
#[derive(Debug, Serialize)]
pub(super) struct Goal {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) wanted: f64,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Met,
    Missed,
    /// Quick enough, but the views fell behind.
    NotSustained,
    /// One side of the ratio had to share the machine with others far more than the other side.
    NotComparable,
}

impl Sample {
    /// Of a load over `window`.
    pub(super) fn of(load: &Load, window: Window, lag: Option<Lag>) -> Self {
        let count = load.micros.len();
        let at = |quantile| Some(load.micros.value_at_quantile(quantile) as f64 / 1e3);
        Self {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            refused: load.refused,
            ..Self::streamed(count as f64 / window.measured.as_secs_f64(), count, &load.spent, lag)
        }
    }

    /// Of `count` commands in streams.
    pub(super) fn streamed(per_second: f64, count: u64, spent: &Spent, lag: Option<Lag>) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1) as f64;
        Self {
            per_second,
            p50_ms: None,
            p99_ms: None,
            refused: 0,
            server_us: each(spent.server_alone),
            all_us: each(spent.server),
            others: spent.others,
            lag_worst_s: lag.map(|lag| lag.worst.as_secs_f64()),
            lag_at_end_s: lag.map(|lag| lag.at_end.as_secs_f64()),
        }
    }

    fn is_dirty(&self) -> bool {
        self.others > DIRTY
    }
}

impl Figure {
    pub(super) fn add(&mut self, name: &str, sample: Sample) {
        let dirty = if sample.is_dirty() { ", dirty" } else { "" };
        let others = sample.others * 100.0;
        let lag = sample.lag_at_end_s.map_or_else(String::new, |lag| format!(", lag at the end {lag:.2} s"));
        hint!("{name}: {:.0}/s{lag}, others used {others:.0} % of the machine{dirty}", sample.per_second);
        self.0.push(sample);
    }

    /// Lowest, median and highest of the rounds.
    fn spread(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<[f64; 3]> {
        let mut values: Vec<f64> = self.0.iter().filter_map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        Some([*values.first()?, *values.get(values.len() / 2)?, *values.last()?])
    }

    fn median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        self.spread(of).map(|[_, median, _]| median)
    }

    fn per_second(&self) -> f64 {
        self.median(|sample| Some(sample.per_second)).unwrap_or(0.0)
    }

    fn others(&self) -> f64 {
        self.median(|sample| Some(sample.others)).unwrap_or(0.0)
    }

    fn kept_up(&self) -> bool {
        self.0.iter().all(|sample| sample.lag_at_end_s.is_some_and(|lag| lag <= LAG_MAX.as_secs_f64()))
    }

    fn row(&self, name: &str) -> [String; 7] {
        let [lowest, median, highest] = self.spread(|sample| Some(sample.per_second)).unwrap_or_default();
        let shown = |value: Option<f64>, decimals| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        let dirty = self.0.iter().filter(|sample| sample.is_dirty()).count();
        let others = shown(self.median(|sample| Some(sample.others * 100.0)), 0);
        [
            name.to_owned(),
            format!("{median:.0} [{lowest:.0}..{highest:.0}]"),
            format!("{} / {}", shown(self.median(|s| s.p50_ms), 2), shown(self.median(|s| s.p99_ms), 1)),
            format!(
                "{} / {}",
                shown(self.median(|s| Some(s.server_us)), 0),
                shown(self.median(|s| Some(s.all_us)), 0)
            ),
            format!(
                "{} / {}",
                shown(self.median(|s| s.lag_worst_s), 2),
                shown(self.median(|s| s.lag_at_end_s), 2)
            ),
            self.0.iter().map(|sample| sample.refused).sum::<u64>().to_string(),
            if dirty == 0 { others } else { format!("{others} ({dirty} dirty)") },
        ]
    }
}

impl Figures {
    /// What is asked of a local log, or of one on Kafka, at this stage.
    pub(super) fn goals(&self, on_kafka: bool) -> Vec<Goal> {
        let unary = |wanted| Goal::ratio("unary / echo", &self.unary, &self.echo, wanted);
        if on_kafka {
            return vec![unary(0.15)];
        }
        let in_step = Goal::ratio("unary with views in step / echo", &self.in_step, &self.echo, 0.15);
        vec![
            unary(0.30),
            in_step.if_sustained(&self.in_step),
            Goal::new("bulk orders a second", self.bulk.per_second(), 30_000.0),
            Goal::new("hot aggregate commands a second", self.hot.per_second(), 5_000.0),
        ]
    }
}

impl Goal {
    fn new(name: &'static str, value: f64, wanted: f64) -> Self {
        let verdict = if value >= wanted { Verdict::Met } else { Verdict::Missed };
        Self { name, value, wanted, verdict }
    }

    fn ratio(name: &'static str, figure: &Figure, to: &Figure, wanted: f64) -> Self {
        let goal = Self::new(name, figure.per_second() / to.per_second().max(1.0), wanted);
        if (figure.others() - to.others()).abs() > APART {
            return Self { verdict: Verdict::NotComparable, ..goal };
        }
        goal
    }

    fn if_sustained(self, figure: &Figure) -> Self {
        if self.verdict == Verdict::Met && !figure.kept_up() {
            return Self { verdict: Verdict::NotSustained, ..self };
        }
        self
    }
}

impl Report {
    /// For people.
    ///
    /// # Errors
    /// Nobody reads them any more.
    pub(super) fn print(&self) -> Result<(), Unwritten> {
        let Machine { cores, kernel, file_system, flush_p50_ms, flush_p99_ms } = &self.machine;
        say!(
            "shopstream {}{}, log {}; {cores} cores, Linux {kernel}, {file_system}, flush of one record p50 {flush_p50_ms:.2} ms, \
             p99 {flush_p99_ms:.2} ms; no TLS, no gzip; requests of {} bytes",
            self.version,
            if self.debug_assertions { " with debug assertions" } else { "" },
            self.log,
            self.request_bytes,
        )?;
        let figures = &self.figures;
        let mut table = plain([
            "",
            "a second",
            "p50 / p99 ms",
            "CPU us each: server / with children",
            "lag s: worst / at the end",
            "refused",
            "others %",
        ]);
        table.add_row(figures.echo.row("echo, 64 callers"));
        table.add_row(figures.unary.row("unary, 64 callers"));
        table.add_row(figures.in_step.row("unary with views in step"));
        table.add_row(figures.hot.row("hot aggregate, 32 callers"));
        table.add_row(figures.bulk.row("bulk, 4 streams"));
        say!("{table}\n")?;

        let mut table = plain(["goal", "measured", "wanted", ""]);
        for Goal { name, value, wanted, verdict } in &self.goals {
            let decimals = if *wanted < 10.0 { 2 } else { 0 };
            let verdict = match verdict {
                Verdict::Met => "met",
                Verdict::Missed => "missed",
                Verdict::NotSustained => "not sustained: the views fell behind",
                Verdict::NotComparable => "not comparable: others used the machine unevenly",
            };
            table.add_row([
                (*name).to_owned(),
                format!("{value:.decimals$}"),
                format!("{wanted:.decimals$}"),
                verdict.to_owned(),
            ]);
        }
        say!("{table}\n")?;

        let Checkouts { count, per_second, records_each, silent } = self.checkouts;
        say!("checkouts: {per_second:.1} a second, {records_each:.1} records each ({count} of 3 lines)")?;
        if silent > 0 {
            say!("  {silent} stories of TrackOrder fell silent before their end and were asked for again")?;
        }
        let Recount { acknowledged, found, unanswered, lost, doubled } = self.recount;
        say!(
            "after kill -9: {acknowledged} acknowledged, {found} of them on the log, {lost} lost, {doubled} doubled; \
             {unanswered} more were taken whose answer never arrived"
        )?;
        Ok(())
    }
}

fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(rates: &[f64], lag: f64) -> Figure {
        let spent = Spent { server_alone: Duration::ZERO, server: Duration::ZERO, others: 0.0 };
        let lag = Duration::from_secs_f64(lag);
        let sample = |rate: &f64| Sample::streamed(*rate, 1, &spent, Some(Lag { worst: lag, at_end: lag }));
        Figure(rates.iter().map(sample).collect())
    }

    #[test]
    fn a_ratio_is_that_of_medians_and_needs_views_that_keep_up() {
        let figures = Figures {
            echo: figure(&[90.0, 1000.0, 100.0], 0.0),
            unary: figure(&[31.0, 10.0, 40.0], 9.0),
            in_step: figure(&[20.0], 1.5),
            hot: figure(&[5_000.0], 0.0),
            bulk: figure(&[29_999.0], 0.0),
        };
        let verdicts: Vec<_> = figures.goals(false).iter().map(|goal| goal.verdict).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::NotSustained, Verdict::Missed, Verdict::Met]);
        let mut echo = figure(&[100.0], 0.0);
        echo.0[0].others = 0.5;
        assert_eq!(Goal::ratio("unary", &figures.unary, &echo, 0.30).verdict, Verdict::NotComparable);
        assert!((figures.goals(true)[0].value - 0.31).abs() < 1e-9);
    }
}
