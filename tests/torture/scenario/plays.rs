//! What is played: every branch of C.5.3 that a shop of today has.

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::LocalBoxFuture;
use nix::unistd::Pid;
use shopstream_domain::{OrderId, StreamId, TenantId};
use shopstream_proto::event::v1::{GetLogStatusRequest, PartitionRange, ReadRequest, ReadResponse};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CancelReason, CreateOrderRequest, GetOrderRequest, Order, OrderStatus,
};
use shopstream_proto::payment::v1::ProcessPaymentRequest;
use shopstream_proto::process::v1::ResumeProcessRequest;
use shopstream_proto::returns::v1::{CreateReturnRequest, GetReturnRequest, NewReturnLine, ReturnStatus};
use shopstream_server::client::{Client, until};
use shopstream_tests::Paused;
use shopstream_tests::requests::{ended, line, order, place};
use tonic::{Code, Streaming};

/// One branch.
pub(super) struct Play {
    pub(super) id: &'static str,
    pub(super) says: &'static str,
    pub(super) on: Shop,
    /// What is in stock before.
    pub(super) units: i64,
    pub(super) act: fn(Scene) -> LocalBoxFuture<'static, Result<()>>,
}

/// The shop that a branch needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shop {
    /// One that gives its provider up early, and a step that fails.
    Usual,
    /// One whose holds end soon.
    ShortHolds,
    /// One that gives its stock up early, has a database that can be stopped, and has just been started: what it
    /// knows of any stock is in there.
    Forgetful,
}

/// Where it is played.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) client: Client,
    /// That of the SKU, and a part of the order's.
    pub(super) name: String,
    /// Which of its orders.
    pub(super) number: i64,
    /// The postmaster of a shop that is [`Shop::Forgetful`].
    pub(super) postmaster: Option<Pid>,
    /// Whether the node will be killed meanwhile.
    pub(super) is_disturbed: bool,
}

/// The streams of an order.
struct Streams {
    order: StreamId,
    checkout: StreamId,
    reservation: StreamId,
}

macro_rules! play {
    ($id:literal, $says:literal, $shop:expr, $units:expr, $act:path) => {
        Play {
            id: $id,
            says: $says,
            on: $shop,
            units: $units,
            act: |scene| Box::pin(async move { $act(&scene).await }),
        }
    };
}

/// How many cancellations are sent right behind a pivot, until one comes before the confirmation.
const RACES: i64 = 50;

/// All of them.
pub(super) const PLAYS: [Play; 15] = [
    play!("F-01", "an unknown SKU", Shop::Usual, 2, unknown_sku),
    play!("F-02", "out of stock", Shop::Usual, 1, out_of_stock),
    play!("F-04", "the stock does not answer", Shop::Forgetful, 2, stock_silent),
    play!("F-08", "declined for good", Shop::Usual, 2, declined),
    play!("F-08", "declined, then paid otherwise", Shop::Usual, 2, paid_otherwise),
    play!("F-09", "the customer never comes back", Shop::ShortHolds, 2, never_comes_back),
    play!("F-10", "charged, and the answer is lost", Shop::Usual, 2, answer_lost),
    play!("F-11", "cancelled while the charge is unknown", Shop::Usual, 2, cancelled_while_unknown),
    play!("F-12", "answered twice", Shop::Usual, 2, answered_twice),
    play!("F-13", "the hold runs out under the payment", Shop::ShortHolds, 2, hold_runs_out),
    play!("F-14", "cancelled at once", Shop::Usual, 2, cancelled_at_once),
    play!("F-14", "cancelled after the end", Shop::Usual, 2, cancelled_after_the_end),
    play!("F-15", "cancelled between pivot and confirmation", Shop::Usual, 2 * RACES, confirmation_beaten),
    play!("F-21", "a refund keeps failing", Shop::Usual, 2, refund_fails),
    play!("F-22", "nothing goes wrong", Shop::Usual, 2, confirmed),
];

async fn unknown_sku(scene: &Scene) -> Result<()> {
    scene.refused().await?;
    let get = GetOrderRequest { min_position: Vec::new(), order_id: scene.order_id() };
    until(async || match scene.client.shop().orders.get_order(get.clone()).await {
        Err(status) if status.code() == Code::NotFound => Ok(Some(())),
        Err(_) => Ok(None),
        Ok(order) => bail!("it is there: {order:?}"),
    })
    .await
}

async fn out_of_stock(scene: &Scene) -> Result<()> {
    is_cancelled(&scene.pay_with("tok_ok").await?, &[CancelReason::OutOfStock])
}

/// Nobody has asked for this stock since the node was started, and where it could be read nothing moves.
async fn stock_silent(scene: &Scene) -> Result<()> {
    let postmaster = scene.postmaster.context("a shop whose database can be stopped")?;
    // What is sold at which price is at hand then.
    scene.refused().await?;
    let given_up = scene.listen(&scene.streams()?.checkout, "CheckoutCompensating").await?;
    let paused = Paused::server(postmaster);
    let is_placed = scene.client.shop().orders.create_order(scene.order("tok_ok")).await.is_ok();
    let is_given_up = is_placed && heard(given_up).await;
    // Also for a node that was killed: it does not come up while its database stands still.
    drop(paused);
    let end = scene.pay_with("tok_ok").await?;
    if scene.is_disturbed && !is_given_up && end.status() == OrderStatus::Confirmed {
        return Ok(());
    }
    is_cancelled(&end, &[CancelReason::Timeout])
}

