//! Whole checkouts: how many a second, and what each of them writes to the log (`rulings.md` 36 of the design).

use anyhow::{Context as _, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use shopstream_proto::event::v1::GetLogStatusRequest;
use shopstream_proto::order::v1::{OrderStatus, TrackOrderRequest};
use tokio::time::Instant;
use tonic::Response;

use super::acknowledged::Acknowledged;
use super::calls::Numbers;
use crate::client::Client;

/// Checkouts side by side.
const IN_FLIGHT: usize = 64;

/// What checkouts cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Checkouts {
    pub(super) count: u64,
    /// From the first order to the end of the last checkout.
    pub(super) per_second: f64,
    /// Records on the log for each, those of its stock keys included.
    pub(super) records_each: f64,
}

/// Places `count` orders and follows each to its end.
///
/// # Errors
/// An order does not end confirmed.
pub(super) async fn run(
    client: &Client,
    numbers: &Numbers,
    count: u64,
    acknowledged: &mut Acknowledged,
) -> anyhow::Result<Checkouts> {
    let (before, begun) = (records(client).await?, Instant::now());
    let placed: Vec<_> = stream::iter(0..count)
        .map(|_| check_out(client, numbers))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    let seconds = begun.elapsed().as_secs_f64();
    placed.into_iter().for_each(|number| acknowledged.add(number, None));
    let written = records(client).await? - before;
    Ok(Checkouts { count, per_second: count as f64 / seconds, records_each: written as f64 / count as f64 })
}

async fn check_out(client: &Client, numbers: &Numbers) -> anyhow::Result<u64> {
    let number = numbers.next();
    let order = numbers.order(number);
    let created =
        client.call(order, async |mut shop, request| shop.orders.create_order(request).await).await?;
    let min_position: Vec<_> = created.position.into_iter().collect();
    let order_id = created.order_id;
    let track = TrackOrderRequest {
        min_position: min_position.clone(),
        order_id: order_id.clone(),
        ..Default::default()
    };
    // The story ends when the checkout has.
    let story = async |mut shop: crate::client::Shop, request| {
        let mut story = shop.orders.track_order(request).await?.into_inner();
        let mut status = OrderStatus::Unspecified;
        while let Some(step) = story.message().await? {
            status = step.status();
        }
        Ok(Response::new(status))
    };
    let status = client.call(track, story).await.with_context(|| format!("following {order_id}"))?;
    ensure!(status == OrderStatus::Confirmed, "{order_id} ended {}", status.as_str_name());
    Ok(number)
}

/// How many records the log holds.
async fn records(client: &Client) -> anyhow::Result<i64> {
    let status = client
        .call(GetLogStatusRequest::default(), async |mut shop, request| {
            shop.events.get_log_status(request).await
        })
        .await?;
    Ok(status.partitions.iter().map(|partition| partition.end_offset).sum())
}
