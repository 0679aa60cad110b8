//! ReturnService: goods come back, money goes back.
//!
//! A return is recorded here; its process then sets the money aside, takes the units from the order, refunds and
//! restocks. What the payment or the order would refuse is refused here first, on a view that has caught up; those that
//! race for the same money or the same units are told apart by the payment and the order themselves.

use std::collections::HashSet;

use shopstream_command_handlers::{CommandEnvelope, Reply};
use shopstream_domain::payment::PaymentStatus;
use shopstream_domain::returns::{Command, ReturnLine, ReturnRequest, ReturnStatus};
use shopstream_domain::{OrderId, PaymentId, Quantity, RefusalFamily, Refused, ReturnId, Timestamp};
use shopstream_projections::Projection;
use shopstream_projections::order::{Order, OrderStatus};
use shopstream_projections::payment::PaymentView;
use shopstream_projections::returns::ReturnView;
use shopstream_proto::Validate;
use shopstream_proto::returns::v1 as wire;
use shopstream_proto::returns::v1::return_service_server::ReturnService;
use shopstream_proto::returns::v1::{
    CreateReturnRequest, CreateReturnResponse, GetReturnRequest, GetReturnResponse,
};
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::command::{Asked, effective_time};
use crate::failure::Failure;
use crate::positions::position;
use crate::shop::Shop;
use crate::wire::{id, int, money, time};

#[cfg(test)]
mod tests;

/// The service.
pub(crate) struct Returns {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl ReturnService for Returns {
    async fn create_return(
        &self,
        request: Request<CreateReturnRequest>,
    ) -> Result<Response<CreateReturnResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let wanted = Wanted::of(request.into_inner(), &call, self.shop.now())?;
        let reply = self.create(&call, &wanted).await?;
        Ok(Response::new(CreateReturnResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
            return_id: wanted.return_id.as_str().to_owned(),
        }))
    }

    async fn get_return(
        &self,
        request: Request<GetReturnRequest>,
    ) -> Result<Response<GetReturnResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let request = request.into_inner();
        request.validate().map_err(Failure::from)?;
        let return_id = id(ReturnId::new(&request.return_id), "return_id")?;
        let stream = return_id.stream(&call.tenant);
        let read = || async { Ok(self.shop.reads().goods_return(&call.tenant, &return_id).await?) };
        let found =
            self.shop.find(&call, &[Projection::ReturnView], &stream, &request.min_position, read).await?;
        let found = found.ok_or_else(|| {
            Failure::not_found("RETURN_NOT_FOUND", format!("there is no return {return_id}"))
        })?;
        Ok(Response::new(GetReturnResponse { return_view: Some(view(&found)) }))
    }
}

impl Returns {
    async fn create(&self, call: &Call, wanted: &Wanted) -> Result<Reply, Failure> {
        // A return that once succeeded is answered as it was then, though its units are no longer there to return.
        let recall = wanted.asked.recall(call, wanted.return_id.stream(&call.tenant));
        if let Some(answer) = self.shop.recall(call, recall.clone()).await? {
            return Ok(answer);
        }
        let command = self.sold(call, &wanted.order_id).await.and_then(|sold| wanted.command(call, &sold));
        match command {
            Ok(command) => self.shop.submit(call, command).await,
            // The same request may have taken the units meanwhile.
            Err(refused) => self.shop.recalled_or(call, recall, refused).await,
        }
    }

    /// The order as it is now, with its payments.
    async fn sold(&self, call: &Call, order_id: &OrderId) -> Result<Sold, Failure> {
        let stream = order_id.stream(&call.tenant);
        let views = [Projection::OrderDetail, Projection::PaymentView];
        let (reads, tenant) = (self.shop.reads(), &call.tenant);
        let read = || async {
            Ok(futures::try_join!(reads.order(tenant, order_id), reads.payments_of(tenant, order_id))?)
        };
        let (order, payments) = self.shop.up_to_date(call, &views, &stream, read).await?;
        let order = order.ok_or_else(|| crate::order::not_found(order_id))?;
        // Of several the one that has most of it left: the others are being given back.
        let captured = payments.into_iter().filter(is_captured);
        let payment = captured.max_by_key(|payment| payment.state.0.refundable_minor());
        Ok(Sold { order, payment })
    }
}

