//! Reservations: which are open, until when, and whether their stock items have followed.
//!
//! The fan-out of `sagas` reads from here, after a restart, what it has left to do.

use serde::{Deserialize, Serialize};
use shopstream_domain::inventory::{ReleaseReason, ReservationEvent};
use shopstream_domain::model::Event;
use shopstream_domain::{Partition, ReservationId, StreamId, StreamKind, TenantId, Timestamp, Version};
use shopstream_eventlog::Offset;

use crate::column::words;
use crate::memory::MemoryViews;
use crate::table::table;
use crate::view::{Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(EntityRows::<ReservationView>::new(schema))]
}

/// Where a reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    /// Its stock items are being asked.
    Requested,
    /// All of them hold.
    Held,
    /// One was short.
    Rejected,
    /// What it held is sold.
    Committed,
    /// It was given up.
    Released,
}

words!(ReservationStatus);

table! {
    /// A reservation.
    pub struct ReservationView in "reservation" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// Its id.
            reservation_id: ReservationId,
        }
        /// Where it is.
        status: ReservationStatus,
        /// Until when it holds. `None` where it was released before it was asked for.
        until: Option<Timestamp>,
        /// Why it was given up.
        release_reason: Option<ReleaseReason>,
        /// Whether something is left to do: an answer, a deadline, or stock items that have not followed yet.
        open: bool,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its last event.
        version: Version,
        /// Where that event is.
        partition: Partition,
        /// Where that event is.
        offset: Offset,
    }
    index "(tenant_id, reservation_id) WHERE open"
}

impl Entity for ReservationView {
    const KIND: StreamKind = StreamKind::Reservation;

    fn key(stream: &StreamId) -> Vec<&str> {
        vec![stream.tenant_str(), stream.id()]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let id = fact.stream().id();
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        let mut reservation = Self {
            tenant_id: fact.stream().tenant(),
            reservation_id: ReservationId::new(id)
                .map_err(|_| Poison::Id { kind: "reservation", id: id.to_owned() })?,
            status: ReservationStatus::Requested,
            until: None,
            release_reason: None,
            open: true,
            updated_at,
            version,
            partition,
            offset,
        };
        reservation.next(fact)?;
        Ok(reservation)
    }

    fn begins(event: &Event) -> bool {
        let Event::Reservation(event) = event else { return matches!(event, Event::Nothing(_)) };
        matches!(event, ReservationEvent::Requested(_) | ReservationEvent::Released(_))
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Reservation(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        match event {
            ReservationEvent::Requested(requested) => self.until = Some(requested.until),
            ReservationEvent::Held(_) => self.status = ReservationStatus::Held,
            ReservationEvent::Extended(extended) => self.until = Some(extended.until),
            ReservationEvent::Rejected(_) => self.decided(ReservationStatus::Rejected),
            ReservationEvent::Committed(_) => self.decided(ReservationStatus::Committed),
            ReservationEvent::Released(released) => {
                self.release_reason = Some(released.reason);
                self.decided(ReservationStatus::Released);
            }
            ReservationEvent::Settled(_) => self.open = false,
        }
        Ok(())
    }

    marked!();
}

impl ReservationView {
    /// The stock items have to follow.
    fn decided(&mut self, status: ReservationStatus) {
        self.status = status;
        self.open = true;
    }
}

impl ReadModels {
    /// A reservation.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reservation(
        &self,
        tenant: &TenantId,
        reservation: &ReservationId,
    ) -> Result<Option<ReservationView>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.reservation_id = $2";
        let key: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&tenant.as_str(), &reservation.as_str()];
        let in_memory = |views: &MemoryViews| {
            views.find(|row: &ReservationView| row.tenant_id == *tenant && row.reservation_id == *reservation)
        };
        Ok(self.select(Projection::ReservationView, condition, &key, in_memory).await?.pop())
    }

    /// A page of the open reservations of all tenants, ordered by tenant and id, after the given one: for the
    /// fan-out, not for callers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open_reservations(
        &self,
        after: Option<(&TenantId, &ReservationId)>,
        limit: u32,
    ) -> Result<Vec<ReservationView>, DatabaseError> {
        let condition = "WHERE t.open AND (t.tenant_id, t.reservation_id) > ($1, $2) \
             ORDER BY t.tenant_id, t.reservation_id LIMIT $3";
        let (tenant, id) = after.map_or(("", ""), |(tenant, id)| (tenant.as_str(), id.as_str()));
        let in_memory = |views: &MemoryViews| {
            let key = |row: &ReservationView| {
                (row.tenant_id.as_str().to_owned(), row.reservation_id.as_str().to_owned())
            };
            let after = (tenant.to_owned(), id.to_owned());
            views.page(|row| row.open && key(row) > after, key, limit)
        };
        self.select(Projection::ReservationView, condition, &[&tenant, &id, &i64::from(limit)], in_memory)
            .await
    }
}
