//! How far the read models are behind, as a client sees it: from the answer to a command until queries show it.
//!
//! A probe writes a draft like everybody else and then asks each view that a draft touches for an answer at its
//! position. The views' own idea of their lag is not asked: only what a reader can see counts.

use std::pin::pin;
use std::time::Duration;

use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_proto::order::v1::{GetOrderRequest, GetUserOrdersRequest, TrackOrderRequest};
use shopstream_proto::r#type::v1::Position;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::Response;

use super::acknowledged::Acknowledged;
use super::calls::{HOT_SKU, LOCATION, Numbers};
use super::load::Gate;
use crate::client::Client;

/// Lag above which views do not keep up.
pub(super) const LAG_MAX: Duration = Duration::from_secs(1);
/// Lag above which callers are held back where they are to keep in step; half of what is allowed, as views need a
/// moment to get rid of what has been taken already.
const HOLD: Duration = Duration::from_millis(500);
/// Between two probes.
const PAUSE: Duration = Duration::from_millis(50);

/// The read models, seen from outside.
#[derive(Clone)]
pub(super) struct Views {
    client: Client,
    /// Of the drafts that are written to be looked for.
    numbers: Numbers,
}

/// Lag over a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    pub(super) worst: Duration,
    /// Of the command that was written when the load ended.
    pub(super) at_end: Duration,
}

/// A watch on lag that goes on beside a load.
pub(super) struct LagWatch {
    /// Closed while the lag is above half of what is allowed.
    pub(super) gate: Gate,
    stop: watch::Sender<bool>,
    probing: AbortOnDropHandle<anyhow::Result<Duration>>,
    views: Views,
}

impl Views {
    /// Those of the node at the other end.
    pub(super) fn of(client: Client) -> Self {
        Self { client, numbers: Numbers::of_new_run() }
    }

    /// Watches lag until it is told to end.
    pub(super) fn watch(&self) -> LagWatch {
        let (gate_in, gate) = watch::channel(true);
        let (stop, stopped) = watch::channel(false);
        let probing = AbortOnDropHandle::new(tokio::spawn(self.clone().probe(gate_in, stopped)));
        LagWatch { gate, stop, probing, views: self.clone() }
    }

    /// Waits until every view shows what was acknowledged; answers how long that took.
    ///
    /// # Errors
    /// A view does not get there within minutes.
    pub(super) async fn show_all(&self, acknowledged: &Acknowledged) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let (number, mut positions) = self.write().await?;
        positions.extend(acknowledged.positions());
        self.show(number, &positions).await?;
        Ok(begun.elapsed())
    }

    /// Waits until every view shows the draft with this number, and everything at these positions.
    async fn show(&self, number: u64, positions: &[Position]) -> anyhow::Result<()> {
        let draft = self.numbers.draft(number);
        let order_id = draft.order_id.unwrap_or_default();
        let order = GetOrderRequest { min_position: positions.into(), order_id: order_id.clone() };
        let orders = GetUserOrdersRequest {
            min_position: positions.into(),
            customer_id: draft.customer_id,
            page_size: 1,
            ..GetUserOrdersRequest::default()
        };
        let story =
            TrackOrderRequest { min_position: positions.into(), order_id, ..TrackOrderRequest::default() };
        let stock = GetStockRequest {
            min_position: positions.into(),
            sku: HOT_SKU.into(),
            location: LOCATION.into(),
        };
        let client = &self.client;
        let all = async {
            tokio::try_join!(
                client.call(order, async |mut shop, request| shop.orders.get_order(request).await),
                client.call(orders, async |mut shop, request| shop.orders.get_user_orders(request).await),
                client.call(story, async |mut shop, request| {
                    let mut story = shop.orders.track_order(request).await?.into_inner();
                    Ok(Response::new(story.message().await?))
                }),
                client.call(stock, async |mut shop, request| shop.inventory.get_stock(request).await),
            )
        };
        // Four calls are too much for the stacks of all that wait for them.
        Box::pin(all).await?;
        Ok(())
    }

    /// Writes a draft; answers its number and where it is on the log.
    async fn write(&self) -> anyhow::Result<(u64, Vec<Position>)> {
        let number = self.numbers.next();
        let draft = self.numbers.draft(number);
        let answer =
            self.client.call(draft, async |mut shop, request| shop.orders.create_order(request).await);
        Ok((number, answer.await?.position.into_iter().collect()))
    }

    /// The worst lag until it is stopped.
    async fn probe(
        self,
        gate: watch::Sender<bool>,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<Duration> {
        let mut worst = Duration::ZERO;
        while !*stopped.borrow() {
            let (number, positions) = self.write().await?;
            let begun = Instant::now();
            let mut shown = pin!(self.show(number, &positions));
            match timeout(HOLD, &mut shown).await {
                Ok(shown) => shown?,
                Err(_late) => {
                    gate.send_replace(false);
                    shown.await?;
                }
            }
            gate.send_replace(true);
            worst = worst.max(begun.elapsed());
            sleep(PAUSE).await;
        }
        Ok(worst)
    }
}

impl LagWatch {
    /// The load has ended: answers the lag of this moment, and the worst so far.
    ///
    /// # Errors
    /// A view does not get there within minutes.
    pub(super) async fn end(self) -> anyhow::Result<Lag> {
        self.stop.send_replace(true);
        let (number, positions) = self.views.write().await?;
        let begun = Instant::now();
        self.views.show(number, &positions).await?;
        let at_end = begun.elapsed();
        Ok(Lag { worst: at_end.max(self.probing.await??), at_end })
    }
}
