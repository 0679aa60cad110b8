//! Goods that come back: the order takes note of the units, then money and stock go their ways (`rulings.md` 30).
//!
//! The return is asked for by the gateway; here the money is set aside first, which the payment refuses where less is
//! left, and then its order is told (`RecordReturn`), which refuses what was never sold or came back before. Nothing moves
//! before both have said yes, and from then on the return has its money for sure. Then the stored price goes back
//! through the payment and the units go back on the shelf, in either order; the second of the two resolves the return.
//! A step that keeps failing (F-21: mostly the refund) stops the return until an operator resumes it, or has seen to it by
//! hand.

use std::collections::BTreeMap;

use metrics::counter;
use shopstream_domain::inventory::{StockCommand, StockKey};
use shopstream_domain::order::{Command as OrderCommand, Order, ReturnedLine};
use shopstream_domain::payment::{Command as PaymentCommand, OperationState, PaymentIntent};
use shopstream_domain::returns::{Command, Return, ReturnRequest, ReturnStatus};
use shopstream_domain::{OrderId, Quantity, Refused, StreamId};
use tracing::{error, warn};

use crate::issue::{Process, Step};
use crate::known::{Known, Reached};
use crate::means::{Means, Stuck};
use crate::payments::{self, Carried, Payments, Seen};
use crate::ports::Obstacle;
use crate::process::{Rest, Wake};
use crate::stock::StockFanOut;

/// Drives returns. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Returns {
    pub(crate) means: Means,
    pub(crate) stock: StockFanOut,
    pub(crate) payments: Payments,
}

/// A step that did not come through.
struct Setback {
    step: &'static str,
    detail: String,
    outlook: Outlook,
    /// What could not be read, if that is why.
    unreadable: Option<Box<Obstacle>>,
}

/// What helps against a [`Setback`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// Somebody else is at the payment; whoever is done there wakes this return.
    Busy,
    /// See [`Stuck::passes`].
    Passes,
    /// Another try, or else an operator.
    Fails,
}

impl Setback {
    fn at(step: &'static str) -> impl Fn(Stuck) -> Self {
        move |stuck| {
            let detail = stuck.to_string();
            let outlook = if stuck.passes() { Outlook::Passes } else { Outlook::Fails };
            let unreadable =
                if let Stuck::Unreadable(obstacle) = stuck { Some(Box::new(obstacle)) } else { None };
            Self { step, detail, outlook, unreadable }
        }
    }
}

impl Returns {
    /// Drives one return until it ends or has to wait.
    pub(crate) async fn drive(&self, stream: &StreamId, wake: &mut Wake) -> Rest {
        let mut goods: Known<Return> = Known::empty(stream.clone());
        let gone_on = match self.means.load(&mut goods, &wake.reached).await {
            Ok(()) => self.go_on(&mut goods, wake).await,
            Err(stuck) => Err(Setback::at("load")(stuck)),
        };
        match gone_on {
            Ok(rest) => rest,
            Err(Setback { unreadable: Some(obstacle), .. }) => Rest::Parked(obstacle),
            Err(setback) => self.later(&mut goods, wake, &setback).await,
        }
    }

    /// Tried again, ever more rarely; after so many tries an operator must look (F-21). It is never dropped.
    async fn later(&self, goods: &mut Known<Return>, wake: &Wake, setback: &Setback) -> Rest {
        let Setback { step, detail, outlook, .. } = setback;
        let stream = goods.stream.clone();
        if *outlook == Outlook::Busy {
            // Nothing was tried in vain.
            return Rest::Until { at: self.means.look_again_at(wake.tries), tries: wake.tries };
        }
        let tries = wake.tries + 1;
        if *outlook == Outlook::Fails && wake.tries >= self.means.settings.tries_max {
            match self.call_for_attention(goods, setback).await {
                Ok(()) => return Rest::Waiting,
                Err(stuck) => {
                    warn!(%stream, %stuck, "that {stream} needs attention is not recorded: {stuck}")
                }
            }
        }
        warn!(%stream, step, detail, tries, "the return {stream} pauses at {step}: {detail}");
        Rest::Later { tries }
    }

