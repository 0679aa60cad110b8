//! Streams as their whole history has them.

use shopstream_domain::model::State;
use shopstream_domain::{StreamId, StreamKind};
use shopstream_eventlog::{CommitRecord, schema};
use shopstream_projections::Projection;

use crate::call::Call;
use crate::failure::Failure;
use crate::shop::Shop;

/// A stream's commits, with everything that was confirmed when this is called.
pub(crate) async fn load(shop: &Shop, call: &Call, stream: &StreamId) -> Result<Vec<CommitRecord>, Failure> {
    shop.catch_up_on(call, Projection::Journal, stream).await?;
    let loaded = async { Ok(shop.means.journal.load(std::slice::from_ref(stream)).await?) };
    Ok(call.read_within(loaded).await?.pop().unwrap_or_default())
}

/// The state that a history leads to.
pub(crate) fn fold(kind: StreamKind, history: &[CommitRecord]) -> Result<State, Failure> {
    let mut state = State::empty(kind);
    for event in history.iter().flat_map(|record| &record.commit.events) {
        let event = schema::decode(kind, event).map_err(|error| Failure::Internal(error.to_string()))?;
        state.evolve(&event);
    }
    Ok(state)
}
