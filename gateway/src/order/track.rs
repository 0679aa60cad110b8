//! TrackOrder: one order's story so far, then each further event.
//!
//! The entries come from the read model, in order and each once; the live feed only says when to look again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use shopstream_domain::{OrderId, TenantId};
use shopstream_eventlog::Position;
use shopstream_projections::Projection;
use shopstream_projections::order::order_timeline::order_of;
use shopstream_projections::order::{TimelineEntry, TimelineKey};
use shopstream_proto::order::v1::{OrderStatus, TrackOrderRequest, TrackOrderResponse};
use shopstream_proto::{Beginning, Resumable, Validate};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::{queries, view};
use crate::call::Call;
use crate::failure::Failure;
use crate::live::{Batch, Listener};
use crate::positions::log_id;
use crate::recent::About;
use crate::shop::Shop;
use crate::stream::{HEARTBEAT, Messages, Source, messages};
use crate::token::Scope;
use crate::wire::id;

/// Entries per query.
const PAGE: u32 = 200;
/// How long the view may take to get what the live feed has; a view that takes longer does not work.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn stream(
    shop: &Shop,
    call: &Call,
    mut request: TrackOrderRequest,
) -> Result<Messages<TrackOrderResponse>, Failure> {
    request.validate()?;
    let order_id = id(OrderId::new(&request.order_id), "order_id")?;
    let Beginning { min_position, resume_token } = request.take_beginning();
    let scope = Scope::new("TrackOrder", "resume_token", &call.tenant, &request);
    let told = if resume_token.is_empty() { Told::default() } else { scope.open::<Told>(&resume_token)? };
    shop.live.log_name().check(&told.log_id, || "resume_token".to_owned())?;
    let on = order_id.stream(&call.tenant);
    if let Some(offset) = told.offset {
        let last = Position { partition: on.partition(shop.means.commands.partitions()), offset };
        shop.check_reached(&[last], |_| "resume_token".to_owned()).await?;
    }

    // Listening begins before the first look, so that nothing falls between the two.
    let listener = shop.live.listen()?;
    let views = [Projection::OrderTimeline, Projection::OrderDetail];
    let read = || async { Ok(shop.reads().order_detail(&call.tenant, &order_id).await?) };
    let found = shop.find(call, &views, &on, &min_position, read).await?;
    let detail = found.ok_or_else(|| queries::not_found(&order_id))?;
    // What the feed said before we listened is not said again: the first look must show it.
    if let Some(heard) = listener.from.get(usize::from(detail.partition)).and_then(|next| next.checked_sub(1))
    {
        let heard = Position { partition: detail.partition, offset: heard };
        shop.wait_for(call, Projection::OrderTimeline, &[heard]).await?;
    }
    let story = Story {
        shop: shop.clone(),
        tenant: call.tenant.clone(),
        partition: detail.partition,
        order_id,
        scope,
        listener,
        told,
        news: None,
        look: true,
        ready: VecDeque::new(),
    };
    Ok(messages(&shop.live, story))
}

/// How far the story was told: what a token says.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(uint64, optional, tag = "1")]
    offset: Option<u64>,
    #[prost(uint32, tag = "2")]
    index_in_commit: u32,
    /// Of the order, after the last entry.
    #[prost(int32, tag = "3")]
    status: i32,
    /// The checkout has nothing left to do.
    #[prost(bool, tag = "4")]
    checkout_done: bool,
    /// Which log the offset is of. Tokens of earlier programs do not say.
    #[prost(string, tag = "5")]
    log_id: String,
}

impl Told {
    fn place(&self) -> Option<TimelineKey> {
        self.offset.map(|offset| TimelineKey { offset, index_in_commit: self.index_in_commit })
    }

    fn tell(&mut self, entry: &TimelineEntry) {
        (self.offset, self.index_in_commit) = (Some(entry.offset), entry.index_in_commit);
        if let Some(status) = status_after(&entry.event_type) {
            self.status = status.into();
        }
        match entry.event_type.as_str() {
            "CheckoutDone" => self.checkout_done = true,
            // It may be taken up again, for a cancellation (F-14).
            "CheckoutReversing" => self.checkout_done = false,
            _ => {}
        }
    }

    fn ended(&self) -> bool {
        match OrderStatus::try_from(self.status) {
            Ok(OrderStatus::Cancelled) => true,
            Ok(OrderStatus::Confirmed) => self.checkout_done,
            _ => false,
        }
    }
}

/// The order's status after an event of this name; `None` where it stays.
fn status_after(event_type: &str) -> Option<OrderStatus> {
    match event_type {
        "OrderDrafted" => Some(OrderStatus::Draft),
        "OrderSubmitted" => Some(OrderStatus::Submitted),
        "OrderAwaitingPayment" => Some(OrderStatus::AwaitingPayment),
        "OrderConfirmed" => Some(OrderStatus::Confirmed),
        "OrderCancellationRequested" => Some(OrderStatus::Cancelling),
        "OrderCancelled" => Some(OrderStatus::Cancelled),
        _ => None,
    }
}

