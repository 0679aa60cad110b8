//! PaymentService: attempts to pay, captures and refunds, and what the provider reports by itself.

use shopstream_command_handlers::{CommandError, Reply};
use shopstream_domain::payment::{Command, Event as PaymentEvent, Verdict};
use shopstream_domain::{PaymentId, RefusalFamily, Refused, StoredEvent};
use shopstream_projections::Projection;
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
use crate::history;
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
        let amount = async {
            let Some(amount) = &request.amount else { return Ok(None) };
            above_zero(amount, &self.payment(&call, &payment_id).await?).map(Some)
        };
        let stream = payment_id.stream(&call.tenant);
        let reply = match amount.await {
            Ok(amount_minor) => {
                let command = asked.envelope(&call, stream, Command::RequestCapture { amount_minor });
                self.shop.submit(&call, command).await?
            }
            Err(refused) => self.shop.recalled_or(&call, asked.recall(&call, stream), refused).await?,
        };
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
        let amount = async {
            // What is left is for the payment to say.
            let Some(amount) = &request.amount else { return Ok(None) };
            above_zero(amount, &self.payment(&call, &payment_id).await?).map(Some)
        };
        let stream = payment_id.stream(&call.tenant);
        // The same request is the same refund, however often it comes.
        let refund_id = asked.derived_id(&call, "RefundPayment", "rfd_");
        let reply = match amount.await {
            Ok(amount_minor) => {
                let refund = Command::RequestRefund { refund_id: refund_id.clone(), amount_minor };
                let command = asked.envelope(&call, stream, refund);
                self.shop.submit(&call, command).await?
            }
            Err(refused) => self.shop.recalled_or(&call, asked.recall(&call, stream), refused).await?,
        };
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
        let command = async {
            let payment = match &signal.amount {
                Some(_) => Some(self.payment(&call, &signal.payment_id).await?),
                None => None,
            };
            signal.command(&call, payment.as_ref(), self.shop.now())
        };
        let (command, reply) = match command.await {
            Ok(command) => (command.clone(), self.shop.submit(&call, command).await?),
            Err(refused) => {
                let recall = signal.recall(&call);
                (recall.clone(), self.shop.recalled_or(&call, recall, refused).await?)
            }
        };
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
        let stream = payment_id.stream(&call.tenant);
        let found =
            self.shop.up_to_date(call, &[Projection::PaymentView], &stream, || self.find(call, payment_id));
        found.await?.ok_or_else(|| not_found(payment_id))
    }

    /// Pays by the first attempt that takes this request: one of those there are, where the request comes again, or
    /// else the next.
    async fn attempt(&self, call: &Call, attempt: Attempt) -> Result<ProcessPaymentResponse, Failure> {
        let stream = attempt.order_id.stream(&call.tenant);
        let views = [Projection::OrderDetail, Projection::PaymentView];
        let (reads, tenant) = (self.shop.reads(), &call.tenant);
        let read = || async {
            Ok(futures::try_join!(
                reads.order_detail(tenant, &attempt.order_id),
                reads.payments_of(tenant, &attempt.order_id)
            )?)
        };
        let (order, payments) = self.shop.up_to_date(call, &views, &stream, read).await?;
        let Some(order) = order else {
            let refused = crate::order::not_found(&attempt.order_id);
            let payment_id = attempt.order_id.payment(2);
            let recalled = self.shop.recalled_or(call, attempt.recall(call, &payment_id), refused).await?;
            return self.attempted(call, &payment_id, recalled).await;
        };
        // The first payment is the checkout's own.
        for earlier in payments.iter().filter(|payment| payment.attempt() > 1) {
            match self.shop.recall_here(call, attempt.recall(call, &earlier.payment_id)).await {
                Ok(Some(reply)) => return self.attempted(call, &earlier.payment_id, reply).await,
                // What the key was used for there is looked at when it is claimed.
                Ok(None) | Err(Failure::Command(CommandError::RequestReused { .. })) => {}
                Err(other) => return Err(other),
            }
        }
        let last = payments.last().map_or(1, PaymentView::attempt);
        let payment_id = attempt.order_id.payment(last + 1);
        if let Err(refused) = attempt.check(&order, &payments) {
            let recalled = self.shop.recalled_or(call, attempt.recall(call, &payment_id), refused).await?;
            return self.attempted(call, &payment_id, recalled).await;
        }
        let reply = match self.shop.submit(call, attempt.command(call, &order, payment_id.clone())).await {
            // Somebody else began it since the payments were read.
            Err(Failure::Refused(Refused { family: RefusalFamily::AlreadyExists, .. })) => {
                return Err(attempt.open(&payment_id, "being authorised"));
            }
            submitted => submitted?,
        };
        self.attempted(call, &payment_id, reply).await
    }

    /// The answer to an attempt that was recorded, now or long ago: with the version that its order had at that place of
    /// the log, which both are in.
    async fn attempted(
        &self,
        call: &Call,
        payment_id: &PaymentId,
        reply: Reply,
    ) -> Result<ProcessPaymentResponse, Failure> {
        let stream = payment_id.order_id().stream(&call.tenant);
        let history = history::load(&self.shop, call, &stream).await?;
        let before = history.iter().rev().find(|record| record.position.offset < reply.position.offset);
        Ok(ProcessPaymentResponse {
            version: int(before.map_or(0, |record| record.commit.last_version())),
            position: Some(position(reply.position)),
            payment_id: payment_id.as_str().to_owned(),
        })
    }
}

fn not_found(payment_id: &PaymentId) -> Failure {
    Failure::not_found("PAYMENT_NOT_FOUND", format!("there is no payment {payment_id}"))
}
