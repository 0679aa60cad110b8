//! Holds the running shop to its promises: starts the real program on real servers, asks it over the network, and
//! recounts by itself what it says.
//!
//! A test waits for facts, never for time, and every wait has an end. What a test cannot have (a broker, the whole
//! retail file) is skipped with a loud line, or fails where `SHOPSTREAM_TEST_REQUIRE` names it.

mod calls;
mod database;
mod events;
pub mod kafka;
mod process;
pub mod recount;
mod refusal;
pub mod requests;
mod shop;
pub mod topic;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use calls::{Call, calls};
pub use database::Database;
pub use events::{Fingerprint, fingerprints, read_log};
pub use process::{Process, Said, tied};
pub use refusal::{Refusal, refusal};
pub use shop::{Setup, Shared, TestShop};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The program under test: cargo puts it beside the folder of the test that runs.
///
/// # Panics
/// It is not there.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let program = test.ancestors().nth(2).expect("a build folder").join("shopstream-under-test");
    assert!(program.is_file(), "{} is not there: run the tests with cargo", program.display());
    program
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
    let required = std::env::var("SHOPSTREAM_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name.trim() == what), "{what} is required, but {way_out}");
    eprintln!("SKIPPED for want of {what}: {way_out}");
}

/// A number that this process has not used.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
