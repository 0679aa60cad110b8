//! Carries out what payments ask of the provider (`rulings.md` 28).
//!
//! A payment records an operation before it is made. The process that recorded it carries it out at once; an
//! operation that somebody else recorded is found on the log, and one that was open when the program ended is found
//! at the start. Whoever is not sure that the call was never made asks the provider by its key first. So however
//! often an operation is taken up, the provider carries it out once.

use std::collections::BTreeSet;
use std::sync::Arc;

use metrics::counter;
use shopstream_domain::payment::{Answer, Command, Operation, PaymentIntent, ProviderOperation, at_provider};
use shopstream_domain::{StreamId, TenantId};
use tracing::warn;

use crate::issue::{Process, Step};
use crate::known::{Known, Reached};
use crate::means::{Means, Stuck};
use crate::ports::{Lookup, Outcome, PaymentProvider, ProviderCall};
use crate::process::Rest;
use crate::turns::Turns;

/// Carries out operations of payments. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Payments {
    means: Means,
    provider: Arc<dyn PaymentProvider>,
    /// So that two do not wait for one answer.
    turns: Turns,
}

/// Where an operation is after it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Nothing is open any more.
    Through,
    /// Nobody knows; to be asked again later.
    Unknown,
    /// Somebody else in this process is at it, or at what was open there before.
    ByAnother,
}

/// Whether the provider may have seen the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was recorded just now, by us.
    Never,
    /// It was recorded by somebody else or before a crash.
    Perhaps,
}

impl Payments {
    pub(crate) fn new(means: Means, provider: Arc<dyn PaymentProvider>) -> Self {
        Self { means, provider, turns: Turns::default() }
    }

    /// Carries out the operation in flight, if there is one, and records the outcome.
    ///
    /// # Errors
    /// The outcome could not be recorded. It is not lost: the provider answers for the key again.
    pub(crate) async fn carry_out(
        &self,
        process: &Process,
        payment: &mut Known<PaymentIntent>,
        seen: Seen,
    ) -> Result<Carried, Stuck> {
        let Some(operation) = payment.state().open_operation().cloned() else { return Ok(Carried::Through) };
        let Some(_turn) = self.turns.take(&payment.stream) else { return Ok(Carried::ByAnother) };
        let Some(call) = call(&process.tenant, payment.state(), &operation) else {
            return Ok(Carried::Through);
        };
        let outcome = match seen {
            Seen::Never => self.call(operation.operation, &call).await,
            Seen::Perhaps => match self.ask(&call).await {
                Some(outcome) => outcome,
                None if self.may_call(payment, &operation).await? => {
                    self.call(operation.operation, &call).await
                }
                // Nothing was authorised before somebody asked to let it go, and nothing is afterwards.
                None => {
                    let (code, retryable) = ("never_authorized".to_owned(), false);
                    Outcome::Answer(Answer::Declined { code, retryable })
                }
            },
        };
        counter!("shopstream_provider_operations_total",
            "operation" => operation.operation.name(), "outcome" => outcome_name(&outcome))
        .increment(1);
        match outcome {
            Outcome::Answer(answer) => self.record(process, payment, operation.key, answer).await,
            Outcome::Refused { code } => {
                self.record(process, payment, operation.key, Answer::Failed { code }).await
            }
            Outcome::Unknown { detail } => {
                warn!(payment.key = %call.key, detail, "the outcome of {} is not known", call.key);
                if !operation.is_unknown() {
                    let step = format!("unknown:{}", operation.key);
                    let command = Command::MarkOutcomeUnknown { key: operation.key };
                    let told = self.means.tell(process, Step::new(&step, 0), payment, command).await?;
                    // Refused: a signal came first and there is an answer now. The caller reads again.
                    drop(told);
                }
                Ok(Carried::Unknown)
            }
        }
    }

    /// Carries out what is open on a payment that no process has in hand.
    pub(crate) async fn drive(
        &self,
        stream: &StreamId,
        reached: &Reached,
        tries: u32,
    ) -> Result<Rest, Stuck> {
        self.is_awake(stream, stream);
        let mut payment = Known::empty(stream.clone());
        self.means.load(&mut payment, reached).await?;
        let mut process = process(stream).announced();
        if let Some(cause) = payment.cause() {
            process = process.because_of(cause);
        }
        match self.carry_out(&process, &mut payment, Seen::Perhaps).await? {
            Carried::Through => Ok(Rest::Ended),
            // Whoever has it in hand may have another operation in mind, one that is over by now.
            Carried::ByAnother => {
                self.wake_after_turn(stream, stream);
                Ok(Rest::Until { at: self.means.look_again_at(tries), tries })
            }
            Carried::Unknown => Ok(Rest::Until { at: self.means.look_again_at(tries), tries: tries + 1 }),
        }
    }

