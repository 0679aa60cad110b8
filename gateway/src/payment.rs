//! PaymentService: attempts to pay, captures and refunds, and what the provider reports by itself.

use shopstream_command_handlers::{CommandEnvelope, Reply};
use shopstream_domain::payment::{Answer, Command, PaymentStatus, ProviderOperation, provider_key};
use shopstream_domain::{OrderId, PaymentId, RefusalFamily, Refused, Timestamp};
use shopstream_projections::Projection;
use shopstream_projections::order::{OrderDetail, OrderStatus};
use shopstream_projections::payment::PaymentView;
use shopstream_proto::Validate;
use shopstream_proto::payment::v1 as wire;
use shopstream_proto::payment::v1::payment_service_server::PaymentService;
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, CapturePaymentResponse, GetPaymentRequest, GetPaymentResponse,
    ProcessPaymentRequest, ProcessPaymentResponse, ProviderSignalKind, RecordProviderSignalRequest,
    RecordProviderSignalResponse, RefundPaymentRequest, RefundPaymentResponse,
};
use shopstream_proto::r#type::v1::Money;
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::positions::position;
use crate::shop::Shop;
use crate::wire::{amount_in, id, int, money, time, timestamp_of};

#[cfg(test)]
mod tests;

/// The service.
pub(crate) struct Payments {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn process_payment(
        &self,
        request: Request<ProcessPaymentRequest>,
    ) -> Result<Response<ProcessPaymentResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(self.attempt(&call, Attempt::of(request.into_inner())?).await?))
    }

    async fn capture_payment(
        &self,
        request: Request<CapturePaymentRequest>,
    ) -> Result<Response<CapturePaymentResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let mut request = request.into_inner();
        let asked = Asked::of(&mut request)?;
        let payment_id = id(PaymentId::new(&request.payment_id), "payment_id")?;
        let amount_minor = match &request.amount {
            Some(amount) => Some(above_zero(amount, &self.payment(&call, &payment_id).await?)?),
            None => None,
        };
        let command =
            asked.envelope(&call, payment_id.stream(&call.tenant), Command::RequestCapture { amount_minor });
        let reply = self.shop.submit(&call, command).await?;
        Ok(Response::new(CapturePaymentResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn refund_payment(
        &self,
        request: Request<RefundPaymentRequest>,
    ) -> Result<Response<RefundPaymentResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let mut request = request.into_inner();
        let asked = Asked::of(&mut request)?;
        let payment_id = id(PaymentId::new(&request.payment_id), "payment_id")?;
        let amount_minor = match &request.amount {
            Some(amount) => above_zero(amount, &self.payment(&call, &payment_id).await?)?,
            None => self.rest_to_refund(&call, &payment_id).await?,
        };
        // The same request is the same refund, however often it comes.
        let refund_id = asked.derived_id(&call, "RefundPayment", "rfd_");
        let stream = payment_id.stream(&call.tenant);
        let command = asked.envelope(&call, stream, Command::RequestRefund { refund_id, amount_minor });
        let reply = self.shop.submit(&call, command).await?;
        Ok(Response::new(RefundPaymentResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn get_payment(
        &self,
        request: Request<GetPaymentRequest>,
    ) -> Result<Response<GetPaymentResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let request = request.into_inner();
        request.validate().map_err(Failure::from)?;
        let payment_id = id(PaymentId::new(&request.payment_id), "payment_id")?;
        self.shop.see(&call, Projection::PaymentView, &request.min_position).await?;
        let found = self.find(&call, &payment_id).await?.ok_or_else(|| not_found(&payment_id))?;
        Ok(Response::new(GetPaymentResponse { payment: Some(view(&found)) }))
    }

    async fn record_provider_signal(
        &self,
        request: Request<RecordProviderSignalRequest>,
    ) -> Result<Response<RecordProviderSignalResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let signal = Signal::of(request.into_inner())?;
        let payment = match &signal.amount {
            Some(_) => Some(self.payment(&call, &signal.payment_id).await?),
            None => None,
        };
        let reply =
            self.shop.submit(&call, signal.command(&call, payment.as_ref(), self.shop.now())?).await?;
        Ok(Response::new(RecordProviderSignalResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }
}

impl Payments {
    async fn find(&self, call: &Call, payment_id: &PaymentId) -> Result<Option<PaymentView>, Failure> {
        call.read_within(async { Ok(self.shop.reads().payment(&call.tenant, payment_id).await?) }).await
    }

    /// A payment for what never changes about it, such as its currency.
    async fn payment(&self, call: &Call, payment_id: &PaymentId) -> Result<PaymentView, Failure> {
        if let Some(found) = self.find(call, payment_id).await? {
            return Ok(found);
        }
        self.shop.catch_up_on(call, Projection::PaymentView, &payment_id.stream(&call.tenant)).await?;
        self.find(call, payment_id).await?.ok_or_else(|| not_found(payment_id))
    }

    /// What was captured and not yet refunded. The payment itself decides whether that is still so.
    async fn rest_to_refund(&self, call: &Call, payment_id: &PaymentId) -> Result<i64, Failure> {
        self.shop.catch_up_on(call, Projection::PaymentView, &payment_id.stream(&call.tenant)).await?;
        let found = self.find(call, payment_id).await?.ok_or_else(|| not_found(payment_id))?;
        Ok(found.captured_minor - found.refunded_minor)
    }

    /// Pays by the first attempt that takes this request: one of those there are, where the request comes again, or
    /// else the next.
    async fn attempt(&self, call: &Call, attempt: Attempt) -> Result<ProcessPaymentResponse, Failure> {
        let stream = attempt.order_id.stream(&call.tenant);
        for projection in [Projection::OrderDetail, Projection::PaymentView] {
            self.shop.catch_up_on(call, projection, &stream).await?;
        }
        let (reads, tenant) = (self.shop.reads(), &call.tenant);
        let found = async {
            Ok(futures::try_join!(
                reads.order_detail(tenant, &attempt.order_id),
                reads.payments_of(tenant, &attempt.order_id)
            )?)
        };
        let (order, payments) = call.read_within(found).await?;
        let order = order.ok_or_else(|| crate::order::not_found(&attempt.order_id))?;
        // The first payment is the checkout's own.
        for earlier in payments.iter().filter(|payment| payment.attempt() > 1) {
            match self.shop.submit(call, attempt.command(call, &order, earlier.payment_id.clone())).await {
                Ok(reply) if reply.repeated => return Ok(attempted(&order, &earlier.payment_id, reply)),
                Ok(_) => {}
                Err(Failure::Refused(Refused { family: RefusalFamily::AlreadyExists, .. })) => {}
                Err(other) => return Err(other),
            }
        }
        attempt.check(&order)?;
        let last = payments.last().map_or(1, PaymentView::attempt);
        let payment_id = attempt.order_id.payment(last + 1);
        let reply = self.shop.submit(call, attempt.command(call, &order, payment_id.clone())).await?;
        Ok(attempted(&order, &payment_id, reply))
    }
}

fn not_found(payment_id: &PaymentId) -> Failure {
    Failure::not_found("PAYMENT_NOT_FOUND", format!("there is no payment {payment_id}"))
}

fn attempted(order: &OrderDetail, payment_id: &PaymentId, reply: Reply) -> ProcessPaymentResponse {
    ProcessPaymentResponse {
        version: int(order.version),
        position: Some(position(reply.position)),
        payment_id: payment_id.as_str().to_owned(),
    }
}

fn above_zero(amount: &Money, payment: &PaymentView) -> Result<i64, Failure> {
    match amount_in(amount, payment.currency, "amount")? {
        0 => Err(Failure::invalid("amount.amount_minor", "above 0")),
        minor => Ok(minor),
    }
}

/// A further attempt as a request wants it.
#[derive(Debug)]
struct Attempt {
    asked: Asked,
    order_id: OrderId,
    method_token: String,
}

impl Attempt {
    fn of(mut request: ProcessPaymentRequest) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let order_id = id(OrderId::new(&request.order_id), "order_id")?;
        Ok(Self { asked, order_id, method_token: request.payment_method_token })
    }

    fn check(&self, order: &OrderDetail) -> Result<(), Failure> {
        if let Some(expected) = self.asked.expected_version.filter(|expected| *expected != order.version) {
            let what = format!("order {}", self.order_id);
            return Err(Failure::Stale { what, expected, actual: order.version });
        }
        if order.status != OrderStatus::AwaitingPayment {
            let detail = format!("{} does not wait for a payment", self.order_id);
            return Err(Failure::precondition("ORDER_NOT_AWAITING_PAYMENT", "order_id", detail));
        }
        Ok(())
    }

    fn command(&self, call: &Call, order: &OrderDetail, payment_id: PaymentId) -> CommandEnvelope {
        let command = Command::Initiate {
            payment_id: payment_id.clone(),
            order_id: self.order_id.clone(),
            amount_minor: order.total_minor,
            currency: order.currency,
            method_token: self.method_token.clone(),
        };
        // The version that the caller knows is the order's, not the payment's.
        self.asked.further(call, payment_id.stream(&call.tenant), 0, command)
    }
}

/// What a provider reported, as a request says it.
#[derive(Debug)]
struct Signal {
    asked: Asked,
    payment_id: PaymentId,
    provider_event_id: String,
    kind: ProviderSignalKind,
    key: Option<String>,
    amount: Option<Money>,
    code: String,
    retryable: bool,
    at: Option<Timestamp>,
}

impl Signal {
    fn of(mut request: RecordProviderSignalRequest) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let at = request.provider_time.as_ref().map(|time| {
            timestamp_of(time)
                .ok_or_else(|| Failure::invalid("provider_time", "not a time of the years 1 to 9999"))
        });
        Ok(Self {
            payment_id: id(PaymentId::new(&request.payment_id), "payment_id")?,
            kind: request.kind(),
            provider_event_id: request.provider_event_id,
            key: Some(request.provider_key).filter(|key| !key.is_empty()),
            amount: request.amount,
            code: request.decline_code,
            retryable: request.decline_retryable,
            at: at.transpose()?,
            asked,
        })
    }

    fn command(
        &self,
        call: &Call,
        payment: Option<&PaymentView>,
        now: Timestamp,
    ) -> Result<CommandEnvelope, Failure> {
        let (operation, answer) = self.answer(payment)?;
        let command = Command::RecordSignal {
            provider_event_id: self.provider_event_id.clone(),
            // A provider that does not say which call it means can only mean the first of its kind.
            key: self.key.clone().unwrap_or_else(|| provider_key(&self.payment_id, operation, 1)),
            answer,
            // In the order in which it happened, or, where the provider does not say, in which we heard of it.
            sequence: self.at.unwrap_or(now).micros().max(0).unsigned_abs(),
        };
        Ok(self.asked.envelope(call, self.payment_id.stream(&call.tenant), command))
    }

    fn answer(&self, payment: Option<&PaymentView>) -> Result<(ProviderOperation, Answer), Failure> {
        let amount_minor = || match (&self.amount, payment) {
            (Some(amount), Some(payment)) => above_zero(amount, payment),
            // To guess an amount of money would be worse than to ask for it.
            (None, _) | (_, None) => Err(Failure::invalid("amount", "required for this kind")),
        };
        let failed = || Answer::Failed { code: self.code.clone() };
        Ok(match self.kind {
            ProviderSignalKind::Authorized => {
                let authorized = Answer::Authorized { amount_minor: amount_minor()?, capture_before: None };
                (ProviderOperation::Authorize, authorized)
            }
            ProviderSignalKind::Declined => {
                let declined = Answer::Declined { code: self.code.clone(), retryable: self.retryable };
                (ProviderOperation::Authorize, declined)
            }
            ProviderSignalKind::Captured => {
                (ProviderOperation::Capture, Answer::Captured { amount_minor: amount_minor()? })
            }
            ProviderSignalKind::CaptureFailed => (ProviderOperation::Capture, failed()),
            ProviderSignalKind::Voided => (ProviderOperation::Void, Answer::Voided),
            ProviderSignalKind::Refunded => {
                (ProviderOperation::Refund, Answer::Refunded { amount_minor: amount_minor()? })
            }
            ProviderSignalKind::RefundFailed => (ProviderOperation::Refund, failed()),
            // Validation has refused it already.
            ProviderSignalKind::Unspecified => return Err(Failure::invalid("kind", "required")),
        })
    }
}

fn view(payment: &PaymentView) -> wire::Payment {
    let amount = |minor| Some(money(minor, payment.currency));
    wire::Payment {
        payment_id: payment.payment_id.as_str().to_owned(),
        order_id: payment.order_id.as_str().to_owned(),
        attempt: payment.attempt(),
        status: status(payment.status).into(),
        amount: amount(payment.amount_minor),
        authorized: amount(payment.authorized_minor),
        captured: amount(payment.captured_minor),
        refunded: amount(payment.refunded_minor),
        // There is one provider, and it has no name of its own yet.
        provider: String::new(),
        decline_code: payment.decline_code.clone().unwrap_or_default(),
        decline_retryable: payment.decline_retryable,
        capture_before_time: payment.capture_before.map(time),
        create_time: Some(time(payment.created_at)),
        update_time: Some(time(payment.updated_at)),
        version: int(payment.version),
        position: Some(position(payment.position())),
    }
}

const fn status(status: PaymentStatus) -> wire::PaymentStatus {
    match status {
        PaymentStatus::Authorizing => wire::PaymentStatus::Initiated,
        PaymentStatus::OutcomeUnknown => wire::PaymentStatus::OutcomeUnknown,
        // Held after all, though nobody wants it any more: the checkout lets it go.
        PaymentStatus::Authorized | PaymentStatus::SucceededLate => wire::PaymentStatus::Authorized,
        PaymentStatus::Declined => wire::PaymentStatus::Declined,
        PaymentStatus::PartiallyCaptured => wire::PaymentStatus::PartiallyCaptured,
        PaymentStatus::Captured => wire::PaymentStatus::Captured,
        PaymentStatus::PartiallyRefunded => wire::PaymentStatus::PartiallyRefunded,
        PaymentStatus::Refunded => wire::PaymentStatus::Refunded,
        PaymentStatus::Voided => wire::PaymentStatus::Voided,
    }
}
