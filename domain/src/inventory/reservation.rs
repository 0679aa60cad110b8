//! A hold on several stock items, all or nothing: the one place where it is decided.
//!
//! ```text
//! Requested → Held → Committed      Requested → Rejected
//!      ↘        ↘         ↘
//!       └────────┴─────────┴→ Released      (also from nothing: a release that came first)
//! ```
//!
//! From `Committed` only the checkout that took it goes back, by a command of its own.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Allocation, Decision, Error, ReleaseReason, ReservationCommand, ReservationCommitted, ReservationEvent,
    ReservationExtended, ReservationHeld, ReservationRejected, ReservationReleased, ReservationRequested,
    ReservationSettled, ShortLine, StockKey,
};
use crate::aggregate::cqrs_aggregate;
use crate::{Aggregate, Duration, ReservationId, StreamKind, Timestamp};

/// The longest a reservation may hold with all extensions. Stock items forget finished reservations only well after.
pub const HOLD_SECONDS_MAX: u32 = 86_400;
const KEYS_MAX: usize = 1_000;

/// A hold on several stock items.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    status: ReservationStatus,
    keys: Vec<StockKey>,
    until: Timestamp,
    hard_until: Timestamp,
    /// Whether the stock items have followed the last decision.
    settled: bool,
}

/// How far a reservation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    /// Nobody has asked for it.
    #[default]
    Missing,
    /// The stock items are being asked.
    Requested,
    /// All lines are held.
    Held,
    /// Some line was short.
    Rejected,
    /// All lines are sold.
    Committed,
    /// It was given up.
    Released {
        /// Why.
        reason: ReleaseReason,
    },
}

impl Aggregate for Reservation {
    const KIND: StreamKind = StreamKind::Reservation;
    type Command = ReservationCommand;
    type Event = ReservationEvent;
    type Error = Error;

    fn decide(&self, command: &ReservationCommand, now: Timestamp) -> Result<Vec<ReservationEvent>, Error> {
        match command {
            ReservationCommand::Request { reservation_id, keys, hold_seconds, hard_max_seconds } => {
                self.request(reservation_id, keys, *hold_seconds, *hard_max_seconds, now)
            }
            ReservationCommand::RecordAllocation(Allocation::Held) => self.record_held(),
            ReservationCommand::RecordAllocation(Allocation::Rejected { short }) => {
                self.record_rejected(short)
            }
            ReservationCommand::Extend { until } => self.extend(*until, now),
            ReservationCommand::Commit => self.commit(now),
            ReservationCommand::Release { .. } if self.status == ReservationStatus::Committed => {
                Err(Error::AlreadyCommitted)
            }
            ReservationCommand::Release { reason } | ReservationCommand::Reverse { reason } => {
                Ok(self.release(*reason))
            }
            ReservationCommand::Expire => self.expire(now),
            ReservationCommand::RecordSettled { decision } => self.record_settled(*decision),
        }
    }

    fn evolve(&mut self, event: &ReservationEvent) {
        match event {
            ReservationEvent::Requested(requested) => {
                self.status = ReservationStatus::Requested;
                self.keys.clone_from(&requested.keys);
                (self.until, self.hard_until) = (requested.until, requested.hard_until);
            }
            ReservationEvent::Held(_) => self.status = ReservationStatus::Held,
            ReservationEvent::Rejected(_) => self.decided(ReservationStatus::Rejected),
            ReservationEvent::Extended(extended) => self.until = extended.until,
            ReservationEvent::Committed(_) => self.decided(ReservationStatus::Committed),
            ReservationEvent::Released(released) => {
                self.decided(ReservationStatus::Released { reason: released.reason });
            }
            ReservationEvent::Settled(_) => self.settled = true,
        }
    }

    fn weight(&self) -> usize {
        // The texts of SKU and location are counted as if every key had its own.
        const PER_KEY: usize = size_of::<StockKey>() + 64;
        size_of::<Self>() + self.keys.capacity() * PER_KEY
    }
}

cqrs_aggregate!(Reservation, "reservation");

impl Reservation {
    /// How far it has come.
    pub fn status(&self) -> ReservationStatus {
        self.status
    }

    /// What was asked for.
    pub fn keys(&self) -> &[StockKey] {
        &self.keys
    }

    /// When the hold ends.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether a decision was made that some stock item may not have followed yet.
    pub fn is_unsettled(&self) -> bool {
        self.decision().is_some() && !self.settled
    }

    fn request(
        &self,
        reservation_id: &ReservationId,
        keys: &[StockKey],
        hold_seconds: u32,
        hard_max_seconds: u32,
        now: Timestamp,
    ) -> Result<Vec<ReservationEvent>, Error> {
        match self.status {
            ReservationStatus::Missing => {}
            ReservationStatus::Released { reason } => return Err(Error::AlreadyReleased { reason }),
            ReservationStatus::Requested
            | ReservationStatus::Held
            | ReservationStatus::Rejected
            | ReservationStatus::Committed => {
                let same = self.keys == keys;
                let reservation_id = reservation_id.clone();
                return if same { Ok(vec![]) } else { Err(Error::ReservationExists { reservation_id }) };
            }
        }
        check_keys(keys)?;
        check_seconds("hard_max_seconds", hard_max_seconds, HOLD_SECONDS_MAX)?;
        check_seconds("hold_seconds", hold_seconds, hard_max_seconds)?;
        Ok(vec![ReservationEvent::Requested(ReservationRequested {
            reservation_id: reservation_id.clone(),
            keys: keys.to_vec(),
            until: now + Duration::from_seconds(hold_seconds),
            hard_until: now + Duration::from_seconds(hard_max_seconds),
        })])
    }

