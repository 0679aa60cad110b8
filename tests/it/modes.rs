//! The same shop on the embedded log and on Kafka: the same commands, the same events.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use shopstream_tests::{Fingerprint, Setup, TestShop, fingerprints, kafka, long, read_log};

use crate::import::{import_args, month, report};

/// Imports some days of the real month and answers every command that was carried out, with its events.
async fn import(shop: &TestShop, until: &str) -> Result<BTreeMap<Fingerprint, Vec<String>>> {
    let (file, out) = (month(), shop.data().join("report.json"));
    let args = import_args(file.to_str().context("a path")?, until, out.to_str().context("a path")?);
    let said = shop.verb(&args);
    ensure!(said.status.success(), "{}{}", said.out, said.err);
    eprintln!("{}", said.out);
    let day = until.split('T').next();
    assert_eq!(report(&out), shopstream_tests::recount::recount(&month(), day));
    Ok(fingerprints(&read_log(&shop.client().await).await))
}

#[tokio::test]
async fn both_logs_hold_the_same_commands() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let until = if long() { "2010-01-01T00:00:00Z" } else { "2009-12-02T00:00:00Z" };
    let embedded = TestShop::start();
    let here = import(&embedded, until).await?;
    embedded.finish();
    let brokered = TestShop::start_with(Setup::on(&kafka.log_url("modes")));
    let there = import(&brokered, until).await?;
    brokered.finish();

    ensure!(here.len() > 1000, "only {} commands", here.len());
    let only = |these: &BTreeMap<Fingerprint, Vec<String>>, those: &BTreeMap<Fingerprint, Vec<String>>| {
        let these = these.iter().filter(|(command, names)| those.get(*command) != Some(*names));
        these.take(5).map(|((stream, id, _), names)| format!("{stream} {id} {names:?}")).collect::<Vec<_>>()
    };
    let (only_here, only_there) = (only(&here, &there), only(&there, &here));
    ensure!(
        only_here.is_empty() && only_there.is_empty(),
        "embedded only: {only_here:?}; Kafka only: {only_there:?}"
    );
    Ok(())
}