    async fn record(
        &self,
        process: &Process,
        payment: &mut Known<PaymentIntent>,
        key: String,
        answer: Answer,
    ) -> Result<Carried, Stuck> {
        let step = format!("answer:{key}");
        let command = Command::RecordAnswer { key, answer };
        match self.means.tell(process, Step::new(&step, 0), payment, command).await? {
            Ok(()) => Ok(Carried::Through),
            // The provider contradicts itself, or speaks of another amount: somebody must look.
            Err(refused) => Err(Stuck::Refused { step: "record_answer", refused }),
        }
    }

    /// What became of a call; `None` where the provider has never heard of it.
    async fn ask(&self, call: &ProviderCall) -> Option<Outcome> {
        let limit = self.means.settings.provider_timeout;
        Some(match tokio::time::timeout(limit, self.provider.get(&call.key)).await {
            Ok(Lookup::NotFound) => return None,
            Ok(Lookup::Answer(answer)) => Outcome::Answer(answer),
            Ok(Lookup::Pending) => Outcome::Unknown { detail: "the provider is at work on it".to_owned() },
            Ok(Lookup::Unknown { detail }) => Outcome::Unknown { detail },
            Err(_) => Outcome::Unknown { detail: "no answer in time".to_owned() },
        })
    }

    /// Whether the call may be made now. An authorisation may not once its void was asked for, and that may have been
    /// asked since this process read the payment.
    async fn may_call(
        &self,
        payment: &mut Known<PaymentIntent>,
        operation: &Operation,
    ) -> Result<bool, Stuck> {
        if operation.operation != ProviderOperation::Authorize {
            return Ok(true);
        }
        self.means.load(payment, &Reached::default()).await?;
        Ok(!payment.state().is_given_up())
    }

    async fn call(&self, operation: ProviderOperation, call: &ProviderCall) -> Outcome {
        let called = match operation {
            ProviderOperation::Authorize => self.provider.authorize(call),
            ProviderOperation::Capture => self.provider.capture(call),
            ProviderOperation::Void => self.provider.void(call),
            ProviderOperation::Refund => self.provider.refund(call),
        };
        let limit = self.means.settings.provider_timeout;
        let late = |_| Outcome::Unknown { detail: "no answer in time".to_owned() };
        tokio::time::timeout(limit, called).await.unwrap_or_else(late)
    }

    /// The process of `waiter` is awake and waits for this payment no more.
    pub(crate) fn is_awake(&self, payment: &StreamId, waiter: &StreamId) {
        self.turns.is_awake(payment, waiter);
    }

    /// Has the process of `waiter` woken when whoever carries out an operation of this payment is done.
    pub(crate) fn wake_after_turn(&self, payment: &StreamId, waiter: &StreamId) {
        self.turns.wait(payment, waiter);
        if !self.turns.is_taken(payment) {
            self.turns.pass_on(payment);
        }
    }

    /// Has the process of `waiter` woken when what is open on this payment is over; answers what is open, `None`: nothing
    /// any more, and it is woken at once.
    pub(crate) async fn wake_after_operation(
        &self,
        payment: &mut Known<PaymentIntent>,
        waiter: &StreamId,
    ) -> Result<Option<Operation>, Stuck> {
        // First this, so that no end is missed.
        self.turns.wait(&payment.stream, waiter);
        self.means.load(payment, &Reached::default()).await?;
        let open = payment.state().open_operation().cloned();
        if open.is_none() {
            self.turns.pass_on(&payment.stream);
        }
        Ok(open)
    }

    /// Whose wait for a payment is over. Cancel-safe; for the runner.
    pub(crate) async fn woken(&self) -> BTreeSet<StreamId> {
        self.turns.woken().await
    }
}

/// The process that speaks for the payment with this stream.
pub(crate) fn process(stream: &StreamId) -> Process {
    Process::new(stream.tenant(), "payment", stream.id(), &stream.correlation())
}

/// The call that the operation stands for; `None` where the payment was never initiated, which cannot be.
fn call(tenant: &TenantId, payment: &PaymentIntent, operation: &Operation) -> Option<ProviderCall> {
    Some(ProviderCall {
        tenant: tenant.clone(),
        key: at_provider(tenant, &operation.key),
        payment: at_provider(tenant, payment.payment_id()?.as_str()),
        amount_minor: operation.amount_minor,
        currency: payment.currency()?,
        method_token: payment.method_token()?.to_owned(),
    })
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answer(answer) => answer.name(),
        Outcome::Unknown { .. } => "unknown",
        Outcome::Refused { .. } => "refused",
    }
}
