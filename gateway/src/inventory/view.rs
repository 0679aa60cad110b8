//! Stock as a caller sees it.

use shopstream_eventlog::Position;
use shopstream_projections::inventory::StockLevel;
use shopstream_proto::inventory::v1 as wire;

use crate::positions::position;
use crate::wire::{int, time};

pub(super) fn stock_level(level: StockLevel) -> wire::StockLevel {
    wire::StockLevel {
        sku: level.sku.into(),
        location: level.location.into(),
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
        position: Some(position(Position { partition: level.partition, offset: level.offset })),
    }
}
