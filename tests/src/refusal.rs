//! A refusal as a program sees it: code, reason, the named field.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a client can branch on.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// Of its `ErrorInfo`; empty where there is none.
    pub reason: String,
    /// The first field that it names; empty where it names none.
    pub field: String,
    /// It says when to try again.
    pub retry: bool,
}

impl Refusal {
    /// A refusal that no repetition helps against.
    pub fn new(code: Code, reason: &str, field: &str) -> Self {
        Self { code, reason: reason.into(), field: field.into(), retry: false }
    }
}

/// The refusal in an answer.
///
/// # Panics
/// It was none.
pub fn refusal<T>(answer: Result<T, Status>) -> Refusal {
    let Err(status) = answer else { panic!("it was not refused") };
    let info = status.get_details_error_info();
    let field = status.get_details_bad_request().and_then(|bad| bad.field_violations.into_iter().next());
    Refusal {
        code: status.code(),
        reason: info.map_or_else(String::new, |info| info.reason),
        field: field.map_or_else(String::new, |violation| violation.field),
        retry: status.get_details_retry_info().is_some(),
    }
}
