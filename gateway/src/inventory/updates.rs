//! StreamStockUpdates: which stock it is about, and what it says of it.

use std::collections::HashSet;

use shopstream_domain::{LocationId, Sku, StreamId, TenantId};
use shopstream_projections::inventory::StockLevel;
use shopstream_projections::{DatabaseError, Projection, ReadModels};
use shopstream_proto::inventory::v1::{StreamStockUpdatesRequest, StreamStockUpdatesResponse};

use super::view;
use crate::failure::Failure;
use crate::shop::Shop;
use crate::updates::{Folded, Subject};
use crate::wire::id;

/// The stock that one request names.
pub(super) struct StockUpdates {
    /// Empty: all.
    skus: Vec<Sku>,
    wanted: HashSet<Sku>,
    /// Empty: all.
    locations: HashSet<LocationId>,
}

impl Subject for StockUpdates {
    type Request = StreamStockUpdatesRequest;
    type Row = StockLevel;
    type Key = (Sku, LocationId);
    type Message = StreamStockUpdatesResponse;

    const METHOD: &'static str = "StreamStockUpdates";
    const VIEW: Projection = Projection::StockLevel;

    fn of(request: &StreamStockUpdatesRequest) -> Result<Self, Failure> {
        let skus = request.skus.iter().enumerate().map(|(i, sku)| id(Sku::new(sku), &format!("skus[{i}]")));
        let skus = skus.collect::<Result<Vec<_>, _>>()?;
        let locations = request.locations.iter().enumerate();
        let locations = locations.map(|(i, name)| id(LocationId::new(name), &format!("locations[{i}]")));
        Ok(Self {
            wanted: skus.iter().cloned().collect(),
            skus,
            locations: locations.collect::<Result<_, _>>()?,
        })
    }

    fn folded(shop: &Shop) -> &Folded<StockLevel> {
        &shop.stock_rows
    }

    fn key(row: &StockLevel) -> (Sku, LocationId) {
        (row.sku.clone(), row.location.clone())
    }

    fn stream(tenant: &TenantId, (sku, location): &(Sku, LocationId)) -> StreamId {
        sku.stock_stream(tenant, location)
    }

    /// Of `SKU@location`.
    fn key_of(text: &str) -> Result<(Sku, LocationId), Failure> {
        let (sku, location) = text.split_once('@').unwrap_or((text, ""));
        Ok((id(Sku::new(sku), "resume_token")?, id(LocationId::new(location), "resume_token")?))
    }

    async fn page(
        &self,
        reads: &ReadModels,
        tenant: &TenantId,
        after: Option<&(Sku, LocationId)>,
        limit: u32,
    ) -> Result<Vec<StockLevel>, DatabaseError> {
        let after = after.map(|(sku, location)| (sku, location));
        reads.stock_levels(tenant, &self.skus, after, limit).await
    }

    fn may_want(&self, id: &str) -> bool {
        Self::key_of(id).is_ok_and(|(sku, location)| self.wants_at(&sku, &location))
    }

    fn wants(&self, row: &StockLevel) -> bool {
        self.wants_at(&row.sku, &row.location)
    }

    fn message(
        row: Option<&StockLevel>,
        _event_type: &str,
        resume_token: String,
    ) -> StreamStockUpdatesResponse {
        StreamStockUpdatesResponse { stock: row.map(view::stock_level), resume_token }
    }
}

impl StockUpdates {
    fn wants_at(&self, sku: &Sku, location: &LocationId) -> bool {
        (self.wanted.is_empty() || self.wanted.contains(sku))
            && (self.locations.is_empty() || self.locations.contains(location))
    }
}
