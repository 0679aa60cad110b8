//! Stock by SKU and location.

use shopstream_domain::inventory::{Bucket, StockEvent};
use shopstream_domain::model::Event;
use shopstream_domain::{LocationId, Partition, Sku, StreamId, StreamKind, TenantId, Timestamp, Version};
use shopstream_eventlog::Offset;

use crate::memory::MemoryViews;
use crate::table::table;
use crate::view::{Entity, EntityRows, Fact, Mark, Part, Poison, marked};
use crate::{DatabaseError, Projection, ReadModels};

pub(crate) fn parts(schema: &str) -> Vec<Box<dyn Part>> {
    vec![Box::new(EntityRows::<StockLevel>::new(schema))]
}

table! {
    /// How much of a SKU lies at a location. on_hand = available + reserved + committed.
    pub struct StockLevel in "stock" {
        key {
            /// Whose.
            tenant_id: TenantId,
            /// What.
            sku: Sku,
            /// Where.
            location: LocationId,
        }
        /// Units here.
        on_hand: i64,
        /// Units for anybody.
        available: i64,
        /// Units held for somebody who has not paid yet.
        reserved: i64,
        /// Units sold.
        committed: i64,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its last event.
        version: Version,
        /// Where that event is.
        partition: Partition,
        /// Where that event is.
        offset: Offset,
    }
}

impl StockLevel {
    fn empty(fact: &Fact<'_>) -> Result<Self, Poison> {
        let id = fact.stream().id();
        let malformed = || Poison::Id { kind: "stock item", id: id.to_owned() };
        let (sku, location) = id.split_once('@').ok_or_else(malformed)?;
        let Mark { updated_at, version, partition, offset } = Mark::of(fact);
        Ok(Self {
            tenant_id: fact.stream().tenant(),
            sku: Sku::new(sku).map_err(|_| malformed())?,
            location: LocationId::new(location).map_err(|_| malformed())?,
            on_hand: 0,
            available: 0,
            reserved: 0,
            committed: 0,
            updated_at,
            version,
            partition,
            offset,
        })
    }
}

impl Entity for StockLevel {
    const KIND: StreamKind = StreamKind::Stock;

    fn key(stream: &StreamId) -> Vec<&str> {
        let id = stream.id();
        let (sku, location) = id.split_once('@').unwrap_or((id, ""));
        vec![stream.tenant_str(), sku, location]
    }

    fn first(fact: &Fact<'_>) -> Result<Self, Poison> {
        let mut level = Self::empty(fact)?;
        level.next(fact)?;
        Ok(level)
    }

    fn begins(_event: &Event) -> bool {
        false
    }

    /// There is none of it, as far as anybody has found.
    fn nothing(fact: &Fact<'_>) -> Result<Option<Self>, Poison> {
        Self::empty(fact).map(Some)
    }

    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let Event::Stock(event) = fact.event else { return Err(Poison::foreign(fact.event)) };
        let moved = match event {
            StockEvent::Received(received) => Moved::in_or_out(received.quantity.get()),
            StockEvent::Adjusted(adjusted) => Moved::in_or_out(adjusted.delta),
            StockEvent::Counted(counted) => {
                let delta = counted.found.checked_sub(counted.expected);
                Moved::in_or_out(delta.ok_or(Poison::Overflow { field: "found" })?)
            }
            StockEvent::Reserved(reserved) => {
                let units = reserved.quantity.get();
                Moved { available: -units, reserved: units, ..Moved::default() }
            }
            StockEvent::ReservationRejected(_) => Moved::default(),
            StockEvent::Committed(committed) => {
                let units = committed.quantity.get();
                Moved { reserved: -units, committed: units, ..Moved::default() }
            }
            StockEvent::Released(released) => match released.from {
                Bucket::Reserved => {
                    Moved { available: released.quantity, reserved: -released.quantity, ..Moved::default() }
                }
                Bucket::Committed => {
                    Moved { available: released.quantity, committed: -released.quantity, ..Moved::default() }
                }
            },
            StockEvent::PutBack(put_back) => {
                let units = put_back.quantity.get();
                Moved { available: units, committed: -units, ..Moved::default() }
            }
        };
        self.apply(&moved).ok_or(Poison::Overflow { field: "stock" })
    }

    marked!();
}

/// What an event adds to each bucket.
#[derive(Debug, Default)]
struct Moved {
    on_hand: i64,
    available: i64,
    reserved: i64,
    committed: i64,
}

impl Moved {
    fn in_or_out(units: i64) -> Self {
        Self { on_hand: units, available: units, ..Self::default() }
    }
}

impl StockLevel {
    /// `None` where a bucket overflows; nothing has moved then.
    fn apply(&mut self, moved: &Moved) -> Option<()> {
        let on_hand = self.on_hand.checked_add(moved.on_hand)?;
        let available = self.available.checked_add(moved.available)?;
        let reserved = self.reserved.checked_add(moved.reserved)?;
        let committed = self.committed.checked_add(moved.committed)?;
        (self.on_hand, self.available, self.reserved, self.committed) =
            (on_hand, available, reserved, committed);
        Some(())
    }
}

impl ReadModels {
    /// The stock of a SKU at a location.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn stock(
        &self,
        tenant: &TenantId,
        sku: &Sku,
        location: &LocationId,
    ) -> Result<Option<StockLevel>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND t.sku = $2 AND t.location = $3";
        let key: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&tenant.as_str(), &sku.as_str(), &location.as_str()];
        let in_memory = |views: &MemoryViews| {
            let is_it =
                |row: &StockLevel| row.tenant_id == *tenant && row.sku == *sku && row.location == *location;
            views.find(is_it)
        };
        Ok(self.select(Projection::StockLevel, condition, &key, in_memory).await?.pop())
    }

    /// A page of a tenant's stock, ordered by SKU and location, after the given one; of these SKUs only, where any
    /// are named.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn stock_levels(
        &self,
        tenant: &TenantId,
        skus: &[Sku],
        after: Option<(&Sku, &LocationId)>,
        limit: u32,
    ) -> Result<Vec<StockLevel>, DatabaseError> {
        let condition = "WHERE t.tenant_id = $1 AND (t.sku, t.location) > ($2, $3) \
             AND (cardinality($4::text[]) = 0 OR t.sku = ANY($4)) ORDER BY t.sku, t.location LIMIT $5";
        let in_memory = |views: &MemoryViews| {
            let key = |row: &StockLevel| (row.sku.clone(), row.location.clone());
            let keep = |row: &StockLevel| {
                row.tenant_id == *tenant
                    && after.is_none_or(|(sku, location)| key(row) > (sku.clone(), location.clone()))
                    && (skus.is_empty() || skus.contains(&row.sku))
            };
            views.page(keep, key, limit)
        };
        let (sku, location) = after.map_or(("", ""), |(sku, location)| (sku.as_str(), location.as_str()));
        let skus: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        self.select(
            Projection::StockLevel,
            condition,
            &[&tenant.as_str(), &sku, &location, &skus, &i64::from(limit)],
            in_memory,
        )
        .await
    }
}
