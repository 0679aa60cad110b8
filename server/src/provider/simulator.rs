//! `shopstream provider-simulator`: a payment provider that does on demand what real ones do on bad days.
//!
#![doc = include_str!("../../../docs/test-tokens.md")]

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use prost_types::Timestamp;
use shopstream_command_handlers::{Clock, SystemClock};
use shopstream_domain::payment::from_provider;
use shopstream_proto::payment::v1::payment_service_client::PaymentServiceClient;
use shopstream_proto::payment::v1::{ProviderSignalKind, RecordProviderSignalRequest};
use shopstream_proto::provider::v1 as wire;
use shopstream_proto::provider::v1::provider_service_server::{ProviderService, ProviderServiceServer};
use shopstream_proto::r#type::v1::Money;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::warn;
use uuid::Uuid;

use super::book::{Book, Call, Operation, Outcome};
use super::note::Note;
use crate::node;
use crate::output::note;

/// How long a promise can be captured.
const CAPTURE_SECONDS: i64 = 7 * 24 * 3600;
/// How long `tok_slow` takes.
const SLOW: Duration = Duration::from_secs(2);
/// When the promise of `tok_late_yes` comes after all.
const LATE: Duration = Duration::from_secs(1);
/// How long a caller of `tok_timeout_after_charge` is kept waiting, if it waits that long.
const NEVER: Duration = Duration::from_secs(120);
/// How long calls may take to end after the simulator was asked to stop.
const GRACE: Duration = Duration::from_secs(1);
/// How long another one may take to let go of the book.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How many signals wait to be sent at most.
const SIGNALS: usize = 1024;

/// Where the simulator listens and writes.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder of the call log.
    pub data: PathBuf,
    /// The shop to which signals are sent.
    pub shop: Option<String>,
}

/// Serves until `stop` ends. Writes its address to `address` in the data folder once it listens.
///
/// # Errors
/// The folder or the port cannot be used.
pub async fn run_simulator(options: SimulatorOptions, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    std::fs::create_dir_all(&options.data).with_context(|| format!("making {}", options.data.display()))?;
    let log = options.data.join("calls.jsonl");
    // Two on one book would each know half of it.
    let _held = hold(&log).await?;
    let book = Book::open(&log).with_context(|| format!("opening {}", log.display()))?;
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listening on {}", options.listen))?;
    let address = listener.local_addr()?;
    let (signals, queue) = tokio::sync::mpsc::channel(SIGNALS);
    tokio::spawn(send_signals(options.shop, queue));
    let note = Note {
        address: address.to_string(),
        process_id: std::process::id(),
        instance: Uuid::new_v4().simple().to_string(),
    };
    let me = wire::IdentifyResponse {
        instance: note.instance.clone(),
        folder: node::place(&options.data).unwrap_or_default(),
        process_id: std::process::id() as i32,
    };
    let service = Simulator { book: Arc::new(Mutex::new(book)), signals, me };
    note.write(&options.data).context("writing down where this is")?;
    note!("provider  http://{address}");
    note!("ready");
    let stopping = CancellationToken::new();
    let served = tonic::transport::Server::builder()
        .add_service(ProviderServiceServer::new(service))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopping.clone().cancelled_owned());
    let ended = async {
        stop.await;
        stopping.cancel();
        // An answer that is meant never to come is not waited for.
        tokio::time::sleep(GRACE).await;
    };
    let served = tokio::select! {
        served = served => served,
        () = ended => Ok(()),
    };
    note.withdraw(&options.data);
    Ok(served?)
}

/// Takes the book for this process alone; one before it may still be ending.
async fn hold(book: &Path) -> anyhow::Result<Flock<File>> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let file = File::options().create(true).append(true).open(book);
        let file = file.with_context(|| format!("opening {}", book.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Err(_) => bail!("another provider simulator works on {}: stop it first", book.display()),
        }
    }
}

struct Simulator {
    me: wire::IdentifyResponse,
    book: Arc<Mutex<Book>>,
    signals: tokio::sync::mpsc::Sender<(String, RecordProviderSignalRequest)>,
}

