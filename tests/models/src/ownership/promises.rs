//! What must always hold, and what must be possible so that it does not hold for want of events.

use std::collections::BTreeSet;

use stateright::Property;

use super::log::{Body, Fold};
use super::node::Role;
use super::{Bounds, Ownership, State};

type Promise = Property<Ownership>;

/// The promises at these bounds.
pub(super) fn of(bounds: Bounds) -> Vec<Promise> {
    let mut promises = vec![
        Promise::always("one record per command counts", each_command_counts_once),
        Promise::always("what counts was decided on what counts before it", decided_on_what_counts),
        Promise::always("what is acknowledged has counted", acknowledged_has_counted),
        Promise::sometimes("a command is acknowledged", |_, state: &State| !state.acknowledged.is_empty()),
        Promise::sometimes("two owners acknowledge", two_owners_acknowledge),
        Promise::sometimes("an overtaken owner's commit is void", overtaken_commit_is_void),
    ];
    if bounds.damages == 0 {
        promises.extend([
            Promise::always("what is acknowledged counts for ever", acknowledged_counts),
            Promise::always("what is denied never counts", denied_never_counts),
            Promise::sometimes("a command is denied", |_, state: &State| !state.denied.is_empty()),
        ]);
    } else {
        promises.push(Promise::sometimes("a node halts", |_, state: &State| {
            state.nodes.iter().any(|node| node.role == Role::Halted)
        }));
    }
    if bounds.releases {
        promises.push(Promise::sometimes("what was released is owned again", released_is_owned_again));
    }
    promises
}

fn each_command_counts_once(model: &Ownership, state: &State) -> bool {
    let counted = Fold::of(&state.log, model.flaw).counted;
    let commands: BTreeSet<_> = counted.iter().map(|record| record.command()).collect();
    commands.len() == counted.len()
}

/// Else somebody's decision rests on an effect that is not there, or misses one that is.
fn decided_on_what_counts(model: &Ownership, state: &State) -> bool {
    let counted = Fold::of(&state.log, model.flaw).counted;
    (1..)
        .zip(counted)
        .all(|(place, record)| matches!(record.body, Body::Commit { version, .. } if version == place))
}

fn acknowledged_has_counted(_: &Ownership, state: &State) -> bool {
    state.acknowledged.is_subset(&state.counted)
}

/// Only where the log keeps what it has.
fn acknowledged_counts(model: &Ownership, state: &State) -> bool {
    let counted = Fold::of(&state.log, model.flaw).counted;
    state.acknowledged.iter().all(|record| counted.contains(record))
}

fn denied_never_counts(_: &Ownership, state: &State) -> bool {
    state.denied.is_disjoint(&state.counted)
}

fn two_owners_acknowledge(_: &Ownership, state: &State) -> bool {
    let owners: BTreeSet<_> = state.acknowledged.iter().map(|record| record.nonce).collect();
    owners.len() > 1
}

fn overtaken_commit_is_void(model: &Ownership, state: &State) -> bool {
    let fold = Fold::of(&state.log, model.flaw);
    state.log.iter().any(|record| {
        record.command().is_some() && record.epoch < fold.epoch && !state.counted.contains(record)
    })
}

fn released_is_owned_again(_: &Ownership, state: &State) -> bool {
    let released = state.log.iter().position(|record| matches!(record.body, Body::Release { .. }));
    released.is_some_and(|at| state.log[at..].iter().any(|record| state.acknowledged.contains(record)))
}
