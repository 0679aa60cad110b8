//! What the requests about payments mean.

use shopstream_command_handlers::CommandEnvelope;
use shopstream_domain::payment::{Answer, Command, ProviderOperation, from_provider};
use shopstream_domain::text::LABEL;
use shopstream_domain::{Duration, OrderId, PaymentId, TenantId, Timestamp};
use shopstream_projections::order::{OrderDetail, OrderStatus};
use shopstream_projections::payment::PaymentView;
use shopstream_proto::payment::v1::{ProcessPaymentRequest, ProviderSignalKind, RecordProviderSignalRequest};
use shopstream_proto::r#type::v1::Money;

use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::wire::{amount_in, id, timestamp_of};

/// How far a provider's clock may be ahead of ours. A report from further ahead would be the newest for as long.
const AHEAD_MAX: Duration = Duration::from_seconds(5 * 60);

pub(super) fn above_zero(amount: &Money, payment: &PaymentView) -> Result<i64, Failure> {
    match amount_in(amount, payment.currency, "amount")? {
        0 => Err(Failure::invalid("amount.amount_minor", "above 0")),
        minor => Ok(minor),
    }
}

/// A further attempt as a request wants it.
#[derive(Debug)]
pub(super) struct Attempt {
    asked: Asked,
    pub(super) order_id: OrderId,
    method_token: String,
}

impl Attempt {
    pub(super) fn of(mut request: ProcessPaymentRequest) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let order_id = id(OrderId::new(&request.order_id), "order_id")?;
        Ok(Self { asked, order_id, method_token: request.payment_method_token })
    }

    /// At most one attempt of an order is open. `payments` are all that were begun, of a view that had caught up; two
    /// calls that saw the same ones begin the same next one, and its own stream takes only the first.
    pub(super) fn check(&self, order: &OrderDetail, payments: &[PaymentView]) -> Result<(), Failure> {
        if let Some(expected) = self.asked.expected_version.filter(|expected| *expected != order.version) {
            let what = format!("order {}", self.order_id);
            return Err(Failure::Stale { what, expected, actual: order.version });
        }
        if order.status != OrderStatus::AwaitingPayment {
            let detail = format!("{} does not wait for a payment", self.order_id);
            return Err(Failure::precondition("ORDER_NOT_AWAITING_PAYMENT", "order_id", detail));
        }
        if let Some(open) = payments.iter().find(|payment| payment.open || payment.status.may_hold_money()) {
            return Err(self.open(&open.payment_id, open.status.name()));
        }
        Ok(())
    }

    /// Another attempt may still pay.
    pub(super) fn open(&self, payment_id: &PaymentId, status: &str) -> Failure {
        let detail = format!(
            "{payment_id} is {status} and may still pay for it: pay otherwise once that is declined or voided"
        );
        Failure::precondition("PAYMENT_ATTEMPT_OPEN", "order_id", detail)
    }

    pub(super) fn command(&self, call: &Call, order: &OrderDetail, payment_id: PaymentId) -> CommandEnvelope {
        let command = Command::Initiate {
            payment_id: payment_id.clone(),
            order_id: self.order_id.clone(),
            amount_minor: order.total_minor,
            currency: order.currency,
            method_token: self.method_token.clone(),
        };
        // The version that the caller knows is the order's, not the payment's.
        let stream = payment_id.stream(&call.tenant);
        CommandEnvelope { expected_version: None, ..self.asked.envelope(call, stream, command) }
    }

    /// Asks whether this request began that payment.
    pub(super) fn recall(&self, call: &Call, payment_id: &PaymentId) -> CommandEnvelope {
        self.asked.recall(call, payment_id.stream(&call.tenant))
    }
}

/// The log's name for the operation that a report is about: of a call of ours, the provider may say what it was told, which
/// has the tenant ([`at_provider`](shopstream_domain::payment::at_provider)). Keys of the provider's own stay as they are.
fn own_key<'a>(tenant: &TenantId, key: &'a str) -> Result<&'a str, Failure> {
    let of_a_call = |name: &str| name.split_once(':').is_some_and(|(id, _)| PaymentId::new(id).is_ok());
    match from_provider(key) {
        Some((of, name)) if of_a_call(name) && of == *tenant => Ok(name),
        // Without a tenant it is the log's name already.
        Some((_, name)) if of_a_call(name) && name != key => {
            Err(Failure::invalid("provider_key", format!("an operation of another tenant than {tenant}")))
        }
        _ => Ok(key),
    }
}

/// What a provider reported, as a request says it.
#[derive(Debug)]
pub(super) struct Signal {
    asked: Asked,
    pub(super) payment_id: PaymentId,
    provider_event_id: String,
    kind: ProviderSignalKind,
    key: Option<String>,
    pub(super) amount: Option<Money>,
    code: String,
    retryable: bool,
    at: Option<Timestamp>,
}

impl Signal {
    pub(super) fn of(mut request: RecordProviderSignalRequest) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        for (field, text) in [
            ("provider_event_id", &request.provider_event_id),
            ("provider_key", &request.provider_key),
            ("decline_code", &request.decline_code),
        ] {
            LABEL.check(field, text)?;
        }
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

    pub(super) fn command(
        &self,
        call: &Call,
        payment: Option<&PaymentView>,
        now: Timestamp,
    ) -> Result<CommandEnvelope, Failure> {
        let (operation, answer) = self.answer(payment)?;
        if self.at.is_some_and(|at| at > now + AHEAD_MAX) {
            return Err(Failure::invalid("provider_time", "more than 5 minutes ahead of this shop's clock"));
        }
        let command = Command::RecordSignal {
            provider_event_id: self.provider_event_id.clone(),
            key: own_key(&call.tenant, self.key.as_deref().unwrap_or_default())?.to_owned(),
            operation: Some(operation),
            answer,
            // In the order in which it happened, where the provider says so.
            sequence: self.at.map_or(0, |at| at.micros().max(0).unsigned_abs()),
        };
        Ok(self.asked.envelope(call, self.payment_id.stream(&call.tenant), command))
    }

    /// Asks what became of this report when it came before.
    pub(super) fn recall(&self, call: &Call) -> CommandEnvelope {
        self.asked.recall(call, self.payment_id.stream(&call.tenant))
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
