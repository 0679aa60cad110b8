//! The payment provider: an honest book behind a bad line.
//!
//! Every key is carried out once. What the line does is drawn per call: the answer is lost, the call is lost, the call
//! arrives long after the caller has given up, nobody ever answers. What arrived without an answer is reported by a
//! signal, which may come twice and out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_command_handlers::Clock;
use shopstream_domain::payment::{Answer, Command, ProviderOperation, from_provider};
use shopstream_domain::{PaymentId, StreamId};
use shopstream_proto::payment::v1::{ProviderSignalKind, RecordProviderSignalRequest};
use shopstream_proto::r#type::v1::Money;
use shopstream_sagas::ports::{Lookup, Outcome, PaymentProvider, ProviderCall};

/// Clones keep the same book.
#[derive(Clone)]
pub(crate) struct Provider(Arc<Mutex<Kept>>);

struct Kept {
    random: StdRng,
    /// How often a call meets trouble, between 0 and 1.
    trouble: f64,
    answers: BTreeMap<String, Answer>,
    book: Book,
    signals: Vec<Signal>,
    /// Signals that were sent, which may be lost or come again.
    sent: Vec<Signal>,
    /// Calls that have yet to arrive.
    late: u32,
    clock: Arc<dyn Clock>,
}

/// What the provider knows of a shop's payments, by its own names, which tell the tenant.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// By payment.
    pub accounts: BTreeMap<String, Account>,
    /// Every key that was ever asked to be carried out.
    pub keys: BTreeSet<String>,
    /// Those of them that were.
    pub done: BTreeSet<String>,
}

/// The money of one payment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Promised and not taken.
    pub held: i64,
    /// Taken.
    pub captured: i64,
    /// Given back.
    pub refunded: i64,
    /// How often money was taken.
    pub captures: u32,
}

/// A report that the provider sends by itself.
#[derive(Clone, Debug)]
pub(crate) struct Signal {
    pub(crate) payment: StreamId,
    pub(crate) command: Command,
}

impl Signal {
    /// The call in which the provider says it.
    pub(crate) fn request(&self) -> Option<RecordProviderSignalRequest> {
        let Command::RecordSignal { provider_event_id, key, answer, sequence, .. } = &self.command else {
            return None;
        };
        let money = |amount_minor: i64| Some(Money { currency_code: "GBP".to_owned(), amount_minor });
        let mut request = RecordProviderSignalRequest {
            request_id: provider_event_id.clone(),
            provider_event_id: provider_event_id.clone(),
            provider_key: key.clone(),
            payment_id: self.payment.id().to_owned(),
            provider_time: Some(prost_types::Timestamp {
                seconds: i64::try_from(sequence / 1_000_000).ok()?,
                nanos: 0,
            }),
            ..RecordProviderSignalRequest::default()
        };
        let kind = match answer {
            Answer::Authorized { amount_minor, .. } => {
                request.amount = money(*amount_minor);
                ProviderSignalKind::Authorized
            }
            Answer::Declined { code, retryable } => {
                request.decline_code.clone_from(code);
                request.decline_retryable = *retryable;
                ProviderSignalKind::Declined
            }
            Answer::Captured { amount_minor } => {
                request.amount = money(*amount_minor);
                ProviderSignalKind::Captured
            }
            Answer::Refunded { amount_minor } => {
                request.amount = money(*amount_minor);
                ProviderSignalKind::Refunded
            }
            Answer::Voided => ProviderSignalKind::Voided,
            Answer::Failed { code } => {
                request.decline_code.clone_from(code);
                if key.contains(":refund:") {
                    ProviderSignalKind::RefundFailed
                } else if key.contains(":capture:") {
                    ProviderSignalKind::CaptureFailed
                } else {
                    // There is no word for a void that failed.
                    return None;
                }
            }
        };
        request.kind = kind.into();
        // There is no amount of nothing.
        (request.amount.as_ref().is_none_or(|amount| amount.amount_minor > 0)).then_some(request)
    }
}

/// What the line does to a call.
enum Line {
    Good,
    Slow(Duration),
    AnswerLost,
    NeverAnswers,
    CallLost,
    Late(Duration),
}

