//! Every model is exhausted at its short bounds, and every rule that is left out is missed.

use shopstream_models::explore::{Explored, explore};
use shopstream_models::idempotency::{self, Idempotency};
use shopstream_models::keys::{self, Keys};
use shopstream_models::ownership::{self, Ownership};
use shopstream_models::projection::{self, Projection};

/// Where a model holds that lacks a rule, the search may not end: no model is searched further than this.
const STEPS_MAX: usize = 60_000_000;

fn holds(name: &str, explored: &Explored) {
    println!("{name}: {explored}");
    assert_eq!(explored.broken, None);
    assert!(explored.exhausted, "{name} was not exhausted");
    assert_eq!(explored.never, Vec::<&str>::new(), "{name}: too little happens");
}

fn breaks(name: &str, explored: &Explored, promise: &str) {
    println!("{name}: {explored}");
    let broken = explored.broken.as_ref().unwrap_or_else(|| panic!("{name} is not missed"));
    broken.steps.iter().for_each(|step| println!("    {step}"));
    assert_eq!(broken.promise, promise, "{name}");
}

fn ownership_without(flaw: ownership::Flaw, bounds: ownership::Bounds) -> Explored {
    explore(Ownership { bounds, flaw: Some(flaw) }, STEPS_MAX)
}

fn ownership_holds(name: &str, bounds: ownership::Bounds) {
    holds(name, &explore(Ownership { bounds, flaw: None }, STEPS_MAX));
}

#[test]
fn ownership_holds_at_the_short_bounds() {
    ownership_holds("ownership", ownership::Bounds::SHORT);
}

#[test]
fn ownership_holds_where_owners_release() {
    ownership_holds("ownership, releasing", ownership::Bounds::RELEASING);
}

#[test]
fn ownership_holds_on_a_log_that_is_damaged() {
    ownership_holds("ownership, damaged", ownership::Bounds::DAMAGED);
}

#[test]
fn ownership_needs_every_rule() {
    use ownership::{Bounds, Flaw};
    let short = [
        (Flaw::EpochPerAssignment, "what is acknowledged has counted"),
        (Flaw::NoFence, "what is denied never counts"),
        (Flaw::NoSeq, "one record per command counts"),
        (Flaw::ClaimsNeedNotRise, "what is denied never counts"),
        (Flaw::AckOnReport, "what is acknowledged has counted"),
        (Flaw::DenyOnError, "what is denied never counts"),
        (Flaw::NoDedupOnReplay, "one record per command counts"),
    ];
    for (flaw, promise) in short {
        breaks(&format!("{flaw:?}"), &ownership_without(flaw, Bounds::SHORT), promise);
    }
}

#[test]
fn ownership_on_a_damaged_log_needs_the_reader() {
    use ownership::{Bounds, Flaw};
    for flaw in [Flaw::AckOnContiguousOffsets, Flaw::NoFingerprint] {
        let explored = ownership_without(flaw, Bounds::DAMAGED);
        breaks(&format!("{flaw:?}, damaged"), &explored, "what is acknowledged has counted");
    }
}

#[test]
fn contiguous_offsets_are_enough_on_a_log_that_keeps_what_it_has() {
    let flaw = ownership::Flaw::AckOnContiguousOffsets;
    holds(&format!("{flaw:?}"), &ownership_without(flaw, ownership::Bounds::RELEASING));
}

#[test]
fn idempotency_holds() {
    for (name, bounds) in [("short", idempotency::Bounds::SHORT), ("roomy", idempotency::Bounds::ROOMY)] {
        holds(&format!("idempotency, {name}"), &explore(Idempotency { bounds, flaw: None }, STEPS_MAX));
    }
}

#[test]
fn idempotency_needs_every_rule() {
    use idempotency::{Bounds, Flaw};
    let flaws = [
        (Flaw::NothingRebuilt, Bounds::SHORT, "an id has one effect"),
        (Flaw::LookUpWithoutTail, Bounds::ROOMY, "an id has one effect"),
        (Flaw::LoadWithoutTail, Bounds::SHORT, "an id has one effect"),
        (Flaw::PruneAheadOfLoads, Bounds::SHORT, "a history has no gap"),
        (Flaw::NewWhileLoading, Bounds::SHORT, "an id has one effect"),
        (Flaw::StaleLookUp, Bounds::ROOMY, "an id has one effect"),
        (Flaw::EarlyRefusal, Bounds::SHORT, "a refusal rests on what counts"),
        (Flaw::EarlyRepeat, Bounds::SHORT, "every answer is that of the effect that counts"),
        (Flaw::BodyIgnored, Bounds::SHORT, "every answer is that of the effect that counts"),
    ];
    for (flaw, bounds, promise) in flaws {
        let explored = explore(Idempotency { bounds, flaw: Some(flaw) }, STEPS_MAX);
        breaks(&format!("{flaw:?}"), &explored, promise);
    }
}

#[test]
fn keys_hold() {
    holds("keys", &explore(Keys::default(), STEPS_MAX));
}

#[test]
fn keys_need_every_rule() {
    use keys::Flaw;
    for flaw in [Flaw::NotUsedUp, Flaw::NotCompared, Flaw::OrderIgnored, Flaw::ClaimIgnored] {
        let explored = explore(Keys { flaw: Some(flaw) }, STEPS_MAX);
        breaks(&format!("{flaw:?}"), &explored, "a key has one effect");
    }
}

#[test]
fn projection_holds() {
    holds("projection", &explore(Projection::SHORT, STEPS_MAX));
}

#[test]
fn projection_needs_every_rule() {
    use projection::Flaw;
    for flaw in [Flaw::RowsThenCursor, Flaw::CursorThenRows, Flaw::NoCompare] {
        let explored = explore(Projection { flaw: Some(flaw), ..Projection::SHORT }, STEPS_MAX);
        breaks(
            &format!("{flaw:?}"),
            &explored,
            "each event before the cursor is in the rows once, and no other",
        );
    }
}
