//! What one idempotency key of a client stands for.

use serde::{Deserialize, Serialize};

use super::{ClaimCommand, ClaimEvent, Error, RequestClaimed};
use crate::aggregate::cqrs_aggregate;
use crate::{Aggregate, StreamId, StreamKind, Timestamp};

/// What a client's idempotency key stands for: the one place where two uses of one key meet, whatever they are about.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    target: Option<StreamId>,
}

impl Aggregate for Claim {
    const KIND: StreamKind = StreamKind::Request;
    type Command = ClaimCommand;
    type Event = ClaimEvent;
    type Error = Error;

    fn decide(&self, command: &ClaimCommand, _now: Timestamp) -> Result<Vec<ClaimEvent>, Error> {
        let (target, instead_of) = match command {
            ClaimCommand::Claim { target, instead_of } => (target, instead_of.as_ref()),
            ClaimCommand::Check { target } => (target, None),
        };
        match (&self.target, command) {
            (Some(mine), _) if mine == target => Ok(vec![]),
            (Some(other), _) if Some(other) != instead_of => Err(Error::Taken { target: other.clone() }),
            (_, ClaimCommand::Claim { .. }) => {
                Ok(vec![ClaimEvent::Claimed(RequestClaimed { target: target.clone() })])
            }
            (_, ClaimCommand::Check { .. }) => Ok(vec![]),
        }
    }

    fn evolve(&mut self, event: &ClaimEvent) {
        match event {
            ClaimEvent::Claimed(claimed) => self.target = Some(claimed.target.clone()),
        }
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.target.as_ref().map_or(0, |target| target.as_str().len() + 16)
    }
}

cqrs_aggregate!(Claim, "request");

impl Claim {
    /// The stream that the key's operation is about; `None` while it stands for nothing.
    pub fn target(&self) -> Option<&StreamId> {
        self.target.as_ref()
    }
}