/// What was sold, and what paid for it.
struct Sold {
    order: Order,
    /// The payment that took the money; `None` until it has.
    payment: Option<PaymentView>,
}

fn is_captured(payment: &PaymentView) -> bool {
    match payment.status {
        PaymentStatus::PartiallyCaptured
        | PaymentStatus::Captured
        | PaymentStatus::PartiallyRefunded
        | PaymentStatus::Refunded => true,
        PaymentStatus::Authorizing
        | PaymentStatus::OutcomeUnknown
        | PaymentStatus::Authorized
        | PaymentStatus::Declined
        | PaymentStatus::Voided
        | PaymentStatus::SucceededLate => false,
    }
}

/// A return as a request wants it.
#[derive(Debug)]
struct Wanted {
    asked: Asked,
    return_id: ReturnId,
    order_id: OrderId,
    lines: Vec<(u32, Quantity)>,
    effective_at: Option<Timestamp>,
}

impl Wanted {
    fn of(mut request: CreateReturnRequest, call: &Call, now: Timestamp) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let return_id = request.return_id.unwrap_or_else(|| asked.derived_id(call, "CreateReturn", "ret_"));
        let mut seen = HashSet::new();
        let mut lines = Vec::with_capacity(request.lines.len());
        for (i, line) in request.lines.iter().enumerate() {
            if !seen.insert(line.line_index) {
                return Err(Failure::invalid(
                    format!("lines[{i}].line_index"),
                    "this line stands here twice",
                ));
            }
            lines.push((line.line_index, id(Quantity::new(line.quantity), &format!("lines[{i}].quantity"))?));
        }
        Ok(Self {
            return_id: id(ReturnId::new(&return_id), "return_id")?,
            order_id: id(OrderId::new(&request.order_id), "order_id")?,
            effective_at: effective_time(request.effective_time.as_ref(), now)?,
            lines,
            asked,
        })
    }

    /// The command, with the prices that were paid.
    fn command(&self, call: &Call, sold: &Sold) -> Result<CommandEnvelope, Failure> {
        let lines = self.lines.iter().enumerate().map(|(i, (line, quantity))| {
            let placed = sold.order.lines.get(*line as usize).ok_or_else(|| {
                let description = format!("the order has the lines 0 to {}", sold.order.lines.len() - 1);
                Failure::invalid(format!("lines[{i}].line_index"), description)
            })?;
            let left = placed.quantity.get() - sold.order.units_returned(*line);
            if quantity.get() > left {
                let detail = format!("{left} units of line {line} can still be returned");
                return Err(Failure::precondition(
                    "RETURN_EXCEEDS_ORDER",
                    format!("lines[{i}].quantity"),
                    detail,
                ));
            }
            Ok(ReturnLine {
                line: *line,
                sku: placed.sku.clone(),
                location: placed.location.clone(),
                quantity: *quantity,
                unit_price_minor: placed.unit_price_minor,
            })
        });
        let lines = lines.collect::<Result<Vec<_>, Failure>>()?;
        self.check_settled(sold, refund_of(&lines))?;
        Ok(self.request(call, sold, lines))
    }

    /// Only what was sold and paid comes back, and no more money than is left of it; what still may be is worth waiting
    /// for. For nothing nobody has to have paid.
    fn check_settled(&self, sold: &Sold, refund_minor: i64) -> Result<(), Failure> {
        let status = sold.order.detail.status;
        let refused = |reason, state: &str| Refused {
            reason,
            family: RefusalFamily::Precondition,
            field: Some("order_id".to_owned()),
            detail: format!("{} {state}", self.order_id),
        };
        match (status, &sold.payment) {
            (OrderStatus::Confirmed, _) if refund_minor == 0 => Ok(()),
            (OrderStatus::Confirmed, Some(payment)) => {
                let left = payment.state.0.refundable_minor();
                let taken = payment.captured_minor >= payment.amount_minor;
                match refund_minor <= left {
                    true => Ok(()),
                    false if taken || payment.state.0.is_given_up() => {
                        let detail = format!("{refund_minor} exceed the {left} that are left to refund");
                        Err(Failure::precondition("AMOUNT_EXCEEDS_CAPTURED", "lines", detail))
                    }
                    false => Err(Failure::NotYet(refused(
                        "ORDER_NOT_CAPTURED".into(),
                        "is confirmed, its money not yet taken",
                    ))),
                }
            }
            (OrderStatus::Confirmed, None) => Err(Failure::NotYet(refused(
                "ORDER_NOT_CAPTURED".into(),
                "is confirmed, its money not yet taken",
            ))),
            // It moves only when its customer places it.
            (OrderStatus::Draft, _) => {
                Err(Failure::Refused(refused("ORDER_NOT_CONFIRMED".into(), "is a draft")))
            }
            (OrderStatus::Submitted | OrderStatus::AwaitingPayment, _) => {
                Err(Failure::NotYet(refused("ORDER_NOT_CONFIRMED".into(), "is not confirmed yet")))
            }
            (OrderStatus::Cancelling | OrderStatus::Cancelled, _) => {
                Err(Failure::Refused(refused("ORDER_CANCELLED".into(), "is cancelled, or about to be")))
            }
        }
    }

    fn request(&self, call: &Call, sold: &Sold, lines: Vec<ReturnLine>) -> CommandEnvelope {
        let payment_id = |payment: &PaymentView| payment.payment_id.clone();
        let request = ReturnRequest {
            return_id: self.return_id.clone(),
            order_id: self.order_id.clone(),
            payment_id: sold.payment.as_ref().map_or_else(|| self.first_payment(), payment_id),
            reservation_id: sold.order.detail.reservation(),
            currency: sold.order.detail.currency,
            lines,
        };
        let stream = self.return_id.stream(&call.tenant);
        let command = self.asked.envelope(call, stream, Command::Request(request));
        // It belongs to the order, which its own id does not name.
        let origin = call.origin(self.order_id.as_str());
        CommandEnvelope { effective_at: self.effective_at, origin, ..command }
    }

    fn first_payment(&self) -> PaymentId {
        self.order_id.payment(1)
    }
}

