//! Drafts in bulk: few streams, hundreds of orders in a message, one answer when all are durable.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use shopstream_proto::order::v1::{ProcessBulkOrdersRequest, ProcessBulkOrdersResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

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
    /// Orders that were told to come again later. They are not sent again.
    pub(super) refused: u64,
    pub(super) spent: Spent,
}

/// Sends for `sending`, then waits for the answers.
///
/// # Errors
/// An order is refused for good, or a stream breaks.
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
    let (mut acknowledged, mut refused) = (Acknowledged::default(), 0);
    while let Some(answered) = streams.join_next().await {
        let answered = answered??;
        acknowledged.extend(answered.acknowledged);
        refused += answered.refused;
    }
    let per_second = acknowledged.numbers.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Bulk { per_second, acknowledged, refused, spent: meter.usage()?.since(&before) })
}

/// What became of one stream.
struct Answered {
    acknowledged: Acknowledged,
    refused: u64,
}

async fn stream(mut shop: Shop, numbers: Numbers, until: Instant) -> anyhow::Result<Answered> {
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
    account(sent, answer)
}

/// Which of the orders that were sent are durable.
fn account(mut sent: Vec<u64>, answer: ProcessBulkOrdersResponse) -> anyhow::Result<Answered> {
    ensure!(answer.received_count == sent.len() as i64, "a stream lost orders on the way");
    ensure!(answer.more_failures_count == 0, "a stream had more failures than it lists");
    let refused = answer.failures.len() as u64;
    // From the end, so that an index still means what it meant.
    for failure in answer.failures.into_iter().rev() {
        let not_now = matches!(Code::from_i32(failure.code), Code::Unavailable | Code::ResourceExhausted);
        ensure!(
            not_now,
            "order {} of a stream was refused: {} {}",
            failure.index,
            failure.reason,
            failure.message
        );
        sent.remove(usize::try_from(failure.index)?);
    }
    Ok(Answered { acknowledged: Acknowledged::of(sent, answer.positions), refused })
}

#[cfg(test)]
mod tests {
    use shopstream_proto::order::v1::BulkOrderFailure;

    use super::*;

    #[test]
    fn what_was_refused_for_now_is_not_acknowledged_and_another_refusal_is_an_error() {
        let failure = |index, code: Code| BulkOrderFailure { index, code: code.into(), ..Default::default() };
        let answer =
            |failures| ProcessBulkOrdersResponse { received_count: 4, failures, ..Default::default() };
        let not_now = vec![failure(0, Code::Unavailable), failure(2, Code::ResourceExhausted)];
        let Answered { acknowledged, refused } = account(vec![7, 8, 9, 10], answer(not_now)).unwrap();
        assert_eq!((acknowledged.numbers, refused), (vec![8, 10], 2));
        assert!(account(vec![7, 8, 9, 10], answer(vec![failure(1, Code::InvalidArgument)])).is_err());
        assert!(account(vec![7, 8], answer(Vec::new())).is_err());
    }
}
