//! What the tests of all services need.

use shopstream_domain::Timestamp;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::call::Call;
use crate::failure::Failure;

/// A moment in 2023.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A call without metadata.
pub(crate) fn call() -> Call {
    Call::of(&MetadataMap::new()).expect("no metadata is fine")
}

/// The code and the first field of a refusal, as a client sees them.
pub(crate) fn refusal<T: std::fmt::Debug>(refused: Result<T, Failure>) -> (Code, String) {
    let status = Status::from(refused.expect_err("to be refused"));
    let details = status.get_error_details();
    assert!(details.error_info().is_some_and(|info| info.domain == crate::DOMAIN && !info.reason.is_empty()));
    let named = details.bad_request().and_then(|bad| bad.field_violations.first().map(|v| v.field.clone()));
    (status.code(), named.unwrap_or_default())
}
