//! A request of several commands, decided here before any of them is given: a refused one would leave those before it
//! done, and a claim on a SKU is for ever.

use shopstream_command_handlers::{CommandEnvelope, CommandError};
use shopstream_domain::{StreamKind, model};
use shopstream_eventlog::{CommitRecord, schema};
use shopstream_projections::Projection;

use super::Catalog;
use crate::call::Call;
use crate::failure::Failure;

impl Catalog {
    /// Decides claims and then the commands on one product, on the histories so far. Only a change at this very moment
    /// still gets between: what was claimed then stays the product's, and the same product may go on with it.
    ///
    /// # Errors
    /// What the first of them that cannot be is refused for.
    pub(super) async fn rehearse(
        &self,
        call: &Call,
        claims: &[CommandEnvelope],
        commands: &[CommandEnvelope],
    ) -> Result<(), Failure> {
        let Some(first) = commands.first() else { return Ok(()) };
        let streams: Vec<_> = [first].into_iter().chain(claims).map(|given| given.stream.clone()).collect();
        self.shop.catch_up(call, Projection::Journal).await?;
        let loaded = async { Ok(self.shop.means.journal.load(&streams).await?) };
        let mut histories = call.read_within(loaded).await?.into_iter();
        let history = histories.next().unwrap_or_default();
        for (i, (claim, history)) in claims.iter().zip(histories).enumerate() {
            let claimed = self.decide(&mut fold(claim.stream.kind(), &history)?, claim);
            claimed.map_err(|failure| failure.inside(&format!("variants[{i}]")))?;
        }
        let actual = history.last().map_or(0, |record| record.commit.last_version());
        if let Some(expected) = first.expected_version.filter(|expected| *expected != actual) {
            let stream = first.stream.clone();
            return Err(CommandError::StaleVersion { stream, expected, actual }.into());
        }
        let mut product = fold(first.stream.kind(), &history)?;
        commands.iter().try_for_each(|command| self.decide(&mut product, command))
    }

    /// Moves `state` on by what a command would do.
    fn decide(&self, state: &mut model::State, given: &CommandEnvelope) -> Result<(), Failure> {
        let events = state.decide(&given.command, self.shop.now()).map_err(Failure::Refused)?;
        events.iter().for_each(|event| state.evolve(event));
        Ok(())
    }
}

fn fold(kind: StreamKind, history: &[CommitRecord]) -> Result<model::State, Failure> {
    let mut state = model::State::empty(kind);
    for event in history.iter().flat_map(|record| &record.commit.events) {
        let event = schema::decode(kind, event).map_err(|error| Failure::Internal(error.to_string()))?;
        state.evolve(&event);
    }
    Ok(state)
}