async fn declined(scene: &Scene) -> Result<()> {
    is_cancelled(&scene.pay_with("tok_decline").await?, &[CancelReason::PaymentDeclined])
}

async fn paid_otherwise(scene: &Scene) -> Result<()> {
    let placed = scene.create("tok_decline_retryable").await?;
    scene.seen(OrderStatus::AwaitingPayment).await?;
    let pay = ProcessPaymentRequest {
        request_id: format!("pay again:{}", scene.order_id()),
        order_id: scene.order_id(),
        payment_method_token: "tok_good".into(),
        ..ProcessPaymentRequest::default()
    };
    let pay = scene.client.call(pay, async |mut shop, request| shop.payments.process_payment(request).await);
    is_confirmed(&ended(&scene.client, &placed, pay.await?.position).await?)
}

async fn never_comes_back(scene: &Scene) -> Result<()> {
    let end = scene.pay_with("tok_decline_retryable").await?;
    // Where the node was away for as long as the hold, the order has expired before it was paid for at all.
    is_cancelled(&end, &[CancelReason::PaymentDeclined, CancelReason::PaymentTimeout])
}

async fn answer_lost(scene: &Scene) -> Result<()> {
    is_confirmed(&scene.pay_with("tok_timeout_after_charge").await?)
}

async fn cancelled_while_unknown(scene: &Scene) -> Result<()> {
    scene.create("tok_timeout_after_charge").await?;
    is_cancelled(&scene.cancel().await?, &[CancelReason::Customer])
}

async fn answered_twice(scene: &Scene) -> Result<()> {
    is_confirmed(&scene.pay_with("tok_answer_twice").await?)
}

async fn hold_runs_out(scene: &Scene) -> Result<()> {
    let end = scene.pay_with("tok_slow").await?;
    if end.status() == OrderStatus::Confirmed {
        return Ok(());
    }
    // The second hold runs out as well where the node was away.
    is_cancelled(&end, &[CancelReason::OutOfStockAfterPayment, CancelReason::PaymentTimeout])
}

async fn cancelled_at_once(scene: &Scene) -> Result<()> {
    scene.create("tok_ok").await?;
    is_cancelled(&scene.cancel().await?, &[CancelReason::Customer])
}

async fn cancelled_after_the_end(scene: &Scene) -> Result<()> {
    is_confirmed(&scene.pay_with("tok_ok").await?)?;
    is_cancelled(&scene.cancel().await?, &[CancelReason::Customer])
}

/// Order after order, until one was never confirmed although its stock was sold. Where the node is killed, whatever comes
/// first then is as good.
async fn confirmation_beaten(scene: &Scene) -> Result<()> {
    for race in 0..RACES {
        let scene = scene.with_order(race);
        let Streams { order, reservation, .. } = scene.streams()?;
        let sold = scene.listen(&reservation, "ReservationCommitted").await?;
        scene.create("tok_ok").await?;
        let is_sold = heard(sold).await;
        is_cancelled(&scene.cancel().await?, &[CancelReason::Customer])?;
        if scene.is_disturbed || (is_sold && !scene.has(&order, "OrderConfirmed").await?) {
            return Ok(());
        }
    }
    bail!("{RACES} cancellations all came behind the confirmation")
}

/// The shop tries a step that failed once more, then a person must look.
async fn refund_fails(scene: &Scene) -> Result<()> {
    is_confirmed(&scene.pay_with("tok_refund_fails_2").await?)?;
    let return_id = format!("ret_{}", scene.name);
    let give_back = CreateReturnRequest {
        request_id: format!("give back:{return_id}"),
        return_id: Some(return_id.clone()),
        order_id: scene.order_id(),
        lines: vec![NewReturnLine { line_index: 0, quantity: 2 }],
        ..CreateReturnRequest::default()
    };
    let client = &scene.client;
    client.call(give_back, async |mut shop, request| shop.returns.create_return(request).await).await?;
    // A node that was killed forgets how often it has tried: the refund may come through before anybody is asked.
    if return_when(client, &return_id, &[ReturnStatus::NeedsAttention, ReturnStatus::Resolved]).await?
        == ReturnStatus::NeedsAttention
    {
        let resume = ResumeProcessRequest {
            request_id: format!("seen to:{return_id}"),
            process_id: return_id.clone(),
            reason: "seen to".into(),
            ..ResumeProcessRequest::default()
        };
        client.call(resume, async |mut shop, request| shop.processes.resume_process(request).await).await?;
    }
    return_when(client, &return_id, &[ReturnStatus::Resolved]).await.map(drop)
}

async fn confirmed(scene: &Scene) -> Result<()> {
    is_confirmed(&scene.pay_with("tok_ok").await?)
}

