//! Stock as a caller sees it.

use shopstream_projections::StreamRow;
use shopstream_projections::inventory::StockLevel;
use shopstream_proto::inventory::v1 as wire;

use crate::positions::position;
use crate::wire::{int, time};

pub(super) fn stock_level(level: &StockLevel) -> wire::StockLevel {
    wire::StockLevel {
        sku: level.sku.as_str().to_owned(),
        location: level.location.as_str().to_owned(),
        on_hand: level.on_hand,
        available: level.available,
        reserved: level.reserved,
        committed: level.committed,
        // Buckets that nothing fills yet.
        safety_stock: 0,
        damaged: 0,
        quality_control: 0,
        backordered: 0,
        update_time: Some(time(level.updated_at)),
        version: int(level.version),
        position: Some(position(level.position())),
    }
}