impl Simulator {
    /// Carries the call out with the book locked; writing a line is all that happens under the lock.
    fn operate(&self, call: Call, decide: impl FnOnce() -> Outcome) -> Result<Outcome, Status> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.operate(call, decide).map_err(|error| Status::unavailable(format!("the call log: {error}")))
    }

    /// A capture, void or refund: approved unless the books forbid it.
    fn follow_up(
        &self,
        operation: Operation,
        key: String,
        payment_id: String,
        amount_minor: i64,
    ) -> Result<Option<wire::Outcome>, Status> {
        let call = Call {
            operation,
            key,
            payment_id,
            amount_minor,
            refunds_fail: 0,
            effective: false,
            outcome: None,
        };
        let approve = || Outcome::Success { amount_minor, capture_before_seconds: None };
        Ok(Some(self.operate(call, approve)?.into()))
    }

    /// Holds what was declined after all, and says so. A full queue drops the signal: the provider is asked by the key.
    fn promise_late(&self, request: &wire::AuthorizeRequest) {
        let (book, signals) = (self.book.clone(), self.signals.clone());
        let (tenant, signal) = (request.tenant.clone(), authorized(request));
        let capture_before = SystemClock.now().micros() / 1_000_000 + CAPTURE_SECONDS;
        let amount_minor = request.amount_minor;
        let outcome = Outcome::Success { amount_minor, capture_before_seconds: Some(capture_before) };
        let call = Call {
            operation: Operation::Authorize,
            key: request.key.clone(),
            payment_id: request.payment_id.clone(),
            amount_minor,
            refunds_fail: 0,
            effective: false,
            outcome: None,
        };
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            let key = call.key.clone();
            let held = {
                let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
                book.hold_after_all(call, outcome)
            };
            match held {
                Err(error) => warn!(key, %error, "the call log"),
                Ok(()) if signals.try_send((tenant, signal)).is_err() => {
                    warn!(key, "dropped a signal: too many are waiting");
                }
                Ok(()) => {}
            }
        });
    }

    /// Sends the same signal twice, as providers do. A full queue drops the signal: the caller has the answer.
    fn signal_twice(&self, request: &wire::AuthorizeRequest) {
        let signal = authorized(request);
        for _ in 0..2 {
            if self.signals.try_send((request.tenant.clone(), signal.clone())).is_err() {
                warn!(key = request.key, "dropped a signal: too many are waiting");
            }
        }
    }
}

#[tonic::async_trait]
impl ProviderService for Simulator {
    async fn authorize(
        &self,
        request: Request<wire::AuthorizeRequest>,
    ) -> Result<Response<wire::AuthorizeResponse>, Status> {
        let request = request.into_inner();
        let token = request.payment_method_token.clone();
        let decline = |code: &str, retryable| Outcome::Decline { code: code.to_owned(), retryable };
        let decide = || {
            if token.starts_with("tok_decline_retryable") || token.starts_with("tok_late_yes") {
                decline("insufficient_funds", true)
            } else if token.starts_with("tok_decline") {
                decline("card_declined", false)
            } else {
                let capture_before = SystemClock.now().micros() / 1_000_000 + CAPTURE_SECONDS;
                Outcome::Success {
                    amount_minor: request.amount_minor,
                    capture_before_seconds: Some(capture_before),
                }
            }
        };
        let call = Call {
            operation: Operation::Authorize,
            key: request.key.clone(),
            payment_id: request.payment_id.clone(),
            amount_minor: request.amount_minor,
            refunds_fail: refunds_fail(&token),
            effective: false,
            outcome: None,
        };
        let outcome = self.operate(call, decide)?;
        if token.starts_with("tok_timeout_after_charge") {
            tokio::time::sleep(NEVER).await;
            return Err(Status::unavailable("this answer was meant never to come"));
        }
        if token.starts_with("tok_slow") {
            tokio::time::sleep(SLOW).await;
        }
        if token.starts_with("tok_late_yes") {
            self.promise_late(&request);
        }
        if token.starts_with("tok_answer_twice") {
            self.signal_twice(&request);
        }
        Ok(Response::new(wire::AuthorizeResponse { outcome: Some(outcome.into()) }))
    }

    async fn capture(
        &self,
        request: Request<wire::CaptureRequest>,
    ) -> Result<Response<wire::CaptureResponse>, Status> {
        let wire::CaptureRequest { key, payment_id, amount_minor } = request.into_inner();
        let outcome = self.follow_up(Operation::Capture, key, payment_id, amount_minor)?;
        Ok(Response::new(wire::CaptureResponse { outcome }))
    }

    async fn void(
        &self,
        request: Request<wire::VoidRequest>,
    ) -> Result<Response<wire::VoidResponse>, Status> {
        let wire::VoidRequest { key, payment_id } = request.into_inner();
        let outcome = self.follow_up(Operation::Void, key, payment_id, 0)?;
        Ok(Response::new(wire::VoidResponse { outcome }))
    }

    async fn refund(
        &self,
        request: Request<wire::RefundRequest>,
    ) -> Result<Response<wire::RefundResponse>, Status> {
        let wire::RefundRequest { key, payment_id, amount_minor } = request.into_inner();
        let outcome = self.follow_up(Operation::Refund, key, payment_id, amount_minor)?;
        Ok(Response::new(wire::RefundResponse { outcome }))
    }