impl Provider {
    pub(crate) fn new(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            random: StdRng::seed_from_u64(seed),
            trouble: 0.0,
            answers: BTreeMap::new(),
            book: Book::default(),
            signals: Vec::new(),
            sent: Vec::new(),
            late: 0,
            clock,
        })))
    }

    pub(crate) fn set_trouble(&self, trouble: f64) {
        self.kept().trouble = trouble;
    }

    pub(crate) fn book(&self) -> Book {
        self.kept().book.clone()
    }

    /// One of the signals that are to be sent, any.
    pub(crate) fn signal(&self, random: &mut StdRng) -> Option<Signal> {
        let mut kept = self.kept();
        if kept.signals.is_empty() {
            return None;
        }
        let at = random.random_range(0..kept.signals.len());
        let signal = kept.signals.swap_remove(at);
        kept.sent.push(signal.clone());
        Some(signal)
    }

    /// Sends everything again: nobody knows what of it was heard.
    pub(crate) fn send_again(&self) {
        let mut kept = self.kept();
        let sent = std::mem::take(&mut kept.sent);
        kept.signals.extend(sent);
    }

    /// Whether no call is on its way, nor any signal still to be sent.
    pub(crate) fn is_quiet(&self) -> bool {
        let kept = self.kept();
        kept.late == 0 && kept.signals.is_empty()
    }

    async fn ask(&self, operation: ProviderOperation, call: &ProviderCall) -> Outcome {
        let line = self.kept().line(call);
        match line {
            Line::Good => Outcome::Answer(self.carry_out(operation, call, false)),
            Line::Slow(time) => {
                tokio::time::sleep(time).await;
                Outcome::Answer(self.carry_out(operation, call, false))
            }
            Line::AnswerLost => {
                self.carry_out(operation, call, true);
                silence()
            }
            Line::NeverAnswers => {
                self.carry_out(operation, call, true);
                std::future::pending().await
            }
            Line::CallLost => silence(),
            Line::Late(time) => {
                let (provider, call) = (self.clone(), call.clone());
                self.kept().late += 1;
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    provider.carry_out(operation, &call, true);
                    provider.kept().late -= 1;
                });
                silence()
            }
        }
    }

    fn carry_out(&self, operation: ProviderOperation, call: &ProviderCall, unheard: bool) -> Answer {
        let mut kept = self.kept();
        if let Some(answer) = kept.answers.get(&call.key) {
            return answer.clone();
        }
        let answer = kept.decide(operation, call);
        if !matches!(answer, Answer::Declined { .. } | Answer::Failed { .. }) {
            kept.book.done.insert(call.key.clone());
        }
        kept.answers.insert(call.key.clone(), answer.clone());
        // A promise of money is always reported, as real providers do: whoever asked for it may be dead by now, and where
        // the payment was called off meanwhile nobody asks again.
        let chance = kept.random.random_bool(0.1);
        if (unheard || chance || operation == ProviderOperation::Authorize)
            && let Some(payment) = stream_of(&call.payment)
            && let Some((_, key)) = from_provider(&call.key)
        {
            // To the second: all that happens within one is of one moment.
            let micros = kept.clock.now().micros();
            let sequence = (micros - micros % 1_000_000).unsigned_abs();
            let command = Command::RecordSignal {
                provider_event_id: format!("evt:{key}"),
                key: key.to_owned(),
                operation: None,
                answer: answer.clone(),
                sequence,
            };
            kept.signals.push(Signal { payment, command });
        }
        answer
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The payment that the provider knows by this name.
fn stream_of(payment: &str) -> Option<StreamId> {
    let (tenant, payment_id) = from_provider(payment)?;
    Some(PaymentId::new(payment_id).ok()?.stream(&tenant))
}

fn silence() -> Outcome {
    Outcome::Unknown { detail: "the line went dead".to_owned() }
}

impl Kept {
    fn line(&mut self, call: &ProviderCall) -> Line {
        self.book.keys.insert(call.key.clone());
        if !self.random.random_bool(self.trouble) {
            return Line::Good;
        }
        match self.random.random_range(0..6) {
            0 => Line::AnswerLost,
            1 => Line::NeverAnswers,
            2 => Line::CallLost,
            3 | 4 => Line::Late(Duration::from_millis(self.random.random_range(1..60_000))),
            _ => Line::Slow(Duration::from_millis(self.random.random_range(1..8_000))),
        }
    }

    /// What becomes of a call that arrives: what the book allows, less now and then.
    fn decide(&mut self, operation: ProviderOperation, call: &ProviderCall) -> Answer {
        let amount_minor = call.amount_minor;
        let failed = |code: &str| Answer::Failed { code: code.to_owned() };
        let hiccup = self.random.random_bool(self.trouble / 4.0);
        let draw = self.random.random_range(0..100);
        let account = self.book.accounts.entry(call.payment.clone()).or_default();
        match operation {
            ProviderOperation::Authorize if draw < 20 => {
                Answer::Declined { code: "card_declined".to_owned(), retryable: draw < 14 }
            }
            ProviderOperation::Authorize => {
                account.held += amount_minor;
                Answer::Authorized { amount_minor, capture_before: None }
            }
            ProviderOperation::Capture if hiccup => failed("try_later"),
            ProviderOperation::Capture if account.held < amount_minor => failed("nothing_held"),
            ProviderOperation::Capture => {
                account.held -= amount_minor;
                account.captured += amount_minor;
                account.captures += 1;
                Answer::Captured { amount_minor }
            }
            ProviderOperation::Void if hiccup => failed("try_later"),
            ProviderOperation::Void if account.captured > 0 => failed("captured"),
            ProviderOperation::Void => {
                // Of what is there: an authorisation that arrives later is held, as if nobody had called it off.
                account.held = 0;
                Answer::Voided
            }
            ProviderOperation::Refund if hiccup => failed("try_later"),
            ProviderOperation::Refund if account.captured - account.refunded < amount_minor => {
                failed("nothing_left")
            }
            ProviderOperation::Refund => {
                account.refunded += amount_minor;
                Answer::Refunded { amount_minor }
            }
        }
    }
}

#[async_trait]
impl PaymentProvider for Provider {
    async fn authorize(&self, call: &ProviderCall) -> Outcome {
        self.ask(ProviderOperation::Authorize, call).await
    }

    async fn capture(&self, call: &ProviderCall) -> Outcome {
        self.ask(ProviderOperation::Capture, call).await
    }

    async fn void(&self, call: &ProviderCall) -> Outcome {
        self.ask(ProviderOperation::Void, call).await
    }

    async fn refund(&self, call: &ProviderCall) -> Outcome {
        self.ask(ProviderOperation::Refund, call).await
    }

    async fn get(&self, key: &str) -> Lookup {
        let mut kept = self.kept();
        let trouble = kept.trouble;
        if kept.random.random_bool(trouble) {
            return Lookup::Unknown { detail: "the line went dead".to_owned() };
        }
        // A call that is late is one of which the provider has not heard.
        kept.answers.get(key).map_or(Lookup::NotFound, |answer| Lookup::Answer(answer.clone()))
    }
}
