//! Drafts in bulk: few streams, hundreds of orders in a message, one answer when all are durable.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use shopstream_proto::order::v1::ProcessBulkOrdersRequest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::acknowledged::Acknowledged;
use super::calls::Numbers;
use super::machine::{Meter, Spent};
use crate::client::{Client, Shop, describe};

/// Streams side by side, each over a connection of its own.
pub(super) const STREAMS: usize = 4;
/// Orders in one message.
const IN_MESSAGE: usize = 200;
/// Messages made in advance per stream.
const AHEAD: usize = 2;
/// How long the answer may take after the last message.
const GRACE: Duration = Duration::from_secs(120);

/// What became of the streams.
pub(super) struct Bulk {
    /// Orders per second, from the first message to the answer that all are durable.
    pub(super) per_second: f64,
    pub(super) acknowledged: Acknowledged,
    pub(super) spent: Spent,
}

/// Sends for `sending`, then waits for the answers.
///
/// # Errors
/// An order is refused, or a stream breaks.
pub(super) async fn send(
    client: &Client,
    numbers: &Numbers,
    sending: Duration,
    meter: &Meter,
) -> anyhow::Result<Bulk> {
    let (before, begun) = (meter.usage()?, Instant::now());
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(stream(client.shop(), numbers.clone(), begun + sending));
    }
    let mut acknowledged = Acknowledged::default();
    while let Some(answered) = streams.join_next().await {
        acknowledged.extend(answered??);
    }
    let per_second = acknowledged.numbers.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Bulk { per_second, acknowledged, spent: meter.usage()?.since(&before) })
}

async fn stream(mut shop: Shop, numbers: Numbers, until: Instant) -> anyhow::Result<Acknowledged> {
    let (messages, stream) = mpsc::channel(AHEAD);
    let send = async move {
        let mut sent = Vec::new();
        while Instant::now() < until {
            let orders: Vec<u64> = (0..IN_MESSAGE).map(|_| numbers.next()).collect();
            let message = ProcessBulkOrdersRequest {
                orders: orders.iter().map(|number| numbers.draft(*number)).collect(),
            };
            if messages.send(message).await.is_err() {
                // The call has ended; its answer tells why.
                break;
            }
            sent.extend(orders);
        }
        sent
    };
    let answered = shop.orders.process_bulk_orders(ReceiverStream::new(stream));
    let both = timeout(until.duration_since(Instant::now()) + GRACE, async { tokio::join!(send, answered) });
    let (sent, answer) = both.await.context("a bulk stream was not answered")?;
    let answer = answer.map_err(|status| anyhow::anyhow!(describe(&status)))?.into_inner();
    if let Some(failure) = answer.failures.first() {
        anyhow::bail!(
            "order {} of a bulk stream was refused: {} {}",
            failure.index,
            failure.reason,
            failure.message
        );
    }
    ensure!(
        answer.accepted_count == sent.len() as i64,
        "a bulk stream took {} of {} orders without saying why",
        answer.accepted_count,
        sent.len()
    );
    Ok(Acknowledged::of(sent, answer.positions))
}
