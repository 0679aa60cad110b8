//! What the simulator knows: every call in an append file that is written before the answer, so that a recount
//! after any crash of the shop has something independent to compare with.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One call as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) key: String,
    /// The payment that it is about; empty in a question.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) payment_id: String,
    #[serde(default)]
    pub(super) amount_minor: i64,
    /// Of an authorisation: how many of its payment's refunds are to fail before one succeeds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) refunds_fail: u32,
    /// Money moved, was promised, or a promise was given up.
    pub(super) effective: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<Outcome>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    Authorize,
    Capture,
    Void,
    Refund,
    Get,
}

impl Operation {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Get => "get",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Success {
        amount_minor: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        capture_before_seconds: Option<i64>,
    },
    Decline {
        code: String,
        retryable: bool,
    },
}

/// What was promised for a payment, and what became of it.
#[derive(Default)]
struct Account {
    authorized: i64,
    captured: i64,
    refunded: i64,
    voided: bool,
    /// How many refunds are still to fail.
    refunds_fail: u32,
}

/// All calls, and what follows from them.
pub(super) struct Book {
    file: File,
    calls: Vec<Call>,
    outcomes: HashMap<String, Outcome>,
    accounts: HashMap<String, Account>,
}

impl Book {
    /// Reads the calls in `path` and goes on from there. A last line that a crash cut short was never answered.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut book = Self { file, calls: Vec::new(), outcomes: HashMap::new(), accounts: HashMap::new() };
        let mut whole = 0;
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            let line = line?;
            let Ok(call) = serde_json::from_slice::<Call>(&line) else { break };
            whole += line.len() as u64 + 1;
            book.remember(call);
        }
        if whole < book.file.metadata()?.len() {
            book.file.set_len(whole)?;
        }
        Ok(book)
    }

    pub(super) fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// What became of the operation with this key; the question is written down.
    pub(super) fn get(&mut self, key: &str) -> io::Result<Option<Outcome>> {
        self.write(Call {
            operation: Operation::Get,
            key: key.to_owned(),
            payment_id: String::new(),
            amount_minor: 0,
            refunds_fail: 0,
            effective: false,
            outcome: None,
        })?;
        Ok(self.outcomes.get(key).cloned())
    }

    /// Carries out an operation, once per key, and writes it down before anybody is answered.
    pub(super) fn operate(
        &mut self,
        mut call: Call,
        decide: impl FnOnce() -> Outcome,
    ) -> io::Result<Outcome> {
        if let Some(known) = self.outcomes.get(&call.key) {
            let known = known.clone();
            (call.effective, call.outcome) = (false, Some(known.clone()));
            self.write(call)?;
            return Ok(known);
        }
        let outcome = self.objection(&call).unwrap_or_else(decide);
        call.effective = matches!(outcome, Outcome::Success { .. });
        call.outcome = Some(outcome.clone());
        self.write(call)?;
        Ok(outcome)
    }

    /// What was declined is held after all, as if the provider had looked again; written down before anybody is told.
    pub(super) fn hold_after_all(&mut self, mut call: Call, outcome: Outcome) -> io::Result<()> {
        (call.effective, call.outcome) = (true, Some(outcome));
        self.write(call)
    }

    /// Why the books forbid it.
    fn objection(&self, call: &Call) -> Option<Outcome> {
        let decline = |code: &str| Some(Outcome::Decline { code: code.to_owned(), retryable: false });
        if call.operation == Operation::Authorize {
            return None;
        }
        let Some(account) = self.accounts.get(&call.payment_id) else {
            return decline("unknown_payment");
        };
        let left = match call.operation {
            Operation::Capture if account.voided => return decline("voided"),
            Operation::Capture => account.authorized - account.captured,
            Operation::Refund if account.refunds_fail > 0 => return decline("try_later"),
            Operation::Refund => account.captured - account.refunded,
            Operation::Void if account.captured > 0 => return decline("already_captured"),
            Operation::Void | Operation::Authorize | Operation::Get => i64::MAX,
        };
        if call.amount_minor > left { decline("amount_too_large") } else { None }
    }

    fn write(&mut self, call: Call) -> io::Result<()> {
        let mut line = serde_json::to_vec(&call)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.remember(call);
        Ok(())
    }

    fn remember(&mut self, call: Call) {
        let is_news = call.operation != Operation::Get && !self.outcomes.contains_key(&call.key);
        if is_news && call.operation == Operation::Refund {
            let account = self.accounts.entry(call.payment_id.clone()).or_default();
            account.refunds_fail = account.refunds_fail.saturating_sub(1);
        }
        if call.effective {
            let account = self.accounts.entry(call.payment_id.clone()).or_default();
            match call.operation {
                Operation::Authorize => {
                    account.authorized += call.amount_minor;
                    account.refunds_fail = call.refunds_fail;
                }
                Operation::Capture => account.captured += call.amount_minor,
                Operation::Refund => account.refunded += call.amount_minor,
                Operation::Void => account.voided = true,
                Operation::Get => {}
            }
        }
        if let (false, Some(outcome)) = (call.operation == Operation::Get, &call.outcome) {
            // The first word on a key is the last, unless what was declined came after all.
            let known = self.outcomes.entry(call.key.clone()).or_insert_with(|| outcome.clone());
            if call.effective {
                known.clone_from(outcome);
            }
        }
        self.calls.push(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(operation: Operation, key: &str, amount_minor: i64) -> Call {
        let (key, payment_id) = (key.to_owned(), "pay_1.1".to_owned());
        Call { operation, key, payment_id, amount_minor, refunds_fail: 0, effective: false, outcome: None }
    }

    fn approve(amount_minor: i64) -> Outcome {
        Outcome::Success { amount_minor, capture_before_seconds: None }
    }

    #[test]
    fn a_key_moves_money_once_even_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let authorize = || call(Operation::Authorize, "a", 100);
        let mut book = Book::open(&path).unwrap();
        assert_eq!(book.operate(authorize(), || approve(100)).unwrap(), approve(100));
        drop(book);
        // A crash in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"operation\":\"auth").unwrap();
        let mut book = Book::open(&path).unwrap();
        let again = book.operate(authorize(), || unreachable!("the key is known")).unwrap();
        assert_eq!(again, approve(100));
        assert_eq!(book.calls().iter().filter(|call| call.effective).count(), 1);
        assert_eq!(Book::open(&path).unwrap().calls().len(), 2);
    }

    #[test]
    fn refunds_fail_as_often_as_they_are_to_even_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let try_later = Outcome::Decline { code: "try_later".into(), retryable: false };
        let mut book = Book::open(&path).unwrap();
        let authorize = Call { refunds_fail: 2, ..call(Operation::Authorize, "a", 100) };
        book.operate(authorize, || approve(100)).unwrap();
        book.operate(call(Operation::Capture, "c", 100), || approve(100)).unwrap();
        let refund = |book: &mut Book, key| book.operate(call(Operation::Refund, key, 100), || approve(100));
        assert_eq!(refund(&mut book, "r1").unwrap(), try_later);
        assert_eq!(refund(&mut book, "r1").unwrap(), try_later, "the same call is the same answer");
        let mut book = Book::open(&path).unwrap();
        assert_eq!(refund(&mut book, "r2").unwrap(), try_later);
        assert_eq!(refund(&mut book, "r3").unwrap(), approve(100));
    }

    #[test]
    fn what_was_declined_may_come_after_all_even_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let mut book = Book::open(&path).unwrap();
        let declined = Outcome::Decline { code: "insufficient_funds".into(), retryable: true };
        let authorize = || call(Operation::Authorize, "a", 100);
        assert_eq!(book.operate(authorize(), || declined.clone()).unwrap(), declined);
        book.hold_after_all(authorize(), approve(100)).unwrap();
        let mut book = Book::open(&path).unwrap();
        assert_eq!(book.get("a").unwrap(), Some(approve(100)));
        assert_eq!(book.operate(call(Operation::Capture, "c", 100), || approve(100)).unwrap(), approve(100));
    }

    #[test]
    fn a_book_from_before_names_had_tenants_reads_and_is_the_default_tenants() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let line = "{\"operation\":\"authorize\",\"key\":\"pay_1.1:authorize:1\",\"payment_id\":\"pay_1.1\",\
                    \"amount_minor\":100,\"effective\":true,\"outcome\":{\"success\":{\"amount_minor\":100}}}\n";
        std::fs::write(&path, line).unwrap();
        let mut book = Book::open(&path).unwrap();
        assert_eq!(book.get("pay_1.1:authorize:1").unwrap(), Some(approve(100)));
        let acme = |operation: Operation| Call {
            payment_id: "acme/pay_1.1".to_owned(),
            ..call(operation, &format!("acme/pay_1.1:{}:1", operation.name()), 30)
        };
        let unknown = Outcome::Decline { code: "unknown_payment".into(), retryable: false };
        assert_eq!(book.operate(acme(Operation::Void), || approve(30)).unwrap(), unknown);
        assert_eq!(book.operate(acme(Operation::Authorize), || approve(30)).unwrap(), approve(30));
        assert_eq!(book.operate(acme(Operation::Capture), || approve(30)).unwrap(), approve(30));
        let own = |operation: Operation| call(operation, &format!("pay_1.1:{}:1", operation.name()), 100);
        assert_eq!(book.operate(own(Operation::Capture), || approve(100)).unwrap(), approve(100));
        assert_eq!(book.operate(own(Operation::Refund), || approve(100)).unwrap(), approve(100));
    }

    #[test]
    fn no_more_is_captured_than_authorized_nor_refunded_than_captured() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::open(&folder.path().join("calls.jsonl")).unwrap();
        let too_large = Outcome::Decline { code: "amount_too_large".into(), retryable: false };
        book.operate(call(Operation::Authorize, "a", 100), || approve(100)).unwrap();
        book.operate(call(Operation::Capture, "c", 60), || approve(60)).unwrap();
        assert_eq!(book.operate(call(Operation::Capture, "d", 41), || approve(41)).unwrap(), too_large);
        assert_eq!(book.operate(call(Operation::Refund, "r", 61), || approve(61)).unwrap(), too_large);
        assert_eq!(book.operate(call(Operation::Refund, "s", 60), || approve(60)).unwrap(), approve(60));
    }
}