impl Scene {
    /// The same with another order of the same SKU.
    fn with_order(&self, number: i64) -> Self {
        Self { number, ..self.clone() }
    }

    fn order_id(&self) -> String {
        format!("ord_{}-{}", self.name, self.number)
    }

    /// Where this order's facts are told.
    fn streams(&self) -> Result<Streams> {
        let (id, tenant) = (OrderId::new(&self.order_id())?, TenantId::default_tenant());
        Ok(Streams {
            order: id.stream(&tenant),
            checkout: id.checkout_stream(&tenant),
            reservation: id.reservation().stream(&tenant),
        })
    }

    fn order(&self, token: &str) -> CreateOrderRequest {
        order(&self.order_id(), &self.name, 2, token)
    }

    async fn create(&self, token: &str) -> Result<String> {
        let order = self.order(token);
        let placed = self
            .client
            .call(order, async |mut shop, request| shop.orders.create_order(request).await)
            .await?;
        Ok(placed.order_id)
    }

    async fn pay_with(&self, token: &str) -> Result<Order> {
        place(&self.client, self.order(token)).await
    }

    async fn cancel(&self) -> Result<Order> {
        let cancel = CancelOrderRequest {
            request_id: format!("cancel:{}", self.order_id()),
            order_id: self.order_id(),
            reason: CancelReason::Customer.into(),
            ..CancelOrderRequest::default()
        };
        let asked = self
            .client
            .call(cancel, async |mut shop, request| shop.orders.cancel_order(request).await)
            .await?;
        ended(&self.client, &self.order_id(), asked.position).await
    }

    async fn seen(&self, status: OrderStatus) -> Result<()> {
        let get = GetOrderRequest { min_position: Vec::new(), order_id: self.order_id() };
        until(async || match self.client.shop().orders.get_order(get.clone()).await {
            Ok(answer) => {
                let order = answer.into_inner().order.context("an answer without an order")?;
                Ok((order.status() == status).then_some(()))
            }
            Err(_) => Ok(None),
        })
        .await
    }

    /// Nobody sells what is wanted beside this SKU, and the order is not taken.
    async fn refused(&self) -> Result<()> {
        let mut wanted = self.order("tok_ok");
        wanted.lines.push(line(&format!("{}-nobody-sells-this", self.name), 2));
        let refused = self.client.shop().orders.create_order(wanted).await.err().context("it was taken")?;
        // A node that was just killed answers otherwise, and nothing was done.
        let is_refused =
            matches!(refused.code(), Code::FailedPrecondition | Code::Unavailable | Code::Unknown);
        ensure!(is_refused, "{refused:?}");
        Ok(())
    }

    /// Whether the log has this event of a stream.
    async fn has(&self, stream: &StreamId, event_type: &str) -> Result<bool> {
        Ok(heard(self.client.shop().events.read(one(stream, event_type)).await?.into_inner()).await)
    }

    /// Listens from now on for this event of a stream.
    async fn listen(&self, stream: &StreamId, event_type: &str) -> Result<Streaming<ReadResponse>> {
        let mut events = self.client.shop().events;
        let status = events.get_log_status(GetLogStatusRequest::default()).await?.into_inner();
        let from = status.partitions.iter().map(|partition| PartitionRange {
            partition: partition.partition,
            from_offset: partition.end_offset,
            to_offset: None,
        });
        let read = ReadRequest { partitions: from.collect(), follow: true, ..one(stream, event_type) };
        Ok(events.read(read).await?.into_inner())
    }
}

/// One event of this name.
fn one(stream: &StreamId, event_type: &str) -> ReadRequest {
    ReadRequest {
        stream_ids: vec![stream.to_string()],
        event_types: vec![event_type.to_owned()],
        max_events: 1,
        ..ReadRequest::default()
    }
}

/// Whether an event comes before the node ends, or the log.
async fn heard(mut answers: Streaming<ReadResponse>) -> bool {
    while let Ok(Some(answer)) = answers.message().await {
        if !answer.events.is_empty() {
            return true;
        }
    }
    false
}

fn is_cancelled(order: &Order, reasons: &[CancelReason]) -> Result<()> {
    let cancelled = order.status() == OrderStatus::Cancelled && reasons.contains(&order.cancel_reason());
    ensure!(cancelled, "it should be cancelled for one of {reasons:?}: {order:?}");
    Ok(())
}

fn is_confirmed(order: &Order) -> Result<()> {
    ensure!(order.status() == OrderStatus::Confirmed, "it should be confirmed: {order:?}");
    Ok(())
}

async fn return_when(client: &Client, return_id: &str, wanted: &[ReturnStatus]) -> Result<ReturnStatus> {
    let get = GetReturnRequest { return_id: return_id.to_owned(), ..GetReturnRequest::default() };
    until(async || match client.shop().returns.get_return(get.clone()).await {
        Ok(answer) => {
            let found = answer.into_inner().return_view.context("an answer without a return")?.status();
            Ok(wanted.contains(&found).then_some(found))
        }
        Err(_) => Ok(None),
    })
    .await
}
