//! The return of goods.
//!
//! ```text
//! Requested → (Refunded, Restocked in either order) → Resolved, or Settled where a person saw to one of them
//!     └─────→ Refused
//! any but Resolved, Settled and Refused ⇄ NeedsAttention
//! ```

use serde::{Deserialize, Serialize};

use super::{
    Command, Error, Event, ReturnLine, ReturnNeedsAttention, ReturnRefunded, ReturnRefused, ReturnRequest,
    ReturnRequested, ReturnResolved, ReturnRestocked, ReturnResumed, ReturnSettled,
};
use crate::aggregate::cqrs_aggregate;
use crate::order::LINES_MAX;
use crate::text::{ACCOUNT, LABEL, REASON};
use crate::{Aggregate, StreamKind, Timestamp};

/// A return as its history tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Return {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requested: Option<Box<ReturnRequested>>,
    #[serde(default)]
    refunded: bool,
    #[serde(default)]
    restocked: bool,
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    stopped: bool,
    /// A person saw to the money, and said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    money_settled: Option<String>,
    /// A person saw to the units, and said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stock_settled: Option<String>,
}

/// Where a return is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnStatus {
    /// Nothing moved yet.
    Requested,
    /// The money went back, the goods not yet.
    Refunded,
    /// The goods are back, the money not yet.
    Restocked,
    /// Both.
    Resolved,
    /// Both, and a person saw to one of them at least.
    Settled,
    /// Neither, and never will.
    Refused,
    /// A step keeps failing and waits for an operator.
    NeedsAttention,
}

impl ReturnStatus {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Refunded => "refunded",
            Self::Restocked => "restocked",
            Self::Resolved => "resolved",
            Self::Settled => "settled",
            Self::Refused => "refused",
            Self::NeedsAttention => "needs_attention",
        }
    }

    /// Whether nothing is left to do.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Resolved | Self::Settled | Self::Refused => true,
            Self::Requested | Self::Refunded | Self::Restocked | Self::NeedsAttention => false,
        }
    }
}

impl Return {
    /// Where it is; `None` for an empty stream.
    pub fn status(&self) -> Option<ReturnStatus> {
        self.requested.as_ref()?;
        let so_far = match (self.refused, self.refunded, self.restocked) {
            (true, _, _) => ReturnStatus::Refused,
            (false, false, false) => ReturnStatus::Requested,
            (false, true, false) => ReturnStatus::Refunded,
            (false, false, true) => ReturnStatus::Restocked,
            (false, true, true) if self.is_settled() => ReturnStatus::Settled,
            (false, true, true) => ReturnStatus::Resolved,
        };
        Some(if self.stopped && !so_far.is_terminal() { ReturnStatus::NeedsAttention } else { so_far })
    }

    /// Which units come back; `None` for an empty stream.
    pub fn request(&self) -> Option<&ReturnRequest> {
        self.requested.as_ref().map(|requested| &requested.request)
    }

    /// What the operator said who saw to the money, where one did.
    pub fn money_settled(&self) -> Option<&str> {
        self.money_settled.as_deref()
    }

    /// What the operator said who saw to the units, where one did.
    pub fn stock_settled(&self) -> Option<&str> {
        self.stock_settled.as_deref()
    }

    fn is_settled(&self) -> bool {
        self.money_settled.is_some() || self.stock_settled.is_some()
    }

    /// What is owed for them.
    pub fn refund_minor(&self) -> i64 {
        self.requested.as_ref().map_or(0, |requested| requested.refund_minor)
    }

    fn begin(&self, request: &ReturnRequest) -> Result<Vec<Event>, Error> {
        match self.request() {
            Some(known) if known == request => return Ok(vec![]),
            Some(_) => return Err(Error::AlreadyExists),
            None => {}
        }
        let refund_minor = refund_of(&request.lines)?;
        Ok(vec![Event::Requested(ReturnRequested { request: request.clone(), refund_minor })])
    }

    fn record_refunded(&self, amount_minor: i64) -> Result<Vec<Event>, Error> {
        self.accepted()?;
        if amount_minor != self.refund_minor() {
            return Err(Error::RefundMismatch { expected: self.refund_minor(), found: amount_minor });
        }
        let refunded = Event::Refunded(ReturnRefunded { amount_minor });
        Ok(once(self.refunded, refunded, self.restocked))
    }

    fn record_restocked(&self) -> Result<Vec<Event>, Error> {
        self.accepted()?;
        Ok(once(self.restocked, Event::Restocked(ReturnRestocked {}), self.refunded))
    }

    fn refuse(&self, reason: &str) -> Result<Vec<Event>, Error> {
        match self.status().ok_or(Error::NotFound)? {
            ReturnStatus::Refused => Ok(vec![]),
            ReturnStatus::Requested => {
                Ok(vec![Event::Refused(ReturnRefused { reason: LABEL.tidy(reason).into_owned() })])
            }
            ReturnStatus::Refunded
            | ReturnStatus::Restocked
            | ReturnStatus::Resolved
            | ReturnStatus::Settled
            | ReturnStatus::NeedsAttention => Err(Error::UnderWay),
        }
    }