    async fn get_operation(
        &self,
        request: Request<wire::GetOperationRequest>,
    ) -> Result<Response<wire::GetOperationResponse>, Status> {
        let key = request.into_inner().key;
        let found = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.get(&key).map_err(|error| Status::unavailable(format!("the call log: {error}")))?
        };
        let outcome = found.ok_or_else(|| Status::not_found(format!("no operation has the key {key}")))?;
        Ok(Response::new(wire::GetOperationResponse { outcome: Some(outcome.into()) }))
    }

    async fn identify(
        &self,
        _: Request<wire::IdentifyRequest>,
    ) -> Result<Response<wire::IdentifyResponse>, Status> {
        Ok(Response::new(self.me.clone()))
    }

    async fn list_calls(
        &self,
        request: Request<wire::ListCallsRequest>,
    ) -> Result<Response<wire::ListCallsResponse>, Status> {
        let wire::ListCallsRequest { skip, page_size } = request.into_inner();
        let size = match page_size {
            1..=1000 => page_size as usize,
            _ => 1000,
        };
        let skip = usize::try_from(skip).map_err(|_| Status::invalid_argument("skip is negative"))?;
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = book.calls().iter().skip(skip).take(size).map(|call| wire::Call {
            operation: call.operation.name().to_owned(),
            key: call.key.clone(),
            amount_minor: call.amount_minor,
            effective: call.effective,
            decline_code: match &call.outcome {
                Some(Outcome::Decline { code, .. }) => code.clone(),
                _ => String::new(),
            },
        });
        Ok(Response::new(wire::ListCallsResponse { calls: calls.collect() }))
    }
}

/// What the shop is told of an authorisation: in the tenant's own names, for the signal is sent as the tenant's.
fn authorized(request: &wire::AuthorizeRequest) -> RecordProviderSignalRequest {
    let own = |name: &str| from_provider(name).map_or(name, |(_, own)| own).to_owned();
    let key = own(&request.key);
    RecordProviderSignalRequest {
        request_id: format!("signal:{key}"),
        payment_id: own(&request.payment_id),
        provider_event_id: format!("evt:{key}"),
        kind: ProviderSignalKind::Authorized.into(),
        provider_key: key,
        amount: Some(Money {
            currency_code: request.currency_code.clone(),
            amount_minor: request.amount_minor,
        }),
        ..RecordProviderSignalRequest::default()
    }
}

/// The N of `tok_refund_fails_N`.
fn refunds_fail(token: &str) -> u32 {
    token.strip_prefix("tok_refund_fails_").and_then(|times| times.parse().ok()).unwrap_or(0)
}

impl From<Outcome> for wire::Outcome {
    fn from(outcome: Outcome) -> Self {
        use wire::outcome::Result as Wire;
        let result = match outcome {
            Outcome::Success { amount_minor, capture_before_seconds } => Wire::Success(wire::Success {
                amount_minor,
                capture_before: capture_before_seconds.map(|seconds| Timestamp { seconds, nanos: 0 }),
            }),
            Outcome::Decline { code, retryable } => Wire::Decline(wire::Decline { code, retryable }),
        };
        Self { result: Some(result) }
    }
}

/// Tells the shop what happened, one signal at a time; a shop that is away misses it, as with real providers when
/// their retries end.
async fn send_signals(
    shop: Option<String>,
    mut queue: tokio::sync::mpsc::Receiver<(String, RecordProviderSignalRequest)>,
) {
    while let Some((tenant, signal)) = queue.recv().await {
        let Some(shop) = &shop else { continue };
        let sent = async {
            let mut client = PaymentServiceClient::connect(shop.clone()).await?;
            let mut request = Request::new(signal);
            if let Ok(tenant) = tenant.parse() {
                request.metadata_mut().insert("shopstream-tenant", tenant);
            }
            request.set_timeout(Duration::from_secs(5));
            client.record_provider_signal(request).await?;
            anyhow::Ok(())
        };
        if let Err(error) = sent.await {
            warn!(%error, "a signal was not taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_names_the_payment_as_its_tenant_does() {
        for (tenant, names) in [("default", ""), ("acme", "acme/")] {
            let signal = authorized(&wire::AuthorizeRequest {
                key: format!("{names}pay_1.1:authorize:1"),
                payment_id: format!("{names}pay_1.1"),
                tenant: tenant.to_owned(),
                ..wire::AuthorizeRequest::default()
            });
            assert_eq!((&*signal.payment_id, &*signal.provider_key), ("pay_1.1", "pay_1.1:authorize:1"));
            assert_eq!(signal.provider_event_id, "evt:pay_1.1:authorize:1");
        }
    }
}