    fn record_held(&self) -> Result<Vec<ReservationEvent>, Error> {
        match self.status {
            ReservationStatus::Missing => Err(Error::ReservationNotFound),
            ReservationStatus::Requested => Ok(vec![ReservationEvent::Held(ReservationHeld {})]),
            // Given up while the stock items were being asked: what they held goes back with the release.
            ReservationStatus::Held | ReservationStatus::Committed | ReservationStatus::Released { .. } => {
                Ok(vec![])
            }
            ReservationStatus::Rejected => Err(Error::AlreadyRejected),
        }
    }

    fn record_rejected(&self, short: &[ShortLine]) -> Result<Vec<ReservationEvent>, Error> {
        if short.is_empty() {
            return Err(Error::ShortMissing);
        }
        match self.status {
            ReservationStatus::Missing => Err(Error::ReservationNotFound),
            ReservationStatus::Requested => {
                Ok(vec![ReservationEvent::Rejected(ReservationRejected { short: short.to_vec() })])
            }
            ReservationStatus::Rejected | ReservationStatus::Released { .. } => Ok(vec![]),
            ReservationStatus::Held => Err(Error::AlreadyHeld),
            ReservationStatus::Committed => Err(Error::AlreadyCommitted),
        }
    }

    fn extend(&self, wanted: Timestamp, now: Timestamp) -> Result<Vec<ReservationEvent>, Error> {
        self.must_hold(now)?;
        let until = wanted.min(self.hard_until);
        if until <= self.until {
            return Ok(vec![]);
        }
        Ok(vec![ReservationEvent::Extended(ReservationExtended { until })])
    }

    fn commit(&self, now: Timestamp) -> Result<Vec<ReservationEvent>, Error> {
        if self.status == ReservationStatus::Committed {
            return Ok(vec![]);
        }
        self.must_hold(now)?;
        Ok(vec![ReservationEvent::Committed(ReservationCommitted {})])
    }

    fn release(&self, reason: ReleaseReason) -> Vec<ReservationEvent> {
        match self.status {
            // Before its request: the request that comes late is refused.
            ReservationStatus::Missing
            | ReservationStatus::Requested
            | ReservationStatus::Held
            | ReservationStatus::Committed => {
                vec![ReservationEvent::Released(ReservationReleased { reason })]
            }
            ReservationStatus::Rejected | ReservationStatus::Released { .. } => vec![],
        }
    }

    fn expire(&self, now: Timestamp) -> Result<Vec<ReservationEvent>, Error> {
        match self.status {
            ReservationStatus::Missing => Err(Error::ReservationNotFound),
            ReservationStatus::Requested | ReservationStatus::Held if now < self.until => {
                Err(Error::HoldNotExpired { until: self.until })
            }
            ReservationStatus::Requested | ReservationStatus::Held => {
                Ok(self.release(ReleaseReason::Expired))
            }
            // The timer of a hold that found its end in another way.
            ReservationStatus::Rejected
            | ReservationStatus::Committed
            | ReservationStatus::Released { .. } => Ok(vec![]),
        }
    }

    fn record_settled(&self, decision: Decision) -> Result<Vec<ReservationEvent>, Error> {
        match (decision, self.decision()) {
            (_, None) if self.status == ReservationStatus::Missing => Err(Error::ReservationNotFound),
            (reported, Some(last)) if reported == last && self.settled => Ok(vec![]),
            (reported, Some(last)) if reported == last => {
                Ok(vec![ReservationEvent::Settled(ReservationSettled { decision })])
            }
            // A late report on the commit: the release that followed it has its own.
            (Decision::Committed, Some(Decision::Released)) => Ok(vec![]),
            (_, None | Some(Decision::Rejected | Decision::Committed | Decision::Released)) => {
                Err(Error::NothingToSettle)
            }
        }
    }

    fn must_hold(&self, now: Timestamp) -> Result<(), Error> {
        match self.status {
            ReservationStatus::Missing => Err(Error::ReservationNotFound),
            ReservationStatus::Requested => Err(Error::NotHeld),
            ReservationStatus::Held if now < self.until => Ok(()),
            ReservationStatus::Held => Err(Error::HoldExpired { until: self.until }),
            ReservationStatus::Rejected => Err(Error::AlreadyRejected),
            ReservationStatus::Committed => Err(Error::AlreadyCommitted),
            ReservationStatus::Released { reason } => Err(Error::AlreadyReleased { reason }),
        }
    }

    fn decision(&self) -> Option<Decision> {
        match self.status {
            ReservationStatus::Missing | ReservationStatus::Requested | ReservationStatus::Held => None,
            ReservationStatus::Rejected => Some(Decision::Rejected),
            ReservationStatus::Committed => Some(Decision::Committed),
            ReservationStatus::Released { .. } => Some(Decision::Released),
        }
    }

    /// A release that came before its request has no stock items to wait for.
    fn decided(&mut self, status: ReservationStatus) {
        self.status = status;
        self.settled = self.keys.is_empty();
    }
}

fn check_keys(keys: &[StockKey]) -> Result<(), Error> {
    match keys.len() {
        0 => return Err(Error::KeysMissing),
        found if found > KEYS_MAX => return Err(Error::TooManyKeys { found, limit: KEYS_MAX }),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for (index, StockKey { sku, location, quantity: _ }) in keys.iter().enumerate() {
        if !seen.insert((sku, location)) {
            return Err(Error::DuplicateKey { sku: sku.clone(), location: location.clone(), index });
        }
    }
    Ok(())
}

fn check_seconds(field: &'static str, seconds: u32, limit: u32) -> Result<(), Error> {
    if (1..=limit).contains(&seconds) { Ok(()) } else { Err(Error::HoldLength { field, seconds, limit }) }
}
