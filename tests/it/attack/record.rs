//! What a single record can do: one that the topic refuses for good (`event-log.md` §6.6), and one whose bytes have rotted on
//! the broker (§6.7).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use shopstream_proto::catalog::v1::CreateProductRequest;
use shopstream_server::client::{Client, until};
use shopstream_tests::{Setup, kafka, requests};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::load::receive;
use super::{Attacked, BUSY, WARM, sku};

/// How long a client waits for one answer.
const DEADLINE: Duration = Duration::from_secs(8);
/// Products too large for a topic: enough for some to be in partitions that others write to.
const LARGE: u64 = 12;

/// A record of this one takes more than 7,000 bytes, however it is packed.
async fn describe(client: &Client, number: u64) -> Result<(), Status> {
    let random = StdRng::seed_from_u64(number).sample_iter(Alphanumeric).map(char::from);
    let small = requests::product(&format!("LARGE-{number}"), 500);
    let mut request =
        Request::new(CreateProductRequest { description: random.take(10_000).collect(), ..small });
    request.set_timeout(DEADLINE);
    client.shop().products.create_product(request).await.map(drop)
}

/// Whoever sent it is told to come again; everybody else goes on. With the setting mended the same request passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_topic_refuses_holds_up_no_other() -> Result<()> {
    let Some(kafka) = kafka::shared() else { return Ok(()) };
    let log = kafka.log_url("refused");
    let Some(mut attacked) = Attacked::start("refused", &log).await? else { return Ok(()) };
    attacked.topic.set_only("max.message.bytes", "5000").await;
    let attack = Instant::now();
    for number in 0..LARGE {
        let refused = describe(&attacked.client, number).await.err().context("a broker took it")?;
        ensure!(refused.code() == Code::Unavailable, "{refused:?}");
        ensure!(refused.get_details_retry_info().is_some(), "{refused:?}");
    }
    let before = attacked.load.count();
    until(async || Ok((attacked.load.count() >= before + WARM).then_some(()))).await?;

    tokio::task::spawn_blocking(move || Setup::on(&log)).await?;
    for number in 0..LARGE {
        until(async || match describe(&attacked.client, number).await {
            Err(status) if status.code() == Code::Unavailable => Ok(None),
            answer => answer.map(Some).map_err(Into::into),
        })
        .await?;
    }
    attacked.load.stop().await;
    ensure!(attacked.nothing_void_was_acknowledged(attack).await? == 0, "something is lost");
    let Attacked { shop, database, .. } = attacked;
    tokio::task::spawn_blocking(move || shop.finish()).await?;
    drop(database);
    Ok(())
}

/// Everybody has read it before and goes on; whoever reads the log from its beginning is not given it, and says where
/// it is. With the bytes back the books are right.
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_rots_on_the_broker_is_never_served() -> Result<()> {
    let Some(kafka) = tokio::task::spawn_blocking(|| kafka::Cluster::start(1)).await? else { return Ok(()) };
    let Some(mut attacked) = Attacked::start("rotten", &kafka.log_url("rotten")).await? else {
        return Ok(());
    };
    attacked.load.stop().await;
    let (partition, name) = (BUSY.start, attacked.topic.name().to_owned());
    let word = sku(partition);
    kafka.flip(1, &name, partition, &word);
    receive(&attacked.client, &word, u32::MAX).await?;
    let Attacked { shop, database, .. } = attacked;
    tokio::task::spawn_blocking(move || {
        let said = shop.verb(&["verify"]);
        ensure!(!said.status.success(), "the books were read over damage: {said:?}");
        let told = format!("{}{}", said.out, said.err);
        ensure!(told.contains("damaged"), "{told}");
        kafka.flip(1, &name, partition, &word);
        shop.finish();
        drop(kafka);
        anyhow::Ok(())
    })
    .await??;
    drop(database);
    Ok(())
}
