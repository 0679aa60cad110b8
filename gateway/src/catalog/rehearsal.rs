//! A request of several commands, decided here before any of them is given: a refused one would leave those before it
//! done, and SKUs claimed that have to be given back.

use shopstream_command_handlers::{CommandEnvelope, CommandError};
use shopstream_domain::model;

use super::Catalog;
use crate::call::Call;
use crate::failure::Failure;
use crate::history;

impl Catalog {
    /// Decides the commands on one product, on its history so far. Only a change at this very moment still gets between.
    ///
    /// # Errors
    /// What the first of them that cannot be is refused for.
    pub(super) async fn rehearse(&self, call: &Call, commands: &[CommandEnvelope]) -> Result<(), Failure> {
        let Some(first) = commands.first() else { return Ok(()) };
        let history = history::load(&self.shop, call, &first.stream).await?;
        let actual = history.last().map_or(0, |record| record.commit.last_version());
        if let Some(expected) = first.expected_version.filter(|expected| *expected != actual) {
            let stream = first.stream.clone();
            return Err(CommandError::StaleVersion { stream, expected, actual }.into());
        }
        let mut product = history::fold(first.stream.kind(), &history)?;
        commands.iter().try_for_each(|command| self.decide(&mut product, command))
    }

    /// Moves `state` on by what a command would do.
    fn decide(&self, state: &mut model::State, given: &CommandEnvelope) -> Result<(), Failure> {
        let events = state.decide(&given.command, self.shop.now()).map_err(Failure::Refused)?;
        events.iter().for_each(|event| state.evolve(event));
        Ok(())
    }
}
