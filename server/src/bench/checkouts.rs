//! Whole checkouts: how many a second, and what each of them writes to the log (`rulings.md` 36 of the design).

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use shopstream_proto::event::v1::GetLogStatusRequest;
use shopstream_proto::order::v1::{OrderStatus, TrackOrderRequest};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::acknowledged::Acknowledged;
use super::calls::Numbers;
use crate::client::{Client, Shop};

/// Checkouts side by side.
const IN_FLIGHT: usize = 64;
/// How long one story may take before it is asked for again, as a client does that hears nothing any more.
const SILENCE: Duration = Duration::from_secs(5);
/// How often a story is asked for.
const ASKS: u32 = 12;

/// What checkouts cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Checkouts {
    pub(super) count: u64,
    /// From the record of the first order to the record that ends the last checkout.
    pub(super) per_second: f64,
    /// Records on the log for each, those of its stock keys included.
    pub(super) records_each: f64,
    /// Stories that fell silent and were asked for again.
    pub(super) silent: u64,
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
    let before = records(client).await?;
    let ended: Vec<(u64, Story)> = stream::iter(0..count)
        .map(|_| check_out(client, numbers))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    let written = records(client).await? - before;
    let first = ended.iter().map(|(_, story)| story.began).fold(f64::INFINITY, f64::min);
    let last = ended.iter().map(|(_, story)| story.ended).fold(0.0, f64::max);
    ended.iter().for_each(|(number, _)| acknowledged.add(*number, None));
    Ok(Checkouts {
        count,
        per_second: count as f64 / (last - first),
        records_each: written as f64 / count as f64,
        silent: ended.iter().map(|(_, story)| u64::from(story.silent)).sum(),
    })
}

/// One order's way, in seconds of the node's clock.
#[derive(Clone, Copy, Default)]
struct Story {
    began: f64,
    ended: f64,
    status: OrderStatus,
    silent: u32,
}

async fn check_out(client: &Client, numbers: &Numbers) -> anyhow::Result<(u64, Story)> {
    let number = numbers.next();
    let order = numbers.order(number);
    let created =
        client.call(order, async |mut shop, request| shop.orders.create_order(request).await).await?;
    let order_id = created.order_id;
    let request = TrackOrderRequest {
        min_position: created.position.into_iter().collect(),
        order_id: order_id.clone(),
        ..TrackOrderRequest::default()
    };
    for silent in 0..ASKS {
        let told = client.call(request.clone(), follow);
        let Ok(told) = timeout(SILENCE, told).await else { continue };
        let story = told.with_context(|| format!("following {order_id}"))?;
        ensure!(story.status == OrderStatus::Confirmed, "{order_id} ended {}", story.status.as_str_name());
        return Ok((number, Story { silent, ..story }));
    }
    bail!("{order_id} has not ended after {} s", (SILENCE * ASKS).as_secs())
}

/// Listens to the end, which comes when nothing is left to do for the order.
async fn follow(mut shop: Shop, request: Request<TrackOrderRequest>) -> Result<Response<Story>, Status> {
    let mut steps = shop.orders.track_order(request).await?.into_inner();
    let mut story = Story { began: f64::INFINITY, ..Story::default() };
    while let Some(step) = steps.message().await? {
        story.status = step.status();
        if let Some(time) = step.entry.and_then(|entry| entry.record_time) {
            let seconds = time.seconds as f64 + f64::from(time.nanos) / 1e9;
            (story.began, story.ended) = (story.began.min(seconds), story.ended.max(seconds));
        }
    }
    Ok(Response::new(story))
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
