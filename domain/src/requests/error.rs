//! Why a key is refused.

use crate::{Refusal, RefusalFamily, StreamId};

/// The fact that stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key stands for something else.
    #[error("this request id was used before on {target} for something else")]
    Taken {
        /// What it stands for.
        target: StreamId,
    },
}

impl Refusal for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "REQUEST_ID_REUSED",
        }
    }

    fn family(&self) -> RefusalFamily {
        match self {
            Self::Taken { .. } => RefusalFamily::Invalid,
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some("request_id".to_owned()),
        }
    }
}
