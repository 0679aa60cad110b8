//! What callers asked for and what they heard. Kept outside the system, and never told to it.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use shopstream_eventlog::Position;

use super::Request;

/// Everything that any caller ever asked for, in the order in which it was first asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) operations: Vec<Operation>,
    /// Every call that was answered, in the order in which the answers came.
    pub(crate) exchanges: Vec<Exchange>,
    /// Moves on with every call and every answer.
    moment: u64,
}

/// One call and what was answered to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    /// The place of its request among the operations.
    pub(crate) operation: usize,
    /// The place of its answer among those that were heard.
    pub(crate) heard: usize,
    /// The node that was asked.
    pub(crate) node: u32,
    /// When it was called.
    pub(crate) called: u64,
    /// When it was answered.
    pub(crate) returned: u64,
    /// The place of the log that the answer names.
    pub(crate) position: Option<Position>,
}

/// One request, byte for byte, and all that was ever answered to it, in the order in which the answers came.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) number: usize,
    pub(crate) request: Request,
    pub(crate) heard: Vec<Heard>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// OK, with these bytes.
    Answer(Vec<u8>),
    /// A status.
    Refusal {
        code: Code,
        /// The reason of its ErrorInfo; empty where it has none.
        reason: String,
        /// It advises to ask again.
        retry: bool,
    },
    /// Nothing before the caller hung up.
    Nothing,
}

impl Heard {
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        Self::Refusal { code: status.code(), reason, retry: details.retry_info().is_some() }
    }

    /// Whether asking again is of no use.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Answer(_) => true,
            Self::Refusal { code, retry, .. } => !retry && !Self::leaves_doubt(*code),
            Self::Nothing => false,
        }
    }

    /// Whether the operation may have been carried out all the same.
    pub(crate) fn is_in_doubt(&self) -> bool {
        match self {
            Self::Answer(_) => false,
            Self::Refusal { code, .. } => Self::leaves_doubt(*code),
            Self::Nothing => true,
        }
    }

    /// A read that came too late, a node that stopped or lost its log: what was submitted may have happened.
    fn leaves_doubt(code: Code) -> bool {
        matches!(code, Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::Aborted)
    }
}

impl Ledger {
    /// Somebody calls; answers when.
    pub(super) fn call(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Somebody hears an answer of `node` to what was called at `called`.
    pub(super) fn hear(
        &mut self,
        operation: usize,
        heard: Heard,
        node: u32,
        called: u64,
        position: Option<Position>,
    ) {
        let returned = self.call();
        let all = &mut self.operations[operation].heard;
        all.push(heard);
        let heard = all.len() - 1;
        self.exchanges.push(Exchange { operation, heard, node, called, returned, position });
    }

    /// The place of this very request, which may be a copy of one that was sent before.
    pub(super) fn operation(&mut self, request: &Request) -> usize {
        if let Some(at) = self.operations.iter().rposition(|known| known.request == *request) {
            return at;
        }
        let number = self.operations.len();
        self.operations.push(Operation { number, request: request.clone(), heard: Vec::new() });
        number
    }
}

impl Operation {
    /// In whose name its commits are on the log.
    pub(crate) fn actor(&self) -> String {
        format!("caller-{}", self.number)
    }

    /// The answers that said OK.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.heard.iter().filter_map(|heard| match heard {
            Heard::Answer(answer) => Some(answer),
            Heard::Refusal { .. } | Heard::Nothing => None,
        })
    }
}
