//! What an answer to a spoilt call must be like.

use std::fmt;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::call::{Heard, Outcome};
use super::plan::Case;

/// A client's library takes 8 kB of metadata, unless it is told otherwise.
const TRAILERS_MAX: usize = 8 * 1024;

/// What makes two findings the same fault: promise, method, field, and what was wrong.
pub(crate) type Kind = (&'static str, String, String, String);

/// A promise that a call broke.
pub(crate) struct Finding {
    pub(crate) promise: &'static str,
    method: String,
    field: String,
    what: String,
    detail: String,
    heard: String,
    number: usize,
}

impl Finding {
    pub(crate) fn new(promise: &'static str, case: &Case, detail: String, heard: &Heard) -> Self {
        Self {
            promise,
            method: case.method.path.clone(),
            field: case.field.clone(),
            what: case.what.clone(),
            detail,
            heard: shown(heard),
            number: case.number,
        }
    }

    /// What makes two of them the same fault.
    pub(crate) fn kind(&self) -> Kind {
        let many = self.field.contains(", ");
        let field = if many { String::new() } else { self.field.clone() };
        // What took how long differs each time.
        let detail = if self.promise == "prompt" { String::new() } else { self.detail.clone() };
        (self.promise, self.method.clone(), field, detail)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, method, field, what, detail, heard, number } = self;
        write!(f, "{promise}: call {number}: {method} {field}: {what}: {detail}: {heard}")
    }
}

/// The refusal, where it was one.
pub(crate) fn refusal(heard: &Heard) -> Option<&Status> {
    match &heard.outcome {
        Outcome::Refused(status) => Some(status),
        _ => None,
    }
}

/// The answer in a word or two.
pub(crate) fn code(heard: &Heard) -> String {
    match &heard.outcome {
        Outcome::Done => "OK".to_owned(),
        Outcome::Refused(status) => {
            let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            format!("{:?} {reason}", status.code())
        }
        Outcome::Late => "no answer in the client's time".to_owned(),
        Outcome::Broken(_) => "cut off".to_owned(),
    }
}

fn shown(heard: &Heard) -> String {
    let text = match &heard.outcome {
        Outcome::Done => "OK".to_owned(),
        Outcome::Refused(status) => format!("{} {:?}", code(heard), status.message()),
        Outcome::Late => code(heard),
        Outcome::Broken(why) => why.clone(),
    };
    text.chars().take(240).collect()
}

/// It was told to come again.
pub(crate) fn is_put_off(case: &Case, heard: &Heard) -> bool {
    let put_off = |status: &Status| matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
    refusal(heard).is_some_and(put_off) && !case.may_run_out
}

/// What is wrong with an answer: the promise, and why.
pub(crate) fn judge(case: &Case, heard: &Heard) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let status = match &heard.outcome {
        // That it was late is another promise's.
        Outcome::Done | Outcome::Late => return wrong,
        Outcome::Broken(_) => return vec![("codes", "cut off".to_owned())],
        Outcome::Refused(status) => status,
    };
    match status.code() {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            wrong.push(("codes", format!("{:?}", status.code())))
        }
        Code::Cancelled | Code::DeadlineExceeded if !case.may_run_out => {
            wrong.push(("codes", format!("{:?}, with time left", status.code())));
        }
        _ => {}
    }
    let info = status.get_details_error_info();
    // Where the client's own time was over nobody may be there to say it.
    let is_own = case.may_run_out && matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded);
    if !is_own && info.as_ref().is_none_or(|info| info.reason.is_empty() || info.domain.is_empty()) {
        wrong.push(("errors", "no ErrorInfo".to_owned()));
    }
    // What cannot be read at all has no fields.
    let is_unread = info.as_ref().is_some_and(|info| info.reason == "REQUEST_MALFORMED");
    if info.is_some_and(|info| info.reason == "METHOD_UNKNOWN") {
        wrong.push(("errors", "says that the method is unknown".to_owned()));
    }
    if status.code() == Code::InvalidArgument && !is_unread {
        let named = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        if named.is_empty() || named.iter().any(|violation| violation.description.is_empty()) {
            wrong.push(("errors", "no BadRequest".to_owned()));
        }
    }
    if matches!(status.code(), Code::Unavailable) && status.get_details_retry_info().is_none() {
        wrong.push(("advice", "no RetryInfo".to_owned()));
    }
    if status.message().is_empty() {
        wrong.push(("errors", "no words".to_owned()));
    }
    if status.message().chars().any(char::is_control) {
        wrong.push(("errors", "characters that a terminal obeys".to_owned()));
    }
    if heard.trailers > TRAILERS_MAX {
        wrong.push(("errors", "more than a client takes".to_owned()));
    }
    wrong
}