    fn record_needs_attention(&self, step: &str, detail: &str) -> Result<Vec<Event>, Error> {
        match self.status().ok_or(Error::NotFound)? {
            ReturnStatus::Requested | ReturnStatus::Refunded | ReturnStatus::Restocked => {
                // What a process says is not refused: it would say the same again.
                let (step, detail) = (LABEL.tidy(step).into_owned(), ACCOUNT.tidy(detail).into_owned());
                Ok(vec![Event::NeedsAttention(ReturnNeedsAttention { step, detail })])
            }
            // Another runner said so already, or brought it to its end.
            ReturnStatus::NeedsAttention
            | ReturnStatus::Resolved
            | ReturnStatus::Settled
            | ReturnStatus::Refused => Ok(vec![]),
        }
    }

    fn resume(&self, reason: &str) -> Result<Vec<Event>, Error> {
        match self.status().ok_or(Error::NotFound)? {
            ReturnStatus::NeedsAttention => {
                REASON.check("reason", reason)?;
                Ok(vec![Event::Resumed(ReturnResumed { reason: reason.to_owned() })])
            }
            status => Err(Error::NotStopped { status }),
        }
    }

    fn settle(&self, settled: ReturnSettled) -> Result<Vec<Event>, Error> {
        match self.status().ok_or(Error::NotFound)? {
            ReturnStatus::NeedsAttention => {
                REASON.check("reason", &settled.reason)?;
                Ok(vec![Event::Settled(settled)])
            }
            status => Err(Error::NotStopped { status }),
        }
    }

    fn accepted(&self) -> Result<(), Error> {
        match self.status().ok_or(Error::NotFound)? {
            ReturnStatus::Refused => Err(Error::AlreadyRefused),
            ReturnStatus::Requested
            | ReturnStatus::Refunded
            | ReturnStatus::Restocked
            | ReturnStatus::Resolved
            | ReturnStatus::Settled
            // A fact stays one, whoever waits for whom.
            | ReturnStatus::NeedsAttention => Ok(()),
        }
    }
}

/// `event` unless it was before; the end too, if the other half was done before.
fn once(already: bool, event: Event, other_half: bool) -> Vec<Event> {
    match (already, other_half) {
        (true, _) => vec![],
        (false, false) => vec![event],
        (false, true) => vec![event, Event::Resolved(ReturnResolved {})],
    }
}

fn refund_of(lines: &[ReturnLine]) -> Result<i64, Error> {
    match lines.len() {
        0 => return Err(Error::NoLines),
        1..=LINES_MAX => {}
        found => return Err(Error::TooManyLines { found }),
    }
    lines.iter().enumerate().try_fold(0_i64, |sum, (index, line)| {
        if line.unit_price_minor < 0 {
            return Err(Error::NegativePrice { index, found: line.unit_price_minor });
        }
        let price = line.unit_price_minor.checked_mul(line.quantity.get());
        price.and_then(|price| sum.checked_add(price)).ok_or(Error::Overflow { index })
    })
}

impl Aggregate for Return {
    const KIND: StreamKind = StreamKind::Return;
    type Command = Command;
    type Event = Event;
    type Error = Error;

    fn decide(&self, command: &Command, _now: Timestamp) -> Result<Vec<Event>, Error> {
        match command {
            Command::Request(request) => self.begin(request),
            Command::RecordRefunded { amount_minor } => self.record_refunded(*amount_minor),
            Command::RecordRestocked => self.record_restocked(),
            Command::Refuse { reason } => self.refuse(reason),
            Command::RecordNeedsAttention { step, detail } => self.record_needs_attention(step, detail),
            Command::Resume { reason } => self.resume(reason),
            Command::Settle { money, stock, reason } => {
                self.settle(ReturnSettled { money: *money, stock: *stock, reason: reason.clone() })
            }
        }
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Requested(requested) => self.requested = Some(Box::new(requested.clone())),
            Event::Refunded(_) => self.refunded = true,
            Event::Restocked(_) => self.restocked = true,
            Event::Resolved(_) => {}
            Event::Refused(_) => self.refused = true,
            Event::NeedsAttention(_) => self.stopped = true,
            Event::Resumed(_) => self.stopped = false,
            Event::Settled(settled) => {
                self.stopped = false;
                let because = |it: bool| it.then(|| settled.reason.clone());
                self.money_settled = because(settled.money).or_else(|| self.money_settled.take());
                self.stock_settled = because(settled.stock).or_else(|| self.stock_settled.take());
            }
        }
    }

    fn weight(&self) -> usize {
        let lines = self.request().map_or(0, |request| request.lines.capacity());
        size_of::<Self>() + size_of::<ReturnRequested>() + lines * (size_of::<ReturnLine>() + 64)
    }
}

cqrs_aggregate!(Return, "return");