    async fn call_for_attention(&self, goods: &mut Known<Return>, setback: &Setback) -> Result<(), Stuck> {
        let Setback { step, detail, .. } = setback;
        let (Some(request), stream) = (goods.state().request(), goods.stream.clone()) else {
            return Err(Stuck::OutOfPlace { stream: goods.stream.clone() });
        };
        let process = process(goods, &request.order_id);
        error!(%stream, step, detail, "the return {stream} needs attention: {step}: {detail}");
        counter!("shopstream_saga_needs_attention_total", "saga" => "return").increment(1);
        let command = Command::RecordNeedsAttention { step: (*step).to_owned(), detail: detail.clone() };
        // Each record is the attempt of the next, so the same trouble is told once, and again after a resumption.
        let told = self.means.tell(&process, Step::new("needs_attention", goods.attempt()), goods, command);
        told.await?.map_err(|refused| Stuck::Refused { step: "needs_attention", refused })
    }

    async fn go_on(&self, goods: &mut Known<Return>, wake: &Wake) -> Result<Rest, Setback> {
        let Some(request) = goods.state().request().cloned() else { return Ok(Rest::Ended) };
        let process = process(goods, &request.order_id);
        let Some(status) = goods.state().status() else { return Ok(Rest::Ended) };
        let (is_new, restocks, refunds) = match status {
            ReturnStatus::Requested => (true, true, true),
            ReturnStatus::Refunded => (false, true, false),
            ReturnStatus::Restocked => (false, false, true),
            ReturnStatus::Resolved | ReturnStatus::Settled | ReturnStatus::Refused => return Ok(Rest::Ended),
            ReturnStatus::NeedsAttention => return Ok(Rest::Waiting),
        };
        let amount_minor = goods.state().refund_minor();
        let money_settled = goods.state().money_settled().map(str::to_owned);
        let stock_settled = goods.state().stock_settled().is_some();
        if is_new && amount_minor > 0 && money_settled.is_none() {
            let set_aside = self.set_aside(&process, wake, goods, &request, amount_minor).await;
            if !set_aside.map_err(Setback::at("set_aside"))? {
                return Ok(Rest::Ended);
            }
        }
        // What a person has seen to as a whole needs nobody's consent any more.
        if is_new && !(money_settled.is_some() && stock_settled) {
            let given_up = self.take_units(&process, wake, goods, &request).await;
            if !given_up.map_err(Setback::at("take_units"))? {
                return Ok(Rest::Ended);
            }
        }
        if restocks && stock_settled {
            let restocked = self.record(&process, goods, "restocked", Command::RecordRestocked).await;
            restocked.map_err(Setback::at("restock"))?;
        } else if restocks {
            self.restock(&process, wake, goods, &request).await.map_err(Setback::at("restock"))?;
        }
        if refunds {
            match &money_settled {
                _ if amount_minor == 0 => {}
                Some(reason) => {
                    let settled = self.settle_refund(&process, wake, &request, amount_minor, reason);
                    settled.await.map_err(Setback::at("refund"))?;
                }
                None => self.refund(&process, wake, &goods.stream, &request, amount_minor).await?,
            }
            let refunded = Command::RecordRefunded { amount_minor };
            self.record(&process, goods, "refunded", refunded).await.map_err(Setback::at("refund"))?;
            counter!("shopstream_saga_finished_total", "saga" => "return", "outcome" => "resolved")
                .increment(1);
        }
        Ok(Rest::Ended)
    }

    /// Whether the payment has the money and keeps it for this return; else the return is refused.
    async fn set_aside(
        &self,
        process: &Process,
        wake: &Wake,
        goods: &mut Known<Return>,
        request: &ReturnRequest,
        amount_minor: i64,
    ) -> Result<bool, Stuck> {
        let refund_id = request.return_id.as_str().to_owned();
        let reserve = PaymentCommand::ReserveRefund { refund_id, amount_minor };
        let told = self.tell_payment(process, wake, request, "set_aside", reserve).await?;
        let Err(refused) = told else { return Ok(true) };
        let mut order: Known<Order> = Known::empty(request.order_id.stream(&process.tenant));
        self.means.load(&mut order, &wake.reached).await?;
        if order.state().has_return(&request.return_id) {
            // Begun by a program that set nothing aside: the units are promised, so it cannot be refused any more.
            return Err(Stuck::Refused { step: "set_aside", refused });
        }
        self.refuse(process, goods, &refused).await?;
        Ok(false)
    }

    async fn refuse(
        &self,
        process: &Process,
        goods: &mut Known<Return>,
        refused: &Refused,
    ) -> Result<(), Stuck> {
        let refuse = Command::Refuse { reason: refused.reason.clone().into_owned() };
        counter!("shopstream_saga_finished_total", "saga" => "return", "outcome" => "refused").increment(1);
        self.record(process, goods, "refuse", refuse).await
    }

