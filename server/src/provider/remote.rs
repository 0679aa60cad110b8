//! The payment provider over gRPC, as the processes see it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use shopstream_domain::Timestamp;
use shopstream_domain::payment::Answer;
use shopstream_proto::provider::v1 as wire;
use shopstream_proto::provider::v1::provider_service_client::ProviderServiceClient;
use shopstream_sagas::ports::{Lookup, Outcome, PaymentProvider, ProviderCall};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// How long a provider may take; the processes have their own, shorter patience.
const DEADLINE: Duration = Duration::from_secs(60);

/// A provider that speaks `shopstream.provider.v1`.
#[derive(Clone)]
pub struct RemoteProvider {
    client: Arc<RwLock<ProviderServiceClient<Channel>>>,
}

impl RemoteProvider {
    /// The provider at `url`; connects at the first call, and again whenever it was away.
    ///
    /// # Errors
    /// `url` is not one.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Arc::new(RwLock::new(connect(url)?)) })
    }

    /// Goes to `url` from now on, with all clones: the provider has moved.
    ///
    /// # Errors
    /// `url` is not one.
    pub fn move_to(&self, url: &str) -> anyhow::Result<()> {
        let client = connect(url)?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Asks who answers there.
    ///
    /// # Errors
    /// What the provider says, or that it does not answer.
    pub async fn identify(&self) -> Result<wire::IdentifyResponse, Status> {
        Ok(self.client().identify(wire::IdentifyRequest {}).await?.into_inner())
    }

    fn client(&self) -> ProviderServiceClient<Channel> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn connect(url: &str) -> anyhow::Result<ProviderServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(Duration::from_secs(5));
    Ok(ProviderServiceClient::new(endpoint.connect_lazy()))
}

#[async_trait]
impl PaymentProvider for RemoteProvider {
    async fn authorize(&self, call: &ProviderCall) -> Outcome {
        let request = wire::AuthorizeRequest {
            key: call.key.clone(),
            payment_id: call.payment.clone(),
            tenant: call.tenant.to_string(),
            amount_minor: call.amount_minor,
            currency_code: call.currency.code().to_owned(),
            payment_method_token: call.method_token.clone(),
        };
        let answer = self.client().authorize(timed(request)).await;
        outcome(answer.map(|response| response.into_inner().outcome), &call.key)
    }

    async fn capture(&self, call: &ProviderCall) -> Outcome {
        let (key, payment_id) = (call.key.clone(), call.payment.clone());
        let request = wire::CaptureRequest { key, payment_id, amount_minor: call.amount_minor };
        let answer = self.client().capture(timed(request)).await;
        outcome(answer.map(|response| response.into_inner().outcome), &call.key)
    }

    async fn void(&self, call: &ProviderCall) -> Outcome {
        let request = wire::VoidRequest { key: call.key.clone(), payment_id: call.payment.clone() };
        let answer = self.client().void(timed(request)).await;
        outcome(answer.map(|response| response.into_inner().outcome), &call.key)
    }

    async fn refund(&self, call: &ProviderCall) -> Outcome {
        let (key, payment_id) = (call.key.clone(), call.payment.clone());
        let request = wire::RefundRequest { key, payment_id, amount_minor: call.amount_minor };
        let answer = self.client().refund(timed(request)).await;
        outcome(answer.map(|response| response.into_inner().outcome), &call.key)
    }

    async fn get(&self, key: &str) -> Lookup {
        let request = wire::GetOperationRequest { key: key.to_owned() };
        match self.client().get_operation(timed(request)).await {
            Err(status) if status.code() == Code::NotFound => Lookup::NotFound,
            Err(status) => Lookup::Unknown { detail: seen(&status) },
            Ok(response) => match outcome(Ok(response.into_inner().outcome), key) {
                Outcome::Answer(answer) => Lookup::Answer(answer),
                Outcome::Unknown { detail } | Outcome::Refused { code: detail } => Lookup::Unknown { detail },
            },
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// What the answer says of the operation that `key` names: `{payment}:{operation}:{n}`, and no tenant id has a `:`.
fn outcome(answer: Result<Option<wire::Outcome>, Status>, key: &str) -> Outcome {
    let result = match answer {
        Ok(outcome) => outcome.and_then(|outcome| outcome.result),
        Err(status) if status.code() == Code::InvalidArgument => {
            return Outcome::Refused { code: "invalid_argument".into() };
        }
        // Everything else may have happened after the money moved.
        Err(status) => return Outcome::Unknown { detail: seen(&status) },
    };
    let operation = key.split(':').nth(1).unwrap_or_default();
    match (result, operation) {
        (None, _) => Outcome::Unknown { detail: "an answer without an outcome".into() },
        (Some(wire::outcome::Result::Success(success)), operation) => succeeded(operation, &success),
        (Some(wire::outcome::Result::Decline(wire::Decline { code, retryable })), "authorize") => {
            Outcome::Answer(Answer::Declined { code, retryable })
        }
        (Some(wire::outcome::Result::Decline(decline)), _) => {
            Outcome::Answer(Answer::Failed { code: decline.code })
        }
    }
}

fn succeeded(operation: &str, success: &wire::Success) -> Outcome {
    let amount_minor = success.amount_minor;
    Outcome::Answer(match operation {
        "authorize" => {
            let capture_before =
                success.capture_before.as_ref().map(|time| Timestamp::from_seconds(time.seconds));
            Answer::Authorized { amount_minor, capture_before }
        }
        "capture" => Answer::Captured { amount_minor },
        "refund" => Answer::Refunded { amount_minor },
        "void" => Answer::Voided,
        other => return Outcome::Unknown { detail: format!("an answer to {other:?}, which nobody asked") },
    })
}

/// A status without its message, which may repeat what was sent.
fn seen(status: &Status) -> String {
    format!("the provider answered {:?}", status.code())
}
