//! The conservation laws of a shop (`commerce.md` C.9), folded over everything that ever happened.
//!
//! The folds here are written from what the events say, not with the aggregates' own `evolve`: a bug there must not
//! hide itself.

use std::fmt;

use shopstream_domain::StreamId;
use shopstream_domain::model::Event;
use shopstream_eventlog::Position;

use super::account::Returns;
use super::keys::Keys;
use super::money::Money;
use super::skus::Skus;
use super::stock::Stock;

/// One event with its place.
pub struct Seen {
    /// Where.
    pub position: Position,
    /// In which stream.
    pub stream: StreamId,
    /// What.
    pub event: Event,
}

/// A law that does not hold, and the event that showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number in `commerce.md` C.9.
    pub law: u8,
    /// Where it shows; `None`: only at the end.
    pub position: Option<Position>,
    /// In which stream.
    pub stream: String,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {}: {}: {}", self.law, self.stream, self.detail)?;
        match self.position {
            Some(position) => write!(f, " (at {position})"),
            None => f.write_str(" (at the end)"),
        }
    }
}

/// What a provider says it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderCall {
    /// The operation's key as the provider has it, which tells the tenant.
    pub key: String,
    /// Only a question about a key.
    pub question: bool,
    /// It moved or promised money.
    pub effective: bool,
}

/// The state of all folds at a point of the log.
#[derive(Default)]
pub struct Laws {
    stock: Stock,
    skus: Skus,
    money: Money,
    keys: Keys,
    returns: Returns,
}

/// What can only be said at the end of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Laws that do not hold.
    pub violations: Vec<Violation>,
    /// Streams with unfinished work, to which the laws of finished work do not apply yet.
    pub skipped: Vec<String>,
}

impl Laws {
    /// Folds an event; every law that holds at each position is checked there.
    ///
    /// # Errors
    /// The first law that the event breaks.
    pub fn see(&mut self, seen: &Seen) -> Result<(), Violation> {
        self.keys.see(&seen.stream, &seen.event);
        let checked = match &seen.event {
            Event::Stock(event) => self.stock.item(&seen.stream, event),
            Event::Reservation(event) => self.stock.reservation(&seen.stream, event),
            Event::Order(event) => {
                self.stock.order(&seen.stream, event);
                self.money.order(&seen.stream, event)
            }
            Event::Checkout(event) => {
                self.stock.checkout(&seen.stream, event);
                self.money.checkout(&seen.stream, event)
            }
            Event::Payment(event) => self.money.payment(&seen.stream, event),
            Event::Return(event) => {
                self.returns.see(&seen.stream, event);
                Ok(())
            }
            Event::Product(event) => {
                self.skus.product(&seen.stream, event);
                Ok(())
            }
            Event::Sku(event) => {
                self.skus.claim(&seen.stream, event);
                Ok(())
            }
            Event::Price(_) | Event::Request(_) | Event::Nothing(_) => Ok(()),
        };
        checked.map_err(|Broken { law, detail }| Violation {
            law,
            position: Some(seen.position),
            stream: seen.stream.to_string(),
            detail,
        })
    }

    /// What the whole log says. `calls`: the provider's own log, where there is one to compare with.
    pub fn conclude(&self, calls: Option<&[ProviderCall]>) -> Findings {
        let mut findings = Findings::default();
        self.stock.conclude(&mut findings);
        self.skus.conclude(&mut findings);
        self.money.conclude(&self.stock, &mut findings);
        self.keys.conclude(&mut findings);
        if let Some(calls) = calls {
            self.money.compare(calls, &mut findings);
        }
        self.returns.conclude(&self.money, &mut findings);
        findings.skipped.sort_unstable();
        findings.skipped.dedup();
        findings
    }
}

/// A law and what is wrong; the place is added by the caller.
pub(super) struct Broken {
    law: u8,
    detail: String,
}

impl Broken {
    pub(super) fn law(law: u8, detail: String) -> Result<(), Self> {
        Err(Self { law, detail })
    }
}

impl Findings {
    pub(super) fn broken(&mut self, law: u8, stream: &str, detail: String) {
        self.violations.push(Violation { law, position: None, stream: stream.to_owned(), detail });
    }
}