    /// Tells the payment of a return something, from its history.
    async fn tell_payment(
        &self,
        process: &Process,
        wake: &Wake,
        request: &ReturnRequest,
        step: &str,
        command: PaymentCommand,
    ) -> Result<Result<(), Refused>, Stuck> {
        let mut payment: Known<PaymentIntent> = Known::empty(request.payment_id.stream(&process.tenant));
        self.means.load(&mut payment, &wake.reached).await?;
        let process = payments::process(&payment.stream).like(process);
        let step = format!("{step}:{}", request.return_id);
        let step = Step::new(&step, payment.attempt());
        Ok(self.means.tell(&process, step, &mut payment, command).await?)
    }

    /// A person has given the money back: the account knows it.
    async fn settle_refund(
        &self,
        process: &Process,
        wake: &Wake,
        request: &ReturnRequest,
        amount_minor: i64,
        reason: &str,
    ) -> Result<(), Stuck> {
        let (refund_id, reason) = (request.return_id.as_str().to_owned(), reason.to_owned());
        let settle = PaymentCommand::SettleRefund { refund_id, amount_minor, reason };
        let told = self.tell_payment(process, wake, request, "settle_refund", settle).await?;
        told.map_err(|refused| Stuck::Refused { step: "settle_refund", refused })
    }

    /// Whether the order gives the units up; else the return is refused.
    async fn take_units(
        &self,
        process: &Process,
        wake: &Wake,
        goods: &mut Known<Return>,
        request: &ReturnRequest,
    ) -> Result<bool, Stuck> {
        let mut order: Known<Order> = Known::empty(request.order_id.stream(&process.tenant));
        let lines =
            request.lines.iter().map(|line| ReturnedLine { line: line.line, quantity: line.quantity });
        let return_id = request.return_id.clone();
        let command = OrderCommand::RecordReturn { return_id, lines: lines.collect() };
        let Err(refused) = self.means.tell(process, Step::new("take_units", 0), &mut order, command).await?
        else {
            return Ok(true);
        };
        // First, so that a crash leaves a return that does this again, and no money that nobody has a claim to.
        let release = PaymentCommand::ReleaseRefund { refund_id: request.return_id.as_str().to_owned() };
        if goods.state().refund_minor() > 0 {
            let released = self.tell_payment(process, wake, request, "release", release).await?;
            released.map_err(|refused| Stuck::Refused { step: "release", refused })?;
        }
        self.refuse(process, goods, &refused).await?;
        Ok(false)
    }

    async fn restock(
        &self,
        process: &Process,
        wake: &Wake,
        goods: &mut Known<Return>,
        request: &ReturnRequest,
    ) -> Result<(), Stuck> {
        let keys = keys_of(request);
        let return_id = &request.return_id;
        // A request may name the order's first hold; where that ran out, the order was sold under another one (F-13).
        let mut order: Known<Order> = Known::empty(request.order_id.stream(&process.tenant));
        self.means.load(&mut order, &wake.reached).await?;
        let reservation_id = order.state().reservation().unwrap_or(&request.reservation_id);
        let put_back = |key: &StockKey| StockCommand::PutBack {
            reservation_id: reservation_id.clone(),
            return_id: return_id.clone(),
            quantity: key.quantity,
        };
        let answers = self.stock.fan_out(process, "put_back", &keys, put_back).await?;
        if let Some(refused) = answers.into_iter().find_map(Result::err) {
            return Err(Stuck::Refused { step: "put_back", refused });
        }
        self.record(process, goods, "restocked", Command::RecordRestocked).await
    }

