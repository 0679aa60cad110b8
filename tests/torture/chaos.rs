//! `chaos`: three brokers, three nodes, a database, and clients that never stop, while brokers, nodes and the database are
//! killed, stopped in order and paused, one after the other. With `--networks` each has a machine of its own, and every
//! other fault cuts one of these from some of the others.
//!
//! Every client has a stock item of its own and sends it one command after the other, each until it is acknowledged, through any
//! node. The version of the item that an acknowledgement names must be the next one: a command that was lost, doubled or
//! overtaken shows at the next answer, and once more in the log at the end.

mod clients;
mod faults;
mod networks;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use rand::SeedableRng;
use rand::rngs::StdRng;
use shopstream_server::client::Client;
use shopstream_tests::kafka::Cluster;
use shopstream_tests::network::Network;
use shopstream_tests::{Database, Setup, TestShop, requests};

use self::clients::Clients;
use self::faults::{Ground, Proof};
use self::networks::Networks;
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
    /// Cut networks too; needs root
    #[arg(long)]
    networks: bool,
    #[command(flatten)]
    common: Common,
}

type Promise = (&'static str, &'static str);

const PROMISES: [Promise; 5] = [
    ("I1", "every acknowledged command is on the log"),
    ("I3", "none is there twice"),
    ("I4", "each item's commands stand in the order in which they were sent"),
    ("answers", "after every fault commands are acknowledged again within a minute"),
    ("books", "the books are right and every view is its replay"),
];
/// Of networks.
const OF_NETWORKS: [Promise; 2] = [
    ("cut", "a network was cut for sure, and is whole again"),
    ("passed on", "a node that only lacks the database has commands carried out by others"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    // Before anything is started: it has to be on this network too.
    let mut networks = None;
    if options.networks {
        let Some(mut network) = Network::make() else { return Ok(ExitCode::SUCCESS) };
        networks = Some(Networks::make(&mut network, THREE));
    }
    let folder = options.common.folder(std::env::temp_dir())?;
    let more: &[Promise] = if options.networks { &OF_NETWORKS } else { &[] };
    let mut report = Report::new("chaos", seed, &[&PROMISES[..], more].concat());
    let Some((cluster, database)) = servers(networks.as_ref()) else {
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let url = cluster.log_url("chaos");
    let setup = Setup::on_replicated(&url, THREE).reading_from(database.url());
    let nodes = start(&setup, networks.as_ref());
    let doors: Vec<Client> = nodes.iter().map(|node| runtime.block_on(node.client())).collect();
    let mut ground = Ground {
        cluster,
        database: Some(database),
        nodes,
        doors: doors.clone(),
        networks,
        runtime: runtime.handle().clone(),
        random: StdRng::seed_from_u64(seed),
        strikes: 0,
    };
    let clients = runtime.block_on(begin(doors, options.commands))?;
    while !clients.are_done() && ground.strikes < options.faults {
        let fault = ground.strike();
        report.count(&format!("{}: times", fault.name), 1);
        if let Some(proof) = fault.cut {
            proved(fault.name, proof, &mut report);
        }
        match clients.all_answered_since(fault.healed) {
            Some(stalls) => {
                report.checked("answers", 1);
                clients.note(fault.name, stalls);
            }
            None => {
                let waits = format!("fault {}, {}: a client waits for a minute", ground.strikes, fault.name);
                report.broken("answers", waits);
            }
        }
        println!("{}: {}, {} acknowledged", ground.strikes, fault.name, clients.acknowledged());
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

/// Brokers and a database, on their machines.
fn servers(networks: Option<&Networks>) -> Option<(Cluster, Database)> {
    match networks {
        Some(networks) => Cluster::start_on(&networks.brokers).zip(Database::listening(Network::DATABASE)),
        None => Cluster::start(THREE).zip(Database::start()),
    }
}

/// Nodes, on their machines.
fn start(setup: &Setup, networks: Option<&Networks>) -> Vec<TestShop> {
    let placed = |setup: Setup, index: usize| match networks {
        Some(networks) => setup.placed_on(&networks.nodes[index]),
        None => setup,
    };
    let first = TestShop::start_with(placed(setup.clone().named("a"), 0));
    let setup = setup.clone().paid_through(first.provider_url());
    let others = [("b", 1), ("c", 2)]
        .map(|(name, index)| TestShop::start_with(placed(setup.clone().named(name), index)));
    std::iter::once(first).chain(others).collect()
}

/// Notes what a cut network showed.
fn proved(name: &'static str, proof: Proof, report: &mut Report) {
    report.checked("cut", 1);
    match proof.lost {
        Ok(lost) => report.count(&format!("{name}: packets lost"), lost),
        Err(why) => report.broken("cut", format!("{name}: {why}")),
    }
    match proof.passed_on {
        Some(Ok(took)) => {
            report.checked("passed on", clients::PROBES as u64);
            report.count("passed on without a database, the slowest in ms, in all", took.as_millis() as u64);
        }
        Some(Err(why)) => report.broken("passed on", why),
        None => {}
    }
}

async fn begin(doors: Vec<Client>, commands: u64) -> anyhow::Result<Clients> {
    let door = doors.first().context("no door")?.clone();
    for item in 0..ITEMS {
        requests::sell(&door, &clients::sku(item), 1).await?;
    }
    for number in 0..clients::PROBES {
        requests::sell(&door, &clients::probe(number), 1).await?;
    }
    Ok(Clients::start(Arc::from(doors), ITEMS, commands))
}
