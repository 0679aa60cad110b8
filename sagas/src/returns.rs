//! Goods that come back: the order takes note of the units, then money and stock go their ways (`rulings.md` 30).
//!
//! The return is asked for by the gateway; here its order is told (`RecordReturn`), which refuses what was never
//! sold or came back before, and nothing moves before that. Then the stored price goes back through the payment and
//! the units go back on the shelf, in either order; the second of the two resolves the return.

use std::collections::BTreeMap;

use metrics::counter;
use shopstream_domain::inventory::{StockCommand, StockKey};
use shopstream_domain::order::{Command as OrderCommand, Order, ReturnedLine};
use shopstream_domain::payment::{Command as PaymentCommand, OperationState, PaymentIntent};
use shopstream_domain::returns::{Command, Return, ReturnRequest, ReturnStatus};
use shopstream_domain::{Quantity, StreamId};
use tracing::{error, warn};

use crate::issue::{Process, Step};
use crate::known::Known;
use crate::means::{Means, Stuck};
use crate::payments::{self, Carried, Payments, Seen};
use crate::runner::{Rest, Wake};
use crate::stock::StockFanOut;

/// Drives returns. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Returns {
    pub(crate) means: Means,
    pub(crate) stock: StockFanOut,
    pub(crate) payments: Payments,
}

impl Returns {
    /// Drives one return until it ends or has to wait.
    pub(crate) async fn drive(&self, stream: &StreamId, wake: &mut Wake) -> Rest {
        match self.go_on(stream, wake).await {
            Ok(Some(rest)) => rest,
            Ok(None) => self.later(stream, wake, "the refund did not come through"),
            Err(Stuck::Unreadable(obstacle)) => Rest::Parked(Box::new(obstacle)),
            Err(stuck) => self.later(stream, wake, &stuck.to_string()),
        }
    }

    /// A refund that keeps failing is tried ever more rarely, and shouted about: it is never dropped.
    fn later(&self, stream: &StreamId, wake: &Wake, detail: &str) -> Rest {
        let tries = wake.tries + 1;
        if wake.tries >= self.means.settings.undo_tries_max {
            error!(%stream, detail, tries, "the return {stream} needs attention: {detail}");
            counter!("shopstream_saga_needs_attention_total", "saga" => "return").increment(1);
        } else {
            warn!(%stream, detail, tries, "the return {stream} pauses: {detail}");
        }
        Rest::Later { tries }
    }

    /// `None`: the money is not back yet.
    async fn go_on(&self, stream: &StreamId, wake: &Wake) -> Result<Option<Rest>, Stuck> {
        let tenant = stream.tenant();
        let mut goods: Known<Return> = Known::empty(stream.clone());
        self.means.load(&mut goods, &wake.reached).await?;
        let Some(request) = goods.state().request().cloned() else { return Ok(Some(Rest::Ended)) };
        let process = Process::new(tenant.clone(), "return", stream.id(), request.order_id.as_str(), "");
        let status = goods.state().status();
        if status == Some(ReturnStatus::Requested) && !self.take_units(&process, &mut goods, &request).await?
        {
            return Ok(Some(Rest::Ended));
        }
        if matches!(status, Some(ReturnStatus::Requested | ReturnStatus::Refunded)) {
            self.restock(&process, wake, &mut goods, &request).await?;
        }
        if matches!(status, Some(ReturnStatus::Requested | ReturnStatus::Restocked)) {
            let refund_minor = goods.state().refund_minor();
            if refund_minor > 0 && !self.refund(&process, wake, &request, refund_minor).await? {
                return Ok(None);
            }
            self.record(
                &process,
                &mut goods,
                "refunded",
                Command::RecordRefunded { amount_minor: refund_minor },
            )
            .await?;
            counter!("shopstream_saga_finished_total", "saga" => "return", "outcome" => "resolved")
                .increment(1);
        }
        Ok(Some(Rest::Ended))
    }

    /// Whether the order gives the units up; else the return is refused.
    async fn take_units(
        &self,
        process: &Process,
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
        let refuse = Command::Refuse { reason: refused.reason.clone().into_owned() };
        counter!("shopstream_saga_finished_total", "saga" => "return", "outcome" => "refused").increment(1);
        self.record(process, goods, "refuse", refuse).await?;
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
        // The request names the order's first hold; where that ran out, the order was sold under another one (F-13).
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

    /// Whether the money is back.
    async fn refund(
        &self,
        asker: &Process,
        wake: &Wake,
        request: &ReturnRequest,
        amount_minor: i64,
    ) -> Result<bool, Stuck> {
        let tenant = asker.tenant.clone();
        let mut payment: Known<PaymentIntent> = Known::empty(request.payment_id.stream(&tenant));
        self.means.load(&mut payment, &wake.reached).await?;
        let process = payments::process(&tenant, request.payment_id.as_str());
        let refund_id = request.return_id.as_str();
        let mut seen = Seen::Perhaps;
        let state =
            |payment: &Known<PaymentIntent>| payment.state().refund(refund_id).map(|refund| refund.state);
        match state(&payment) {
            Some(OperationState::Succeeded) => return Ok(true),
            Some(OperationState::Open | OperationState::Unknown | OperationState::Superseded) => {}
            None | Some(OperationState::Failed) => {
                let step = format!("refund:{refund_id}");
                let step = Step::new(&step, payment.attempt());
                let command = PaymentCommand::RequestRefund { refund_id: refund_id.to_owned(), amount_minor };
                // Refused: another operation is open on this payment. It ends, and this is tried again.
                if self.means.tell(&process, step, &mut payment, command).await?.is_err()
                    || payment.is_stale()
                {
                    return Ok(false);
                }
                seen = Seen::Never;
            }
        }
        let carried = self.payments.carry_out(&process, &mut payment, seen).await?;
        Ok(carried == Carried::Through && state(&payment) == Some(OperationState::Succeeded))
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