/// What goes back for the lines. One that no integer holds is refused by the return itself.
fn refund_of(lines: &[ReturnLine]) -> i64 {
    let prices = lines.iter().map(|line| line.unit_price_minor.saturating_mul(line.quantity.get()));
    prices.fold(0, i64::saturating_add)
}

fn view(found: &ReturnView) -> wire::Return {
    wire::Return {
        return_id: found.return_id.as_str().to_owned(),
        order_id: found.order_id.as_str().to_owned(),
        status: status(found).into(),
        lines: found.lines.iter().map(|line| return_line(line, found)).collect(),
        refund_total: Some(money(found.refund_minor, found.currency)),
        payment_id: found.payment_id.as_str().to_owned(),
        create_time: Some(time(found.created_at)),
        update_time: Some(time(found.updated_at)),
        effective_time: Some(time(found.effective_at)),
        version: int(found.version),
        position: Some(position(found.position())),
        refunded: matches!(
            found.status,
            ReturnStatus::Refunded | ReturnStatus::Resolved | ReturnStatus::Settled
        ),
        restocked: matches!(
            found.status,
            ReturnStatus::Restocked | ReturnStatus::Resolved | ReturnStatus::Settled
        ),
        refusal_reason: match found.status {
            ReturnStatus::Refused => found.refusal.clone().unwrap_or_default(),
            _ => String::new(),
        },
    }
}

fn return_line(line: &ReturnLine, found: &ReturnView) -> wire::ReturnLine {
    wire::ReturnLine {
        line_index: line.line,
        sku: line.sku.as_str().to_owned(),
        quantity: line.quantity.get(),
        // The domain has refused every return in which this overflows.
        refund: line
            .unit_price_minor
            .checked_mul(line.quantity.get())
            .map(|refund| money(refund, found.currency)),
    }
}

const fn status(found: &ReturnView) -> wire::ReturnStatus {
    match found.status {
        _ if found.attention_step.is_some() => wire::ReturnStatus::NeedsAttention,
        ReturnStatus::NeedsAttention => wire::ReturnStatus::NeedsAttention,
        ReturnStatus::Requested | ReturnStatus::Refunded | ReturnStatus::Restocked => {
            wire::ReturnStatus::Requested
        }
        ReturnStatus::Resolved => wire::ReturnStatus::Resolved,
        ReturnStatus::Settled => wire::ReturnStatus::Settled,
        ReturnStatus::Refused => wire::ReturnStatus::Refused,
    }
}
