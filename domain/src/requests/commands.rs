//! What may be asked of a key.

use serde::{Deserialize, Serialize};

use crate::StreamId;

/// What may be asked of a client's idempotency key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClaimCommand {
    /// Lets the key stand for an operation on `target`, if it stands for nothing else.
    Claim {
        /// The stream that the operation is about.
        target: StreamId,
        /// The target that the key stood for so far, where that is known to have come to nothing and never to come to
        /// anything any more.
        instead_of: Option<StreamId>,
    },
    /// Refused as a claim for `target` would be; changes nothing.
    Check {
        /// The stream that the operation would be about.
        target: StreamId,
    },
}
