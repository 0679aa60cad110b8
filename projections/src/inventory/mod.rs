//! What stock and reservations look like to readers.

pub mod reservation_view;
pub mod stock_level;

pub use reservation_view::{ReservationStatus, ReservationView};
pub use stock_level::StockLevel;
