//! Every answer that a caller of the gateway got is true: an OK has its effect, once, a refusal has none, and whoever
//! repeats a request hears what was said first.

use std::collections::{BTreeMap, HashMap};

use shopstream_domain::StreamKind;
use shopstream_eventlog::{CommitRecord, EventData};
use tonic::Code;

use super::Found;
use crate::callers::{Heard, Operation, Request, Scope};
use crate::evidence::Evidence;

/// The same request under the same key is answered with the same bytes.
pub(super) fn first_answer_again(evidence: &Evidence, found: &mut Found) {
    for operation in commands(evidence) {
        let mut answers = operation.answers();
        let Some(first) = answers.next() else { continue };
        for again in answers {
            found.require(again == first, "ANSWER", || {
                format!("{}: {first:?}, then {again:?}", told(operation))
            });
        }
    }
}

/// Under one key one thing is done: in the shop where something is made or money moves, else on one target.
pub(super) fn one_key_one_operation(evidence: &Evidence, found: &mut Found) {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in commands(evidence).filter(|operation| operation.answers().next().is_some()) {
        by_key.entry(operation.request.key().unwrap_or_default()).or_default().push(operation);
    }
    for done in by_key.values() {
        for (at, one) in done.iter().enumerate() {
            for other in &done[at + 1..] {
                let (here, there) = (one.request.scope(), other.request.scope());
                let apart = match (here, there) {
                    (Scope::Shop, Scope::Shop) => false,
                    _ => one.request.target() != other.request.target(),
                };
                found.require(apart, "KEY", || format!("{} and {} were both done", told(one), told(other)));
            }
        }
    }
}

/// What was answered OK is on the log in its caller's name, and what was refused is not.
pub(super) fn effects(evidence: &Evidence, found: &mut Found) {
    let mut by_actor: HashMap<&str, Vec<&CommitRecord>> = HashMap::new();
    for record in &evidence.counted {
        by_actor.entry(record.commit.actor.as_str()).or_default().push(record);
    }
    for operation in commands(evidence) {
        let actor = operation.actor();
        let commits = by_actor.get(actor.as_str()).map_or(&[][..], Vec::as_slice);
        if operation.answers().next().is_some() {
            found.require(!commits.is_empty(), "EFFECT", || {
                format!("{} was answered OK and is not on the log", told(operation))
            });
        } else if evidence.at_rest && !may_have_begun(operation) {
            let left = commits.iter().find(|record| !is_claim(record) && !ran_out(operation, record));
            found.require(left.is_none(), "EFFECT", || {
                let heard = &operation.heard;
                format!("{} was refused, {heard:?}, and left {left:?}", told(operation))
            });
        }
    }
}

/// A refusal names its reason, and none is our own fault.
pub(super) fn in_words(evidence: &Evidence, found: &mut Found) {
    for operation in &evidence.ledger.operations {
        for heard in &operation.heard {
            let Heard::Refusal { code, reason, .. } = heard else { continue };
            let ours = matches!(code, Code::Internal | Code::Unknown | Code::DataLoss);
            found.require(!ours && !reason.is_empty(), "WORDS", || format!("{}: {heard:?}", told(operation)));
        }
    }
    for cause in &evidence.unfolded {
        found.require(false, "VIEW", || cause.clone());
    }
}

/// Whether nobody knows what became of it. What takes several commands and is told to come again may be half done.
fn may_have_begun(operation: &Operation) -> bool {
    let in_steps = matches!(operation.request, Request::CreateProduct(_) | Request::UpdateProduct(_));
    let heard = &operation.heard;
    heard.iter().any(Heard::is_in_doubt) || (in_steps && !heard.iter().any(Heard::is_final))
}

/// Claims on names and keys are made before the thing itself. Where nothing comes of it they are given back: the product does
/// without the SKU, and what the key was claimed for will never be done by a late copy.
fn is_claim(record: &CommitRecord) -> bool {
    let commit = &record.commit;
    let gives_back = |event: &EventData| matches!(&*event.event_type, "SkuForgone" | "NothingChanged");
    matches!(commit.stream.kind(), StreamKind::Sku | StreamKind::Request)
        || commit.events.iter().all(gives_back)
}

/// A hold that ended before it was given is refused, and released.
fn ran_out(operation: &Operation, record: &CommitRecord) -> bool {
    let released =
        |heard: &Heard| matches!(heard, Heard::Refusal { reason, .. } if reason == "RESERVATION_RELEASED");
    matches!(record.commit.stream.kind(), StreamKind::Reservation | StreamKind::Stock)
        && operation.heard.iter().any(released)
}

fn commands(evidence: &Evidence) -> impl Iterator<Item = &Operation> {
    evidence.ledger.operations.iter().filter(|operation| operation.request.key().is_some())
}

fn told(operation: &Operation) -> String {
    format!("{} as {} ({:?})", operation.request.method(), operation.actor(), operation.request)
}
