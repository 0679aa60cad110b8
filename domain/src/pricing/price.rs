//! The list price of a SKU in one currency, and enough of its past to prove the lowest price of the last 30 days.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Error, PriceChanged, PriceCommand, PriceEvent, PriceSet};
use crate::aggregate::cqrs_aggregate;
use crate::text::REASON;
use crate::{Aggregate, Currency, Duration, Sku, StreamKind, Timestamp};

const PRIOR_DAYS: Duration = Duration::from_days(30);

/// The list price of a SKU in one currency.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Price {
    current: Option<CurrentPrice>,
    /// Former prices, oldest first, that may still be the lowest of 30 days: an older one is always lower than
    /// every later one, since a price that a later one undercut can never be the lowest again.
    former: VecDeque<FormerPrice>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CurrentPrice {
    sku: Sku,
    currency: Currency,
    amount_minor: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FormerPrice {
    amount_minor: i64,
    until: Timestamp,
}

impl Aggregate for Price {
    const KIND: StreamKind = StreamKind::Price;
    type Command = PriceCommand;
    type Event = PriceEvent;
    type Error = Error;

    fn decide(&self, command: &PriceCommand, now: Timestamp) -> Result<Vec<PriceEvent>, Error> {
        let PriceCommand::Set { sku, amount_minor, currency, reason } = command;
        check(*amount_minor, reason.as_deref())?;
        let (sku, currency, reason, at) = (sku.clone(), *currency, reason.clone(), now);
        let Some(current) = &self.current else {
            return Ok(vec![PriceEvent::Set(PriceSet {
                sku,
                currency,
                amount_minor: *amount_minor,
                reason,
                at,
            })]);
        };
        current.must_be_of(&sku, currency)?;
        let (old_minor, new_minor) = (current.amount_minor, *amount_minor);
        if new_minor == old_minor {
            return Ok(vec![]);
        }
        let prior_lowest_minor = (new_minor < old_minor).then(|| self.lowest_before(now, old_minor));
        Ok(vec![PriceEvent::Changed(PriceChanged {
            sku,
            currency,
            old_minor,
            new_minor,
            reason,
            prior_lowest_minor,
            at,
        })])
    }

    fn evolve(&mut self, event: &PriceEvent) {
        match event {
            PriceEvent::Set(set) => {
                let (sku, currency, amount_minor) = (set.sku.clone(), set.currency, set.amount_minor);
                self.current = Some(CurrentPrice { sku, currency, amount_minor });
            }
            PriceEvent::Changed(changed) => {
                self.remember(changed.old_minor, changed.at);
                let (sku, currency, amount_minor) =
                    (changed.sku.clone(), changed.currency, changed.new_minor);
                self.current = Some(CurrentPrice { sku, currency, amount_minor });
            }
        }
    }

    fn weight(&self) -> usize {
        let sku = self.current.as_ref().map_or(0, |current| current.sku.as_str().len() + 16);
        size_of::<Self>() + sku + self.former.capacity() * size_of::<FormerPrice>()
    }
}

cqrs_aggregate!(Price, "price");

impl Price {
    /// What it costs now, in minor units; `None` while it has no price.
    pub fn amount_minor(&self) -> Option<i64> {
        self.current.as_ref().map(|current| current.amount_minor)
    }

    /// The lowest price that held at any time in the 30 days before `now`, the current one included.
    fn lowest_before(&self, now: Timestamp, current_minor: i64) -> i64 {
        let first = self.former.partition_point(|former| former.until <= now - PRIOR_DAYS);
        self.former.get(first).map_or(current_minor, |former| former.amount_minor.min(current_minor))
    }

    fn remember(&mut self, amount_minor: i64, at: Timestamp) {
        // A clock that was set back must not put the queue out of order.
        let until = self.former.back().map_or(at, |last| last.until.max(at));
        while self.former.front().is_some_and(|oldest| oldest.until <= until - PRIOR_DAYS) {
            self.former.pop_front();
        }
        while self.former.back().is_some_and(|last| last.amount_minor >= amount_minor) {
            self.former.pop_back();
        }
        self.former.push_back(FormerPrice { amount_minor, until });
    }
}

impl CurrentPrice {
    fn must_be_of(&self, sku: &Sku, currency: Currency) -> Result<(), Error> {
        if self.sku != *sku {
            return Err(Error::OtherSku { expected: self.sku.clone(), found: sku.clone() });
        }
        if self.currency != currency {
            return Err(Error::OtherCurrency { expected: self.currency, found: currency });
        }
        Ok(())
    }
}

fn check(amount_minor: i64, reason: Option<&str>) -> Result<(), Error> {
    if amount_minor < 0 {
        return Err(Error::Negative { amount_minor });
    }
    Ok(REASON.check("reason", reason.unwrap_or_default())?)
}
