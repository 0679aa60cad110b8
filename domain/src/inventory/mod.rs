//! Inventory: how much of a SKU lies where, and who has a hold on it.
//!
//! A [`Reservation`] is where a hold on several stock items is decided, committed and given up; the [`StockItem`]s
//! follow it. So a deadline lives on the reservation alone, and what a stock item is told after that decision it
//! only carries out.

mod commands;
mod error;
mod events;
mod recent;
mod reservation;
mod stock_item;
#[cfg(test)]
mod tests;
mod values;

pub use commands::{Allocation, ReservationCommand, StockCommand};
pub use error::Error;
pub use events::{
    ReservationCommitted, ReservationEvent, ReservationExtended, ReservationHeld, ReservationRejected,
    ReservationReleased, ReservationRequested, ReservationSettled, StockAdjusted, StockCommitted,
    StockCounted, StockEvent, StockPutBack, StockReceived, StockReleased, StockReservationRejected,
    StockReserved,
};
pub use reservation::{HOLD_SECONDS_MAX, Reservation, ReservationStatus};
pub use stock_item::StockItem;
pub use values::{Bucket, Decision, RejectionCause, ReleaseReason, ShortLine, StockKey};
