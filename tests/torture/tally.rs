//! What the clients of one whole shop were told over a run, in its report.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::load::{Load, Said};
use crate::report::Report;

/// A load, and all that came of it. Its promises are `I1`, `answers` and `recovery`.
pub(crate) struct Tally<'a> {
    pub(crate) report: &'a mut Report,
    load: Load,
    callers: usize,
    /// The numbers of all orders that were acknowledged.
    accepted: BTreeSet<u64>,
}

impl<'a> Tally<'a> {
    /// Of so many callers with one order open each.
    pub(crate) fn new(load: Load, callers: usize, report: &'a mut Report) -> Self {
        Self { report, load, callers, accepted: BTreeSet::new() }
    }

    /// Orders for a while; what was said, and how many orders were acknowledged a second.
    pub(crate) async fn order(&mut self, when: &str, lasting: Duration) -> anyhow::Result<(Said, f64)> {
        let served = self.load.closed(self.callers, lasting).await?;
        Ok((self.hear(when), served))
    }

    /// Orders until for a whole second nobody is refused; it must come within `patience` of now.
    pub(crate) async fn recover(&mut self, what: &str, patience: Duration) -> anyhow::Result<()> {
        let took = self.load.recovered(self.callers, 1.0, Instant::now(), patience).await?;
        self.hear(&format!("after {what} came back"));
        self.report.count(&format!("served again after {what} came back, in ms"), took.as_millis() as u64);
        self.report.checked("recovery", 1);
        if took >= patience {
            self.report.broken("recovery", format!("{what}: not within {patience:?}"));
        }
        Ok(())
    }

    /// Reads the log: every acknowledged order is there, once.
    pub(crate) async fn recount(&mut self) {
        self.report.checked("I1", self.accepted.len() as u64);
        match self.load.recount(&self.accepted).await {
            Ok(found) => self.report.count("orders on the log", found),
            Err(lost) => self.report.broken("I1", lost.to_string()),
        }
    }

    fn hear(&mut self, when: &str) -> Said {
        let said = self.load.heard.take();
        let heard = [
            ("accepted", said.accepted.len() as u64),
            ("refused with advice", said.refused),
            ("unanswered in the client's time", said.unknown),
        ];
        for (what, count) in heard {
            self.report.count(&format!("{what} {when}"), count);
        }
        self.report.checked("answers", said.refused + said.unknown);
        said.wrong.iter().for_each(|wrong| self.report.broken("answers", wrong.clone()));
        self.accepted.extend(&said.accepted);
        said
    }
}
