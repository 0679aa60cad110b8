//! The checkers against a true run of the real shop, and against the same run with a fault planted in what it left: the
//! first must be green, the second red, for every promise.

mod client;
mod feed;
mod planted;
mod run;

use shopstream_tests::checkers;

/// Green, and put to the test often enough to mean something.
#[test]
fn a_true_run_keeps_every_promise() {
    let Some(evidence) = run::evidence() else { return };
    let verdicts = checkers::all(evidence);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    assert!(verdicts.iter().all(checkers::Verdict::is_green), "{verdicts:#?}");
    assert!(verdicts.iter().all(|verdict| verdict.checked >= 10), "{verdicts:#?}");
    let unknown = evidence.history.commands.iter().filter(|call| call.outcome.answer().is_none());
    assert!(unknown.count() > 10, "the kill and the planted wishes should show in the history");
}
