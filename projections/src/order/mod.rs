//! What orders and their checkouts look like to readers.

pub mod order_detail;
pub mod order_timeline;
pub mod orders_by_user;
pub mod saga_board;
mod status;

pub use order_detail::{Order, OrderDetail};
pub use order_timeline::{TimelineEntry, TimelineKey};
pub use orders_by_user::{OrderKey, OrderSummary};
pub use saga_board::CheckoutStatus;
pub use status::OrderStatus;
