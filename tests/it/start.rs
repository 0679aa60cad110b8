//! How a node starts, what it says of itself then, and how it and its children end.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use shopstream_server::client::until;
use shopstream_tests::TestShop;
use tokio::net::TcpStream;

mod children;
mod copies;
mod first;
mod lines;
mod verbs;

/// How long a verb may take to say something, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_normal_start_warns_of_nothing() {
    let mut shop = TestShop::start();
    shop.verify();
    assert_eq!(warnings(&shop), Vec::<String>::new(), "the first start");
    shop.stop();
    assert_eq!(warnings(&shop), Vec::<String>::new(), "an orderly end");
    shop.restart();
    shop.verify();
    assert_eq!(warnings(&shop), Vec::<String>::new(), "a start on a log that is there");
    assert!(!shop.complaints().contains('\x1b'), "colours for no eyes: {}", shop.complaints());
    shop.finish();
}

fn warnings(shop: &TestShop) -> Vec<String> {
    let said = shop.complaints();
    assert!(said.contains("INFO"), "the node says nothing at all: {said}");
    said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).map(str::to_owned).collect()
}

/// Who breaks off a verb that had started a node for itself finds nothing of it left.
#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_is_interrupted_takes_its_node_with_it() -> Result<()> {
    let interrupted = tokio::task::spawn_blocking(|| {
        let mut shop = TestShop::start();
        assert!(shop.verb(&["demo"]).status.success());
        shop.stop();
        let mut events = shop.start_verb(&["events", "--follow"]);
        let first = events.line(PATIENCE);
        let noted = fs::read_to_string(shop.data().join("provider/address"))?;
        events.signal(Signal::SIGTERM);
        let said = events.finish(PATIENCE);
        ensure!(first.is_some() && said.err.contains("interrupted"), "{first:?} {said:?}");
        // On the same data, at once.
        shop.restart();
        shop.finish();
        Ok(noted.lines().next().context("an address")?.to_owned())
    });
    let simulator = interrupted.await??;
    until(async || Ok(TcpStream::connect(&simulator).await.is_err().then_some(()))).await
}

/// Whose terminal goes away wants an orderly end too; a signal without a meaning ends nothing. Nothing is left behind.
#[test]
fn a_hangup_ends_a_node_in_order() {
    let mut shop = TestShop::start();
    assert!(shop.verb(&["demo"]).status.success());
    let pid_file = shop.data().join("postgres/pgdata/postmaster.pid");
    let sockets = fs::read_to_string(pid_file).expect("a server");
    let sockets = sockets.lines().nth(4).expect("the folder of its socket").to_owned();
    for meaningless in [Signal::SIGUSR1, Signal::SIGUSR2] {
        nix::sys::signal::kill(shop.pid(), meaningless).expect("sent");
    }
    shop.verify();
    assert!(fs::exists(&sockets).expect("looked"), "{sockets}");
    let said = shop.ended_by(Signal::SIGHUP);
    assert!(said.contains("stopping"), "{said}");
    assert!(!fs::exists(&sockets).expect("looked"), "{sockets} is left behind");
    assert!(!shop.data().join("provider/address").exists(), "the simulator's address is left behind");
    shop.restart();
    shop.finish();
}
