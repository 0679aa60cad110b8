//! PaymentService: attempts to pay, captures and refunds, and what the provider reports by itself.

use shopstream_command_handlers::Reply;
use shopstream_domain::payment::{Command, Event as PaymentEvent, Verdict};
use shopstream_domain::{PaymentId, RefusalFamily, Refused, StoredEvent};
use shopstream_projections::Projection;
use shopstream_projections::order::OrderDetail;
use shopstream_projections::payment::PaymentView;
use shopstream_proto::Validate;
use shopstream_proto::payment::v1::payment_service_server::PaymentService;
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, CapturePaymentResponse, GetPaymentRequest, GetPaymentResponse,
    ProcessPaymentRequest, ProcessPaymentResponse, RecordProviderSignalRequest, RecordProviderSignalResponse,
    RefundPaymentRequest, RefundPaymentResponse, SignalOutcome,
};
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::positions::position;
use crate::recent::About;
use crate::shop::Shop;
use crate::wire::{id, int};

mod requests;
#[cfg(test)]
mod tests;
mod view;

use requests::{Attempt, Signal, above_zero};
use view::view;

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
        let reply = self.shop.submit(&call, command).await.map_err(worth_waiting_for)?;
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
            Some(amount) => Some(above_zero(amount, &self.payment(&call, &payment_id).await?)?),
            // What is left is for the payment to say.
            None => None,
        };
        // The same request is the same refund, however often it comes.
        let refund_id = asked.derived_id(&call, "RefundPayment", "rfd_");
        let stream = payment_id.stream(&call.tenant);
        let refund = Command::RequestRefund { refund_id: refund_id.clone(), amount_minor };
        let command = asked.envelope(&call, stream, refund);
        let reply = self.shop.submit(&call, command).await.map_err(worth_waiting_for)?;
        Ok(Response::new(RefundPaymentResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
            refund_id,
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
        let stream = payment_id.stream(&call.tenant);
        let read = || self.find(&call, &payment_id);
        let found =
            self.shop.find(&call, &[Projection::PaymentView], &stream, &request.min_position, read).await?;
        let found = found.ok_or_else(|| not_found(&payment_id))?;
        self.shop.note_shown(About::stream(&stream), found.position());
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
        let command = signal.command(&call, payment.as_ref(), self.shop.now())?;
        let reply = self.shop.submit(&call, command.clone()).await?;
        let (outcome, disbelief) = match Verdict::of(reply.outcome) {
            Verdict::Applied => (SignalOutcome::Applied, None),
            Verdict::AlreadyKnown => (SignalOutcome::AlreadyKnown, None),
            Verdict::NotBelieved => {
                (SignalOutcome::NotBelieved, self.shop.led_to(&call, &command, &reply).await?)
            }
        };
        let (reason, detail) = match disbelief
            .as_ref()
            .and_then(|last| PaymentEvent::decode(&last.event_type, &last.payload).ok())
        {
            Some(PaymentEvent::SignalDisbelieved(disbelieved)) => (disbelieved.reason, disbelieved.detail),
            Some(_) | None => Default::default(),
        };
        Ok(Response::new(RecordProviderSignalResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
            outcome: outcome.into(),
            reason,
            detail,
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
        attempt.check(&order, &payments)?;
        let last = payments.last().map_or(1, PaymentView::attempt);
        let payment_id = attempt.order_id.payment(last + 1);
        let reply = match self.shop.submit(call, attempt.command(call, &order, payment_id.clone())).await {
            // Somebody else began it since the payments were read.
            Err(Failure::Refused(Refused { family: RefusalFamily::AlreadyExists, .. })) => {
                return Err(attempt.open(&payment_id, "being authorised"));
            }
            submitted => submitted?,
        };
        Ok(attempted(&order, &payment_id, reply))
    }
}

/// A refusal that passes by itself, mostly within milliseconds, says so.
fn worth_waiting_for(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(refused) if refused.reason == "PAYMENT_OPERATION_IN_FLIGHT" => {
            Failure::NotYet(refused)
        }
        other => other,
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
