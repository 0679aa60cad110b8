//! What happened to keys, and what is remembered of requests that changed nothing.

use serde::{Deserialize, Serialize};

use crate::StreamId;
use crate::aggregate::events;

events! {
    /// What happened to a client's idempotency key.
    pub enum ClaimEvent {
        /// It stands for an operation on this stream from now on.
        Claimed(RequestClaimed) = 1,
    }
}

/// A key stands for an operation on `target` from now on, and for none on what it stood for before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestClaimed {
    /// The stream that the operation is about.
    pub target: StreamId,
}

/// A client's command changed nothing: recorded on the stream that it was about, of whatever kind, so that the same
/// command is answered the same when it comes again, and changes nothing then either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NothingChanged {}

impl NothingChanged {
    /// Its name on the log and its schema version.
    pub const TYPE: (&'static str, u16) = ("NothingChanged", 1);
}
