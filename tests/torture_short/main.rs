//! The short form of `shopstream-torture`, all of it; the long forms are in `docs/torture.md`.
//!
//! Each control must see what the run beside it must not find, else that run would be blind.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// What a run said of itself, after it was found green; null where it was skipped.
fn torture(args: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("result.json");
    let said = run(args, &json);
    assert!(said.status.success(), "{args:?}:\n{}", text(&said));
    println!("{}", text(&said));
    let Ok(written) = std::fs::read(&json) else {
        // Past the test harness, which keeps to itself what a test that passes prints.
        let _ = write!(std::io::stderr(), "{}", text(&said));
        return Value::Null;
    };
    serde_json::from_slice(&written).expect("JSON")
}

fn run(args: &[&str], json: &Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shopstream-torture"));
    // Cargo has built the program under test for us, and must not build once more inside its own run.
    command.env_remove("CARGO");
    command.args(args).arg("--json").arg(json).output().expect("the program starts")
}

fn text(said: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

fn count(result: &Value, name: &str) -> u64 {
    result["counts"][name].as_u64().unwrap_or_default()
}

/// Enough happened for green to mean something.
fn at_least(result: &Value, name: &str, least: u64) {
    let counted = count(result, name);
    assert!(counted >= least, "{name}: {counted}, which is less than {least}: {result:#}");
}

#[test]
fn nothing_is_lost_or_doubled_by_kills() {
    let result = torture(&["kill", "--cycles", "200", "--seed", "1"]);
    at_least(&result, "records acknowledged before the fault", 1_000);
    at_least(&result, "broken off while it opened the log", 20);
    at_least(&result, "broken off while it appended", 100);
    torture(&["kill", "--cycles", "10", "--seed", "2", "--control"]);
}

#[test]
fn nothing_is_lost_or_doubled_by_power_cuts() {
    for fs in ["ext4", "xfs"] {
        let result = torture(&["power", "--fs", fs, "--cycles", "40", "--seed", "3"]);
        if result.is_null() {
            // A failure where `SHOPSTREAM_TEST_REQUIRE` names `loop`.
            continue;
        }
        at_least(&result, "power cuts", 40);
        at_least(&result, "records acknowledged before the fault", 400);
        torture(&["power", "--fs", fs, "--cycles", "5", "--seed", "4", "--control"]);
    }
}

#[test]
fn a_failed_operation_loses_nothing_and_is_not_tried_again() {
    let result = torture(&["io", "--every", "3", "--seed", "5"]);
    at_least(&result, "error: poisoned", 5);
    at_least(&result, "times sync failed", 5);
}

#[test]
fn a_flipped_bit_is_noticed_and_never_served() {
    let result = torture(&["flip", "--every", "97", "--seed", "6"]);
    at_least(&result, "closed, groups: a reader ends at it", 4_000);
    at_least(&result, "unsealed, last group: refused at opening", 20);
}

/// One whole shop under load at a time: they are judged by how soon they answer.
static WHOLE_SHOP: Mutex<()> = Mutex::new(());

#[test]
fn what_is_too_much_is_refused_and_soon_forgotten() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let result = torture(&["overload", "--seconds", "5", "--seed", "7"]);
    at_least(&result, "refused with advice", 100);
    at_least(&result, "accepted a second under overload", 100);
}

#[test]
fn a_database_that_is_away_loses_nothing() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let result = torture(&["database", "--seconds", "5", "--seed", "8"]);
    at_least(&result, "orders on the log", 1_000);
}

#[test]
fn a_database_that_breaks_at_any_moment_stops_nothing() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let result = torture(&["postgres", "--moments", "6", "--seed", "1"]);
    at_least(&result, "named positions asked for", 6);
}

#[test]
fn an_order_behind_a_burst_begins_at_once() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let result = torture(&["burst", "--rounds", "5", "--changes", "2560", "--seed", "1"]);
    at_least(&result, "changes", 5 * 2_560);
}

#[test]
fn a_broker_that_is_away_loses_nothing() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let result = torture(&["broker", "--seconds", "3", "--seed", "10"]);
    if !result.is_null() {
        at_least(&result, "orders on the log", 100);
    }
}

#[test]
fn a_checkout_ends_as_promised_wherever_the_node_is_killed() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    // Every branch is played undisturbed by the tests of the shop and of the processes.
    torture(&["scenario", "F-04", "F-10", "F-11", "F-14", "F-15", "--kills", "--every", "7", "--seed", "9"]);
}

#[test]
fn no_field_of_any_method_can_be_spoilt_so_that_the_shop_suffers() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let result = torture(&["fuzz", "--calls", "3000", "--seed", "1"]);
    at_least(&result, "calls", 3_000);
    at_least(&result, "fields", 200);
    at_least(&result, "OK", 300);
    at_least(&result, "InvalidArgument REQUEST_INVALID", 1_000);
}

#[test]
fn a_stranger_on_the_network_takes_nothing_from_others() {
    let _alone = WHOLE_SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    torture(&["hostile", "nul", "bombs", "tenants", "idle", "--short", "--seed", "1"]);
}
