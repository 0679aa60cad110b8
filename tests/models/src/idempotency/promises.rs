//! What must always hold, and what must be possible so that it does not hold for want of events.

use std::collections::BTreeSet;

use stateright::Property;

use super::shard::At;
use super::{Answer, Bounds, Idempotency, State};

type Promise = Property<Idempotency>;

/// The promises at these bounds.
pub(super) fn of(bounds: Bounds) -> Vec<Promise> {
    let mut promises = vec![
        Promise::always("an id has one effect", one_effect_per_id),
        Promise::always("every answer is that of the effect that counts", answers_are_true),
        Promise::always("only what counts makes an id another's", reuse_is_true),
        Promise::always("a refusal rests on what counts", refusals_are_founded),
        Promise::always("a history has no gap", |_, state: &State| !state.gap),
        Promise::sometimes("a retry joins what is in flight", a_retry_joins),
        Promise::sometimes("the journal finds an old command", |_, state: &State| {
            state.calls.iter().any(|call| matches!(call.at, At::Asked { found: Some(_), .. }))
        }),
        Promise::sometimes("an answer comes from an owner who did not decide it", later_owner_answers),
        Promise::sometimes("another body is refused", |_, state: &State| {
            state.answers.iter().any(|(_, answer)| *answer == Answer::Reused)
        }),
    ];
    if bounds.commands > bounds.units {
        promises.push(Promise::sometimes("a command is refused", |_, state: &State| {
            state.answers.iter().any(|(_, answer)| matches!(answer, Answer::Refused { .. }))
        }));
    }
    promises
}

fn one_effect_per_id(_: &Idempotency, state: &State) -> bool {
    let ids: BTreeSet<u8> = state.log.iter().map(|request| request.id).collect();
    ids.len() == state.log.len()
}

/// With one effect per id it is the same answer every time, too.
fn answers_are_true(_: &Idempotency, state: &State) -> bool {
    state.answers.iter().all(|(request, answer)| match answer {
        Answer::Done(version) => state.log.get(usize::from(*version) - 1) == Some(request),
        Answer::Reused | Answer::Refused { .. } => true,
    })
}

fn reuse_is_true(_: &Idempotency, state: &State) -> bool {
    let reused = state.answers.iter().filter(|(_, answer)| *answer == Answer::Reused);
    reused.into_iter().all(|(request, _)| {
        state.log.iter().any(|known| known.id == request.id && known.body != request.body)
    })
}

fn refusals_are_founded(_: &Idempotency, state: &State) -> bool {
    !state.answers.iter().any(|(_, answer)| *answer == Answer::Refused { founded: false })
}

fn a_retry_joins(_: &Idempotency, state: &State) -> bool {
    state
        .calls
        .windows(2)
        .any(|pair| pair[0] == pair[1] && matches!(pair[0].at, At::Waiting { answer: Answer::Done(_), .. }))
}

/// A call that is answered as done while nobody has it in memory any more: it waits behind a load.
fn later_owner_answers(_: &Idempotency, state: &State) -> bool {
    let parked = state.calls.iter().filter(|call| call.at == At::Parked);
    parked.into_iter().any(|call| {
        state
            .answers
            .iter()
            .any(|(request, answer)| *request == call.request && matches!(answer, Answer::Done(_)))
    })
}
