//! `chaos`: three brokers, three nodes, a database, and clients that never stop, while brokers, nodes and the database are
//! killed, stopped in order and paused, one after the other.
//!
//! Every client has a stock item of its own and sends it one command after the other, each until it is acknowledged, through any
//! node. The version of the item that an acknowledgement names must be the next one: a command that was lost, doubled or
//! overtaken shows at the next answer, and once more in the log at the end.

mod clients;
mod faults;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use rand::SeedableRng;
use rand::rngs::StdRng;
use shopstream_server::client::Client;
use shopstream_tests::kafka::Cluster;
use shopstream_tests::{Database, Setup, TestShop, requests};

use self::clients::Clients;
use self::faults::Ground;
use crate::Common;
use crate::report::Report;

/// Nodes, and brokers.
const THREE: u8 = 3;
/// Stock items, with a client each.
const ITEMS: usize = 64;

/// How much.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Commands to be acknowledged
    #[arg(long, default_value_t = 200_000)]
    commands: u64,
    /// Faults at most; the clients go on without any when they are over
    #[arg(long, default_value_t = 1_000)]
    faults: u64,
    #[command(flatten)]
    common: Common,
}

const PROMISES: [(&str, &str); 5] = [
    ("I1", "every acknowledged command is on the log"),
    ("I3", "none is there twice"),
    ("I4", "each item's commands stand in the order in which they were sent"),
    ("answers", "after every fault commands are acknowledged again within a minute"),
    ("books", "the books are right and every view is its replay"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let mut report = Report::new("chaos", seed, &PROMISES);
    let (Some(cluster), Some(database)) = (Cluster::start(THREE), Database::start()) else {
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let url = cluster.log_url("chaos");
    let setup = Setup::on_replicated(&url, THREE).reading_from(database.url());
    let first = TestShop::start_with(setup.clone().named("a"));
    let setup = setup.paid_through(first.provider_url());
    let others = ["b", "c"].map(|name| TestShop::start_with(setup.clone().named(name)));
    let nodes = std::iter::once(first).chain(others).collect();
    let mut ground = Ground { cluster, database: Some(database), nodes, random: StdRng::seed_from_u64(seed) };

    let doors: Vec<Client> = ground.nodes.iter().map(|node| runtime.block_on(node.client())).collect();
    let clients = runtime.block_on(begin(doors, options.commands))?;
    let mut faults = 0;
    while !clients.are_done() && faults < options.faults {
        faults += 1;
        let fault = ground.strike();
        report.count(&format!("{}: times", fault.name), 1);
        match clients.all_answered_since(fault.healed) {
            Some(stalls) => {
                report.checked("answers", 1);
                clients.note(fault.name, stalls);
            }
            None => report
                .broken("answers", format!("fault {faults}, {}: a client waits for a minute", fault.name)),
        }
        println!("{faults}: {}, {} acknowledged", fault.name, clients.acknowledged());
    }
    let ended = runtime.block_on(clients.finish())?;
    report.count("commands acknowledged", ended.acknowledged);
    report.count("tries that were refused or not answered in time", ended.repeated);
    for (name, [p50, p99, max]) in ended.stalls {
        report.count(&format!("{name}: longest wait of a client, p50, in ms"), p50);
        report.count(&format!("{name}: p99"), p99);
        report.count(&format!("{name}: max"), max);
    }
    report.checked("I4", ended.acknowledged);
    ended.wrong.into_iter().for_each(|wrong| report.broken("I4", wrong));
    runtime.block_on(clients::recount(&url, &ended.by_item, &mut report));
    let [first, others @ ..] = ground.nodes.as_mut_slice() else { anyhow::bail!("no nodes") };
    others.iter_mut().for_each(TestShop::stop);
    report.checked("books", 1);
    if let Err(said) = first.audited() {
        report.broken("books", said);
    }
    first.stop();
    options.common.end(&report, folder)
}

async fn begin(doors: Vec<Client>, commands: u64) -> anyhow::Result<Clients> {
    let door = doors.first().context("no door")?.clone();
    for item in 0..ITEMS {
        requests::sell(&door, &clients::sku(item), 1).await?;
    }
    Ok(Clients::start(Arc::from(doors), ITEMS, commands))
}
