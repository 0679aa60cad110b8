//! A broker that slept for longer than the others waited for it tells of an end that is long past (`event-log.md` §6.4).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shopstream_server::client::until;
use shopstream_tests::{kafka, topic};

use super::{Attacked, BUSY, WARM};

/// How long a leader sleeps: the others wait for it for 9 s.
const ASLEEP: Duration = Duration::from_secs(14);

/// The node is killed just before the leader wakes, so that its start asks then where every partition ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_makes_nobody_forget() -> Result<()> {
    let Some(kafka) = tokio::task::spawn_blocking(|| kafka::Cluster::start(3)).await? else { return Ok(()) };
    let Some(attacked) = Attacked::start_on("leader", &kafka.log_url("leader"), 3).await? else {
        return Ok(());
    };
    let sleeper = until(async || Ok(attacked.topic.leader(BUSY.start).await)).await?;
    let attack = Instant::now();
    let kafka = tokio::task::spawn_blocking(move || {
        kafka.pause(sleeper);
        kafka
    })
    .await?;
    let leader = async || Ok(attacked.topic.leader(BUSY.start).await.filter(|leader| *leader != sleeper));
    eprintln!("{} leads {:?} after {sleeper} fell asleep", until(leader).await?, attack.elapsed());
    let before = attacked.load.count();
    until(async || Ok((attacked.load.count() >= before + WARM).then_some(()))).await?;
    tokio::time::sleep(ASLEEP.saturating_sub(attack.elapsed())).await;

    let Attacked { mut shop, client, topic, mut load, database } = attacked;
    let (shop, kafka) = tokio::task::spawn_blocking(move || {
        shop.kill9();
        kafka.resume(sleeper);
        shop.restart();
        (shop, kafka)
    })
    .await?;
    let before = load.count();
    until(async || Ok((load.count() >= before + WARM).then_some(()))).await?;
    load.stop().await;
    let attacked = Attacked { shop, client, topic, load, database };
    ensure!(attacked.nothing_void_was_acknowledged(attack).await? == 0, "something is lost");
    attacked.each_counts_once().await?;
    let Attacked { shop, database, .. } = attacked;
    tokio::task::spawn_blocking(move || shop.finish()).await?;
    drop((database, kafka));
    Ok(())
}

impl Attacked {
    /// As many commits of each item as were acknowledged, and the one that brought its stock.
    async fn each_counts_once(&self) -> Result<()> {
        let mut counted = BTreeMap::<_, usize>::new();
        for stream in self.topic.counted().await.into_values() {
            *counted.entry(stream).or_default() += 1;
        }
        let mut acknowledged = BTreeMap::<_, usize>::new();
        for answer in self.load.acknowledged() {
            *acknowledged.entry(topic::stock(&answer.sku).to_string()).or_default() += 1;
        }
        for (stream, times) in acknowledged {
            ensure!(
                counted[&stream] == times + 1,
                "{stream}: {} count, {times} acknowledged",
                counted[&stream]
            );
        }
        Ok(())
    }
}
