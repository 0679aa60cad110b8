//! Holds the running shop to its promises: starts the real program on real servers, asks it over the network, and
//! recounts by itself what it says.
//!
//! A test waits for facts, never for time, and every wait has an end. What a test cannot have (a broker, the whole
//! retail file) is skipped with a loud line, or fails where `SHOPSTREAM_TEST_REQUIRE` names it.

mod calls;
pub mod checkers;
mod database;
mod events;
pub mod kafka;
pub mod network;
mod process;
pub mod records;
pub mod recount;
mod refusal;
pub mod requests;
pub mod segments;
mod shop;
pub mod topic;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use calls::{Call, calls};
pub use database::{Database, Paused};
pub use events::{Fingerprint, fingerprints, read_log};
pub use process::{Process, Said, tied};
pub use refusal::{Refusal, refusal};
pub use shop::{Setup, Shared, TestShop};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The program under test: cargo puts it beside the folder of the test that runs, and beside other programs.
///
/// # Panics
/// It is not there.
pub fn program() -> PathBuf {
    let running = std::env::current_exe().expect("a running test has a path");
    let folders = running.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("shopstream-under-test")).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("no shopstream-under-test near {}: run with cargo", running.display()))
}

/// Whether the long forms of the tests are wanted: `SHOPSTREAM_TEST_LONG=1`.
pub fn long() -> bool {
    std::env::var_os("SHOPSTREAM_TEST_LONG").is_some_and(|value| value == "1")
}

/// Says that a test is skipped for want of `what`.
///
/// # Panics
/// `SHOPSTREAM_TEST_REQUIRE` names it.
pub fn skip(what: &str, way_out: &str) {
    assert!(!is_required(what), "{what} is required, but {way_out}");
    eprintln!("SKIPPED for want of {what}: {way_out}");
}

/// Whether `SHOPSTREAM_TEST_REQUIRE` names `what`: then to go without it is a failure.
pub fn is_required(what: &str) -> bool {
    let required = std::env::var("SHOPSTREAM_TEST_REQUIRE").unwrap_or_default();
    required.split(',').any(|name| name.trim() == what)
}

/// A number that this process has not used.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
