//! A payment provider that does what the token says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use shopstream_domain::payment::Answer;

use crate::ports::{Lookup, Outcome, PaymentProvider, ProviderCall};

/// How long a refund of `tok_refund_takes` lasts.
const REFUND_TAKES: Duration = Duration::from_millis(100);

/// Carries out each key once and remembers every call. Keys are those it is called with, which have the tenant.
///
/// Tokens: `tok_approve`; `tok_decline`, `tok_decline_retryable`; `tok_void_fails` (as the second, and no void of it succeeds); `tok_timeout_after_charge` (holds the money and
/// does not say so); `tok_unknown` (no answer, ever, to its authorisation); `tok_unknown_void` (nor to its void);
/// `tok_slow` (answers after a minute, longer than anybody waits); `tok_answer_twice` (as `tok_approve`; the second
/// answer is the test's to send); `tok_capture_fails`, `tok_capture_fails_once`;
/// `tok_other_amount` (promises another amount than it was asked for); `tok_refund_fails` (until [`ScriptedProvider::mend`]); `tok_refund_takes`
/// (a moment);
/// `tok_overtaken` (its authorisation arrives when it is voided, right after the void, which takes 20 seconds to be
/// answered); `tok_lost` (its authorisations never arrive, so that the provider knows of no such payment); `tok_hang` (never answers the first call of each key, whether or not somebody waits).
#[derive(Default)]
pub struct ScriptedProvider {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    outcomes: BTreeMap<String, Answer>,
    calls: Vec<(&'static str, String)>,
    /// Refunds do not fail any more.
    mended: bool,
    /// Keys of calls that did not arrive.
    lost: BTreeSet<String>,
}

impl ScriptedProvider {
    /// A provider that knows of nothing.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Every call, oldest first: the operation and its key.
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        self.kept().calls.clone()
    }

    /// The keys whose operation was carried out with this answer's name.
    pub fn carried_out(&self, answer: &str) -> Vec<String> {
        let kept = self.kept();
        kept.outcomes
            .iter()
            .filter(|(_, outcome)| outcome.name() == answer)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Lets an operation come to this end, as if by itself.
    pub fn settle(&self, key: &str, answer: Answer) {
        self.kept().outcomes.insert(key.to_owned(), answer);
    }

    /// Lets no refund fail from here on.
    pub fn mend(&self) {
        self.kept().mended = true;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call; answers what the key came to before, and whether it is the first call of the key.
    fn note(&self, operation: &'static str, call: &ProviderCall) -> (Option<Answer>, bool) {
        let mut kept = self.kept();
        let first = !kept.calls.iter().any(|(_, key)| *key == call.key);
        kept.calls.push((operation, call.key.clone()));
        (kept.outcomes.get(&call.key).cloned(), first)
    }

    fn carry_out(&self, call: &ProviderCall, answer: Answer) -> Outcome {
        self.kept().outcomes.insert(call.key.clone(), answer.clone());
        Outcome::Answer(answer)
    }
}

fn silence() -> Outcome {
    Outcome::Unknown { detail: "the connection was lost".to_owned() }
}

#[async_trait]
impl PaymentProvider for ScriptedProvider {
    async fn authorize(&self, call: &ProviderCall) -> Outcome {
        let (before, first) = self.note("authorize", call);
        if let Some(answer) = before {
            return Outcome::Answer(answer);
        }
        let authorized = Answer::Authorized { amount_minor: call.amount_minor, capture_before: None };
        let declined = |retryable| Answer::Declined { code: "card_declined".to_owned(), retryable };
        match call.method_token.as_str() {
            "tok_decline" => self.carry_out(call, declined(false)),
            "tok_decline_retryable" | "tok_void_fails" => self.carry_out(call, declined(true)),
            "tok_timeout_after_charge" => {
                self.carry_out(call, authorized);
                silence()
            }
            "tok_unknown" | "tok_unknown_void" | "tok_overtaken" => silence(),
            "tok_other_amount" => {
                self.carry_out(call, Answer::Authorized { amount_minor: 1, capture_before: None })
            }
            "tok_lost" => {
                self.kept().lost.insert(call.key.clone());
                silence()
            }
            "tok_slow" => {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                self.carry_out(call, authorized)
            }
            "tok_hang" if first => std::future::pending().await,
            _ => self.carry_out(call, authorized),
        }
    }

    async fn capture(&self, call: &ProviderCall) -> Outcome {
        let (before, first) = self.note("capture", call);
        if let Some(answer) = before {
            return Outcome::Answer(answer);
        }
        match call.method_token.as_str() {
            "tok_capture_fails" => self.carry_out(call, Answer::Failed { code: "try_later".to_owned() }),
            "tok_capture_fails_once" if call.key.ends_with(":1") => {
                self.carry_out(call, Answer::Failed { code: "try_later".to_owned() })
            }
            "tok_hang" if first => std::future::pending().await,
            _ => self.carry_out(call, Answer::Captured { amount_minor: call.amount_minor }),
        }
    }

    async fn void(&self, call: &ProviderCall) -> Outcome {
        let (before, _) = self.note("void", call);
        match (before, call.method_token.as_str()) {
            (Some(answer), _) => Outcome::Answer(answer),
            (None, "tok_unknown_void") => silence(),
            (None, "tok_lost" | "tok_void_fails") => {
                self.carry_out(call, Answer::Failed { code: "unknown_payment".to_owned() })
            }
            (None, "tok_overtaken") if call.key.ends_with(":1") => {
                let voided = self.carry_out(call, Answer::Voided);
                let authorized = Answer::Authorized { amount_minor: call.amount_minor, capture_before: None };
                self.settle(&format!("{}:authorize:1", call.payment), authorized);
                tokio::time::sleep(std::time::Duration::from_secs(20)).await;
                voided
            }
            (None, _) => self.carry_out(call, Answer::Voided),
        }
    }

    async fn refund(&self, call: &ProviderCall) -> Outcome {
        let before = self.note("refund", call).0;
        let fails = call.method_token == "tok_refund_fails" && !self.kept().mended;
        if call.method_token == "tok_refund_takes" {
            tokio::time::sleep(REFUND_TAKES).await;
        }
        match before {
            Some(answer) => Outcome::Answer(answer),
            None if fails => self.carry_out(call, Answer::Failed { code: "try_later".to_owned() }),
            None => self.carry_out(call, Answer::Refunded { amount_minor: call.amount_minor }),
        }
    }

    async fn get(&self, key: &str) -> Lookup {
        let kept = self.kept();
        let seen = kept.calls.iter().any(|(_, called)| called == key);
        match kept.outcomes.get(key) {
            Some(answer) => Lookup::Answer(answer.clone()),
            None if seen && !kept.lost.contains(key) => Lookup::Pending,
            None => Lookup::NotFound,
        }
    }
}