struct Story {
    shop: Shop,
    tenant: TenantId,
    order_id: OrderId,
    partition: u16,
    scope: Scope,
    listener: Listener,
    told: Told,
    /// What happened and the view has not got yet, and until when it is waited for.
    news: Option<(Position, Instant)>,
    /// There may be more than was told.
    look: bool,
    /// One page.
    ready: VecDeque<TimelineEntry>,
}

impl Source for Story {
    type Message = TrackOrderResponse;

    async fn next(&mut self) -> Result<Option<TrackOrderResponse>, Failure> {
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            if let Some(entry) = self.ready.pop_front() {
                self.told.tell(&entry);
                // Who asks for the order after this sees no less.
                self.shop.note_shown(About::stream(&self.order_id.stream(&self.tenant)), entry.position());
                return Ok(Some(self.message(Some(entry))));
            }
            if self.look {
                self.turn_page().await?;
                continue;
            }
            if self.told.ended() {
                return Ok(None);
            }
            // A heartbeat interrupts what is waited for, and ends nothing.
            match timeout_at(heartbeat, self.wait_for_more()).await {
                Ok(more) => more?,
                Err(_) => return Ok(Some(self.message(None))),
            }
        }
    }
}

impl Story {
    async fn turn_page(&mut self) -> Result<(), Failure> {
        let page = self.shop.reads().timeline(&self.tenant, &self.order_id, self.told.place(), PAGE).await?;
        self.look = page.len() == PAGE as usize;
        self.ready = page.into();
        Ok(())
    }

    /// The position of the next thing that happens to this order, or of anything, where some of it was missed.
    async fn news(&mut self) -> Result<Position, Failure> {
        loop {
            match self.listener.feed.recv().await {
                Ok(batch) => {
                    if let Some(position) = self.mentioned(&batch) {
                        return Ok(position);
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    self.listener = self.shop.live.listen()?;
                    let head = self.listener.from.get(usize::from(self.partition)).copied().unwrap_or(0);
                    return Ok(Position { partition: self.partition, offset: head.saturating_sub(1) });
                }
                Err(RecvError::Closed) => return Err(self.shop.live.ended()),
            }
        }
    }

    fn mentioned(&self, batch: &Arc<Batch>) -> Option<Position> {
        let about_it = |record: &&shopstream_eventlog::CommitRecord| {
            let stream = &record.commit.stream;
            record.position.partition == self.partition
                && stream.tenant_str() == self.tenant.as_str()
                && order_of(stream).as_ref() == Some(&self.order_id)
        };
        batch.commits.iter().rfind(about_it).map(|record| record.position)
    }

    /// Waits for news, and until the view has them. Cancel-safe.
    async fn wait_for_more(&mut self) -> Result<(), Failure> {
        let (position, deadline) = match self.news {
            Some(news) => news,
            None => {
                let news = (self.news().await?, Instant::now() + PATIENCE);
                *self.news.insert(news)
            }
        };
        self.shop.reads().wait_for(Projection::OrderTimeline, &[position], deadline).await?;
        (self.news, self.look) = (None, true);
        Ok(())
    }

    fn message(&mut self, entry: Option<TimelineEntry>) -> TrackOrderResponse {
        self.told.log_id = log_id();
        TrackOrderResponse {
            entry: entry.map(view::timeline_entry),
            status: self.told.status,
            resume_token: self.scope.seal(&self.told),
        }
    }
}

#[cfg(test)]
mod tests {
    use shopstream_domain::StreamKind;
    use shopstream_domain::model::Event;

    use super::*;

    #[test]
    fn every_event_that_moves_an_order_is_known_here() {
        for (name, _) in Event::types(StreamKind::Order) {
            let moves = *name != "OrderUnitsReturned";
            assert_eq!(status_after(name).is_some(), moves, "{name}");
        }
        let checkout: Vec<_> = Event::types(StreamKind::Checkout).iter().map(|(name, _)| *name).collect();
        assert!(["CheckoutDone", "CheckoutReversing"].iter().all(|name| checkout.contains(name)));
    }

    #[test]
    fn a_story_ends_cancelled_or_confirmed_and_done() {
        let told = |status: OrderStatus, checkout_done| Told {
            status: status.into(),
            checkout_done,
            ..Told::default()
        };
        assert!(told(OrderStatus::Cancelled, false).ended());
        assert!(told(OrderStatus::Confirmed, true).ended());
        assert!(!told(OrderStatus::Confirmed, false).ended());
        assert!(!told(OrderStatus::Submitted, true).ended());
    }
}