    /// Gives the money back, if it is not back yet.
    async fn refund(
        &self,
        process: &Process,
        wake: &Wake,
        goods: &StreamId,
        request: &ReturnRequest,
        amount_minor: i64,
    ) -> Result<(), Setback> {
        let stuck = || Setback::at("refund");
        self.payments.is_awake(&request.payment_id.stream(&process.tenant), goods);
        let mut payment: Known<PaymentIntent> = Known::empty(request.payment_id.stream(&process.tenant));
        self.means.load(&mut payment, &wake.reached).await.map_err(stuck())?;
        let process = payments::process(&payment.stream).like(process);
        let refund_id = request.return_id.as_str();
        if payment.state().settled_refunds().iter().any(|settled| settled.refund_id == refund_id) {
            return Ok(());
        }
        let seen = match payment.state().refund(refund_id).map(|refund| refund.state) {
            Some(OperationState::Succeeded | OperationState::Settled) => return Ok(()),
            Some(OperationState::Open | OperationState::Unknown | OperationState::Superseded) => {
                Seen::Perhaps
            }
            None | Some(OperationState::Failed) => {
                let step = format!("refund:{refund_id}");
                // Not the payment's version: what was set aside for this refund may not be seen here yet, and the same
                // call must have the same id either way.
                let calls = payment.state().refund_calls(refund_id);
                let step = Step::new(&step, u32::try_from(calls).unwrap_or(u32::MAX));
                let command = PaymentCommand::RequestRefund {
                    refund_id: refund_id.to_owned(),
                    amount_minor: Some(amount_minor),
                };
                let asked = self.means.tell(&process, step, &mut payment, command).await;
                if let Err(refused) = asked.map_err(|unanswered| stuck()(unanswered.into()))? {
                    if refused.reason == "NOTHING_TO_REFUND" {
                        // It was set aside, so a refund that the shop did not ask for has taken it.
                        let reason = "it went back at the provider's own site";
                        let settled = self.settle_refund(&process, wake, request, amount_minor, reason);
                        return settled.await.map_err(stuck());
                    }
                    return Err(self.not_asked(&mut payment, goods, refused).await.unwrap_or_else(stuck()));
                }
                if payment.is_stale() {
                    self.means.load(&mut payment, &Reached::default()).await.map_err(stuck())?;
                    Seen::Perhaps
                } else {
                    Seen::Never
                }
            }
        };
        let carried = self.payments.carry_out(&process, &mut payment, seen).await.map_err(stuck())?;
        if payment.is_stale() {
            // Others had to do with the payment while the provider was at it, and what is known here is from before.
            self.means.load(&mut payment, &Reached::default()).await.map_err(stuck())?;
        }
        let refund = payment.state().refund(refund_id);
        let key = refund.map_or(refund_id, |refund| refund.key.as_str());
        let detail = match (carried, refund.map(|refund| refund.state)) {
            (Carried::Through, Some(OperationState::Succeeded)) => return Ok(()),
            (Carried::Through, _) => format!("{key} failed"),
            (Carried::Unknown, _) => format!("the outcome of {key} is not known"),
            (Carried::ByAnother, _) => format!("somebody else is at {}", request.payment_id),
        };
        let outlook = if carried == Carried::ByAnother {
            self.payments.wake_after_turn(&payment.stream, goods);
            Outlook::Busy
        } else {
            Outlook::Fails
        };
        Err(Setback { step: "refund", detail, outlook, unreadable: None })
    }

    /// Why the payment does not take note of the refund now: mostly because another operation is open there.
    async fn not_asked(
        &self,
        payment: &mut Known<PaymentIntent>,
        goods: &StreamId,
        refused: Refused,
    ) -> Result<Setback, Stuck> {
        let outlook = if refused.reason == "PAYMENT_OPERATION_IN_FLIGHT" {
            // It ends by itself, unless nobody knows its outcome.
            let open = self.payments.wake_after_operation(payment, goods).await?;
            if open.is_some_and(|open| open.is_unknown()) { Outlook::Fails } else { Outlook::Busy }
        } else {
            Outlook::Fails
        };
        let detail = Stuck::Refused { step: "refund", refused }.to_string();
        Ok(Setback { step: "refund", detail, outlook, unreadable: None })
    }

    async fn record(
        &self,
        process: &Process,
        goods: &mut Known<Return>,
        step: &'static str,
        command: Command,
    ) -> Result<(), Stuck> {
        let told = self.means.tell(process, Step::new(step, 0), goods, command).await?;
        told.map_err(|refused| Stuck::Refused { step, refused })
    }
}

/// The process that speaks for a return.
fn process(goods: &Known<Return>, order_id: &OrderId) -> Process {
    let stream = &goods.stream;
    let process = Process::new(stream.tenant(), "return", stream.id(), order_id.as_str());
    match goods.cause() {
        Some(cause) => process.because_of(cause),
        None => process,
    }
}

/// What goes back where, each SKU and location once.
fn keys_of(request: &ReturnRequest) -> Vec<StockKey> {
    let mut units = BTreeMap::new();
    for line in &request.lines {
        let units: &mut i64 = units.entry((&line.sku, &line.location)).or_default();
        *units = units.saturating_add(line.quantity.get());
    }
    let keys = units.into_iter().filter_map(|((sku, location), units)| {
        // The order sold them in units that fit, and gave these up.
        let quantity = Quantity::new(units).ok()?;
        Some(StockKey { sku: sku.clone(), location: location.clone(), quantity })
    });
    keys.collect()
}
